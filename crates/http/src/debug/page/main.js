// The page as a whole: its sections, and asking the server again and again.

// How often the server is asked, in milliseconds.
const ASK_EVERY = 1000;
// How often for everything: histories have a new step as often.
const ASK_ALL_EVERY = 5000;
// After this long without an answer there is none, in milliseconds.
const PATIENCE = 10000;
// A server that is away is asked at this interval at most.
const RETRY_AT_MOST = 5000;

// Relative to the page, which has a slash at its end or not: a proxy may put a path before.
const OVERVIEW = `${location.pathname.replace(/\/*$/, "")}/overview.json`;

let everHeard = false;
let lostSince = null;
let lostWhy = "";
let tries = 0;
let paused = false;
let pausedSince = null;
let asking = false;
let timer = null;
// When everything was asked for last; in the past: at the next look.
let askedAll = -Infinity;

// ---- Sections.

class Section {
  constructor(id, title, content, { beside = [], wide = true } = {}) {
    this.number = el("span", { class: "number" });
    this.jumpNumber = el("span", { class: "number" });
    this.jump = el("a", { href: `#${id}` }, title, " ", this.jumpNumber);
    this.element = el("section", { class: wide ? "panel" : "panel narrow", id, "aria-labelledby": `${id}-title` },
      el("header", { class: "panel-head" }, el("h2", { id: `${id}-title` }, title, " ", this.number), ...beside), content);
  }

  show(shown, number = "", state = null) {
    this.element.hidden = !shown;
    this.jump.hidden = !shown;
    setText(this.number, number);
    setText(this.jumpNumber, number);
    setAttribute(this.jump, "data-state", state);
  }
}

const limitList = el("ul", { class: "limits" });
const channelList = el("div", { class: "channels" });
const listedNote = (text) => el("span", { class: "panel-note" }, text);
const sections = {
  methods: new Section("methods", "Methods", methodTable.element, { beside: [makeSpanChoice()] }),
  calls: new Section("calls", "In flight", callTable.element),
  failed: new Section("failed", "Failed", failedTable.element, { beside: [listedNote("the latest first")] }),
  slow: new Section("slow", "Slow", slowTable.element, { beside: [listedNote("the latest first")] }),
  connections: new Section("connections", "Connections", connectionTable.element),
  channels: new Section("channels", "Channels", channelList),
  limits: new Section("limits", "Limits", limitList),
  registrations: new Section("registrations", "Registrations", registrationTable.element),
};
byId("sections").append(...Object.values(sections).map(({ element }) => element));
byId("jumps").append(...Object.values(sections).map(({ jump }) => jump));

function draw() {
  const { server, channels } = model;
  drawTiles();
  byId("bar").hidden = false;
  const number = (found, all) => (found < all ? `${count(found)} of ${count(all)}` : count(all));
  const list = (section, table, items, all = items.length, state = null) =>
    section.show(true, number(table.draw({ items }), all), state);
  if (server) {
    const look = model.looks.at(-1);
    list(sections.methods, methodTable, server.methods);
    list(sections.calls, callTable, server.calls);
    const lately = server.failed.some(({ ended_unix_ms: time }) => serverNow() - time < 60000);
    list(sections.failed, failedTable, server.failed, server.failed.length, lately ? "bad" : null);
    list(sections.slow, slowTable, server.slow);
    list(sections.connections, connectionTable, server.connections, Math.max(look.connections, server.connections.length));
    drawLimits(limitList, server.limits);
    sections.limits.show(server.limits.length > 0);
    list(sections.registrations, registrationTable, server.registrations);
  }
  for (const [name, section] of Object.entries(sections)) if (!server && name !== "channels") section.show(false);
  drawChannels(channelList, channels);
  sections.channels.show(channels.length > 0 || !server, count(channels.length));
  setText(byId("kind"), server ? "server" : "client");
  setAttribute(byId("search"), "placeholder", `Filter: ${server ? "method, peer, caller, code" : "endpoint, zone, state"}`);
  const about = server ? server.addresses.join(", ") : plural(channels.length, "channel");
  setText(byId("about"), about);
  const title = server && server.addresses.length > 0 ? server.addresses[0] : server ? "server" : "client";
  document.title = `${lostSince === null ? "" : "(no answer) "}farcall ${title}`;
}

