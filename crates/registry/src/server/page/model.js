// What the registry said: services and their instances, as the stream of events keeps them.

const STATES = ["up", "draining", "stale"];

/** Services by name. A service stays in the list while it has instances. */
const services = new Map();

class Service {
  constructor(name) {
    this.name = name;
    this.instances = new Map();
    // The ids in order; null where nobody has asked for them yet.
    this.order = null;
  }

  put(instance) {
    const known = this.instances.get(instance.id);
    if (!known && this.order) this.order.splice(this.placeOf(instance.id), 0, instance.id);
    this.instances.set(instance.id, withHeartbeatOf(known, instance));
  }

  delete(id) {
    if (this.instances.delete(id) && this.order) this.order.splice(this.placeOf(id), 1);
  }

  /** The instances, by id. */
  sorted() {
    this.order ??= [...this.instances.keys()].sort(compare);
    return this.order.map((id) => this.instances.get(id));
  }

  /** How many are in which state. */
  tallies() {
    const tallies = { up: 0, draining: 0, stale: 0 };
    for (const { state } of this.instances.values()) tallies[state] += 1;
    return tallies;
  }

  /** Where the id is in the order, or belongs. */
  placeOf(id) {
    let low = 0, high = this.order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.order[middle], id) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Events know no heartbeats, so that the last one that was told is kept. */
function withHeartbeatOf(known, instance) {
  if (known?.last_seen && !instance.last_seen) instance.last_seen = known.last_seen;
  return instance;
}

const collator = new Intl.Collator("en", { numeric: true });
const compare = (a, b) => collator.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);

/** Takes an event of the stream; returns the names of the services that it changed, null for all. */
function apply(event, data) {
  if (event === "snapshot") {
    const before = new Map([...services].map(([name, service]) => [name, service.instances]));
    services.clear();
    for (const instance of data.instances) {
      const service = serviceOf(instance.service ?? "");
      service.put(withHeartbeatOf(before.get(service.name)?.get(instance.id), instance));
    }
    return null;
  }
  const name = data.service ?? "";
  if (event === "put") serviceOf(name).put(data.instance);
  else if (event === "delete" && services.has(name)) {
    services.get(name).delete(data.id);
    if (services.get(name).instances.size === 0) services.delete(name);
  }
  return [name];
}

function serviceOf(name) {
  let service = services.get(name);
  if (!service) services.set(name, (service = new Service(name)));
  return service;
}

const servicesByName = () => [...services.values()].sort((a, b) => compare(a.name, b.name));

/** What is looked for: words, each somewhere in what is told of an instance, and one state or "". */
const filter = { words: [], only: "" };

function matches(instance) {
  const { words, only } = filter;
  if (only && instance.state !== only) return false;
  if (words.length === 0) return true;
  instance.haystack ??= [
    `service:${instance.service || "~"}`,
    `id:${instance.id}`,
    `addr:${instance.addr}`,
    `zone:${instance.zone ?? ""}`,
    `version:${instance.version ?? ""}`,
    `state:${instance.state}`,
    ...Object.entries(instance.metadata ?? {}).map(([key, value]) => `${key}=${value}`),
  ].join("\n").toLowerCase();
  return words.every((word) => instance.haystack.includes(word));
}

/** Where the interface has a service, or an instance of it. Relative: a proxy may put a path before. */
function pathOf(service, id) {
  const list = `v1/services/${encodeURIComponent(service || "~")}/instances`;
  return id === undefined ? list : `${list}/${encodeURIComponent(id)}`;
}
