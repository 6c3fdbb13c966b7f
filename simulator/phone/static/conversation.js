// The conversation on screen: keeps the messages, draws them, reports what was received and seen.

import * as api from "./api.js";
import { bubble, make } from "./bubbles.js";
import { dayName, initials, tint } from "./words.js";

const TYPING_SECONDS = 15;
const byId = (id) => document.getElementById(id);

export class Conversation {
  constructor(page, me, hooks) {
    this.page = page;
    this.me = me;
    this.hooks = hooks;
    this.items = new Map();
    this.local = [];
    this.sharedInfo = new Set();
    this.reported = { received: new Set(), seen: new Set() };
    this.reactingTo = "";
    this.follows = false;
    this.chatted = true;
    this.loaded = false;
    this.log = byId("log");
    this.scroller = byId("messages");
    this.actions = {
      avatar: (size) => this.avatar(size),
      pageName: () => page.name,
      find: (msgId) => this.items.get(msgId),
      quote: (item) => hooks.quote(item),
      view: (address) => hooks.view(address),
      choose: (payload, hidden) => this.send({ text: payload, hidden }),
      shareInfo: (item) => hooks.shareInfo(item),
      shared: (item) => this.sharedInfo.has(item.msg_id),
      retry: (item) => this.retry(item),
      reacting: (item) => this.reactingTo === item.msg_id,
      offerReactions: (item) => this.offerReactions(item),
      react: (item, code) => this.react(item, code),
      jump: (msgId) => this.jump(msgId),
      grown: () => { if (this.atBottom) this.toBottom(); },
    };
    this.atBottom = true;
    this.onScroll = () => {
      this.atBottom = this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < 60;
      if (this.atBottom) byId("to-bottom").hidden = true;
    };
    this.onVisible = () => this.report();
    // The keyboard and the attachment menu take room: the newest message stays in view.
    this.resizes = new ResizeObserver(() => { if (this.atBottom) this.toBottom(); });
    this.resizes.observe(this.scroller);
    this.scroller.addEventListener("scroll", this.onScroll);
    document.addEventListener("visibilitychange", this.onVisible);
    addEventListener("focus", this.onVisible);
    this.stream = api.openStream(this.who, {
      connected: (yes) => hooks.connected(yes),
      snapshot: (snapshot) => this.onSnapshot(snapshot),
      item: (item) => this.onItem(item),
    });
  }

  get who() { return { page: this.page.page, citizen: this.me.citizen }; }

  close() {
    this.stream.close();
    this.resizes.disconnect();
    clearTimeout(this.typingTimer);
    this.scroller.removeEventListener("scroll", this.onScroll);
    document.removeEventListener("visibilitychange", this.onVisible);
    removeEventListener("focus", this.onVisible);
    this.log.replaceChildren();
  }

  avatar(size) {
    const element = make("span", `avatar ${size} ${tint(this.page.name)}`, initials(this.page.name));
    element.setAttribute("aria-hidden", "true");
    return element;
  }

  onSnapshot(snapshot) {
    this.loaded = true;
    this.follows = snapshot.follows;
    this.chatted = snapshot.chatted;
    this.items = new Map(snapshot.items.map((item) => [item.msg_id, item]));
    this.draw();
    this.toBottom();
    this.report();
    this.hooks.changed();
  }

  onItem(item) {
    const isNew = !this.items.has(item.msg_id);
    this.items.set(item.msg_id, item);
    this.chatted = true;
    if (item.direction === "out" && isNew) this.setTyping(false);
    if (item.direction === "in" && item.state === "received" && this.newestIs(item)) this.setTyping(true);
    const follow = this.atBottom || item.direction === "in";
    this.draw();
    if (isNew && follow) this.toBottom();
    else if (isNew) byId("to-bottom").hidden = false;
    this.report();
  }

  newestIs(item) {
    const shown = [...this.items.values()];
    return shown.length > 0 && shown.at(-1).msg_id === item.msg_id;
  }

