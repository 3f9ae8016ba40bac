// The dialog in which a language is chosen by any of its names or codes.

const RECENT = "nllb-recent-languages";
const MAX_RECENT = 6;

const dialog = document.getElementById("picker");
const search = document.getElementById("picker-search");
const list = document.getElementById("picker-list");
const title = document.getElementById("picker-title");

let languages = [];
let shown = [];
let selected = 0;
let choose = () => {};
let withDetection = false;

export function setLanguages(rows) {
  languages = rows.map((row) => {
    const names = namesOf(row);
    return { ...row, names: new Set(names), key: names.join(" ") };
  });
}

export function findLanguage(text) {
  return languages.find((row) => row.names.has(plain(text ?? "")));
}

function namesOf(row) {
  return [row.name, row.own_name, row.code, row.short_code, ...(row.aliases ?? [])].filter(Boolean).map(plain);
}

// The language tag for the lang attribute of an element.
export function languageTag(code) {
  return findLanguage(code)?.short_code?.replace("_", "-") ?? "";
}

export function openPicker({ heading, detection, onChoose }) {
  title.textContent = heading;
  withDetection = detection;
  choose = onChoose;
  search.value = "";
  fill();
  dialog.showModal();
  search.focus();
}

function plain(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}

function recent() {
  try {
    return JSON.parse(localStorage.getItem(RECENT) ?? "[]");
  } catch {
    return [];
  }
}

function remember(code) {
  localStorage.setItem(RECENT, JSON.stringify([code, ...recent().filter((other) => other !== code)].slice(0, MAX_RECENT)));
}

// A whole name or code comes first, then names that begin with the text, then names that contain it; without a text,
// recent ones come first.
function matches(text) {
  const order = new Map(recent().map((code, index) => [code, index]));
  const rank = (row) => {
    if (!text) return order.has(row.code) ? order.get(row.code) : MAX_RECENT;
    if (row.names.has(text)) return -1;
    return row.key.startsWith(text) ? 0 : ` ${row.key}`.includes(` ${text}`) ? 1 : 2;
  };
  return languages
    .filter((row) => row.key.includes(text))
    .map((row) => [rank(row), row])
    .sort((a, b) => a[0] - b[0] || a[1].name.localeCompare(b[1].name))
    .map(([, row]) => row);
}

function fill() {
  const text = plain(search.value.trim());
  shown = matches(text);
  if (withDetection && "detect language".includes(text)) shown.unshift({ code: "auto", name: "Detect language", own_name: "" });
  list.replaceChildren(...shown.map(item));
  if (!shown.length) {
    const empty = document.createElement("li");
    empty.textContent = "This model has no language of this name. Other models may have it: see Settings.";
    empty.setAttribute("role", "option");
    empty.setAttribute("aria-disabled", "true");
    list.append(empty);
  }
  select(0);
}

function item(row, index) {
  const element = document.createElement("li");
  element.id = `language-${index}`;
  element.setAttribute("role", "option");
  element.append(row.name);
  const note = document.createElement("small");
  if (row.own_name && row.own_name !== row.name) {
    note.textContent = row.own_name;
    note.lang = languageTag(row.code);
    note.dir = row.direction;
  }
  element.append(note);
  element.addEventListener("click", () => finish(index));
  return element;
}

function select(index) {
  selected = Math.max(0, Math.min(index, shown.length - 1));
  [...list.children].forEach((element, place) => element.setAttribute("aria-selected", String(place === selected && shown.length > 0)));
  search.setAttribute("aria-activedescendant", shown.length ? `language-${selected}` : "");
  list.children[selected]?.scrollIntoView({ block: "nearest" });
}

function finish(index) {
  const row = shown[index];
  if (!row) return;
  if (row.code !== "auto") remember(row.code);
  dialog.close();
  choose(row);
}

search.addEventListener("input", fill);
search.addEventListener("keydown", (event) => {
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
  if (event.key in steps) {
    select(selected + steps[event.key]);
    event.preventDefault();
  } else if (event.key === "Enter") {
    finish(selected);
    event.preventDefault();
  }
});
