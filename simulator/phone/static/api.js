// Calls to the simulator. Every function throws an Error whose message can be shown.

import { t } from "./words.js";

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error(t("error.offline"));
  }
  if (!response.ok) {
    throw new Error(t(response.status === 413 ? "error.too_large" : response.status === 415 ? "error.not_a_file" : "error.failed"));
  }
  return response.json();
}

function post(path, body) {
  return call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

export const listPages = (citizen) => call(`/phone/pages?citizen=${encodeURIComponent(citizen)}`);
export const sendMessage = (message) => post("/control/messages", { ...message, wait: false });
export const clickChat = (who) => post("/control/chat-clicks", who);
export const follow = (who, follows) => post("/control/follow", { ...who, follows });
export const receipts = (who, msgIds, seen) => post("/control/receipts", { ...who, msg_ids: msgIds, seen });
export const react = (who, msgId, icon) => post("/control/reactions", { ...who, msg_id: msgId, react_icon: icon });
export const describe = (person) => post("/control/people", { citizen: person.citizen, display_name: person.name, phone: person.phone });
export const submitInfo = (who, info) => post("/control/user-info", { ...who, ...info });

export function upload(file) {
  const form = new FormData();
  form.append("file", file);
  return call("/phone/media", { method: "POST", body: form });
}

export function openStream(who, handlers) {
  const source = new EventSource(`/phone/stream?page=${encodeURIComponent(who.page)}&citizen=${encodeURIComponent(who.citizen)}`);
  source.addEventListener("open", () => handlers.connected(true));
  source.addEventListener("error", () => handlers.connected(false));
  source.addEventListener("snapshot", (event) => handlers.snapshot(JSON.parse(event.data)));
  source.addEventListener("item", (event) => handlers.item(JSON.parse(event.data)));
  return source;
}
