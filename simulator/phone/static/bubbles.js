// One message as elements. Everything a page or a person wrote goes in as text, never as markup.

import { clockTime, preview, REACTIONS, t, waitWords } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

function webAddress(value) {
  try {
    const url = new URL(value);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : "";
  } catch {
    return "";
  }
}

function outside(element, address) {
  element.href = address;
  element.target = "_blank";
  element.rel = "noopener noreferrer";
  return element;
}

function photo(payload, actions) {
  const button = make("button", "photo");
  button.type = "button";
  button.setAttribute("aria-label", t("viewer.title"));
  const image = make("img");
  image.alt = t("bubble.picture");
  image.loading = "lazy";
  image.addEventListener("error", () => { image.classList.add("broken"); image.alt = t("bubble.broken"); });
  image.addEventListener("load", actions.grown);
  image.src = webAddress(payload.thumbnail || payload.url);
  button.append(image);
  button.addEventListener("click", () => actions.view(webAddress(payload.url)));
  return button;
}

function place(payload) {
  const { latitude = "", longitude = "" } = payload.coordinates ?? {};
  const box = make("div");
  const map = outside(make("a", "map"), `https://www.openstreetmap.org/?mlat=${encodeURIComponent(latitude)}&mlon=${encodeURIComponent(longitude)}#map=17/${encodeURIComponent(latitude)}/${encodeURIComponent(longitude)}`);
  map.setAttribute("aria-label", t("place.map"));
  map.append(icon("pin"));
  const where = make("span", "stamp", t("place.at", { at: `${latitude}, ${longitude}` }));
  box.append(map, where);
  return box;
}

function card(iconName, title, detail, address) {
  const box = make(address ? "a" : "div", "card");
  if (address) outside(box, address);
  const picture = make("span", "card-icon");
  picture.append(icon(iconName));
  const words = make("span", "", title);
  words.append(make("small", "", detail));
  box.append(picture, words);
  return box;
}

function contactCard(payload) {
  try {
    const details = JSON.parse(payload.description);
    return card("person", String(details.caption || t("bubble.card")), String(details.phone || ""), "");
  } catch {
    return card("link", payload.title || payload.url || t("bubble.link"), payload.description || "", webAddress(payload.url));
  }
}

function attachment(item, { type, payload }, actions) {
  switch (type) {
    case "image":
    case "gif":
      return photo(payload, actions);
    case "location":
      return place(payload);
    case "file":
      return card("file", payload.name || t("bubble.file"), `${Math.max(1, Math.round(Number(payload.size || 0) / 1024))} KB`, webAddress(payload.url));
    case "link":
    case "business_card":
      return contactCard(payload);
    case "audio":
      return card("link", t("bubble.audio"), "", webAddress(payload.url));
    case "video":
      return card("link", t("bubble.video"), payload.description || "", webAddress(payload.url));
    case "sticker":
      return card("chat", t("bubble.sticker"), payload.id || "", "");
    default:
      return card("file", t("bubble.unknown"), "", "");
  }
}

function infoRequest(item, payload, actions) {
  const box = make("div", "request");
  box.append(make("h3", "", payload.title || t("info.request")), make("p", "", payload.subtitle || ""));
  const choices = make("div", "choices");
  const button = make("button", "choice", t(actions.shared(item) ? "info.shared" : "info.share"));
  button.type = "button";
  button.disabled = actions.shared(item);
  button.addEventListener("click", () => actions.shareInfo(item));
  choices.append(button);
  box.append(choices);
  return box;
}

function choice(button, actions) {
  const payload = button.payload ?? {};
  if (button.type.startsWith("oa.query.")) {
    const element = make("button", "choice", button.title);
    element.type = "button";
    element.addEventListener("click", () => actions.choose(String(button.payload), button.type === "oa.query.hide"));
    return element;
  }
  const address =
    button.type === "oa.open.phone" ? `tel:${String(payload.phone_code).replace(/[^0-9+]/g, "")}`
    : button.type === "oa.open.sms" ? `sms:${String(payload.phone_code).replace(/[^0-9+]/g, "")}?body=${encodeURIComponent(payload.content ?? "")}`
    : webAddress(payload.url);
  const element = make("a", "choice");
  element.append(icon(button.type === "oa.open.url" ? "link" : button.type === "oa.open.sms" ? "chat" : "phone"), make("span", "", button.title));
  if (button.type === "oa.open.url") outside(element, address);
  else element.href = address;
  return element;
}

