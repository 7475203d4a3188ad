// The page as a whole: its sections, and polling the server.

// The polling interval in milliseconds.
const POLL_INTERVAL = 1000;
// The interval of full snapshots: histories get a new bucket as often.
const FULL_POLL_INTERVAL = 5000;
// The time limit of a request in milliseconds.
const REQUEST_TIMEOUT = 10000;
// A smaller difference of the clocks counts as none, in milliseconds.
const CLOCK_TOLERANCE = 2000;
// The longest interval while the server does not answer.
const MAX_RETRY_INTERVAL = 5000;

// Relative to the page, with or without a slash at its end: a proxy may add a prefix.
const OVERVIEW = `${location.pathname.replace(/\/*$/, "")}/overview.json`;

let hasData = false;
let lostSince = null;
let lostReason = "";
let failedPolls = 0;
let paused = false;
let pausedSince = null;
let isPolling = false;
let timer = null;
// The time of the last full snapshot; -Infinity makes the next one full.
let lastFullPoll = -Infinity;

// ---- Sections.

class Section {
  constructor(id, title, content, { extras = [], wide = true } = {}) {
    this.number = el("span", { class: "number" });
    this.jumpNumber = el("span", { class: "number" });
    this.jump = el("a", { href: `#${id}` }, title, " ", this.jumpNumber);
    this.element = el("section", { class: wide ? "panel" : "panel narrow", id, "aria-labelledby": `${id}-title` },
      el("header", { class: "panel-head" }, el("h2", { id: `${id}-title` }, title, " ", this.number), ...extras), content);
  }

  show(shown, number = "", state = null) {
    this.element.hidden = !shown;
    this.jump.hidden = !shown;
    setText(this.number, number);
    setText(this.jumpNumber, number);
    setAttribute(this.jump, "data-state", state);
  }
}

const limitList = new MeterList({ warns: true });
const progressList = el("div", { class: "channels" });
const channelList = el("div", { class: "channels" });
const listedNote = (text) => el("span", { class: "panel-note" }, text);
const sections = {
  progress: new Section("progress", "Progress", progressList),
  methods: new Section("methods", "Methods", methodTable.element, { extras: [createPeriodChoice()] }),
  calls: new Section("calls", "In flight", callTable.element),
  streams: new Section("streams", "Streams", streamTable.element),
  failed: new Section("failed", "Failed", failedTable.element, { extras: [listedNote("the latest first")] }),
  slow: new Section("slow", "Slow", slowTable.element, { extras: [listedNote("the latest first")] }),
  connections: new Section("connections", "Connections", connectionTable.element),
  channels: new Section("channels", "Channels", channelList),
  limits: new Section("limits", "Limits", limitList.element),
  registrations: new Section("registrations", "Registrations", registrationTable.element),
};
byId("sections").append(...Object.values(sections).map(({ element }) => element));
byId("jumps").append(...Object.values(sections).map(({ jump }) => jump));

function draw() {
  const { server, channels, progress } = model;
  drawTiles();
  byId("bar").hidden = false;
  const number = (found, all) => (found < all ? `${count(found)} of ${count(all)}` : count(all));
  const list = (section, table, items, all = items.length, state = null) =>
    section.show(true, number(table.draw({ items }), all), state);
  if (server) {
    const sample = model.samples.at(-1);
    list(sections.methods, methodTable, server.methods);
    list(sections.calls, callTable, server.calls);
    list(sections.streams, streamTable, server.streams, Math.max(server.stream_metrics.open, server.streams.length));
    const hasRecent = server.failed.some(({ ended_unix_ms: time }) => serverNow() - time < 60000);
    list(sections.failed, failedTable, server.failed, server.failed.length, hasRecent ? "bad" : null);
    list(sections.slow, slowTable, server.slow);
    list(sections.connections, connectionTable, server.connections, Math.max(sample.connections, server.connections.length));
    limitList.draw(server.limits);
    sections.limits.show(server.limits.length > 0);
    list(sections.registrations, registrationTable, server.registrations);
  }
  for (const [name, section] of Object.entries(sections)) if (!server && name !== "channels") section.show(false);
  drawProgress(progressList, progress);
  sections.progress.show(progress.length > 0);
  drawChannels(channelList, channels);
  sections.channels.show(channels.length > 0 || !server, count(channels.length));
  setText(byId("kind"), server ? "server" : "client");
  setAttribute(byId("search"), "placeholder", `Filter: ${server ? "method, peer, caller, code" : "endpoint, zone, state"}`);
  const about = server ? server.addresses.join(", ") : plural(channels.length, "channel");
  setText(byId("about"), about);
  const title = server && server.addresses.length > 0 ? server.addresses[0] : server ? "server" : "client";
  document.title = `${lostSince === null ? "" : "(no answer) "}farcall ${title}`;
}

