// What the server said: the newest figures, what is told seldom, and what this page has seen itself.

// Seconds that a rate of this page's own is taken over, so that it is calm and yet of now.
const RATE_OVER_S = 5;
// Looks that are kept for the small charts at the top: ten minutes of them, one each second.
const LOOKS_KEPT = 600;
// Ages are told in whole milliseconds, and the time that they are told at a little later: beginnings
// that differ by less are the same.
const AGE_BLUR_MS = 100;

const model = {
  // The newest Overview, without services and histories; null for a process that only calls.
  server: null,
  channels: [],
  // What each method is, and its last minutes; by its full name.
  descriptions: new Map(),
  histories: new Map(),
  // The sums over all methods, at each look.
  looks: [],
};

/** Counts that only grow, to tell how many there are a second of each. */
class Rates {
  constructor() {
    this.seen = new Map();
  }

  /** Takes the counts of this moment in: pairs of a key and a count. What is no longer there is forgotten. */
  note(now, pairs) {
    const seen = new Map();
    for (const [key, number] of pairs) {
      const known = (this.seen.get(key) ?? []).filter(([, before]) => before <= number);
      // One that is older than the span is kept, as its beginning.
      while (known.length > 1 && known[1][0] <= now - RATE_OVER_S) known.shift();
      known.push([now, number]);
      seen.set(key, known);
    }
    this.seen = seen;
  }

  /** So many a second lately; null where it was seen only once. */
  of(key) {
    const known = this.seen.get(key);
    if (!known || known.length < 2) return null;
    const [from, before] = known[0];
    const [to, now] = known.at(-1);
    return to > from ? (now - before) / (to - from) : null;
  }
}

const rates = new Rates();

/** Takes an answer; `full`: with what changes seldom. Returns whether the server has begun anew. */
function take(answer, full) {
  const { server, channels } = answer;
  const anew = (model.server !== null && server !== null && server.uptime_s < model.server.uptime_s - 1);
  if (anew) forget();
  if (server && full) {
    model.descriptions = new Map(server.services.flatMap((service) =>
      service.methods.map((method) => [`${service.name}.${method.name}`, { ...method, service }])));
    model.histories = new Map(server.methods.map(({ name, history }) => [name, history]));
  }
  const now = performance.now() / 1000;
  const pairs = [];
  if (server) {
    server.calls = named(server.calls, server.uptime_s * 1000);
    nameEnded(server.failed);
    nameEnded(server.slow);
    const look = sums(server);
    model.looks.push(look);
    if (model.looks.length > LOOKS_KEPT) model.looks.shift();
    pairs.push(["calls", look.calls], ["errors", look.errors]);
    for (const { id, calls } of server.connections) pairs.push([`connection ${id}`, calls]);
  }
  channels.forEach((channel, index) => {
    channel.key = `${index} ${channel.name}`;
    for (const endpoint of channel.endpoints) {
      endpoint.key = `${channel.key} ${endpoint.address}`;
      pairs.push([`calls ${endpoint.key}`, endpoint.calls], [`failures ${endpoint.key}`, endpoint.failures]);
    }
  });
  rates.note(now, pairs);
  model.server = server;
  model.channels = channels;
  return anew;
}

function forget() {
  model.looks = [];
  model.histories.clear();
  starts = new Map();
}

const sum = (list, of) => list.reduce((all, item) => all + of(item), 0);
const errorsOf = (span) => sum(Object.values(span.errors), (number) => number);

function sums(server) {
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

/** How many connections there are: not all are listed where there are many. */
function connectionsOf(server) {
  return server.limits.find(({ name }) => name === "max_connections")?.used ?? server.connections.length;
}

/** What all methods did, step by step: { calls, errors }, each a list that ends now. */
function stepsOfAll() {
  const histories = [...model.histories.values()];
  const length = histories.reduce((most, history) => Math.max(most, history.length), 0);
  const of = (field) => Array.from({ length }, (_, index) =>
    sum(histories, (history) => history[index - length + history.length]?.[field] ?? 0) / STEP_S);
  return { calls: of("calls"), errors: of("errors") };
}

// Calls have no number of their own. One that came over the same connection for the same method and
// began at the same time as one before is that one, so that its row stays.
let starts = new Map();
let callsNamed = 0;

function named(calls, now) {
  const groups = new Map();
  for (const call of calls) {
    const group = `${call.connection} ${call.peer} ${call.method}`;
    const started = now - call.age_ms;
    const known = starts.get(group) ?? [];
    const index = nearest(known, started);
    const [same] = index < 0 ? [{ key: `call ${(callsNamed += 1)}`, started }] : known.splice(index, 1);
    call.key = same.key;
    groups.set(group, [...(groups.get(group) ?? []), same]);
  }
  starts = groups;
  return calls;
}

/** Which of them began next to this time; -1 where none began about then. */
function nearest(known, started) {
  let found = -1, least = AGE_BLUR_MS;
  known.forEach((other, index) => {
    const distance = Math.abs(other.started - started);
    if (distance < least) [found, least] = [index, distance];
  });
  return found;
}

function nameEnded(calls) {
  const times = new Map();
  // From the oldest on, so that a name stays when more come.
  for (const call of [...calls].reverse()) {
    const what = `${call.ended_unix_ms} ${call.method} ${call.peer} ${call.took_us}`;
    times.set(what, (times.get(what) ?? 0) + 1);
    call.key = `${what} ${times.get(what)}`;
  }
}
