// The page: reads the controls, asks the server, and shows the answers.

import { findLanguage, languageTag, openPicker, setLanguages } from "./picker.js";
import { clearOutput, onAlternatives, outputText, setWaiting, showSegments, showTranslation } from "./output.js";
import { apiKey, get, post, stream, translateFile } from "./server.js";

const PAUSE_MS = 400;
const STREAM_CHARACTERS = 400; // longer texts arrive sentence by sentence
const MAX_LINK_CHARACTERS = 2000;
// What a chrF++ score means for a reader, roughly; the last column is whether to warn.
const GRADES = [
  [55, "mostly good", false],
  [40, "understandable, with mistakes", false],
  [25, "the gist at best", true],
  [-Infinity, "mostly wrong, do not use it", true],
];
const AUTO = { code: "auto", name: "Detect language", direction: "auto" };

const element = (id) => document.getElementById(id);
const sourceText = element("source-text");
const state = { source: AUTO, target: null, detected: null, missing: "", models: [], model: "", limit: -1 };
let timer = 0;
let retryTimer = 0;
let running = null;

async function start() {
  bindControls();
  applyTheme(localStorage.getItem("nllb-theme") ?? "");
  element("glossary-text").value = localStorage.getItem("nllb-glossary") ?? "";
  showGlossaryCount();
  await connect();
}

// Reads what the server has; tries again as long as it cannot be reached.
async function connect() {
  try {
    await loadServer();
  } catch (error) {
    return showError(error, connect);
  }
  showError(null);
  readAddress();
  showLanguages();
  textChanged();
  if (sourceText.value) translateNow();
}

async function loadServer() {
  const [models, languages, settings] = await Promise.all([
    get("v1/models"),
    get("v1/languages", { model: state.model }),
    get("frontend/settings").catch(() => ({})),
  ]);
  setLanguages(languages.languages);
  state.models = models.models;
  state.model ||= state.models[0]?.name ?? "";
  state.limit = settings.charLimit ?? -1;
  const options = state.models.map((model) => new Option(model.name, model.name, false, model.name === state.model));
  element("model-choice").replaceChildren(...options);
  element("glossary-button").hidden = models.features?.glossary === false;
  element("file-button").hidden = settings.filesTranslation === false;
  const formats = settings.supportedFilesFormat;
  if (formats) element("file").accept = formats.join(",");
}

function readAddress() {
  const given = new URLSearchParams(location.hash.length > 1 ? location.hash.slice(1) : location.search);
  const saved = JSON.parse(localStorage.getItem("nllb-languages") ?? "{}");
  const source = given.get("source") ?? saved.source ?? "auto";
  const target = given.get("target") ?? saved.target ?? navigator.language.split("-")[0];
  const missing = ["source", "target"].map((name) => given.get(name)).filter((code) => code && code !== "auto" && !findLanguage(code));
  state.missing = missing.join(" and ");
  state.source = findLanguage(source) ?? AUTO;
  // A link that asks for a language which the model lacks must not silently become one to English.
  state.target = findLanguage(target) ?? (given.get("target") ? null : findLanguage("eng_Latn")) ?? null;
  if (state.target?.code === "eng_Latn" && state.source.code === "eng_Latn") state.source = AUTO;
  if (given.has("q") && !sourceText.value) sourceText.value = given.get("q");
}

function translateLater() {
  clearTimeout(timer);
  timer = setTimeout(translateNow, PAUSE_MS);
}

async function translateNow() {
  clearTimeout(timer);
  running?.abort();
  showError(null);
  const text = sourceText.value;
  if (!text.trim() || !state.target) {
    clearOutput();
    setWaiting(false);
    state.detected = null;
    showLanguages();
    return showStatus("");
  }
  const request = (running = new AbortController());
  setWaiting(true);
  try {
    const translation =
      text.length > STREAM_CHARACTERS ? await translateInParts(text, request.signal) : await translateAtOnce(text, request.signal);
    if (request.signal.aborted) return;
    showTranslation(translation);
    finished(translation);
  } catch (error) {
    if (request.signal.aborted) return;
    clearOutput();
    showError(error, translateNow);
  }
  setWaiting(false);
}

async function translateAtOnce(text, signal) {
  const answer = await post("v1/translate", { ...options(), text }, signal);
  return answer.translations[0];
}

async function translateInParts(text, signal) {
  const segments = [];
  for await (const [name, data] of stream("v1/translate/stream", { ...options(), text }, signal)) {
    if (name === "error") throw new Error(data.message);
    if (name === "done") return data;
    segments[data.number] = data;
    const ready = segments.findIndex((segment) => !segment);
    showSegments(ready < 0 ? segments : segments.slice(0, ready), state.target);
    showStatus(`Translating… ${segments.filter(Boolean).length} sentences`);
  }
  throw new Error("The connection to the server was lost. Try again.");
}

