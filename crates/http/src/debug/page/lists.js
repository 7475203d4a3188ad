// What is under way, who is connected, what went wrong or took long, and what bounds all that.

const caller = { name: "caller", title: "Caller", by: (item) => item.caller ?? "", text: (item) => item.caller ?? "–" };
const peer = { name: "peer", title: "Peer", by: (item) => item.peer, text: (item) => item.peer };
const method = { name: "of-method", title: "Method", by: (item) => item.method, text: (item) => item.method };
const haystack = (...parts) => parts.map((part) => part ?? "").join("\n").toLowerCase();

// The part of its time after which a call is marked.
const LATE = 0.8;

const callTable = new Table({
  label: "Calls in flight",
  keyOf: ({ key }) => key,
  haystackOf: (call) => haystack(call.method, call.peer, call.caller),
  empty: "No call is in flight. What ends at once is not listed here, only counted.",
  columns: [
    { name: "age", title: "Age", by: (call) => call.age_ms, down: true, text: (call) => took(call.age_ms * 1000) },
    method,
    { name: "deadline", title: "Deadline", by: (call) => call.remaining_ms ?? Number.MAX_SAFE_INTEGER, make: makeDeadlineCell },
    caller,
    peer,
    { name: "over", title: "Connection", by: (call) => call.connection ?? 0, text: (call) => (call.connection === null ? "–" : `#${call.connection}`) },
  ],
});

function makeDeadlineCell() {
  const text = el("span", {});
  const meter = el("i", {});
  const bar = el("span", { class: "meter", "aria-hidden": "true" }, meter);
  return { nodes: [text, bar], update: ({ age_ms: age, remaining_ms: left }, cell) => {
    bar.hidden = left === null;
    setText(text, left === null ? "none" : left === 0 ? "passed" : `in ${took(left * 1000)}`);
    const part = left === null ? 0 : age / (age + left || 1);
    meter.style.width = `${(100 * part).toFixed(1)}%`;
    setAttribute(cell, "data-state", part >= 1 ? "bad" : part >= LATE ? "warn" : null);
  } };
}

