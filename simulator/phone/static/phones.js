// Several phones on one screen: each is the phone page in a frame, as a person of its own; the address keeps how many.

import { NAMES } from "./people.js";
import { t } from "./words.js";

const MOST = 6;
const byId = (id) => document.getElementById(id);
const address = new URLSearchParams(location.search);
const page = address.get("page") ?? "";
let count = Math.min(MOST, Math.max(1, Number(address.get("n")) || 3));

function phone(number) {
  const name = NAMES[(number - 1) % NAMES.length];
  const box = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = `${number}. ${name}`;
  const frame = document.createElement("iframe");
  frame.className = "wall-phone";
  frame.title = t("wall.one", { n: number });
  frame.allow = "geolocation";
  const who = new URLSearchParams({ citizen: `wall-${number}`, name });
  frame.src = `/?${who}${page ? `#${encodeURIComponent(page)}` : ""}`;
  box.append(caption, frame);
  return box;
}

function draw() {
  const phones = byId("phones");
  while (phones.children.length > count) phones.lastElementChild.remove();
  while (phones.children.length < count) phones.append(phone(phones.children.length + 1));
  byId("remove").disabled = count <= 1;
  byId("add").disabled = count >= MOST;
  address.set("n", String(count));
  history.replaceState(null, "", `?${address}`);
}

byId("add").addEventListener("click", () => { count += 1; draw(); byId("phones").lastElementChild.scrollIntoView({ inline: "end" }); });
byId("remove").addEventListener("click", () => { count -= 1; draw(); });
draw();
