// The operator's panel: shows the state of the simulator, and brings bad moods about through the control API.

import { make } from "./bubbles.js";
import { clockTime, t } from "./words.js";

const REFRESH_SECONDS = 2;
const ENTRIES = 60;
const OFTEN = { once: { count: 1 }, sometimes: { probability: 0.2 }, always: {} };
const byId = (id) => document.getElementById(id);
const WHEN = new Intl.DateTimeFormat(document.documentElement.lang === "en" ? "en-GB" : "vi-VN", {
  weekday: "short", day: "2-digit", month: "2-digit", year: "numeric", hour: "2-digit", minute: "2-digit", timeZone: "Asia/Ho_Chi_Minh",
});

let state = null;
let after = 0;

async function call(method, path, body) {
  const response = await fetch(`/control${path}`, {
    method, headers: { "Content-Type": "application/json" }, body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!response.ok) throw new Error(t("operator.failed"));
  return response.json();
}

function say(words) {
  byId("said").textContent = words;
}

// Does one thing, says so, and shows what it changed.
function act(button, work) {
  button.addEventListener("click", async () => {
    try {
      say((await work()) ?? t("operator.done"));
      await refresh();
    } catch {
      say(t("operator.failed"));
    }
  });
}

function duration(seconds) {
  const minutes = Math.round(Math.abs(seconds) / 60);
  const sign = seconds < 0 ? "−" : "+";
  if (minutes < 60) return sign + t("operator.minutes", { n: minutes });
  return sign + (minutes < 48 * 60 ? t("operator.hours", { n: Math.round(minutes / 60) }) : t("operator.days", { n: Math.round(minutes / 1440) }));
}

// Moods

const concerns = (mood) => (mood.page || "") === byId("where").value;

function drawMoods() {
  for (const row of document.querySelectorAll(".mood")) {
    const mine = state.moods.filter((mood) => mood.mood === row.dataset.mood && concerns(mood));
    const active = mine.filter((mood) => !mood.over);
    const hits = mine.reduce((sum, mood) => sum + mood.hits, 0);
    const button = row.querySelector("button");
    button.setAttribute("aria-pressed", String(active.length > 0));
    button.textContent = t(active.length ? "operator.turn_off" : "operator.turn_on");
    row.querySelector(".hits").textContent = mine.length ? t("operator.hits", { n: hits }) : "";
  }
}

function wireMood(row) {
  act(row.querySelector("button"), async () => {
    const active = state.moods.filter((mood) => mood.mood === row.dataset.mood && concerns(mood) && !mood.over);
    if (active.length) {
      for (const mood of active) await call("DELETE", `/moods/${mood.id}`);
    } else {
      await call("POST", "/moods", { mood: row.dataset.mood, page: byId("where").value, ...OFTEN[byId("often").value], ...JSON.parse(row.dataset.more) });
    }
  });
}

// Page, clock, webhook

const chosenPage = () => state.pages.find((page) => page.page === byId("page").value);

function drawPage() {
  const page = chosenPage();
  byId("state").value = page.state;
  const left = page.token.access_expires_in_seconds;
  byId("token").textContent = t(left > 0 ? "operator.token_ok" : "operator.token_none");
  byId("quota").textContent = t("operator.quota", { n: page.sub_quota_remain, day: page.quota_renews_on });
  byId("money").textContent = t(state.apps.some((app) => app.balance_vnd === 0) ? "operator.money" : "operator.no_money");
}

function drawClock() {
  byId("clock").textContent = WHEN.format(new Date(state.now));
  const offset = state.clock_offset_seconds;
  const moved = Math.abs(offset) >= 30;
  byId("moved").textContent = moved ? t("operator.clock_moved", { n: duration(offset) }) : t("operator.clock_real");
  byId("moved").classList.toggle("warn", moved);
  byId("real-time").disabled = !moved;
}

function drawWebhook() {
  const urls = state.apps.map((app) => app.webhook_url).filter(Boolean);
  const subscribed = state.apps.every((app) => app.subscribed);
  byId("webhook-url").textContent = urls.join(", ") || t("operator.no_url");
  byId("webhook-state").textContent = t(subscribed ? "operator.subscribed" : "operator.unsubscribed");
  byId("webhook-state").classList.toggle("warn", !subscribed);
  byId("enable").disabled = subscribed;
  const waiting = state.webhooks.waiting_for_retry;
  byId("retry").textContent = t("operator.retry", { n: waiting });
  byId("retry").disabled = !waiting;
}

// Log

function entry(item) {
  const row = make("li", "entry");
  const good = item.kind === "webhook" ? item.outcome === "acknowledged" : item.error === 0;
  if (!good) row.classList.add("bad");
  const what = item.kind === "webhook" ? item.event_name : `${item.method} ${item.path}`;
  const how = item.kind === "webhook" ? `${t(`outcome.${item.outcome}`)}${item.status ? ` ${item.status}` : ""}${item.num_retry > 0 ? `, #${item.num_retry}` : ""}` : String(item.error);
  row.append(make("span", "entry-when", clockTime(item.at)), make("span", "entry-way", item.kind === "webhook" ? "→" : "←"), make("span", "entry-what", what), make("span", "entry-how", how));
  if (item.text) row.append(make("span", "entry-text", item.text));
  return row;
}

async function readLog() {
  if (!after) after = Math.max(0, state.log.last - ENTRIES);
  const news = await call("GET", `/log?after=${after}&limit=500`);
  after = news.next;
  const list = byId("entries");
  for (const item of news.items) list.prepend(entry(item));
  while (list.children.length > ENTRIES) list.lastElementChild.remove();
  byId("no-entries").hidden = list.children.length > 0;
  list.hidden = !list.children.length;
}

async function refresh() {
  state = await call("GET", "/state");
  drawMoods();
  drawPage();
  drawClock();
  drawWebhook();
  await readLog();
}

async function keepFresh() {
  try {
    if (document.visibilityState === "visible") await refresh();
    document.body.classList.remove("away");
  } catch {
    document.body.classList.add("away");
    say(t("operator.failed"));
  }
  setTimeout(keepFresh, REFRESH_SECONDS * 1000);
}

for (const row of document.querySelectorAll(".mood")) wireMood(row);
byId("where").addEventListener("change", drawMoods);
byId("page").addEventListener("change", drawPage);
byId("state").addEventListener("change", async () => {
  await call("POST", `/pages/${byId("page").value}`, { state: byId("state").value });
  say(t("operator.done"));
  await refresh();
});
act(byId("revoke"), () => call("POST", "/tokens/revoke", { page: byId("page").value }).then(() => null));
act(byId("revoke-all"), () => call("POST", "/tokens/revoke", { page: byId("page").value, refresh_token_too: true }).then(() => null));
act(byId("spend"), () => call("POST", `/pages/${byId("page").value}`, { sub_quota_remain: 0 }).then(() => null));
act(byId("money"), () => call("POST", "/billing", state.apps.some((app) => app.balance_vnd === 0) ? {} : { balance_vnd: 0 }).then(() => null));
for (const button of document.querySelectorAll("[data-shift]")) {
  act(button, () => call("POST", "/clock", { shift_seconds: Number(button.dataset.shift) }).then(() => null));
}
const realTime = () => call("POST", "/clock", { shift_seconds: -state.clock_offset_seconds });
act(byId("real-time"), () => realTime().then(() => null));
act(byId("enable"), () => call("POST", "/webhook", { enabled: true }).then(() => null));
act(byId("retry"), () => call("POST", "/webhook/retry-now").then(() => null));
act(byId("check"), async () => {
  const { results } = await call("POST", "/webhook/check");
  const bad = results.find((result) => !result.accepted);
  return bad ? t("operator.not_accepted", { why: bad.webhook.status ?? t(`outcome.${bad.webhook.outcome}`) }) : t("operator.accepted");
});
act(byId("calm"), async () => {
  await call("DELETE", "/moods");
  for (const page of state.pages) if (page.state !== "normal") await call("POST", `/pages/${page.page}`, { state: "normal" });
  await call("POST", "/billing", {});
  await realTime();
  await call("POST", "/webhook", { enabled: true });
  return t("operator.calmed");
});
await keepFresh();
