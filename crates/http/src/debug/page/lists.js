// Calls in flight, open streams, failed and slow calls, connections, registrations and limits.

const caller = { name: "caller", title: "Caller", sortKey: (item) => item.caller ?? "", text: (item) => item.caller ?? "–" };
const peer = { name: "peer", title: "Peer", sortKey: (item) => item.peer, text: (item) => item.peer };
const method = { name: "of-method", title: "Method", sortKey: (item) => item.method, text: (item) => item.method };
const joinText = (...parts) => parts.map((part) => part ?? "").join("\n").toLowerCase();

// The share of its time after which a call is marked.
const LATE = 0.8;

const callTable = new SortableTable({
  label: "Calls in flight",
  keyOf: ({ key }) => key,
  searchText: (call) => joinText(call.method, call.peer, call.caller),
  empty: "No call is in flight. Calls that end at once are only counted, not listed.",
  columns: [
    { name: "age", title: "Age", sortKey: (call) => call.age_ms, descending: true, text: (call) => latencyText(call.age_ms * 1000) },
    method,
    { name: "deadline", title: "Deadline", sortKey: (call) => call.remaining_ms ?? Number.MAX_SAFE_INTEGER, create: createDeadlineCell },
    caller,
    peer,
    { name: "over", title: "Connection", sortKey: (call) => call.connection ?? 0, text: (call) => (call.connection === null ? "–" : `#${call.connection}`) },
  ],
});

function createDeadlineCell() {
  const text = el("span", {});
  const meter = el("i", {});
  const bar = el("span", { class: "meter", "aria-hidden": "true" }, meter);
  return { nodes: [text, bar], update: ({ age_ms: age, remaining_ms: left }, cell) => {
    bar.hidden = left === null;
    setText(text, left === null ? "none" : left === 0 ? "passed" : `in ${latencyText(left * 1000)}`);
    const part = left === null ? 0 : age / (age + left || 1);
    meter.style.width = `${(100 * part).toFixed(1)}%`;
    setAttribute(cell, "data-state", part >= 1 ? "bad" : part >= LATE ? "warn" : null);
  } };
}

const itemsText = (items, size) => (items === 0 ? "–" : `${count(items)}, ${bytes(size)}`);

const streamTable = new SortableTable({
  label: "Open streams",
  keyOf: ({ connection, seq }) => `${connection} ${seq}`,
  searchText: (stream) => joinText(stream.method, stream.peer, stream.waits_for),
  empty: "No stream is open.",
  columns: [
    { name: "age", title: "Age", sortKey: (stream) => stream.age_ms, descending: true, text: (stream) => latencyText(stream.age_ms * 1000) },
    method,
    { name: "waits", title: "Waits for", sortKey: (stream) => stream.waits_for, text: (stream) => stream.waits_for },
    { name: "items-sent", title: "Items sent", sortKey: (stream) => stream.items_sent, descending: true, text: (stream) => itemsText(stream.items_sent, stream.bytes_sent) },
    { name: "items-received", title: "Items received", sortKey: (stream) => stream.items_received, descending: true, text: (stream) => itemsText(stream.items_received, stream.bytes_received) },
    { name: "window", title: "Window", sortKey: (stream) => stream.window ?? 0, descending: true, text: (stream) => (stream.window === null ? "–" : bytes(stream.window)) },
    { name: "credit", title: "Credit", sortKey: (stream) => stream.credit ?? 0, descending: true, text: (stream) => (stream.credit === null ? "–" : bytes(stream.credit)) },
    { name: "stalls", title: "Stalls", sortKey: (stream) => stream.stalls, descending: true, text: (stream) => count(stream.stalls) },
    peer,
    { name: "over", title: "Connection", sortKey: (stream) => stream.connection, text: (stream) => `#${stream.connection}` },
  ],
});

