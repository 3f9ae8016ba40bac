// The translated text: a span for each segment, with its doubts, its source and its alternatives.

import { languageTag } from "./picker.js";

const DOUBT = 0.35; // the mean token probability below which a sentence is underlined

const FLAGS = {
  truncated: "The translation was cut off at the maximum length.",
  loop: "The translation repeats itself.",
  off_target: "The translation may be in another language.",
  copy: "The text was copied instead of translated.",
  length: "The translation is much longer or shorter than the source.",
  unknown_characters: "The model does not know some of the characters.",
  low_probability: "The model itself is unsure.",
  literals_missing: "An address, a name or a placeholder is missing.",
  numbers_missing: "A number of the source is missing.",
  term_missing: "A term of the glossary is missing.",
  uncertain_source: "The language of the source is uncertain.",
  meaning: "The translation may mean something else.",
  markup: "Formatting may be in the wrong place.",
};

const output = document.getElementById("output");
const backdrop = document.getElementById("backdrop");
const sourceText = document.getElementById("source-text");
const dialog = document.getElementById("details");
const detailsBody = document.getElementById("details-body");
let requestAlternatives = async () => [];

export function onAlternatives(request) {
  requestAlternatives = request;
}

export function outputText() {
  return [...output.childNodes].map((node) => node.textContent).join("");
}

export function clearOutput() {
  output.replaceChildren();
  mark(null);
}

export function setWaiting(waiting) {
  output.classList.toggle("waiting", waiting);
  output.setAttribute("aria-busy", String(waiting));
}

// Shows a whole translation as the API returns it, with offsets in UTF-16 units.
export function showTranslation(translation) {
  output.lang = languageTag(translation.target.code);
  output.dir = translation.target.direction;
  const parts = [];
  let end = 0;
  for (const segment of translation.segments) {
    if (segment.start === null || segment.start < end) continue;
    parts.push(translation.text.slice(end, segment.start), segmentSpan(segment));
    end = segment.end;
  }
  output.replaceChildren(...parts, translation.text.slice(end));
  mark(null);
}

// Shows segments while the rest of a text is being translated.
export function showSegments(segments, target) {
  output.lang = languageTag(target.code);
  output.dir = target.direction;
  output.replaceChildren(...segments.flatMap((segment) => [segmentSpan(segment), " "]));
}

function segmentSpan(segment) {
  const span = document.createElement("span");
  span.textContent = segment.text;
  span.dataset.segment = "";
  span.tabIndex = 0;
  span.setAttribute("role", "button");
  if (segment.flags.length) span.className = "flagged";
  else if (segment.confidence < DOUBT) span.className = "doubt";
  if (span.className) span.setAttribute("aria-description", explain(segment).join(" "));
  const show = () => mark(segment);
  span.addEventListener("mouseenter", show);
  span.addEventListener("focus", show);
  span.addEventListener("mouseleave", () => mark(null));
  span.addEventListener("blur", () => mark(null));
  span.addEventListener("click", () => openDetails(segment, span));
  span.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    openDetails(segment, span);
  });
  return span;
}

function explain(segment) {
  const reasons = segment.flags.map((flag) => FLAGS[flag] ?? flag.replaceAll("_", " "));
  if (!reasons.length && segment.confidence < DOUBT) reasons.push(FLAGS.low_probability);
  return reasons;
}

// Highlights the source of a segment behind the text area.
function mark(segment) {
  backdrop.replaceChildren();
  if (segment === null || segment.source_start === null) return;
  const text = sourceText.value;
  const marked = document.createElement("mark");
  marked.textContent = text.slice(segment.source_start, segment.source_end);
  backdrop.append(text.slice(0, segment.source_start), marked, text.slice(segment.source_end));
}

async function openDetails(segment, span) {
  detailsBody.replaceChildren(
    quote(segment.source_text, sourceText.lang, "auto"),
    quote(span.textContent, output.lang, output.dir),
    reasons(segment),
  );
  const status = document.createElement("p");
  status.className = "muted";
  status.setAttribute("role", "status");
  status.textContent = "Looking for other wordings…";
  detailsBody.append(status);
  dialog.showModal();
  try {
    const others = await requestAlternatives(segment);
    status.textContent = others.length ? "Other wordings; choose one to use it:" : "There are no other wordings.";
    for (const other of others) detailsBody.append(choice(other, span));
  } catch (error) {
    status.textContent = error.message;
  }
}

function quote(text, language, direction) {
  const element = document.createElement("blockquote");
  element.textContent = text;
  element.lang = language;
  element.dir = direction;
  return element;
}

function reasons(segment) {
  const found = explain(segment);
  if (!found.length) {
    const fine = document.createElement("p");
    fine.textContent = "Nothing suspicious was found in this sentence.";
    return fine;
  }
  const list = document.createElement("ul");
  for (const reason of found) {
    const item = document.createElement("li");
    item.textContent = reason;
    list.append(item);
  }
  return list;
}

function choice(text, span) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.lang = output.lang;
  button.dir = output.dir;
  button.addEventListener("click", () => {
    span.textContent = text;
    span.className = "";
    span.removeAttribute("aria-description");
    dialog.close();
  });
  return button;
}