function quoted(item, actions) {
  const original = actions.find(item.quote_message_id);
  const box = make("button", "quoted");
  box.type = "button";
  box.setAttribute("aria-label", t("bubble.go_to_quoted"));
  box.append(make("strong", "", original ? (original.direction === "in" ? t("list.you") : actions.pageName()) : t("bubble.earlier")), make("span", "", original ? preview(original) : ""));
  box.addEventListener("click", (event) => { event.stopPropagation(); actions.jump(item.quote_message_id); });
  return box;
}

function mark(item, actions) {
  const words = t(`mark.${item.state}`, { wait: waitWords(item.retry_wait_seconds) });
  const failed = item.state === "refused" || item.state === "undelivered" || item.state === "failed";
  const line = make("p", `mark ${failed ? "refused" : item.state}`);
  line.append(icon(failed ? "warning" : "check"), make("span", "", words));
  if (item.state === "failed") {
    const again = make("button", "", t("mark.again"));
    again.type = "button";
    again.addEventListener("click", () => actions.retry(item));
    line.append(again);
  }
  return line;
}

function tool(className, iconName, label, act) {
  const button = make("button", className);
  button.type = "button";
  button.setAttribute("aria-label", label);
  button.append(icon(iconName));
  button.addEventListener("click", act);
  return button;
}

function tools(item, actions) {
  const box = make("span", "tools");
  const react = tool("tool", "smile", t("bubble.react"), () => actions.offerReactions(item));
  react.setAttribute("aria-expanded", String(actions.reacting(item)));
  box.append(tool("tool", "reply", t("bubble.reply"), () => actions.quote(item)), react);
  return box;
}

// The reaction under a message; a touch takes it back.
function given(item, actions) {
  const [face, name] = REACTIONS[item.reaction] ?? ["👍", "strong"];
  const button = make("button", "reaction", face);
  button.type = "button";
  button.setAttribute("aria-label", `${t(`bubble.${name}`)}. ${t("bubble.unreact")}`);
  button.addEventListener("click", () => actions.react(item, "/-remove"));
  return button;
}

function offers(item, actions) {
  const box = make("span", "reactions");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", t("bubble.react"));
  for (const [code, [face, name]] of Object.entries(REACTIONS)) {
    const button = make("button", "", face);
    button.type = "button";
    button.setAttribute("aria-label", t(`bubble.${name}`));
    button.setAttribute("aria-pressed", String(item.reaction === code));
    button.addEventListener("click", () => actions.react(item, item.reaction === code ? "/-remove" : code));
    box.append(button);
  }
  return box;
}

// `place` says whether the message opens or closes a run of the same sender, and whether its mark is shown.
export function bubble(item, place, actions) {
  const mine = item.direction === "in";
  const turn = make("li", `turn ${mine ? "mine" : "theirs"}${place.first ? " first" : ""}${place.last ? " last" : ""}`);
  turn.dataset.msgId = item.msg_id;
  if (!mine) turn.append(place.last ? actions.avatar("tiny") : make("span"));

  const stack = make("div", "stack");
  const line = make("div", "line");
  const body = make("div", "bubble");
  body.tabIndex = 0;
  body.setAttribute("role", "group");
  body.setAttribute("aria-label", `${mine ? t("list.you") : actions.pageName()}, ${clockTime(item.at)}`);
  if (item.quote_message_id) body.append(quoted(item, actions));
  for (const one of item.attachments) {
    if (["image", "gif", "location"].includes(one.type)) body.classList.add("picture");
    body.append(one.type === "template" ? infoRequest(item, one.payload, actions) : attachment(item, one, actions));
  }
  if (item.text) body.append(make("p", "bubble-text", item.text));
  if (place.last || item.attachments.length) {
    const stamp = make("time", "stamp", clockTime(item.at));
    stamp.dateTime = item.at;
    body.append(stamp);
  }
  const toggle = () => {
    const was = turn.classList.contains("chosen");
    for (const other of turn.parentElement.querySelectorAll(".chosen")) other.classList.remove("chosen");
    turn.classList.toggle("chosen", !was);
  };
  body.addEventListener("click", (event) => { if (!event.target.closest("a, button") && getSelection().isCollapsed) toggle(); });
  body.addEventListener("keydown", (event) => { if (event.target === body && event.key === "Enter") actions.quote(item); });
  line.append(body);
  if (item.state !== "failed") {
    line.append(tools(item, actions));
  }
  stack.append(line);
  if (item.reaction) stack.append(given(item, actions));
  if (actions.reacting(item)) stack.append(offers(item, actions));
  if (item.buttons.length) {
    const choices = make("div", "choices");
    choices.append(...item.buttons.map((button) => choice(button, actions)));
    stack.append(choices);
  }
  if (mine && (place.newest || !["sent", "received", "seen"].includes(item.state))) stack.append(mark(item, actions));
  turn.append(stack);
  return turn;
}