// ---- The connection to the server.

function showConnection() {
  if (lostSince !== null) showConnectionState("lost", `No answer for ${duration(Date.now() - lostSince)}`);
  else if (paused) showConnectionState("paused", `Paused at ${clockTime(pausedSince ?? 0)}`);
  else if (hasData) showConnectionState("live", "Live");
  else showConnectionState("connecting", "Connecting");
  const lost = byId("lost");
  lost.hidden = lostSince === null;
  if (lostSince !== null) {
    const stale = hasData ? "The data is from before. " : "";
    const next = paused ? "This page does not retry while it is paused." : "This page retries every few seconds.";
    setText(lost, `The server has not answered since ${clockTime(lostSince)}: ${lostReason}. ${stale}${next}`);
  }
  document.body.classList.toggle("old", lostSince !== null || paused);
}

// ---- Polling.

async function poll() {
  if (isPolling || paused || document.hidden) return;
  isPolling = true;
  clearTimeout(timer);
  const startTime = performance.now();
  const all = startTime - lastFullPoll >= FULL_POLL_INTERVAL - POLL_INTERVAL / 2;
  let snapshot = null;
  try {
    const response = await fetch(OVERVIEW + (all ? "" : "?brief"), { cache: "no-store", signal: AbortSignal.timeout(REQUEST_TIMEOUT) });
    if (!response.ok) throw new Error(await errorText(response));
    updateClock(response, CLOCK_TOLERANCE);
    snapshot = await response.json();
  } catch (error) {
    onLost(reasonOf(error));
  }
  isPolling = false;
  // A snapshot that arrives after the page was paused is dropped: a paused page does not change.
  if (snapshot && !paused) {
    if (all) lastFullPoll = startTime;
    onSnapshot(snapshot, all);
  }
  // Polling takes at most a fifth of the time, however large a snapshot is.
  const wait = lostSince === null ? Math.max(POLL_INTERVAL, 4 * (performance.now() - startTime)) : Math.min(MAX_RETRY_INTERVAL, POLL_INTERVAL * failedPolls);
  const spent = lostSince === null ? performance.now() - startTime : 0;
  clearTimeout(timer);
  timer = setTimeout(poll, Math.max(0, wait - spent));
}

function onSnapshot(snapshot, all) {
  const wasLost = lostSince !== null;
  hasData = true;
  lostSince = null;
  failedPolls = 0;
  const wasRestarted = apply(snapshot, all);
  // Another process may answer now: its descriptions are needed.
  if (!all && (wasRestarted || wasLost)) lastFullPoll = -Infinity;
  showConnection();
  draw();
}

function onLost(reason) {
  lostSince ??= Date.now();
  lostReason = reason;
  failedPolls += 1;
  showConnection();
  document.title = `(no answer) ${document.title.replace(/^\(no answer\) /, "")}`;
}

/** Returns the error of a response without success: its text or its status. */
async function errorText(response) {
  const text = response.headers.get("content-type")?.startsWith("text/plain") ? (await response.text()).trim().slice(0, 400) : "";
  return `it answered ${response.status}${text ? `, ${text}` : ""}`;
}

function reasonOf(error) {
  if (error.name === "TimeoutError") return `it did not answer within ${REQUEST_TIMEOUT / 1000} s`;
  if (error instanceof TypeError) return "it could not be reached";
  return error.message;
}

// ---- Pausing, the filter, the clock.

byId("pause").addEventListener("click", () => {
  paused = !paused;
  pausedSince = paused ? Date.now() : null;
  setAttribute(byId("pause"), "aria-pressed", String(paused));
  setText(byId("pause"), paused ? "Resume" : "Pause");
  showConnection();
  if (!paused) poll();
});

watchFilter((words) => {
  filterWords = words;
  if (hasData) draw();
});
byId("search").addEventListener("keydown", (event) => {
  if (event.key === "Escape") byId("search").blur();
});
document.addEventListener("visibilitychange", () => poll());
window.addEventListener("online", () => poll());
setInterval(() => {
  if (lostSince !== null) showConnection();
}, 1000);

poll();
