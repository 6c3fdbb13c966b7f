// The console's own script: the live stream, times that run, keys, the composer. Pages work without it; they just stand still.
"use strict";

(() => {
  const body = document.body;
  const texts = body.dataset.texts ? JSON.parse(body.dataset.texts) : {};
  const byId = (id) => document.getElementById(id);
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const say = (key, n) => (texts[key] || "").replace("{n}", n);

  // -- times -----------------------------------------------------------------------------------------------------

  function timeLeft(due, now) {
    const milliseconds = due - now;
    const direction = milliseconds < 0 ? "over" : "left";
    const minutes = Math.floor(Math.abs(milliseconds) / 60000);
    const level = direction === "over" ? "over" : milliseconds <= 30 * 60000 ? "soon" : "calm";
    const [unit, n] = minutes === 0 ? ["now", 0] : minutes < 60 ? ["minutes", minutes]
      : minutes < 48 * 60 ? ["hours", Math.floor(minutes / 60)]
      : ["days", Math.floor(minutes / (24 * 60))];
    return { words: say(`deadline.${direction}.${unit}`, n), level };
  }

  function runTimes() {
    const now = Date.now();
    for (const time of all("time[data-due]")) {
      const { words, level } = timeLeft(Date.parse(time.dateTime), now);
      if (words && time.textContent !== words) time.textContent = words;
      time.classList.remove("over", "soon", "calm");
      time.classList.add(level);
    }
  }

  function runCountdowns() {
    for (const bar of all(".take-back[data-due]")) {
      const seconds = Math.ceil((Date.parse(bar.dataset.due) - Date.now()) / 1000);
      const count = bar.querySelector("[data-countdown]");
      if (count) count.textContent = seconds > 0 ? say("pending.seconds", seconds) : "";
      if (seconds <= -1) bar.remove();
    }
  }

  setInterval(runTimes, 15000);
  setInterval(runCountdowns, 250);

  // -- the live stream ---------------------------------------------------------------------------------------------

  const SILENT_SECONDS = 16; // three heartbeats missed: the connection died without saying so
  let stream = null;
  let waitSeconds = 2;
  let heardAt = Date.now();

  function show(state) {
    const live = byId("live");
    if (!live || live.dataset.state === state) return;
    live.dataset.state = state;
    live.querySelector(".words").textContent = texts[`live.${state}`] || "";
  }

  function signal(topic) {
    body.dispatchEvent(new CustomEvent(`live:${topic}`));
  }

  function connect() {
    stream = new EventSource(body.dataset.live);
    const on = (name, act) => stream.addEventListener(name, () => { heardAt = Date.now(); act(); });
    heardAt = Date.now();
    on("hello", () => { waitSeconds = 2; show("on"); });
    on("beat", () => {});
    for (const topic of ["queue", "case", "pending"]) on(topic, () => signal(topic));
    on("trouble", () => show("trouble"));
    on("recovered", () => { show("on"); signal("queue"); signal("case"); signal("pending"); });
    on("signed-out", () => { stream.close(); location.assign("/sign-in?over=1"); });
    stream.onerror = () => {
      show("off");
      if (stream.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      setTimeout(connect, waitSeconds * 1000);
      waitSeconds = Math.min(waitSeconds * 2, 30);
    };
  }

  if (body.dataset.live) {
    connect();
    setInterval(() => {
      if (Date.now() - heardAt < SILENT_SECONDS * 1000) return;
      show("off");
      stream.close();
      connect();
    }, 2000);
  }
  addEventListener("pagehide", () => stream && stream.close());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  // What the page fetches by itself must not keep a session alive.
  body.addEventListener("htmx:configRequest", (event) => {
    const cause = event.detail.triggeringEvent;
    if (cause && (cause.type.startsWith("live:") || cause.type === "load")) event.detail.headers["X-Live"] = "1";
  });

  // -- what changed, said aloud ------------------------------------------------------------------------------------

  let sound = null;
  function startSound() { // browsers may keep it silent until somebody has clicked or typed
    sound = sound || new AudioContext();
    sound.resume();
  }
  if (body.dataset.sound === "on") {
    startSound();
    for (const act of ["pointerdown", "click", "keydown"]) addEventListener(act, startSound, { once: true });
  }

  function ring() {
    if (!sound) return;
    for (const at of [0, 0.35, 0.7]) {
      const tone = sound.createOscillator();
      const volume = sound.createGain();
      tone.frequency.value = 880;
      volume.gain.setValueAtTime(0.25, sound.currentTime + at);
      volume.gain.exponentialRampToValueAtTime(0.001, sound.currentTime + at + 0.3);
      tone.connect(volume).connect(sound.destination);
      tone.start(sound.currentTime + at);
      tone.stop(sound.currentTime + at + 0.3);
    }
  }

  const ask = byId("ask-sound");
  if (ask) ask.addEventListener("submit", async (event) => { // without leaving the page: the sound is on from this click on
    event.preventDefault();
    const answer = new URLSearchParams(new FormData(ask));
    answer.set("sound", event.submitter.value);
    if (event.submitter.value === "on") { startSound(); ring(); }
    try {
      await fetch(ask.action, { method: "POST", body: answer, redirect: "manual" });
    } catch { return; } // no connection: the question stays
    ask.remove();
    byId("main").focus();
    if (answer.get("sound") === "on") byId("announce").textContent = texts["live.sound_on"];
  });

  const burningNow = () => Number((byId("burning-count") || { dataset: {} }).dataset.count || 0);
  let burning = burningNow();
  const title = document.title.replace(/^\(\d+!\) /, "");

  function afterChange(target) {
    runTimes();
    runCountdowns();
    if (target.id === "burning") {
      const now = burningNow();
      if (now > burning) { byId("alarm").textContent = texts["live.new_burning"]; ring(); }
      burning = now;
      document.title = now ? `(${now}!) ${title}` : title;
    }
    if (target.id === "queue") byId("announce").textContent = texts["live.new_case"];
    if (target.id === "lines") keepUp(target);
  }
  body.addEventListener("htmx:afterSwap", (event) => afterChange(event.detail.target));

  // -- conversation ------------------------------------------------------------------------------------------------

  const lines = byId("lines");
  const toEnd = () => { if (lines) lines.scrollTop = lines.scrollHeight; };
  let wasAtEnd = true;
  const wasOpen = lines && byId("case-head").dataset.open;
  let said = lines ? all(".line.citizen", lines).length : 0;
  if (lines) {
    toEnd();
    lines.addEventListener("scroll", () => { wasAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 60; });
    lines.addEventListener("load", () => wasAtEnd && toEnd(), true);
  }

  function keepUp(target) {
    if (wasAtEnd) toEnd();
    const now = all(".line.citizen", target).length;
    if (now > said) byId("announce").textContent = texts["live.new_line"];
    said = now;
    const quick = byId("quick").dataset;
    if (quick.language !== language) {
      language = quick.language;
      tellLanguage(!reply.value.trim() ? "empty" : inLanguageNow() ? "followed" : "kept");
      if (wasAtEnd) toEnd(); // the notice takes some of its height
    }
    const isOpen = byId("case-head").dataset.open;
    if (isOpen !== wasOpen && !reply.value.trim() && !document.querySelector("details.act[open]")) location.reload();
    const send = byId("send");
    if (send) send.disabled = Boolean(document.querySelector(".window.closed, .window.withdrawn"));
  }

  // -- composer ----------------------------------------------------------------------------------------------------

  const composer = byId("composer");
  const reply = byId("reply");
  let language = composer && byId("quick").dataset.language;

  function tellLanguage(what) {
    byId("language-now").textContent = say(`reply.language_now.${what}`, byId("quick").dataset.words);
  }

  // A draft of quick replies alone follows the language to answer in; of what the officer wrote nothing is touched.
  function inLanguageNow() {
    const quick = all("#quick [data-insert]").map((chip) => ({ now: chip.dataset.insert, texts: JSON.parse(chip.dataset.texts) }));
    const parts = [];
    let rest = reply.value.trim();
    while (rest) {
      const known = quick.flatMap(({ now, texts }) => texts.map((text) => ({ now, text })))
        .find(({ text }) => `${rest}\n`.startsWith(`${text}\n`));
      if (!known) return false;
      parts.push(known.now);
      rest = rest.slice(known.text.length + 1);
    }
    if (parts.join("\n") === reply.value.trim()) return true;
    reply.value = parts.join("\n");
    reply.dispatchEvent(new Event("input"));
    byId("preview").replaceChildren(); // it showed the other language
    return true;
  }

  function count() {
    const counter = byId("count");
    const n = Array.from(reply.value.replace(/\r\n?/g, "\n").normalize("NFC").trim()).length;
    counter.textContent = counter.dataset.format.replace("#", n);
    counter.classList.toggle("too-long", n > Number(reply.dataset.max));
    reply.style.height = "auto"; // as high as its text, up to a part of the screen
    reply.style.height = `${Math.min(reply.scrollHeight + 2, innerHeight * 0.4)}px`;
  }

  if (composer) {
    const place = `draft:${composer.dataset.case}`;
    if (!reply.value) reply.value = sessionStorage.getItem(place) || "";
    reply.addEventListener("input", () => { count(); sessionStorage.setItem(place, reply.value); });
    const draft = reply.value;
    inLanguageNow(); // it may be older than the citizen's choice
    if (reply.value !== draft) tellLanguage("followed");
    composer.addEventListener("submit", () => { sessionStorage.removeItem(place); byId("send").disabled = true; });
    composer.addEventListener("click", (event) => {
      const quick = event.target.closest("[data-insert]");
      if (!quick) return;
      reply.value = reply.value.trim() ? `${reply.value.trim()}\n${quick.dataset.insert}` : quick.dataset.insert;
      reply.dispatchEvent(new Event("input"));
      reply.focus();
    });
    count();
  }
  for (const select of all("select[data-submit]")) select.addEventListener("change", () => select.form.submit());

  // -- keys --------------------------------------------------------------------------------------------------------

  function move(step) {
    const rows = all(".row > a");
    if (!rows.length) return;
    const at = rows.indexOf(document.activeElement);
    rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + step))].focus();
  }

  function openAct(...names) {
    const act = names.map((name) => byId(`act-${name}`)).find(Boolean);
    if (!act) return;
    act.open = true;
    act.scrollIntoView({ block: "nearest" });
    const field = act.querySelector("select, textarea");
    if (field) field.focus();
  }

  const keys = {
    j: () => move(1),
    k: () => move(-1),
    q: () => location.assign("/queue"),
    r: () => reply && reply.focus(),
    h: () => openAct("hand_over"),
    e: () => openAct("correct"),
    c: () => openAct("close", "reopen"),
    u: () => { const undo = document.querySelector("[data-undo]"); if (undo) undo.click(); },
    "/": () => { const search = byId("q"); if (search) search.focus(); },
    "?": () => location.assign("/help"),
  };

  addEventListener("keydown", (event) => {
    const field = event.target.closest("input, textarea, select");
    if (field === reply && reply && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!byId("send").disabled) composer.requestSubmit(byId("send"));
    } else if (event.key === "Escape") {
      const act = event.target.closest("details[open]");
      if (act) { act.open = false; act.querySelector("summary").focus(); } else if (field) field.blur();
    } else if (!field && body.dataset.keys === "on" && !event.ctrlKey && !event.metaKey && !event.altKey && keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  // -- where to begin ----------------------------------------------------------------------------------------------

  const opened = document.querySelector("details.act[open]");
  const own = all(".line.officer .mark.undo").pop();
  if (opened) openAct(opened.id.replace("act-", ""));
  else if (reply && reply.textContent) reply.focus(); // taken back, or refused: to be changed
  else if (own) own.scrollIntoView({ block: "nearest" }); // on a phone the conversation is longer than the screen

  runTimes();
  runCountdowns();
})();
