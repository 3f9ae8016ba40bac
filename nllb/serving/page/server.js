// Requests to the server's own API.

const KEY = "nllb-api-key";

export const apiKey = {
  get: () => localStorage.getItem(KEY) ?? "",
  set: (key) => (key ? localStorage.setItem(KEY, key) : localStorage.removeItem(KEY)),
};

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers(more = {}) {
  const key = apiKey.get();
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function check(response) {
  if (response.ok) return response;
  let text = `The server answered ${response.status}.`;
  try {
    const body = await response.json();
    const error = body.error ?? body.detail ?? body.message;
    if (typeof error === "string") text = error;
    else if (error?.message) text = error.message;
  } catch {
    // The body is not JSON: the status is all there is.
  }
  if (response.status === 401 || response.status === 403) text += " Enter an API key in Settings.";
  throw new ServerError(response.status, text);
}

export async function get(path, parameters = {}) {
  const address = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(parameters)) if (value) address.searchParams.set(name, value);
  return (await check(await fetch(address, { headers: headers() }))).json();
}

export async function post(path, body, signal) {
  const response = await fetch(new URL(path, document.baseURI), {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
    signal,
  });
  return (await check(response)).json();
}

// Yields [name, data] of each server-sent event.
export async function* stream(path, body, signal) {
  const response = await check(
    await fetch(new URL(path, document.baseURI), {
      method: "POST",
      headers: headers({ "Content-Type": "application/json" }),
      body: JSON.stringify(body),
      signal,
    }),
  );
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const name = /^event: (.*)$/m.exec(event)?.[1];
      const data = /^data: (.*)$/m.exec(event)?.[1];
      if (name && data) yield [name, JSON.parse(data)];
    }
  }
}

// Translates a file and returns the address of the result.
export async function translateFile(file, source, target) {
  const form = new FormData();
  form.set("file", file);
  form.set("source", source);
  form.set("target", target);
  const key = apiKey.get();
  if (key) form.set("api_key", key);
  const response = await fetch(new URL("translate_file", document.baseURI), { method: "POST", body: form });
  return (await (await check(response)).json()).translatedFileUrl;
}
