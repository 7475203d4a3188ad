// Asking the registry: the token, the stream of events (kept up for ever), and single requests.

// The longest that the stream may be silent; the registry says something every 15 s.
const SILENCE = 50_000;
const FIRST_PAUSE = 500, LONGEST_PAUSE = 10_000;
const TOKEN_KEY = "farcall-registry-token";

let token = storedToken();
let lastEventId = null;
let wakeStream = () => {};

function storedToken() {
  try { return sessionStorage.getItem(TOKEN_KEY); } catch { return null; }
}

/** Keeps the token for the session; null forgets it. */
function keepToken(text) {
  token = text;
  try {
    if (text === null) sessionStorage.removeItem(TOKEN_KEY);
    else sessionStorage.setItem(TOKEN_KEY, text);
  } catch { /* Without storage it lasts until the page is loaded again. */ }
}

/** A request with the token. Paths are relative to the page. */
function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  return fetch(path, { cache: "no-store", credentials: "same-origin", redirect: "error", ...options, headers });
}

/** The sentence of an answer that is no success. */
async function sentenceOf(response) {
  try {
    const { error } = await response.json();
    if (typeof error === "string") return error;
  } catch { /* Not the registry's JSON: a proxy, perhaps. */ }
  return `the answer was ${response.status} ${response.statusText}`.trim();
}

/** Follows the registry for ever. */
async function follow({ onEvent, onLive, onLost, needToken }) {
  let pause = FIRST_PAUSE;
  for (;;) {
    const stop = new AbortController();
    wakeStream = () => stop.abort();
    try {
      const headers = { Accept: "text/event-stream" };
      if (lastEventId !== null) headers["Last-Event-ID"] = lastEventId;
      let silence = setTimeout(() => stop.abort(), SILENCE);
      const response = await ask("v1/watch", { headers, signal: stop.signal });
      if (response.status === 401) {
        clearTimeout(silence);
        await needToken(await sentenceOf(response));
        continue;
      }
      if (!response.ok) {
        clearTimeout(silence);
        throw new Error(await sentenceOf(response));
      }
      noteClock(response);
      onLive();
      const parser = eventParser((event, data, id) => {
        if (id !== null) lastEventId = id;
        onEvent(event, data);
        pause = FIRST_PAUSE;
      });
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      try {
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          clearTimeout(silence);
          silence = setTimeout(() => stop.abort(), SILENCE);
          parser(decoder.decode(value, { stream: true }));
        }
      } finally {
        clearTimeout(silence);
        stop.abort();
      }
      onLost("the registry closed the stream");
    } catch (error) {
      onLost(stop.signal.aborted ? "nothing was heard" : error.message);
    }
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause * (0.5 + Math.random() / 2));
      wakeStream = () => { clearTimeout(timer); resolve(); };
    });
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

/** Parses text/event-stream in pieces: https://html.spec.whatwg.org/#parsing-an-event-stream */
function eventParser(onEvent) {
  let rest = [], event = "", data = [], id = null, afterReturn = false;
  const line = (text) => {
    if (text === "") {
      if (data.length > 0) {
        const parsed = JSON.parse(data.join("\n"));
        onEvent(event || "message", parsed, id);
      }
      event = ""; data = []; id = null;
      return;
    }
    const colon = text.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + (text[colon + 1] === " " ? 2 : 1));
    if (field === "event") event = value;
    else if (field === "data") data.push(value);
    else if (field === "id") id = value;
  };
  return (piece) => {
    // A snapshot is one line of megabytes: its pieces are put together once, at its end.
    let start = 0;
    if (afterReturn && piece[0] === "\n") start = 1;
    if (piece.length > 0) afterReturn = false;
    const ends = /\r\n|\n|\r/g;
    ends.lastIndex = start;
    for (let found; (found = ends.exec(piece)); start = ends.lastIndex) {
      rest.push(piece.slice(start, found.index));
      const text = rest.join("");
      rest = [];
      line(text);
      afterReturn = found[0] === "\r" && ends.lastIndex === piece.length;
    }
    if (start < piece.length) rest.push(piece.slice(start));
  };
}