/** The codec's name, without the prefix of its media type. */
const codecOf = ({ codec }) => codec?.replace(/^application\//, "") ?? "handshake";

const connectionTable = new SortableTable({
  label: "Connections",
  keyOf: ({ id }) => id,
  searchText: (connection) => joinText(connection.peer, connection.caller, connection.scheme, connection.codec, `#${connection.id}`),
  empty: "No client is connected.",
  columns: [
    { name: "number", title: "#", label: "Number", sortKey: ({ id }) => id, text: ({ id }) => `#${id}` },
    peer,
    caller,
    { name: "scheme", title: "Opened by", sortKey: ({ scheme }) => scheme, text: ({ scheme }) => scheme },
    { name: "codec", title: "Codec", sortKey: codecOf, text: codecOf },
    { name: "age", title: "Age", sortKey: (connection) => connection.age_ms, descending: true, text: (connection) => duration(connection.age_ms) },
    { name: "flight", title: "In flight", sortKey: (connection) => connection.in_flight, descending: true, text: (connection) => count(connection.in_flight) },
    { name: "rate", title: "Calls/s", sortKey: ({ id }) => rates.perSecond(`connection ${id}`) ?? 0, descending: true, text: ({ id }) => rateOrDash(rates.perSecond(`connection ${id}`)) },
    { name: "calls-count", title: "Calls", sortKey: (connection) => connection.calls, descending: true, text: (connection) => count(connection.calls) },
    { name: "received", title: "Received", sortKey: (connection) => connection.received_bytes, descending: true, text: (connection) => bytes(connection.received_bytes) },
    { name: "sent", title: "Sent", sortKey: (connection) => connection.sent_bytes, descending: true, text: (connection) => bytes(connection.sent_bytes) },
  ],
});

const rateOrDash = (perSecond) => (perSecond === null ? "–" : rate(perSecond));

const ended = {
  name: "ended", title: "Ended", sortKey: (call) => call.ended_unix_ms, descending: true, create: () => {
    const ago = el("time", {});
    return { nodes: [ago], update: ({ ended_unix_ms: time }) => {
      setText(ago, `${duration(serverNow() - time)} ago`);
      setAttribute(ago, "datetime", new Date(time).toISOString());
      setAttribute(ago, "title", new Date(time).toLocaleString("en-GB"));
    } };
  },
};
const tookColumn = { name: "took", title: "Took", sortKey: (call) => call.took_us, descending: true, text: (call) => latencyText(call.took_us) };

const outcome = {
  name: "outcome", title: "Code", sortKey: (call) => call.code, create: () => {
    const mark = el("span", { class: "code" });
    return { nodes: [mark], update: ({ code }) => setText(mark, code) };
  },
};

const endedTable = (label, empty, columns) => new SortableTable({
  label, empty, columns, limit: 10,
  keyOf: ({ key }) => key,
  searchText: (call) => joinText(call.method, call.peer, call.caller, call.code, call.message),
});

const failedTable = endedTable("Failed calls", "No call has failed.", [
  ended, method, outcome,
  { name: "message", title: "Message", text: (call) => call.message ?? "" },
  tookColumn, caller, peer,
]);
const slowTable = endedTable("Slow calls", "No call has taken long.", [ended, method, tookColumn, caller, peer]);

const registrationTable = new SortableTable({
  label: "Registrations",
  keyOf: ({ service, place: at, address }) => `${service} ${at} ${address}`,
  searchText: ({ service, place: at, address, state }) => joinText(service, at, address, state),
  empty: "This server is not registered.",
  columns: [
    { name: "of-service", title: "Service", sortKey: ({ service }) => service, text: ({ service }) => service },
    { name: "address", title: "Address", sortKey: ({ address }) => address, text: ({ address }) => address },
    { name: "registry", title: "Where", sortKey: ({ place: at }) => at, text: ({ place: at }) => at },
    { name: "standing", title: "State", sortKey: ({ state }) => state, text: ({ state }) => state },
  ],
});

// ---- Limits, and the progress of what the program does.

// The shares of a limit from which its meter warns.
const WARN_AT = 0.7, BAD_AT = 0.95;

const quantity = (number, unit) => (unit === "bytes" ? bytes(number) : unit === "ms" ? exactDuration(number) : `${count(number)} ${unit}`);

/** A list of amounts: those of which the most is known as meters, the others below. */
class MeterList {
  /** With `warns`, a meter that is nearly full is a warning. */
  constructor({ warns }) {
    this.warns = warns;
    this.items = new Map();
    this.element = el("ul", { class: "limits" });
  }

  draw(amounts) {
    const names = new Set(amounts.map(({ name }) => name));
    for (const name of this.items.keys()) if (!names.has(name)) this.items.delete(name);
    const elements = amounts.map((amount) => this.drawAmount(amount));
    arrange(this.element, [...elements.filter(([counted]) => counted), ...elements.filter(([counted]) => !counted)].map(([, element]) => element));
  }

  drawAmount({ name, unit, used, limit: most }) {
    let item = this.items.get(name);
    if (!item) {
      const value = el("span", { class: "value" });
      const fill = el("i", {});
      const meter = el("div", { class: "meter", role: "meter", "aria-label": name, "aria-valuemin": 0 }, fill);
      item = { value, fill, meter, element: el("li", {}, el("code", {}, name), value, meter) };
      this.items.set(name, item);
    }
    const counted = used !== null && most !== null;
    const part = counted && most > 0 ? Math.min(1, used / most) : 0;
    const format = unit === "bytes" ? bytes : count;
    setText(item.value, counted ? `${format(used)} of ${format(most)}`
      : used === null ? (most === null ? "none" : quantity(most, unit))
      : this.warns ? `${quantity(used, unit)}, no limit` : quantity(used, unit));
    item.meter.hidden = !counted;
    item.fill.hidden = part === 0;
    item.fill.style.width = `${(100 * part).toFixed(1)}%`;
    setAttribute(item.meter, "aria-valuemax", most ?? 0);
    setAttribute(item.meter, "aria-valuenow", used ?? 0);
    setAttribute(item.meter, "aria-valuetext", item.value.textContent);
    setAttribute(item.element, "data-state", !this.warns ? null : part >= BAD_AT ? "bad" : part >= WARN_AT ? "warn" : null);
    setAttribute(item.element, "class", counted ? "counted" : "fixed");
    return [counted, item.element];
  }
}

const progressViews = new Map();

/** Draws the lists of the program into the element. */
function drawProgress(parent, lists) {
  const titles = new Set(lists.map(({ title }) => title));
  for (const title of progressViews.keys()) if (!titles.has(title)) progressViews.delete(title);
  arrange(parent, lists.map(({ title, row_count: all, rows }) => {
    let view = progressViews.get(title);
    if (!view) {
      const note = el("span", { class: "source" });
      const meters = new MeterList({ warns: false });
      view = { note, meters, element: el("article", { class: "channel" }, el("header", {}, el("h3", {}, title), note), meters.element) };
      progressViews.set(title, view);
    }
    setText(view.note, rows.length < all ? `${count(rows.length)} of ${count(all)} shown` : "");
    view.meters.draw(rows);
    return view.element;
  }));
}
