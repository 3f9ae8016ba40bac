"use strict";
const find = (id) => document.getElementById(id);

async function call(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  return answer;
}

async function start() {
  const { languages } = await call("v1/languages");
  for (const language of languages) {
    for (const id of ["source", "target"]) {
      const option = new Option(language.name, language.code);
      option.selected = id === "target" && language.code === "fra_Latn";
      find(id).add(option);
    }
  }
}

find("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [text, source, target] = ["text", "source", "target"].map((id) => find(id).value);
  try {
    const { translations } = await call("v1/translate", { text, source, target });
    find("output").textContent = translations[0].text;
    find("output").lang = translations[0].target.code.slice(0, 3);
  } catch (error) {
    find("output").textContent = error.message;
  }
});
start().catch((error) => { find("output").textContent = error.message; });
