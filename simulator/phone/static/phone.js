// The phone page: list of pages, conversation, composer, dialogs.

import * as api from "./api.js";
import { icon, make } from "./bubbles.js";
import { Conversation } from "./conversation.js";
import { People } from "./people.js";
import { clockTime, foldText, initials, preview, shortWhen, t, tint } from "./words.js";

const LIST_REFRESH_SECONDS = 4;
const byId = (id) => document.getElementById(id);
const address = new URLSearchParams(location.search);
const people = new People(address.get("citizen"), address.get("name"));

let pages = [];
let conversation = null;
let quoting = null;
let infoItem = null;
let toastTimer = 0;

function toast(text) {
  const element = byId("toast");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 4000);
}

// List of pages

function pageRow(page) {
  const row = make("button", `page-row${page.unread ? " unread" : ""}`);
  row.type = "button";
  const avatar = make("span", `avatar ${tint(page.name)}`, initials(page.name));
  avatar.setAttribute("aria-hidden", "true");
  const words = make("span", "page-words");
  const top = make("span", "page-line");
  top.append(make("span", "page-name", page.name));
  if (page.last) top.append(make("span", "page-when", shortWhen(page.last.at)));
  const bottom = make("span", "page-line");
  const last = page.last ? `${page.last.direction === "in" ? `${t("list.you")}: ` : ""}${preview(page.last)}` : t(page.follows ? "list.follows" : "list.start");
  bottom.append(make("span", "page-last", last));
  if (page.unread) {
    const badge = make("span", "badge", String(page.unread));
    badge.setAttribute("aria-label", t("list.unread", { n: page.unread }));
    bottom.append(badge);
  }
  words.append(top, bottom);
  row.append(avatar, words);
  row.addEventListener("click", () => { location.hash = page.page; });
  const item = make("li");
  item.append(row);
  return item;
}

function drawList() {
  const wanted = foldText(byId("search").value.trim());
  const shown = pages
    .filter((page) => !wanted || foldText(`${page.name} ${page.page.replaceAll("-", " ")}`).includes(wanted))
    .sort((one, other) => (other.last?.at ?? "").localeCompare(one.last?.at ?? ""));
  const rows = shown.map(pageRow);
  const list = byId("pages");
  const same = list.children.length === rows.length && rows.every((row, index) => row.isEqualNode(list.children[index]));
  if (!same) {
    const focused = [...list.children].findIndex((row) => row.contains(document.activeElement));
    list.replaceChildren(...rows);
    if (focused >= 0) list.children[focused]?.querySelector("button").focus();
  }
  byId("no-pages").hidden = shown.length > 0 || !pages.length;
}

async function refreshList() {
  try {
    pages = await api.listPages(people.me.citizen);
    if (!conversation) byId("offline").hidden = true;
    drawList();
  } catch {
    if (!conversation) byId("offline").hidden = false;
  }
}

// Conversation

function showHeader() {
  if (!conversation) return;
  const typing = !byId("typing").hidden;
  byId("chat-status").textContent = t(typing ? "chat.status_replying" : conversation.follows ? "chat.status_follows" : "chat.status_plain");
  const follow = byId("follow");
  follow.setAttribute("aria-pressed", String(conversation.follows));
  follow.textContent = t(conversation.follows ? "chat.followed" : "chat.follow");
}

function fillAvatar(id, page, size) {
  const element = byId(id);
  element.className = `avatar ${size} ${tint(page.name)}`;
  element.textContent = initials(page.name);
}

function openConversation(page) {
  closeConversation();
  byId("list-view").hidden = true;
  byId("chat-view").hidden = false;
  byId("chat-name").textContent = page.name;
  byId("empty-name").textContent = page.name;
  fillAvatar("chat-avatar", page, "small");
  fillAvatar("empty-avatar", page, "large");
  conversation = new Conversation(page, people.me, {
    connected: (yes) => { byId("offline").hidden = yes; },
    changed: showHeader,
    quote: startQuote,
    toast,
    view: showPicture,
    shareInfo: askInfo,
  });
  showHeader();
  if (matchMedia("(hover: hover)").matches) byId("text").focus();
}