function options() {
  const { glossary, kept } = readGlossary();
  const chosen = { source: state.source.code, target: state.target.code, offset_unit: "utf16" };
  if (state.model) chosen.model = state.model;
  if (Object.keys(glossary).length) chosen.glossary = glossary;
  if (kept.length) chosen.do_not_translate = kept;
  return chosen;
}

function readGlossary() {
  const glossary = {};
  const kept = [];
  for (const line of element("glossary-text").value.split("\n")) {
    const [term, ...translation] = line.split("=");
    if (!term.trim()) continue;
    if (translation.length) glossary[term.trim()] = translation.join("=").trim();
    else kept.push(term.trim());
  }
  return { glossary, kept };
}

function finished(translation) {
  state.detected = state.source.code === "auto" ? translation.source : null;
  sourceText.lang = languageTag((translation.source ?? state.source).code);
  const flagged = translation.segments.filter((segment) => segment.flags.length).length;
  const doubtful = flagged === 1 ? "1 sentence is doubtful." : flagged ? `${flagged} sentences are doubtful.` : "";
  showStatus(doubtful);
  element("announcement").textContent = `Translated. ${doubtful}`;
  showLanguages();
}

onAlternatives(async (segment) => {
  const source = state.detected?.code ?? state.source.code;
  const body = { ...options(), source, text: segment.source_text, alternatives: 4, beam_size: 6 };
  const answer = await post("v1/translate", body);
  return answer.translations[0].segments.length === 1 ? answer.translations[0].segments[0].alternatives : [];
});

function showLanguages() {
  const { source, target, detected } = state;
  const button = element("source-language");
  button.replaceChildren(detected ? detected.name : source.name);
  if (detected) {
    const note = document.createElement("small");
    note.textContent = " (detected)";
    button.append(note);
  }
  button.setAttribute("aria-label", `Translate from: ${button.textContent}`);
  element("target-language").textContent = target?.name ?? "Choose a language";
  element("target-language").setAttribute("aria-label", `Translate into: ${target?.name ?? "not chosen"}`);
  element("swap").disabled = source.code === "auto" && !detected;
  const model = state.models.find((one) => one.name === state.model);
  element("model").textContent = model ? `Model ${model.name}${model.licence ? `, ${model.licence}` : ""}` : "";
  showCoverage(model);
}

// Says what is known about the quality of the chosen direction.
async function showCoverage(model) {
  const source = state.detected ?? state.source;
  const place = element("coverage");
  const say = (text, isWarning = false) => {
    place.textContent = text;
    place.classList.toggle("warning", isWarning);
  };
  if (state.missing) return say(`${model?.name ?? "This model"} does not have the language ${state.missing} of the link. Choose another one.`, true);
  if (!model || !state.target || source.code === "auto") {
    return say(model?.summary ?? "");
  }
  const direction = `${source.name} to ${state.target.name}`;
  let rows = null;
  if (model.has_scores) {
    const name = encodeURIComponent(model.name);
    const answer = await get(`v1/models/${name}/scores`, { source: source.code, target: state.target.code }).catch(() => null);
    rows = answer?.scores ?? null;
  }
  if (source !== (state.detected ?? state.source)) return;
  if (rows === null) return say(model.summary ?? "");
  if (!rows.length) return say(`${direction} has not been measured with ${model.name}: check every sentence.`, true);
  const [{ pairs, "chrf++": score }] = rows;
  const measured = `chrF++ ${score.toFixed(0)} of 100 on FLORES-200`;
  if (!pairs) return say(`${model.name} was not trained on ${direction}: its output is a guess from other directions (${measured}).`, true);
  const [, meaning, isWarning] = GRADES.find(([least]) => score >= least);
  say(`${direction} with ${model.name}: ${meaning} (${measured}).`, isWarning);
}

function chooseSource() {
  openPicker({
    heading: "Translate from",
    detection: true,
    onChoose: (row) => {
      state.source = row.code === "auto" ? AUTO : row;
      state.detected = null;
      languagesChanged();
    },
  });
}

function chooseTarget() {
  openPicker({
    heading: "Translate into",
    detection: false,
    onChoose: (row) => {
      state.target = row;
      languagesChanged();
    },
  });
}

function languagesChanged() {
  state.missing = "";
  localStorage.setItem("nllb-languages", JSON.stringify({ source: state.source.code, target: state.target?.code }));
  showLanguages();
  translateNow();
}

function swap() {
  const source = state.detected ? findLanguage(state.detected.code) : state.source;
  if (!source || source.code === "auto") return;
  const text = outputText();
  [state.source, state.target, state.detected] = [state.target, source, null];
  if (text.trim()) sourceText.value = text;
  textChanged();
  languagesChanged();
}

function textChanged() {
  resize();
  const length = [...sourceText.value].length;
  element("count").textContent = state.limit > 0 ? `${length} / ${state.limit}` : length ? `${length} characters` : "";
}

