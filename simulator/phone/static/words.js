// Small helpers for wording: texts of the chosen language, times, names, one-line previews.

const TEXTS = JSON.parse(document.body.dataset.texts);
const LOCALE = document.documentElement.lang === "en" ? "en-GB" : "vi-VN";

export function t(key, values = {}) {
  return (TEXTS[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

const TIME = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", timeZone: "Asia/Ho_Chi_Minh" });
const DAY = new Intl.DateTimeFormat(LOCALE, { day: "2-digit", month: "2-digit", year: "numeric", timeZone: "Asia/Ho_Chi_Minh" });

export const clockTime = (value) => TIME.format(new Date(value));

export function dayName(value) {
  const day = DAY.format(new Date(value));
  if (day === DAY.format(new Date())) return t("chat.today");
  if (day === DAY.format(new Date(Date.now() - 86_400_000))) return t("chat.yesterday");
  return day;
}

export function shortWhen(value) {
  const day = dayName(value);
  return day === t("chat.today") ? clockTime(value) : day === t("chat.yesterday") ? day : day.slice(0, 5);
}

// Two letters (or a number) that tell one page from another: what all names share is left out.
export function initials(name) {
  const own = name.replace(/^(?:(?:Công an|Đội|Cảnh sát|Phường|Quận)\s+)+/i, "");
  const words = own.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  if (/^\d+$/.test(words[0] ?? "")) return words[0].slice(0, 3);
  return words.slice(0, 2).map((word) => word[0].toLocaleUpperCase("vi")).join("") || "?";
}

export function tint(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 6007;
  return `tint-${sum % 6}`;
}

export function foldText(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").replace(/đ/gi, "d").toLowerCase();
}

export function preview(item) {
  if (item.text) return item.text.replace(/\s+/g, " ");
  const kind = item.attachments[0]?.type;
  return kind ? t(`kind.${kind}`) : "";
}

export function waitWords(seconds) {
  if (!seconds) return t("mark.now");
  if (seconds < 60) return t("mark.seconds", { n: Math.max(1, Math.round(seconds)) });
  return seconds < 3600 ? t("mark.minutes", { n: Math.round(seconds / 60) }) : t("mark.hours", { n: Math.round(seconds / 3600) });
}

// Zalo's icon -> what is shown, and the key of its name.
export const REACTIONS = {
  "/-heart": ["❤️", "heart"], "/-strong": ["👍", "strong"], ":>": ["😄", "laugh"],
  ":o": ["😮", "wow"], ":-((": ["😭", "cry"], ":-h": ["😡", "angry"],
};