function closeConversation() {
  conversation?.close();
  conversation = null;
  stopQuote();
  byId("typing").hidden = true;
  byId("to-bottom").hidden = true;
  byId("empty").hidden = true;
  setMenu(false);
}

function route() {
  const slug = decodeURIComponent(location.hash.slice(1));
  const page = pages.find((one) => one.page === slug || one.oa_id === slug);
  if (page) {
    openConversation(page);
    return;
  }
  closeConversation();
  byId("chat-view").hidden = true;
  byId("list-view").hidden = false;
  void refreshList();
}

// Composer

function grow() {
  const text = byId("text");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight + 2, 134)}px`;
  byId("send").disabled = !text.value.trim();
}

function takeQuote() {
  const msgId = quoting?.msg_id ?? "";
  stopQuote();
  return msgId;
}

function startQuote(item) {
  quoting = item;
  byId("quoting-who").textContent = item.direction === "in" ? t("compose.quoting_self") : t("compose.quoting", { name: conversation.page.name });
  byId("quoting-text").textContent = preview(item);
  byId("quoting").hidden = false;
  byId("text").focus();
}

function stopQuote() {
  quoting = null;
  byId("quoting").hidden = true;
}

function takeText() {
  const text = byId("text").value.trim();
  byId("text").value = "";
  grow();
  return text;
}

function sendText() {
  const text = takeText();
  if (text && conversation) void conversation.send({ text, quote_msg_id: takeQuote() });
}

async function sendFile(file) {
  const target = conversation;
  if (!file || !target) return;
  toast(t("compose.uploading"));
  try {
    const { type, payload } = await api.upload(file);
    byId("toast").hidden = true;
    await target.send({ text: takeText(), quote_msg_id: takeQuote(), attachments: [{ type, payload }] });
  } catch (error) {
    toast(error.message);
  }
}

function sendLocation(latitude, longitude) {
  byId("location-dialog").close();
  void conversation?.send({ attachments: [{ type: "location", payload: { coordinates: { latitude: String(latitude), longitude: String(longitude) } } }] });
}

function setMenu(open) {
  byId("attach-menu").hidden = !open;
  byId("attach").setAttribute("aria-expanded", String(open));
}

// Dialogs

function showPicture(url) {
  if (!url) return;
  byId("viewer-image").src = url;
  byId("viewer").showModal();
}

function showMe() {
  byId("me-name").textContent = people.me.name;
  byId("me").setAttribute("aria-label", t("people.button", { name: people.me.name }));
}

function drawPeople() {
  byId("people").replaceChildren(...people.all.map((person) => {
    const button = make("button", "person");
    button.type = "button";
    const words = make("span", "", person.name);
    words.append(make("small", "", person.phone || t("people.no_phone")));
    button.append(make("span", `avatar small ${tint(person.name)}`, initials(person.name)), words);
    if (person === people.me) {
      button.setAttribute("aria-current", "true");
      button.append(icon("check"));
    }
    button.addEventListener("click", () => becomePerson(person.citizen));
    const item = make("li");
    item.append(button);
    return item;
  }));
  byId("person-name").value = people.me.name;
  byId("person-phone").value = people.me.phone;
}

function becomePerson(citizen) {
  people.choose(citizen);
  // The address keeps who this window is, so that two windows side by side stay two people.
  history.replaceState(null, "", `?citizen=${encodeURIComponent(citizen)}${location.hash}`);
  showMe();
  drawPeople();
  void refreshList();
}

function askInfo(item) {
  infoItem = item;
  byId("info-name").value = people.me.name;
  byId("info-phone").value = people.me.phone;
  byId("info-dialog").showModal();
}

async function shareInfo() {
  const target = conversation;
  byId("info-dialog").close();
  try {
    await api.submitInfo(target.who, {
      name: byId("info-name").value.trim(),
      phone: byId("info-phone").value.replace(/\D/g, "").replace(/^0/, "84"),
      full_address: { user_city: "Thành phố Hồ Chí Minh", user_ward: byId("info-ward").value.trim(), user_address: byId("info-address").value.trim() },
    });
    target.sharedInfo.add(infoItem.msg_id);
    target.draw();
  } catch (error) {
    toast(error.message);
  }
}

// Wiring

function wire() {
  byId("search").addEventListener("input", drawList);
  byId("back").addEventListener("click", () => { location.hash = ""; });
  byId("me").addEventListener("click", () => { drawPeople(); byId("people-dialog").showModal(); });
  byId("person-form").addEventListener("submit", (event) => {
    event.preventDefault();
    people.me.name = byId("person-name").value.trim();
    people.me.phone = byId("person-phone").value.trim();
    people.save();
    showMe();
    api.describe(people.me).catch((error) => toast(error.message));
    byId("people-dialog").close();
  });
  byId("person-add").addEventListener("click", () => {
    becomePerson(people.add().citizen);
    byId("person-name").select();
  });
  byId("follow").addEventListener("click", async () => {
    const target = conversation;
    try {
      target.follows = (await api.follow(target.who, !target.follows)).follows;
      target.chatted = true;
      target.draw();
      showHeader();
    } catch (error) {
      toast(error.message);
    }
  });
  byId("start-chat").addEventListener("click", async () => {
    const target = conversation;
    try {
      await api.clickChat(target.who);
      target.chatted = true;
      target.draw();
      byId("text").focus();
    } catch (error) {
      toast(error.message);
    }
  });
  for (const button of document.querySelectorAll(".suggestion")) {
    button.addEventListener("click", () => conversation?.send({ text: button.textContent }));
  }
  byId("composer").addEventListener("submit", (event) => { event.preventDefault(); sendText(); });
  byId("text").addEventListener("input", grow);
  byId("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      sendText();
    } else if (event.key === "Escape" && quoting) {
      stopQuote();
    }
  });
  byId("text").addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (file) {
      event.preventDefault();
      void sendFile(file);
    }
  });
  byId("quoting-cancel").addEventListener("click", stopQuote);
  byId("attach").addEventListener("click", () => setMenu(byId("attach-menu").hidden));
  byId("attach-image").addEventListener("click", () => { setMenu(false); byId("image-file").click(); });
  byId("attach-file").addEventListener("click", () => { setMenu(false); byId("other-file").click(); });
  for (const id of ["image-file", "other-file"]) {
    byId(id).addEventListener("change", (event) => {
      void sendFile(event.target.files[0]);
      event.target.value = "";
    });
  }
  byId("attach-location").addEventListener("click", () => { setMenu(false); byId("location-dialog").showModal(); });
  byId("locate").addEventListener("click", () => {
    if (!navigator.geolocation) {
      toast(t("place.unknown"));
      return;
    }
    navigator.geolocation.getCurrentPosition(
      (position) => sendLocation(position.coords.latitude.toFixed(6), position.coords.longitude.toFixed(6)),
      () => { byId("location-dialog").close(); toast(t("place.failed")); },
      { timeout: 8000, enableHighAccuracy: true },
    );
  });
  for (const button of document.querySelectorAll(".place")) {
    button.addEventListener("click", () => sendLocation(button.dataset.latitude, button.dataset.longitude));
  }
  byId("coordinates").addEventListener("submit", (event) => {
    event.preventDefault();
    sendLocation(byId("latitude").value, byId("longitude").value);
  });
  byId("info-form").addEventListener("submit", (event) => { event.preventDefault(); void shareInfo(); });
  byId("to-bottom").addEventListener("click", () => conversation?.toBottom());
  byId("viewer").addEventListener("click", (event) => { if (event.target.id !== "viewer-image") byId("viewer").close(); });
  for (const link of document.querySelectorAll(".change-language")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      location.assign(`?lang=${link.lang}&citizen=${encodeURIComponent(people.current)}${location.hash}`);
    });
  }
  addEventListener("hashchange", route);
  setInterval(() => { if (!conversation && document.visibilityState === "visible") void refreshList(); }, LIST_REFRESH_SECONDS * 1000);
  const tick = () => { byId("device-time").textContent = clockTime(Date.now()); };
  tick();
  setInterval(tick, 10_000);
}

if (address.get("citizen") === "new") history.replaceState(null, "", `?citizen=${encodeURIComponent(people.current)}${location.hash}`);
wire();
showMe();
api.describe(people.me).catch(() => {});
await refreshList();
route();
