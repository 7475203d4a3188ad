// The tiles at the top: the most important numbers and their recent course.

/** A large number with a note below it, and optionally a sparkline. */
class Tile {
  constructor(name, title, series = null) {
    this.number = el("b", {});
    this.note = el("span", { class: "note" });
    this.spark = series ? new Sparkline(series, { width: 160, height: 30 }) : null;
    this.element = el("div", { class: `tile ${name}` }, el("h2", {}, title), this.number, this.note, ...(this.spark ? [this.spark.element] : []));
  }

  show(number, note, state = null) {
    setText(this.number, number);
    setText(this.note, note);
    setAttribute(this.element, "data-state", state);
  }
}

const calls = { name: "calls", area: true };
const errors = { name: "errors", area: true };
const plain = { name: "plain", area: true };

const serverTiles = {
  health: new Tile("health", "Health"),
  uptime: new Tile("uptime", "Up for"),
  calls: new Tile("calls-tile", "Calls a second", [calls]),
  errors: new Tile("errors-tile", "Errors a second", [errors]),
  inFlight: new Tile("flight-tile", "In flight", [plain]),
  connections: new Tile("connections-tile", "Connections", [plain]),
};
const clientTiles = {
  endpoints: new Tile("endpoints-tile", "Healthy endpoints"),
  calls: new Tile("channel-calls-tile", "Calls a second", [calls]),
  failures: new Tile("channel-failures-tile", "Failures a second", [errors]),
  inFlight: new Tile("channel-flight-tile", "In flight", [plain]),
};
const HEALTH = {
  serving: ["Serving", "accepts calls", "good"],
  draining: ["Draining", "finishes its calls, accepts no new ones", "warn"],
};

function drawTiles() {
  const { server, channels } = model;
  const tiles = [];
  if (server) {
    drawServerTiles(server);
    tiles.push(...Object.values(serverTiles));
  } else if (channels.length > 0) {
    drawClientTiles(channels);
    tiles.push(...Object.values(clientTiles));
  }
  arrange(byId("tiles"), tiles.map(({ element }) => element));
}

function drawServerTiles(server) {
  const now = model.samples.at(-1);
  const { health, uptime, calls: rateTile, errors: errorTile, inFlight, connections } = serverTiles;
  health.show(...(HEALTH[server.health] ?? [server.health, "", null]));
  uptime.show(duration(server.uptime_s * 1000), `since ${startText(server.uptime_s)}`);
  const perSecond = rates.perSecond("calls") ?? now.minuteRate;
  const errorsPerSecond = rates.perSecond("errors") ?? (now.minuteCalls ? (now.minuteErrors / now.minuteCalls) * now.minuteRate : 0);
  rateTile.show(rate(perSecond), `${count(now.minuteCalls)} in the last minute`);
  errorTile.show(rate(errorsPerSecond), `${percent(now.minuteErrors, now.minuteCalls)} in the last minute`, errorsPerSecond > 0 ? "bad" : null);
  const oldest = server.calls[0];
  inFlight.show(count(now.inFlight), oldest ? `the oldest for ${latencyText(oldest.age_ms * 1000)}` : "no long-running call");
  const most = server.limits.find(({ name }) => name === "max_connections")?.limit;
  connections.show(count(now.connections), most ? `of at most ${count(most)}` : "without a limit");
  const totals = totalsByBucket();
  rateTile.spark.draw([totals.calls], `Calls a second in the last ten minutes: at most ${rate(maximum(totals.calls))}`);
  errorTile.spark.draw([totals.errors], `Errors a second in the last ten minutes: at most ${rate(maximum(totals.errors))}`);
  drawSamples(inFlight, ({ inFlight: number }) => number);
  drawSamples(connections, ({ connections: number }) => number);
}

function drawClientTiles(channels) {
  const all = channels.flatMap(({ endpoints }) => endpoints);
  const healthy = all.filter(({ state }) => state === "healthy").length;
  const perSecond = sum(all, ({ key }) => rates.perSecond(`calls ${key}`) ?? 0);
  const failures = sum(all, ({ key }) => rates.perSecond(`failures ${key}`) ?? 0);
  const inFlight = sum(channels, ({ in_flight: number }) => number);
  // There is no rate before the second sample.
  if (all.some(({ key }) => rates.perSecond(`calls ${key}`) !== null)) model.samples.push({ perSecond, failures, inFlight });
  if (model.samples.length > MAX_SAMPLES) model.samples.shift();
  clientTiles.endpoints.show(`${count(healthy)} of ${count(all.length)}`, `of ${plural(channels.length, "channel")}`, healthy === all.length ? "good" : healthy === 0 ? "bad" : "warn");
  clientTiles.calls.show(rate(perSecond), `${count(sum(all, (endpoint) => endpoint.calls))} in total`);
  clientTiles.failures.show(rate(failures), `${count(sum(all, (endpoint) => endpoint.failures))} in total`, failures > 0 ? "bad" : null);
  clientTiles.inFlight.show(count(inFlight), "at this moment");
  drawSamples(clientTiles.calls, (sample) => sample.perSecond);
  drawSamples(clientTiles.failures, (sample) => sample.failures);
  drawSamples(clientTiles.inFlight, (sample) => sample.inFlight);
}

/** Draws what this page itself has sampled since it was opened. */
function drawSamples(tile, valueOf) {
  const values = model.samples.map(valueOf);
  const label = `Since this page was opened: at most ${rate(maximum(values))}`;
  // With room above it: a constant value is a line, not a block.
  tile.spark.draw([values], label, { steps: Math.max(values.length, 60), top: 1.4 * maximum(values) || 1 });
  setAttribute(tile.element, "title", label);
}

function startText(uptimeS) {
  const start = new Date(serverNow() - uptimeS * 1000);
  const time = start.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return uptimeS < 20 * 3600 ? time : `${start.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${time}`;
}