// ---- How the page itself is connected.

function showConnection() {
  const state = lostSince !== null ? "lost" : paused ? "paused" : everHeard ? "live" : "connecting";
  const texts = {
    lost: `No answer for ${duration(Date.now() - (lostSince ?? 0))}`,
    paused: `Paused at ${clockTime(pausedSince ?? 0)}`,
    live: "Live",
    connecting: "Connecting",
  };
  setAttribute(byId("connection"), "data-state", state);
  setText(byId("connection-text"), texts[state]);
  const lost = byId("lost");
  lost.hidden = lostSince === null;
  if (lostSince !== null) {
    const told = everHeard ? "What is shown is from then. " : "";
    const then = paused ? "It is not asked while this page is paused." : "It is asked again every few seconds.";
    setText(lost, `The server has not answered since ${clockTime(lostSince)}: ${lostWhy}. ${told}${then}`);
  }
  document.body.classList.toggle("old", lostSince !== null || paused);
}

// ---- Asking.

async function ask() {
  if (asking || paused || document.hidden) return;
  asking = true;
  clearTimeout(timer);
  const begun = performance.now();
  const all = begun - askedAll >= ASK_ALL_EVERY - ASK_EVERY / 2;
  let answer = null;
  try {
    const response = await fetch(OVERVIEW + (all ? "" : "?brief"), { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) throw new Error(await sentenceOf(response));
    noteClock(response);
    answer = await response.json();
  } catch (error) {
    onLost(whyOf(error));
  }
  asking = false;
  // What came while the page was paused is not shown: it would move under its reader.
  if (answer && !paused) {
    if (all) askedAll = begun;
    onAnswer(answer, all);
  }
  // Asking takes a fifth of the time at most, however much there is to tell.
  const wait = lostSince === null ? Math.max(ASK_EVERY, 4 * (performance.now() - begun)) : Math.min(RETRY_AT_MOST, ASK_EVERY * tries);
  const spent = lostSince === null ? performance.now() - begun : 0;
  clearTimeout(timer);
  timer = setTimeout(ask, Math.max(0, wait - spent));
}

function onAnswer(answer, all) {
  const back = lostSince !== null;
  everHeard = true;
  lostSince = null;
  tries = 0;
  const anew = take(answer, all);
  // Another process may be there now: it is asked what it is.
  if (!all && (anew || back)) askedAll = -Infinity;
  showConnection();
  draw();
}

function onLost(why) {
  lostSince ??= Date.now();
  lostWhy = why;
  tries += 1;
  showConnection();
  document.title = `(no answer) ${document.title.replace(/^\(no answer\) /, "")}`;
}

/** What an answer that is none says: a sentence of the server's, or its status. */
async function sentenceOf(response) {
  const text = response.headers.get("content-type")?.startsWith("text/plain") ? (await response.text()).trim().slice(0, 400) : "";
  return `it answered ${response.status}${text ? `, ${text}` : ""}`;
}

function whyOf(error) {
  if (error.name === "TimeoutError") return `it said nothing for ${PATIENCE / 1000} s`;
  if (error instanceof TypeError) return "it could not be reached";
  return error.message;
}

// ---- Pausing, the filter, the clock.

byId("pause").addEventListener("click", () => {
  paused = !paused;
  pausedSince = paused ? Date.now() : null;
  setAttribute(byId("pause"), "aria-pressed", String(paused));
  setText(byId("pause"), paused ? "Go on" : "Pause");
  showConnection();
  if (!paused) ask();
});

let typed = null;
byId("search").addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => {
    words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    if (everHeard) draw();
  }, 120);
});
document.addEventListener("keydown", (event) => {
  const inField = event.target.closest?.("input, select");
  if (event.key === "/" && !inField && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    byId("search").focus();
  } else if (event.key === "Escape" && event.target === byId("search")) byId("search").blur();
});
document.addEventListener("visibilitychange", () => ask());
window.addEventListener("online", () => ask());
setInterval(() => {
  if (lostSince !== null) showConnection();
}, 1000);

ask();
