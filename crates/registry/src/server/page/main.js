// The page as a whole: applies events to the list, sends an operator's changes, and polls heartbeats.

// How often the heartbeats of the rows on the screen are requested, in milliseconds.
const HEARTBEAT_INTERVAL = 5000;
// The shortest time between two such requests.
const MIN_HEARTBEAT_INTERVAL = 1000;
// A service with more instances has the heartbeat of each row requested separately.
const MAX_LISTED = 200;
const MAX_CONCURRENT_REQUESTS = 4;

let hasData = false;
let lostSince = null;
let lostReason = "";
let waitsForToken = false;
let heartbeatTimer = null;
let lastHeartbeatRequest = -Infinity;
let nextHeartbeatRequest = Infinity;
let isRequestingHeartbeats = false;

// ---- The connection to the registry.

function showConnection() {
  const stale = hasData ? "The data is from before: " : "";
  if (waitsForToken) showConnectionState("waiting", "Waiting for a token");
  else if (lostSince !== null) showConnectionState("lost", `Reconnecting for ${duration(Date.now() - lostSince)}`, stale + lostReason);
  else if (hasData) showConnectionState("live", "Live");
  else showConnectionState("connecting", "Connecting");
}

function onLost(reason) {
  lostSince ??= Date.now();
  lostReason = reason;
  showConnection();
}

function onEvent(event, data) {
  byId("warming").hidden = !data.warming;
  if (event === "resync") return;
  hasData = true;
  lostSince = null;
  showConnection();
  drawSoon(apply(event, data));
}

/** Asks for a token until there is one; the stream continues after that. */
async function onUnauthorized(reason) {
  waitsForToken = true;
  showConnection();
  const first = token === null ? "This registry requires a token" : "The registry does not accept this token";
  if (!(await askForToken(`${first}: ${reason}.`))) {
    // Cancelled: asked again only by the button.
    await new Promise((resolve) => { resumeStream = resolve; });
  }
  waitsForToken = false;
  showConnection();
}

async function onOpen() {
  try {
    const response = await request("v1/status");
    if (!response.ok) return;
    const status = await response.json();
    setText(byId("about"), `version ${status.version} · up ${duration(status.uptime_ms)}`);
  } catch { /* Only information. */ }
}

// ---- Changes by an operator.

async function patchInstance(instance, patch, successText) {
  const path = pathOf(instance.service, instance.id);
  const options = { method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify(patch) };
  for (;;) {
    let response;
    try {
      response = await request(path, options);
    } catch (error) {
      toast(`Not changed: the registry could not be reached (${error.message}).`, true);
      return;
    }
    if (response.ok) {
      const { epoch, warming, ...changed } = await response.json();
      const known = services.get(instance.service ?? "")?.instances.get(instance.id);
      if (known && changed.rev >= known.rev) drawSoon(apply("put", { service: instance.service, instance: changed }));
      toast(successText);
      return;
    }
    const reason = await errorText(response);
    if (response.status !== 401 && response.status !== 403) {
      toast(`Not changed: ${reason}.`, true);
      return;
    }
    if (!(await askForToken(`This change requires a token that may write: ${reason}.`))) return;
  }
}

/** Shows a message for some seconds. */
function toast(text, bad = false) {
  const element = el("div", { class: bad ? "toast bad" : "toast" }, text);
  byId("toasts").append(element);
  while (byId("toasts").childElementCount > 4) byId("toasts").firstElementChild.remove();
  setTimeout(() => element.remove(), bad ? 12000 : 4000);
}

// ---- Heartbeats: events do not contain them, so they are requested for the rows on the screen.

/** Requests heartbeats soon, for rows that are new on the screen. */
function requestHeartbeatsSoon() {
  if (nextHeartbeatRequest < lastHeartbeatRequest + HEARTBEAT_INTERVAL) return;
  nextHeartbeatRequest = Math.max(performance.now() + 150, lastHeartbeatRequest + MIN_HEARTBEAT_INTERVAL);
  clearTimeout(heartbeatTimer);
  heartbeatTimer = setTimeout(requestHeartbeats, nextHeartbeatRequest - performance.now());
}

async function requestHeartbeats() {
  lastHeartbeatRequest = performance.now();
  nextHeartbeatRequest = lastHeartbeatRequest + HEARTBEAT_INTERVAL;
  clearTimeout(heartbeatTimer);
  heartbeatTimer = setTimeout(requestHeartbeats, HEARTBEAT_INTERVAL);
  if (isRequestingHeartbeats || document.hidden || lostSince !== null || !hasData || prompt) return;
  isRequestingHeartbeats = true;
  try {
    const paths = [...heartbeatPaths()];
    const requestNext = async () => {
      for (let next; (next = paths.pop()); ) await requestHeartbeat(...next);
    };
    await Promise.all(Array.from({ length: MAX_CONCURRENT_REQUESTS }, requestNext));
  } catch { /* The stream reports a registry that is away. */ } finally {
    isRequestingHeartbeats = false;
  }
}

/** Returns what to request for the rows on the screen: service names by path. */
function heartbeatPaths() {
  const paths = new Map();
  for (const { instance } of rowsOnScreen) {
    const name = instance.service ?? "";
    const service = services.get(name);
    if (!service) continue;
    const isListed = service.instances.size <= MAX_LISTED;
    paths.set(isListed ? `${pathOf(name)}?include=stale,last_seen` : pathOf(name, instance.id), name);
  }
  return paths;
}

async function requestHeartbeat(path, name) {
  const response = await request(path);
  if (!response.ok) return;
  updateClock(response);
  const body = await response.json();
  const known = services.get(name)?.instances;
  for (const { id, last_seen: lastSeen } of body.instances ?? [body]) {
    const instance = known?.get(id);
    if (instance && lastSeen) instance.last_seen = lastSeen;
  }
  for (const row of rowsOnScreen) row.updateAges();
}

// ---- Filter, buttons, clock.

watchFilter((words) => setFilter({ words }));
for (const button of document.querySelectorAll(".count")) {
  button.addEventListener("click", () => {
    const state = button.getAttribute("aria-pressed") === "true" ? "" : button.dataset.only;
    for (const other of document.querySelectorAll(".count")) {
      other.setAttribute("aria-pressed", String(other.dataset.only === state));
    }
    setFilter({ state });
  });
}
byId("expand-all").addEventListener("click", toggleAll);
setInterval(() => {
  if (lostSince !== null) showConnection();
  if (!document.hidden) for (const row of rowsOnScreen) row.updateAges();
}, 1000);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  if (lostSince !== null) reconnectNow();
  requestHeartbeatsSoon();
});
window.addEventListener("online", () => reconnectNow());

follow({ onEvent, onOpen, onLost, onUnauthorized });