  async send(message) {
    const draft = { ...message, quote_msg_id: message.quote_msg_id ?? "" };
    try {
      await api.sendMessage({ ...this.who, display_name: this.me.name, phone: this.me.phone, ...draft });
    } catch (error) {
      this.local.push({
        msg_id: `local-${Date.now()}-${this.local.length}`, direction: "in", at: new Date().toISOString(), text: draft.text ?? "",
        attachments: draft.attachments ?? [], buttons: [], quote_message_id: draft.quote_msg_id, state: "failed", reaction: "", draft,
      });
      this.draw();
      this.toBottom();
      this.hooks.toast(error.message);
    }
  }

  offerReactions(item) {
    this.reactingTo = this.reactingTo === item.msg_id ? "" : item.msg_id;
    this.draw();
    const turn = this.turnOf(item.msg_id);
    turn?.querySelector(this.reactingTo ? ".reactions button" : ".bubble")?.focus({ preventScroll: true });
    turn?.querySelector(".reactions")?.scrollIntoView({ block: "nearest" });
  }

  async react(item, code) {
    this.reactingTo = "";
    this.draw();
    this.turnOf(item.msg_id)?.querySelector(".bubble")?.focus({ preventScroll: true });
    try {
      await api.react(this.who, item.msg_id, code);
    } catch (error) {
      this.hooks.toast(error.message);
    }
  }

  turnOf(msgId) {
    return [...this.log.children].find((element) => element.dataset.msgId === msgId);
  }

  retry(item) {
    this.local = this.local.filter((other) => other !== item);
    this.draw();
    return this.send(item.draft);
  }

  report() {
    if (!this.loaded) return;
    const visible = document.visibilityState === "visible";
    const incoming = [...this.items.values()].filter((item) => item.direction === "out" && item.state !== "seen");
    this.tell(incoming.filter((item) => item.state === "sent"), "received");
    if (visible) this.tell(incoming, "seen");
  }

  tell(items, what) {
    const fresh = items.map((item) => item.msg_id).filter((msgId) => !this.reported[what].has(msgId));
    if (!fresh.length) return;
    for (const msgId of fresh) this.reported[what].add(msgId);
    this.telling = (this.telling ?? Promise.resolve())
      .then(() => api.receipts(this.who, fresh, what === "seen"))
      .catch(() => { for (const msgId of fresh) this.reported[what].delete(msgId); });
  }

  setTyping(yes) {
    clearTimeout(this.typingTimer);
    byId("typing").hidden = !yes;
    this.hooks.changed();
    if (yes) {
      this.typingTimer = setTimeout(() => this.setTyping(false), TYPING_SECONDS * 1000);
      if (this.atBottom) this.toBottom();
    }
  }

  draw() {
    const items = [...this.items.values(), ...this.local].filter((item) => !item.hidden);
    byId("empty").hidden = items.length > 0 || !this.loaded;
    byId("start-chat").hidden = this.chatted;
    const lastMine = items.findLast((item) => item.direction === "in");
    const elements = [];
    items.forEach((item, index) => {
      const before = items[index - 1];
      const after = items[index + 1];
      const day = dayName(item.at);
      const newDay = !before || dayName(before.at) !== day;
      if (newDay) elements.push(make("li", "day", day));
      elements.push(bubble(item, {
        first: newDay || before.direction !== item.direction,
        last: !after || after.direction !== item.direction || dayName(after.at) !== day,
        newest: item === lastMine,
      }, this.actions));
    });
    this.replace(elements);
  }

  // Redraws only what changed, so that screen readers hear new messages and the focus stays where it is.
  replace(elements) {
    const old = [...this.log.children];
    elements.forEach((element, index) => {
      const present = old[index];
      if (!present) this.log.append(element);
      else {
        if (present.classList.contains("chosen") && present.dataset.msgId === element.dataset.msgId) element.classList.add("chosen");
        if (!present.isEqualNode(element)) present.replaceWith(element);
      }
    });
    for (const left of old.slice(elements.length)) left.remove();
  }

  jump(msgId) {
    const target = this.turnOf(msgId);
    target?.scrollIntoView({ block: "center" });
    target?.querySelector(".bubble")?.focus();
  }

  toBottom() {
    // Where nothing was said yet, the introduction is read from its top.
    this.scroller.scrollTop = this.items.size || this.local.length ? this.scroller.scrollHeight : 0;
    this.atBottom = true;
    byId("to-bottom").hidden = true;
  }
}
