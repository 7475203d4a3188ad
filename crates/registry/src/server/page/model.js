// The registry's data: services and their instances, as the stream of events keeps them up to date.

const STATES = ["up", "draining", "stale"];

/** Services by name. A service is in the list while it has instances. */
const services = new Map();

class Service {
  constructor(name) {
    this.name = name;
    this.instances = new Map();
    // The sorted ids; null until they are needed.
    this.order = null;
  }

  put(instance) {
    const known = this.instances.get(instance.id);
    if (!known && this.order) this.order.splice(this.position(instance.id), 0, instance.id);
    this.instances.set(instance.id, keepHeartbeat(known, instance));
  }

  delete(id) {
    if (this.instances.delete(id) && this.order) this.order.splice(this.position(id), 1);
  }

  /** The instances, sorted by id. */
  sorted() {
    this.order ??= [...this.instances.keys()].sort(compare);
    return this.order.map((id) => this.instances.get(id));
  }

  /** The number of instances by state. */
  countByState() {
    const counts = { up: 0, draining: 0, stale: 0 };
    for (const { state } of this.instances.values()) counts[state] += 1;
    return counts;
  }

  /** The index of the id in the order, or the one to insert it at. */
  position(id) {
    let low = 0, high = this.order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.order[middle], id) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Copies the last known heartbeat: events do not contain it. */
function keepHeartbeat(known, instance) {
  if (known?.last_seen && !instance.last_seen) instance.last_seen = known.last_seen;
  return instance;
}

/** Applies an event of the stream; returns the names of the changed services, null for all. */
function apply(event, data) {
  if (event === "snapshot") {
    const before = new Map([...services].map(([name, service]) => [name, service.instances]));
    services.clear();
    for (const instance of data.instances) {
      const service = getOrCreateService(instance.service ?? "");
      service.put(keepHeartbeat(before.get(service.name)?.get(instance.id), instance));
    }
    return null;
  }
  const name = data.service ?? "";
  if (event === "put") getOrCreateService(name).put(data.instance);
  else if (event === "delete" && services.has(name)) {
    services.get(name).delete(data.id);
    if (services.get(name).instances.size === 0) services.delete(name);
  }
  return [name];
}

function getOrCreateService(name) {
  let service = services.get(name);
  if (!service) services.set(name, (service = new Service(name)));
  return service;
}

const servicesByName = () => [...services.values()].sort((a, b) => compare(a.name, b.name));

/** The filter: words that an instance must all contain, and a state ("" for any). */
const filter = { words: [], state: "" };

function matches(instance) {
  const { words, state } = filter;
  if (state && instance.state !== state) return false;
  if (words.length === 0) return true;
  instance.searchText ??= [
    `service:${instance.service || "~"}`,
    `id:${instance.id}`,
    `addr:${instance.addr}`,
    `zone:${instance.zone ?? ""}`,
    `version:${instance.version ?? ""}`,
    `state:${instance.state}`,
    ...Object.entries(instance.metadata ?? {}).map(([key, value]) => `${key}=${value}`),
  ].join("\n").toLowerCase();
  return words.every((word) => instance.searchText.includes(word));
}

/** The path of a service's instances, or of one of them. Relative: a proxy may add a prefix. */
function pathOf(service, id) {
  const list = `v1/services/${encodeURIComponent(service || "~")}/instances`;
  return id === undefined ? list : `${list}/${encodeURIComponent(id)}`;
}
