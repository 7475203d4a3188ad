// What is seen first: a few large numbers, and how they went.

/** A large number with a line below it, and a small chart where there is a course to show. */
class Tile {
  constructor(name, title, series = null) {
    this.number = el("b", {});
    this.note = el("span", { class: "note" });
    this.spark = series ? new Spark(series, { width: 160, height: 30 }) : null;
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
  serving: ["Serving", "takes calls", "good"],
  draining: ["Draining", "finishes what it has, takes nothing new", "warn"],
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
  const now = model.looks.at(-1);
  const { health, uptime, calls: rateTile, errors: errorTile, inFlight, connections } = serverTiles;
  health.show(...(HEALTH[server.health] ?? [server.health, "", null]));
  uptime.show(duration(server.uptime_s * 1000), `since ${startText(server.uptime_s)}`);
  const perSecond = rates.of("calls") ?? now.minuteRate;
  const errorsPerSecond = rates.of("errors") ?? (now.minuteCalls ? (now.minuteErrors / now.minuteCalls) * now.minuteRate : 0);
  rateTile.show(rate(perSecond), `${count(now.minuteCalls)} in the last minute`);
  errorTile.show(rate(errorsPerSecond), `${percent(now.minuteErrors, now.minuteCalls)} in the last minute`, errorsPerSecond > 0 ? "bad" : null);
  const oldest = server.calls[0];
  inFlight.show(count(now.inFlight), oldest ? `the oldest for ${took(oldest.age_ms * 1000)}` : "none that takes long");
  const most = server.limits.find(({ name }) => name === "max_connections")?.limit;
  connections.show(count(now.connections), most ? `of ${count(most)} at most` : "without a limit");
  const steps = stepsOfAll();
  rateTile.spark.draw([steps.calls], `Calls a second in the last ten minutes: at most ${rate(greatest(steps.calls))}`);
  errorTile.spark.draw([steps.errors], `Errors a second in the last ten minutes: at most ${rate(greatest(steps.errors))}`);
  drawLooks(inFlight, ({ inFlight: number }) => number);
  drawLooks(connections, ({ connections: number }) => number);
}

function drawClientTiles(channels) {
  const all = channels.flatMap(({ endpoints }) => endpoints);
  const healthy = all.filter(({ state }) => state === "healthy").length;
  const perSecond = sum(all, ({ key }) => rates.of(`calls ${key}`) ?? 0);
  const failures = sum(all, ({ key }) => rates.of(`failures ${key}`) ?? 0);
  const inFlight = sum(channels, ({ in_flight: number }) => number);
  // The first look tells of no rate yet.
  if (all.some(({ key }) => rates.of(`calls ${key}`) !== null)) model.looks.push({ perSecond, failures, inFlight });
  if (model.looks.length > LOOKS_KEPT) model.looks.shift();
  clientTiles.endpoints.show(`${count(healthy)} of ${count(all.length)}`, `of ${plural(channels.length, "channel")}`, healthy === all.length ? "good" : healthy === 0 ? "bad" : "warn");
  clientTiles.calls.show(rate(perSecond), `${count(sum(all, (endpoint) => endpoint.calls))} in total`);
  clientTiles.failures.show(rate(failures), `${count(sum(all, (endpoint) => endpoint.failures))} in total`, failures > 0 ? "bad" : null);
  clientTiles.inFlight.show(count(inFlight), "at this moment");
  drawLooks(clientTiles.calls, (look) => look.perSecond);
  drawLooks(clientTiles.failures, (look) => look.failures);
  drawLooks(clientTiles.inFlight, (look) => look.inFlight);
}

/** What only this page has kept: its course since it was opened. */
function drawLooks(tile, of) {
  const values = model.looks.map(of);
  const label = `Since this page was opened: at most ${rate(greatest(values))}`;
  // With room above it: what does not change is a line, not a block.
  tile.spark.draw([values], label, { steps: Math.max(values.length, 60), top: 1.4 * greatest(values) || 1 });
  setAttribute(tile.element, "title", label);
}

function startText(uptimeS) {
  const start = new Date(serverNow() - uptimeS * 1000);
  const time = start.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return uptimeS < 20 * 3600 ? time : `${start.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${time}`;
}
