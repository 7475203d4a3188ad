// The data: the newest snapshot, the parts that change rarely, and samples that this page has taken.

// The period of a rate in seconds: long enough to be steady, and short enough to be current.
const RATE_PERIOD_S = 5;
// Samples for the sparklines at the top: ten minutes, one per second.
const MAX_SAMPLES = 600;
// Ages are in whole milliseconds and read at slightly different times: start times that differ by less
// are equal.
const START_TOLERANCE_MS = 100;

const model = {
  // The newest Overview, without services and histories; null for a process that is only a client.
  server: null,
  channels: [],
  // The lists of the program: how far it is.
  progress: [],
  // Description and history of each method, by its full name.
  descriptions: new Map(),
  histories: new Map(),
  // An example of the arguments of each method, by its full name.
  examples: new Map(),
  // An example of an item, for methods that take items.
  itemExamples: new Map(),
  // True if the methods can be called by plain HTTP.
  hasGateway: false,
  // The totals over all methods, one entry per update.
  samples: [],
};

/** Computes rates per second of counters that only grow. */
class Rates {
  constructor() {
    this.history = new Map();
  }

  /** Records the current counters: pairs of a key and a count. Missing keys are dropped. */
  record(now, pairs) {
    const history = new Map();
    for (const [key, number] of pairs) {
      const known = (this.history.get(key) ?? []).filter(([, before]) => before <= number);
      // One entry before the period is kept, as its start.
      while (known.length > 1 && known[1][0] <= now - RATE_PERIOD_S) known.shift();
      known.push([now, number]);
      history.set(key, known);
    }
    this.history = history;
  }

  /** The rate per second; null if the counter was recorded only once. */
  perSecond(key) {
    const known = this.history.get(key);
    if (!known || known.length < 2) return null;
    const [from, before] = known[0];
    const [to, now] = known.at(-1);
    return to > from ? (now - before) / (to - from) : null;
  }
}

const rates = new Rates();

/** Applies a snapshot; `full` ones have descriptions and histories. Returns true if the server was restarted. */
function apply(snapshot, full) {
  const { server, channels } = snapshot;
  const wasRestarted = (model.server !== null && server !== null && server.uptime_s < model.server.uptime_s - 1);
  if (wasRestarted) reset();
  if (server && full) {
    model.examples = new Map(Object.entries(snapshot.examples ?? {}));
    model.itemExamples = new Map(Object.entries(snapshot.item_examples ?? {}));
    model.hasGateway = snapshot.gateway ?? false;
    model.descriptions = new Map(server.services.flatMap((service) =>
      service.methods.map((method) => [`${service.name}.${method.name}`, { ...method, service }])));
    model.histories = new Map(server.methods.map(({ name, history }) => [name, history]));
  }
  const now = performance.now() / 1000;
  const pairs = [];
  if (server) {
    server.calls = withKeys(server.calls, server.uptime_s * 1000);
    addKeysToEnded(server.failed);
    addKeysToEnded(server.slow);
    const sample = totals(server);
    model.samples.push(sample);
    if (model.samples.length > MAX_SAMPLES) model.samples.shift();
    pairs.push(["calls", sample.calls], ["errors", sample.errors]);
    for (const { id, calls } of server.connections) pairs.push([`connection ${id}`, calls]);
  }
  channels.forEach((channel, index) => {
    channel.key = `${index} ${channel.name}`;
    for (const endpoint of channel.endpoints) {
      endpoint.key = `${channel.key} ${endpoint.address}`;
      pairs.push([`calls ${endpoint.key}`, endpoint.calls], [`failures ${endpoint.key}`, endpoint.failures]);
    }
  });
  rates.record(now, pairs);
  model.server = server;
  model.channels = channels;
  model.progress = snapshot.progress ?? [];
  return wasRestarted;
}

function reset() {
  model.samples = [];
  model.histories.clear();
  starts = new Map();
}

const sum = (list, valueOf) => list.reduce((total, item) => total + valueOf(item), 0);
const errorsOf = (stats) => sum(Object.values(stats.errors), (number) => number);

function totals(server) {
  return {
    calls: sum(server.methods, ({ total }) => total.calls),
    errors: sum(server.methods, ({ total }) => errorsOf(total)),
    minuteCalls: sum(server.methods, ({ last_minute: minute }) => minute.calls),
    minuteErrors: sum(server.methods, ({ last_minute: minute }) => errorsOf(minute)),
    minuteRate: sum(server.methods, ({ last_minute: minute }) => minute.calls_per_s),
    inFlight: sum(server.methods, ({ in_flight: number }) => number),
    connections: connectionsOf(server),
  };
}

/** The number of connections; not all are listed if there are many. */
function connectionsOf(server) {
  return server.limits.find(({ name }) => name === "max_connections")?.used ?? server.connections.length;
}

/** The rates of all methods together: { calls, errors }, each one value per bucket up to now. */
function totalsByBucket() {
  const histories = [...model.histories.values()];
  const length = histories.reduce((max, history) => Math.max(max, history.length), 0);
  const ratesOf = (field) => Array.from({ length }, (_, index) =>
    sum(histories, (history) => history[index - length + history.length]?.[field] ?? 0) / STEP_S);
  return { calls: ratesOf("calls"), errors: ratesOf("errors") };
}

// Calls have no ids. One with the connection, the method and the start time of an earlier one is the same
// call, so that its row stays.
let starts = new Map();
let keyCount = 0;

function withKeys(calls, now) {
  const groups = new Map();
  for (const call of calls) {
    const group = `${call.connection} ${call.peer} ${call.method}`;
    const started = now - call.age_ms;
    const known = starts.get(group) ?? [];
    const index = nearest(known, started);
    const [same] = index < 0 ? [{ key: `call ${(keyCount += 1)}`, started }] : known.splice(index, 1);
    call.key = same.key;
    groups.set(group, [...(groups.get(group) ?? []), same]);
  }
  starts = groups;
  return calls;
}

/** The index of the call with the nearest start time; -1 if none is near. */
function nearest(known, started) {
  let found = -1, least = START_TOLERANCE_MS;
  known.forEach((other, index) => {
    const distance = Math.abs(other.started - started);
    if (distance < least) [found, least] = [index, distance];
  });
  return found;
}

function addKeysToEnded(calls) {
  const times = new Map();
  // From the oldest on, so that keys stay when more calls end.
  for (const call of [...calls].reverse()) {
    const what = `${call.ended_unix_ms} ${call.method} ${call.peer} ${call.took_us}`;
    times.set(what, (times.get(what) ?? 0) + 1);
    call.key = `${what} ${times.get(what)}`;
  }
}
