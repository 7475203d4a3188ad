// The stream of events, which is reopened whenever it ends.

// The longest silence before the stream counts as broken; the registry sends something every 15 s.
const MAX_SILENCE = 50_000;
const MIN_RETRY_PAUSE = 500, MAX_RETRY_PAUSE = 10_000;

let lastEventId = null;
// Aborts the open stream, or ends the pause before the next one.
let reconnectNow = () => {};

/** Keeps the stream open until the page is closed. */
async function follow({ onEvent, onOpen, onLost, onUnauthorized }) {
  let pause = MIN_RETRY_PAUSE;
  for (;;) {
    const abort = new AbortController();
    reconnectNow = () => abort.abort();
    try {
      const headers = { Accept: "text/event-stream" };
      if (lastEventId !== null) headers["Last-Event-ID"] = lastEventId;
      let silence = setTimeout(() => abort.abort(), MAX_SILENCE);
      const response = await request("v1/watch", { headers, signal: abort.signal });
      if (response.status === 401) {
        clearTimeout(silence);
        await onUnauthorized(await errorText(response));
        continue;
      }
      if (!response.ok) {
        clearTimeout(silence);
        throw new Error(await errorText(response));
      }
      updateClock(response);
      onOpen();
      const parse = eventParser((event, data, id) => {
        if (id !== null) lastEventId = id;
        onEvent(event, data);
        pause = MIN_RETRY_PAUSE;
      });
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      try {
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          clearTimeout(silence);
          silence = setTimeout(() => abort.abort(), MAX_SILENCE);
          parse(decoder.decode(value, { stream: true }));
        }
      } finally {
        clearTimeout(silence);
        abort.abort();
      }
      onLost("the registry closed the stream");
    } catch (error) {
      onLost(abort.signal.aborted ? "no data was received" : error.message);
    }
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause * (0.5 + Math.random() / 2));
      reconnectNow = () => { clearTimeout(timer); resolve(); };
    });
    pause = Math.min(pause * 2, MAX_RETRY_PAUSE);
  }
}

/** Returns a parser of text/event-stream in pieces: https://html.spec.whatwg.org/#parsing-an-event-stream */
function eventParser(onEvent) {
  let partialLine = [], event = "", data = [], id = null, afterReturn = false;
  const parseLine = (text) => {
    if (text === "") {
      if (data.length > 0) onEvent(event || "message", JSON.parse(data.join("\n")), id);
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
    // A snapshot is one line of megabytes: its pieces are joined once, at its end.
    let start = 0;
    if (afterReturn && piece[0] === "\n") start = 1;
    if (piece.length > 0) afterReturn = false;
    const lineEnd = /\r\n|\n|\r/g;
    lineEnd.lastIndex = start;
    for (let found; (found = lineEnd.exec(piece)); start = lineEnd.lastIndex) {
      partialLine.push(piece.slice(start, found.index));
      const text = partialLine.join("");
      partialLine = [];
      parseLine(text);
      afterReturn = found[0] === "\r" && lineEnd.lastIndex === piece.length;
    }
    if (start < piece.length) partialLine.push(piece.slice(start));
  };
}
