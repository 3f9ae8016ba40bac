// Requests to the server's own API.

const KEY = "nllb-api-key";

export const apiKey = {
  get: () => localStorage.getItem(KEY) ?? "",
  set: (key) => (key ? localStorage.setItem(KEY, key) : localStorage.removeItem(KEY)),
};

export class ServerError extends Error {
  // retryAfter: the seconds after which the same request may succeed; 0 if it will not.
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const OFFLINE_RETRY_S = 5;
const POLL_MS = 1000;
const MAX_POLL_MS = 10_000;
const MAX_LOST_POLLS = 30;

// Like fetch, with an error that says what happened if the server cannot be reached.
async function reach(path, options = {}) {
  try {
    return await check(await fetch(new URL(path, document.baseURI), options));
  } catch (error) {
    if (error instanceof ServerError || error.name === "AbortError") throw error;
    const place = navigator.onLine ? "The server cannot be reached." : "This device is offline.";
    throw new ServerError(0, `${place} Your text is still here.`, OFFLINE_RETRY_S);
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
  if (text) text = text[0].toUpperCase() + text.slice(1);
  const isBusy = response.status === 429 || response.status === 503;
  const wait = isBusy ? Math.max(1, Number.parseInt(response.headers.get("Retry-After") ?? "10", 10) || 10) : 0;
  throw new ServerError(response.status, text, wait);
}

export async function get(path, parameters = {}) {
  const address = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(parameters)) if (value) address.searchParams.set(name, value);
  return (await reach(address, { headers: headers() })).json();
}

export async function post(path, body, signal) {
  return (await reach(path, jsonRequest(body, signal))).json();
}

function jsonRequest(body, signal) {
  const type = { "Content-Type": "application/json" };
  return { method: "POST", headers: headers(type), body: JSON.stringify(body), signal };
}

// Yields [name, data] of each server-sent event.
export async function* stream(path, body, signal) {
  const response = await reach(path, jsonRequest(body, signal));
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

// Translates a file and returns the address of the result. The server translates it in the background, and goes on
// after a restart: losing the connection for a while does no harm.
export async function translateFile(file, { source, target, model, kept }, onWait) {
  const form = new FormData();
  for (const [name, value] of Object.entries({ file, source, target, model })) if (value) form.set(name, value);
  for (const term of kept) form.append("do_not_translate", term);
  const made = await (await reach("v1/documents", { method: "POST", headers: headers(), body: form })).json();
  let lost = 0;
  for (let wait = POLL_MS; ; wait = Math.min(1.5 * wait, MAX_POLL_MS)) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    try {
      const state = await get(`v1/documents/${made.id}`, { key: made.key });
      lost = 0;
      if (state.status === "error") throw new ServerError(400, state.message);
      if (state.status === "done") {
        const suffix = /(\.[A-Za-z0-9]{1,12})?$/.exec(state.name)[0];
        return new URL(`download_file/${made.id}_${made.key}${suffix}`, document.baseURI).href;
      }
      onWait(state.status === "queued" ? "waiting for other files" : "translating");
    } catch (error) {
      if (!error.retryAfter || ++lost > MAX_LOST_POLLS) throw error;
      onWait("waiting for the server");
    }
  }
}