/** Codecs are named by media types. */
const codecOf = ({ codec }) => codec?.replace(/^application\//, "") ?? "handshake";

const connectionTable = new Table({
  label: "Connections",
  keyOf: ({ id }) => id,
  haystackOf: (connection) => haystack(connection.peer, connection.caller, connection.scheme, connection.codec, `#${connection.id}`),
  empty: "Nobody is connected.",
  columns: [
    { name: "number", title: "#", label: "Number", by: ({ id }) => id, text: ({ id }) => `#${id}` },
    peer,
    caller,
    { name: "scheme", title: "Opened by", by: ({ scheme }) => scheme, text: ({ scheme }) => scheme },
    { name: "codec", title: "Codec", by: codecOf, text: codecOf },
    { name: "age", title: "Age", by: (connection) => connection.age_ms, down: true, text: (connection) => duration(connection.age_ms) },
    { name: "flight", title: "In flight", by: (connection) => connection.in_flight, down: true, text: (connection) => count(connection.in_flight) },
    { name: "rate", title: "Calls/s", by: ({ id }) => rates.of(`connection ${id}`) ?? 0, down: true, text: ({ id }) => rateOrNothing(rates.of(`connection ${id}`)) },
    { name: "calls-count", title: "Calls", by: (connection) => connection.calls, down: true, text: (connection) => count(connection.calls) },
    { name: "received", title: "Received", by: (connection) => connection.received_bytes, down: true, text: (connection) => bytes(connection.received_bytes) },
    { name: "sent", title: "Sent", by: (connection) => connection.sent_bytes, down: true, text: (connection) => bytes(connection.sent_bytes) },
  ],
});

const rateOrNothing = (perSecond) => (perSecond === null ? "–" : rate(perSecond));

const ended = {
  name: "ended", title: "Ended", by: (call) => call.ended_unix_ms, down: true, make: () => {
    const ago = el("time", {});
    return { nodes: [ago], update: ({ ended_unix_ms: time }) => {
      setText(ago, `${duration(serverNow() - time)} ago`);
      setAttribute(ago, "datetime", new Date(time).toISOString());
      setAttribute(ago, "title", new Date(time).toLocaleString("en-GB"));
    } };
  },
};
const tookColumn = { name: "took", title: "Took", by: (call) => call.took_us, down: true, text: (call) => took(call.took_us) };

const outcome = {
  name: "outcome", title: "Code", by: (call) => call.code, make: () => {
    const mark = el("span", { class: "code" });
    return { nodes: [mark], update: ({ code }) => setText(mark, code) };
  },
};

const endedTable = (label, empty, columns) => new Table({
  label, empty, columns, limit: 10,
  keyOf: ({ key }) => key,
  haystackOf: (call) => haystack(call.method, call.peer, call.caller, call.code, call.message),
});

const failedTable = endedTable("Failed calls", "No call has failed.", [
  ended, method, outcome,
  { name: "message", title: "Message", text: (call) => call.message ?? "" },
  tookColumn, caller, peer,
]);
const slowTable = endedTable("Slow calls", "No call has taken long.", [ended, method, tookColumn, caller, peer]);

const registrationTable = new Table({
  label: "Registrations",
  keyOf: ({ service, place: at, address }) => `${service} ${at} ${address}`,
  haystackOf: ({ service, place: at, address, state }) => haystack(service, at, address, state),
  empty: "It is registered nowhere.",
  columns: [
    { name: "of-service", title: "Service", by: ({ service }) => service, text: ({ service }) => service },
    { name: "address", title: "Address", by: ({ address }) => address, text: ({ address }) => address },
    { name: "registry", title: "Where", by: ({ place: at }) => at, text: ({ place: at }) => at },
    { name: "standing", title: "State", by: ({ state }) => state, text: ({ state }) => state },
  ],
});

// ---- Limits.

const NEAR = 0.7, AT = 0.95;
const limitItems = new Map();

const quantity = (number, unit) => (unit === "bytes" ? bytes(number) : unit === "ms" ? setting(number) : `${count(number)} ${unit}`);

/** Draws the limits: bars for those that can be near, and the others in a line. */
function drawLimits(list, limits) {
  const elements = limits.map((limit) => {
    const { name, unit, used, limit: most } = limit;
    let item = limitItems.get(name);
    if (!item) {
      const value = el("span", { class: "value" });
      const fill = el("i", {});
      const meter = el("div", { class: "meter", role: "meter", "aria-label": name, "aria-valuemin": 0 }, fill);
      item = { value, fill, meter, element: el("li", {}, el("code", {}, name), value, meter) };
      limitItems.set(name, item);
    }
    const counted = used !== null && most !== null;
    const part = counted && most > 0 ? Math.min(1, used / most) : 0;
    const plainly = unit === "bytes" ? bytes : count;
    setText(item.value, counted ? `${plainly(used)} of ${plainly(most)}`
      : used !== null ? `${quantity(used, unit)}, no limit`
      : most !== null ? quantity(most, unit) : "none");
    item.meter.hidden = !counted;
    item.fill.hidden = part === 0;
    item.fill.style.width = `${(100 * part).toFixed(1)}%`;
    setAttribute(item.meter, "aria-valuemax", most ?? 0);
    setAttribute(item.meter, "aria-valuenow", used ?? 0);
    setAttribute(item.meter, "aria-valuetext", item.value.textContent);
    setAttribute(item.element, "data-state", part >= AT ? "bad" : part >= NEAR ? "warn" : null);
    setAttribute(item.element, "class", counted ? "counted" : "fixed");
    return [counted, item.element];
  });
  arrange(list, [...elements.filter(([counted]) => counted), ...elements.filter(([counted]) => !counted)].map(([, element]) => element));
}
