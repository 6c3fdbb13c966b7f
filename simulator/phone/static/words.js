// Small helpers for wording: times, names, one-line previews.

const TIME = new Intl.DateTimeFormat("vi-VN", { hour: "2-digit", minute: "2-digit", timeZone: "Asia/Ho_Chi_Minh" });
const DAY = new Intl.DateTimeFormat("vi-VN", { day: "2-digit", month: "2-digit", year: "numeric", timeZone: "Asia/Ho_Chi_Minh" });

export const clockTime = (value) => TIME.format(new Date(value));

export function dayName(value) {
  const day = DAY.format(new Date(value));
  if (day === DAY.format(new Date())) return "Hôm nay";
  if (day === DAY.format(new Date(Date.now() - 86_400_000))) return "Hôm qua";
  return day;
}

export function shortWhen(value) {
  const day = dayName(value);
  return day === "Hôm nay" ? clockTime(value) : day === "Hôm qua" ? day : day.slice(0, 5);
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

const KINDS = { image: "[Hình ảnh]", gif: "[Ảnh động]", location: "[Vị trí]", file: "[Tệp]", sticker: "[Nhãn dán]", link: "[Liên kết]", audio: "[Tin thoại]", video: "[Video]", business_card: "[Danh thiếp]", template: "[Yêu cầu thông tin]" };

export function preview(item) {
  if (item.text) return item.text.replace(/\s+/g, " ");
  return KINDS[item.attachments[0]?.type] ?? "";
}

export function waitWords(seconds) {
  if (!seconds) return "ngay";
  if (seconds < 60) return `sau ${Math.max(1, Math.round(seconds))} giây`;
  return seconds < 3600 ? `sau ${Math.round(seconds / 60)} phút` : `sau ${Math.round(seconds / 3600)} giờ`;
}

export const REACTIONS = { "/-heart": "❤️", "/-strong": "👍", ":>": "😄", ":o": "😮", ":-((": "😭", ":-h": "😡" };
