// The page as a whole: events to the list, clicks to the registry, the token, the clock.

// How often the heartbeats of what is on the screen are asked for, in milliseconds.
const ASK_EVERY = 5000;
// A service of more instances than this has its rows asked for one by one.
const LIST_AT_MOST = 200;
const ASK_AT_ONCE = 4;

let everHeard = false;
let lostSince = null;
let lostWhy = "";
let waitsForToken = false;
let askTimer = null;
// When it was asked last, and will be asked next.
let lastAsked = 0;
let askDue = Infinity;
let asking = false;

// ---- How the page itself is connected.

function showConnection() {
  const state = waitsForToken ? "waiting" : lostSince !== null ? "reconnecting" : everHeard ? "live" : "connecting";
  const texts = {
    waiting: "Waiting for a token",
    reconnecting: `Reconnecting for ${duration(Date.now() - (lostSince ?? 0))}`,
    live: "Live",
    connecting: "Connecting",
  };
  setAttribute(byId("connection"), "data-state", state);
  setText(byId("connection-text"), texts[state]);
  setAttribute(byId("connection"), "title", state === "reconnecting" ? `${everHeard ? "What is shown is from before: " : ""}${lostWhy}` : null);
}

function onLost(why) {
  lostSince ??= Date.now();
  lostWhy = why;
  showConnection();
}

function onEvent(event, data) {
  byId("warming").hidden = !data.warming;
  if (event === "resync") return;
  everHeard = true;
  lostSince = null;
  showConnection();
  drawSoon(apply(event, data));
}

// ---- The token. One question at a time; whoever needs the answer waits for it.

let question = null;

/** Asks for a token and says why; tells whether one was given. */
function askForToken(why) {
  const dialog = byId("token-dialog");
  setText(byId("token-why"), why);
  if (!question) {
    question = {};
    question.answer = new Promise((resolve) => { question.resolve = resolve; });
    byId("token-input").value = "";
    setText(byId("token-wrong"), "");
    byId("token-forget").hidden = token === null;
    dialog.showModal();
    byId("token-input").focus();
  }
  return question.answer;
}

function endQuestion(given) {
  byId("token-dialog").close();
  const { resolve } = question ?? { resolve: () => {} };
  question = null;
  resolve(given);
}

/** The stream cannot go on without a token: it asks until there is one that does. */
async function needToken(why) {
  waitsForToken = true;
  showConnection();
  const first = token === null ? "This registry asks for a token" : "The registry does not take this token";
  if (!(await askForToken(`${first}: ${why}.`))) {
    // Asked again by the button only: whoever cancelled does not want to be asked at once.
    await new Promise((resolve) => { resumeStream = resolve; });
  }
  waitsForToken = false;
  showConnection();
}

let resumeStream = () => {};

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("token-input").value.trim();
  if (!/^[\x21-\x7e]+$/.test(text)) {
    setText(byId("token-wrong"), text === "" ? "Nothing was entered." : "A token has only visible ASCII characters, and no spaces.");
    return;
  }
  keepToken(text);
  endQuestion(true);
  restartStream();
});
byId("token-cancel").addEventListener("click", () => endQuestion(false));
byId("token-dialog").addEventListener("close", () => { if (question) endQuestion(false); });
byId("token-forget").addEventListener("click", () => {
  keepToken(null);
  endQuestion(true);
  restartStream();
});
byId("token-button").addEventListener("click", () => askForToken(token === null ? "This page has none at present." : "Another one in place of that which this page has."));

/** Has the stream begin again with the token that there is now. */
function restartStream() {
  lastEventId = null;
  resumeStream();
  wakeStream();
}

// ---- What an operator changes.