// The text area grows with its text, so that the highlight behind it never has to scroll.
function resize() {
  sourceText.style.height = "auto";
  sourceText.style.height = `${sourceText.scrollHeight}px`;
}

function shareLink() {
  const parameters = new URLSearchParams({ source: state.source.code, target: state.target?.code ?? "", q: sourceText.value });
  const base = location.href.split(/[?#]/)[0];
  if (parameters.toString().length <= MAX_LINK_CHARACTERS) return copyText(`${base}#${parameters}`, "The link was copied.");
  parameters.delete("q");
  return copyText(`${base}#${parameters}`, "The text is too long for a link; the link has the languages only.");
}

async function copyText(text, message) {
  try {
    await navigator.clipboard.writeText(text);
    showStatus(message);
  } catch {
    showError(new Error("The browser does not allow copying here; select the text and copy it by hand."));
  }
}

async function translateOneFile(file) {
  if (!file || !state.target) return;
  const line = document.createElement("p");
  line.textContent = `${file.name}: translating into ${state.target.name}…`;
  element("files").append(line);
  try {
    const languages = { source: state.source.code, target: state.target.code, model: state.model };
    const address = await translateFile(file, { ...languages, kept: readGlossary().kept }, (doing) => {
      line.textContent = `${file.name}: ${doing}…`;
    });
    const link = document.createElement("a");
    link.href = address;
    link.download = "";
    link.textContent = "Download the translation";
    line.replaceChildren(`${file.name}: `, link);
  } catch (error) {
    line.textContent = `${file.name}: ${error.message}`;
  }
}

function showStatus(text) {
  element("status").textContent = text;
}

// Shows an error, and tries again by itself when that can help: a busy server, or one that cannot be reached.
function showError(error, again = null) {
  clearTimeout(retryTimer);
  element("error").hidden = !error;
  element("error").textContent = error?.message ?? "";
  if (!error) return;
  showStatus("");
  if (!again || !error.retryAfter) return;
  element("error").textContent = `${error.message.replace(/\.?$/, ".")} Trying again in ${error.retryAfter} s.`;
  retryTimer = setTimeout(again, 1000 * error.retryAfter);
}

function showGlossaryCount() {
  const { glossary, kept } = readGlossary();
  const count = Object.keys(glossary).length + kept.length;
  element("glossary-count").textContent = count ? ` (${count})` : "";
}

function applyTheme(theme) {
  element("theme").value = theme;
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function bindControls() {
  sourceText.addEventListener("input", () => {
    textChanged();
    translateLater();
  });
  window.addEventListener("resize", resize);
  window.addEventListener("online", () => (state.models.length ? translateNow() : connect()));
  const clicks = {
    "source-language": chooseSource,
    "target-language": chooseTarget,
    swap,
    share: shareLink,
    copy: () => copyText(outputText(), "The translation was copied."),
    clear: () => {
      sourceText.value = "";
      textChanged();
      translateNow();
      sourceText.focus();
    },
    "file-button": () => element("file").click(),
    "glossary-button": () => element("glossary").showModal(),
    "settings-button": () => element("settings").showModal(),
  };
  for (const [id, act] of Object.entries(clicks)) element(id).addEventListener("click", act);
  element("file").addEventListener("change", (event) => {
    [...event.target.files].forEach(translateOneFile);
    event.target.value = "";
  });
  for (const button of document.querySelectorAll("[data-close]"))
    button.addEventListener("click", () => button.closest("dialog").close());
  element("glossary").addEventListener("close", () => {
    localStorage.setItem("nllb-glossary", element("glossary-text").value);
    showGlossaryCount();
    translateNow();
  });
  bindSettings();
  bindDrop();
  document.addEventListener("keydown", (event) => {
    const keys = { KeyS: swap, KeyC: clicks.copy, KeyL: chooseTarget };
    if (!event.altKey || event.ctrlKey || event.metaKey || !(event.code in keys)) return;
    event.preventDefault();
    keys[event.code]();
  });
}

function bindSettings() {
  element("settings-button").addEventListener("click", () => (element("api-key").value = apiKey.get()));
  element("theme").addEventListener("change", (event) => {
    localStorage.setItem("nllb-theme", event.target.value);
    applyTheme(event.target.value);
  });
  element("settings").addEventListener("close", async () => {
    apiKey.set(element("api-key").value.trim());
    state.model = element("model-choice").value;
    try {
      await loadServer();
      showLanguages();
      translateNow();
    } catch (error) {
      showError(error);
    }
  });
}

function bindDrop() {
  const pane = element("source-pane");
  for (const name of ["dragenter", "dragover"])
    pane.addEventListener(name, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      pane.classList.add("dropping");
    });
  for (const name of ["dragleave", "drop"]) pane.addEventListener(name, () => pane.classList.remove("dropping"));
  pane.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    [...event.dataTransfer.files].forEach(translateOneFile);
  });
}

start();
