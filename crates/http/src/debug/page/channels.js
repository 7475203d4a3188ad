// Channels: the endpoints that this process calls, with their state and counters.

const STATE_RANK = { outside: 0, healthy: 1, draining: 2, ejected: 3, unreachable: 4 };
const channelViews = new Map();

class ChannelView {
  constructor() {
    this.name = el("h3", {});
    this.source = el("span", { class: "source" });
    this.facts = Object.fromEntries(["balancer", "on failure", "retries left", "list of endpoints", "in flight"].map((title) => [title, el("dd", {})]));
    this.table = new SortableTable({
      label: "Endpoints",
      keyOf: ({ key }) => key,
      searchText: (endpoint) => joinText(endpoint.address, endpoint.zone, endpoint.state, endpoint.reason),
      sort: { name: "address", descending: false },
      empty: "No endpoint is known.",
      columns: [
        { name: "state-cell", title: "State", sortKey: ({ state }) => STATE_RANK[state] ?? 9, descending: true, create: createStateCell },
        { name: "address", title: "Endpoint", sortKey: ({ address }) => address, create: createAddressCell },
        { name: "zone", title: "Zone", sortKey: ({ zone }) => zone ?? "", text: ({ zone }) => zone ?? "–" },
        { name: "weight", title: "Weight", sortKey: ({ weight }) => weight, descending: true, text: ({ weight }) => count(weight) },
        { name: "links", title: "Connections", sortKey: (endpoint) => endpoint.connections, descending: true, text: (endpoint) => count(endpoint.connections) },
        { name: "flight", title: "In flight", sortKey: (endpoint) => endpoint.in_flight, descending: true, text: (endpoint) => count(endpoint.in_flight) },
        { name: "latency", title: "Latency", sortKey: (endpoint) => endpoint.latency_us ?? 0, descending: true, text: (endpoint) => (endpoint.latency_us === null ? "–" : latencyText(endpoint.latency_us)) },
        { name: "rate", title: "Calls/s", sortKey: ({ key }) => rates.perSecond(`calls ${key}`) ?? 0, descending: true, text: ({ key }) => rateOrDash(rates.perSecond(`calls ${key}`)) },
        { name: "reported", title: "Reported load", sortKey: (endpoint) => endpoint.reported_load?.utilization ?? endpoint.reported_load?.calls_per_second ?? -1, descending: true, create: createReportedCell },
        { name: "calls-count", title: "Calls", sortKey: (endpoint) => endpoint.calls, descending: true, text: (endpoint) => count(endpoint.calls) },
        { name: "failures", title: "Failures", sortKey: (endpoint) => endpoint.failures, descending: true, create: createFailuresCell },
      ],
    });
    const facts = Object.entries(this.facts).map(([title, value]) => el("div", {}, el("dt", {}, title), value));
    this.element = el("article", { class: "channel" },
      el("header", {}, this.name, this.source), el("dl", { class: "facts" }, ...facts), this.table.element);
  }

  draw(channel) {
    setText(this.name, channel.name);
    setText(this.source, channel.source);
    setText(this.facts.balancer, channel.balancer);
    setText(this.facts["on failure"], channel.retry_policy);
    setText(this.facts["retries left"], channel.retries_left === null ? "not limited" : count(Math.floor(channel.retries_left * 10) / 10));
    const listed = channel.endpoint_count > channel.endpoints.length ? `${count(channel.endpoints.length)} of ${count(channel.endpoint_count)} shown, ` : "";
    setText(this.facts["list of endpoints"], listed + (channel.endpoints_age_ms === null ? "none" : `${duration(channel.endpoints_age_ms)} old`));
    setText(this.facts["in flight"], count(channel.in_flight));
    this.table.draw({ items: channel.endpoints });
  }
}

function createStateCell() {
  const pill = el("span", {});
  const since = el("small", {});
  return { nodes: [pill, since], update: ({ state, since_ms: time }) => {
    setAttribute(pill, "class", `state ${Object.hasOwn(STATE_RANK, state) ? state : ""}`);
    setText(pill, state);
    setText(since, time === null || state === "healthy" ? "" : `for ${duration(time)}`);
  } };
}

function createAddressCell() {
  const address = el("span", {});
  const why = el("span", { class: "why" });
  return { nodes: [address, why], update: (endpoint) => {
    setText(address, endpoint.address);
    setText(why, endpoint.reason ?? "");
  } };
}

function createReportedCell() {
  const load = el("span", {});
  const age = el("small", {});
  return { nodes: [load, age], update: ({ reported_load: reported }) => {
    const used = reported?.utilization === null || !reported ? "" : `${percent(reported.utilization, 1)} used, `;
    setText(load, reported ? `${used}${rateOrDash(reported.calls_per_second)}/s, ${count(Math.round(reported.in_flight * 10) / 10)} in flight` : "–");
    setText(age, reported ? `${duration(reported.age_ms)} ago` : "");
  } };
}

function createFailuresCell() {
  const number = el("span", {});
  const part = el("small", {});
  return { nodes: [number, part], update: ({ calls: all, failures }, cell) => {
    setText(number, count(failures));
    setText(part, failures > 0 ? percent(failures, all) : "");
    cell.classList.toggle("some", failures > 0);
  } };
}

/** Draws the channels into the element. */
function drawChannels(parent, channels) {
  const kept = new Set(channels.map(({ key }) => key));
  for (const key of channelViews.keys()) if (!kept.has(key)) channelViews.delete(key);
  arrange(parent, channels.map((channel) => {
    let view = channelViews.get(channel.key);
    if (!view) channelViews.set(channel.key, (view = new ChannelView()));
    view.draw(channel);
    return view.element;
  }));
}