async function patchInstance(instance, patch, done) {
  const path = pathOf(instance.service, instance.id);
  const options = { method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify(patch) };
  for (;;) {
    let response;
    try {
      response = await ask(path, options);
    } catch (error) {
      toast(`Not changed: the registry could not be asked (${error.message}).`, true);
      return;
    }
    if (response.ok) {
      const { epoch, warming, ...listed } = await response.json();
      const known = services.get(instance.service ?? "")?.instances.get(instance.id);
      if (known && listed.rev >= known.rev) drawSoon(apply("put", { service: instance.service, instance: listed }));
      toast(done);
      return;
    }
    const why = await sentenceOf(response);
    if (response.status !== 401 && response.status !== 403) {
      toast(`Not changed: ${why}.`, true);
      return;
    }
    if (!(await askForToken(`This needs a token that may write: ${why}.`))) return;
  }
}

// ---- Heartbeats: events don't carry them, so they are asked for, for what is on the screen.

/** Asks soon for rows that are new on the screen, though not more often than once a second. */
function askForHeartbeatsSoon() {
  if (askDue < lastAsked + ASK_EVERY) return;
  askDue = Math.max(Date.now() + 150, lastAsked + 1000);
  clearTimeout(askTimer);
  askTimer = setTimeout(askForHeartbeats, askDue - Date.now());
}

async function askForHeartbeats() {
  lastAsked = Date.now();
  askDue = lastAsked + ASK_EVERY;
  clearTimeout(askTimer);
  askTimer = setTimeout(askForHeartbeats, ASK_EVERY);
  if (asking || document.hidden || lostSince !== null || !everHeard || question) return;
  asking = true;
  try {
    const due = new Map();
    for (const { instance } of rowsOnScreen) {
      const name = instance.service ?? "";
      const service = services.get(name);
      if (!service) continue;
      const whole = service.instances.size <= LIST_AT_MOST;
      const path = whole ? `${pathOf(name)}?include=stale,last_seen` : pathOf(name, instance.id);
      due.set(path, name);
    }
    const paths = [...due];
    const askNext = async () => {
      for (let next; (next = paths.pop()); ) await askForHeartbeat(...next);
    };
    await Promise.all(Array.from({ length: ASK_AT_ONCE }, askNext));
  } catch { /* The stream tells that the registry is away. */ } finally {
    asking = false;
  }
}

async function askForHeartbeat(path, name) {
  const response = await ask(path);
  if (!response.ok) return;
  noteClock(response);
  const answer = await response.json();
  const known = services.get(name)?.instances;
  for (const { id, last_seen: seen } of answer.instances ?? [answer]) {
    const instance = known?.get(id);
    if (instance && seen) instance.last_seen = seen;
  }
  for (const row of rowsOnScreen) row.tick();
}

// ---- Filter, keys, clock.

let typed = null;
byId("search").addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => setFilter({ words: byId("search").value.toLowerCase().split(/\s+/).filter(Boolean) }), 120);
});
for (const button of document.querySelectorAll(".count")) {
  button.addEventListener("click", () => {
    const only = button.getAttribute("aria-pressed") === "true" ? "" : button.dataset.only;
    for (const each of document.querySelectorAll(".count")) {
      each.setAttribute("aria-pressed", String(each.dataset.only === only));
    }
    setFilter({ only });
  });
}
byId("expand-all").addEventListener("click", toggleAll);
document.addEventListener("keydown", (event) => {
  const inField = event.target.closest?.("input, dialog");
  if (event.key === "/" && !inField && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    byId("search").focus();
  }
});
setInterval(() => {
  if (lostSince !== null) showConnection();
  if (!document.hidden) for (const row of rowsOnScreen) row.tick();
}, 1000);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  if (lostSince !== null) wakeStream();
  askForHeartbeatsSoon();
});
window.addEventListener("online", () => wakeStream());

async function showAbout() {
  try {
    const response = await ask("v1/status");
    if (!response.ok) return;
    const status = await response.json();
    setText(byId("about"), `version ${status.version} · up ${duration(status.uptime_ms)}`);
  } catch { /* Only for information. */ }
}

follow({ onEvent, onLost, needToken, onLive: showAbout });
