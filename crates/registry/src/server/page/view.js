// The list of services. Only changes are drawn, and only the rows of open services, so that ten thousand
// instances cost no more than the visible ones.

// Rows of a service that are shown at first, and that a click adds.
const PAGE_SIZE = 100;
// Services are open at first if there are at most this many instances in total.
const MAX_INITIALLY_OPEN = 60;
// With more instances in total, they cannot be expanded all together.
const MAX_EXPANDED = 2000;
// Events are drawn together, this many milliseconds after the first.
const DRAW_DELAY = 80;
const COLUMNS = [
  ["state", "State"], ["instance", "Instance"], ["weight", "Weight"], ["zone", "Zone"], ["version", "Version"],
  ["metadata", "Metadata"], ["seen", "Last heartbeat"], ["age", "Age"], ["act", "Action"],
];

const views = new Map();
let drawTimer = null;
let drawDelay = DRAW_DELAY;
let dirtyServices = new Set();
let isListDirty = true;
// The choice for all services together; null if none was made.
let openAll = null;

class ServiceView {
  constructor(name) {
    this.name = name;
    // The reader's choice; null if none was made.
    this.open = null;
    this.openByDefault = null;
    this.limit = PAGE_SIZE;
    this.rows = new Map();
    this.meter = el("span", { class: "meter", "aria-hidden": "true" });
    this.stateCounts = el("span", { class: "tallies" });
    const label = name === "" ? el("span", { class: "name plain" }, "plain list of servers (~)") : el("span", { class: "name" }, name);
    this.head = el("button", { type: "button", class: "head", "aria-expanded": "false" }, label, this.stateCounts, this.meter);
    this.head.addEventListener("click", () => {
      this.open = this.head.getAttribute("aria-expanded") !== "true";
      this.limit = PAGE_SIZE;
      drawSoon([this.name]);
      drawNow();
    });
    this.element = el("section", { class: "service", "data-service": name }, el("h2", {}, this.head));
    this.table = null;
  }

  /** Draws the instances that match the filter; returns how many there are. */
  draw(service) {
    const total = service.instances.size;
    const found = isFiltered() ? service.sorted().filter(matches) : null;
    const number = found ? found.length : total;
    this.element.hidden = number === 0;
    this.drawCounts(service.countByState(), total, number);
    const open = this.isOpen() && number > 0;
    setAttribute(this.head, "aria-expanded", String(open));
    // A closed service is not sorted, which costs time.
    if (open) this.drawRows(found ?? service.sorted());
    else this.close();
    return number;
  }

  isOpen() {
    return this.open ?? this.openByDefault;
  }

  drawCounts(counts, total, found) {
    const text = JSON.stringify([counts, total, found]);
    if (text === this.countsText) return;
    this.countsText = text;
    const parts = STATES.filter((state) => counts[state] > 0);
    const shown = found < total ? [el("span", {}, `${count(found)} of ${count(total)} shown`)] : [];
    this.stateCounts.replaceChildren(...shown, ...parts.map((state) => el("span", { class: state }, `${count(counts[state])} ${state}`)));
    this.meter.replaceChildren(...parts.map((state) => {
      const part = el("i", { class: state });
      part.style.flexGrow = String(counts[state]);
      return part;
    }));
  }

  drawRows(found) {
    if (!this.table) this.createTable();
    const shown = found.slice(0, this.limit);
    const wanted = new Set(shown.map((instance) => instance.id));
    for (const [id, row] of this.rows) {
      if (!wanted.has(id)) {
        row.remove();
        this.rows.delete(id);
      }
    }
    arrange(this.body, shown.map((instance) => {
      let row = this.rows.get(instance.id);
      if (row) row.update(instance);
      else this.rows.set(instance.id, (row = new Row(instance)));
      return row.element;
    }));
    this.more.update(found.length - shown.length);
  }

  createTable() {
    const heads = COLUMNS.map(([name, title]) => makeHead(name, title));
    Object.assign(this, makeTable(`Instances of ${this.name || "the plain list"}`, COLUMNS.map(([name]) => name), heads));
    this.more = new MoreButton(PAGE_SIZE, () => {
      this.limit += PAGE_SIZE;
      drawSoon([this.name]);
      drawNow();
    });
    this.element.append(this.table, this.more.element);
  }

  close() {
    if (!this.table) return;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.table.remove();
    this.more.element.remove();
    this.table = null;
  }

  remove() {
    this.close();
    this.element.remove();
  }
}

/** Schedules drawing of these services; null for all. */
function drawSoon(names) {
  if (names === null) isListDirty = true;
  else for (const name of names) dirtyServices.add(name);
  drawTimer ??= setTimeout(drawNow, drawDelay);
}

function drawNow() {
  clearTimeout(drawTimer);
  drawTimer = null;
  const start = performance.now();
  const total = drawCounts();
  // The whole list is drawn if a service was added or removed, or the filter changed.
  if (isListDirty || [...dirtyServices].some((name) => services.has(name) !== views.has(name))) drawList(total);
  else for (const name of dirtyServices) if (services.has(name)) views.get(name).draw(services.get(name));
  drawExpandAll(total);
  dirtyServices = new Set();
  isListDirty = false;
  // Drawing takes at most a fifth of the time, however many events arrive.
  drawDelay = Math.max(DRAW_DELAY, 4 * (performance.now() - start));
}

const isFiltered = () => filter.words.length > 0 || filter.state !== "";

function drawList(total) {
  for (const [name, view] of views) {
    if (!services.has(name)) {
      view.remove();
      views.delete(name);
    }
  }
  let shown = 0;
  const elements = servicesByName().map((service) => {
    let view = views.get(service.name);
    if (!view) views.set(service.name, (view = new ServiceView(service.name)));
    // With a filter, matches are opened until the page is full. Without one it is decided once: a
    // service does not close because another one grew.
    if (isFiltered()) view.openByDefault = openAll ?? shown < PAGE_SIZE;
    else view.openByDefault = openAll ?? view.openByDefault ?? total <= MAX_INITIALLY_OPEN;
    shown += view.draw(service);
    return view.element;
  });
  arrange(byId("services"), elements);
  drawEmpty(shown > 0, total);
}

function drawEmpty(anyShown, total) {
  byId("empty").hidden = anyShown || !hasData;
  setText(byId("empty"), total > 0
    ? "Nothing here matches the filter."
    : `No instance is registered yet.\n\ncurl -X POST -H 'X-Farcall-Server: tcp@127.0.0.1:7001' ${new URL("registry", document.baseURI)}`);
}

/** Draws the totals at the top; returns the number of instances. */
function drawCounts() {
  const counts = { all: 0, up: 0, draining: 0, stale: 0 };
  for (const service of services.values()) {
    counts.all += service.instances.size;
    const own = service.countByState();
    for (const state of STATES) counts[state] += own[state];
  }
  for (const [name, number] of Object.entries(counts)) {
    const element = byId(`count-${name}`);
    setText(element, count(number));
    element.parentElement.classList.toggle("none", number === 0);
  }
  setText(byId("count-services"), count(services.size));
  setText(byId("count-services-word"), services.size === 1 ? "service" : "services");
  return counts.all;
}

const isAnyOpen = () => [...views.values()].some((view) => view.table);

function drawExpandAll(total) {
  const anyOpen = isAnyOpen();
  byId("expand-all").hidden = services.size < 2 || (!anyOpen && total > MAX_EXPANDED);
  setText(byId("expand-all"), anyOpen ? "Collapse all" : "Expand all");
}

/** Opens or closes all services. */
function toggleAll() {
  openAll = !isAnyOpen();
  for (const view of views.values()) view.open = null;
  drawSoon(null);
  drawNow();
}

function setFilter(change) {
  Object.assign(filter, change);
  openAll = null;
  for (const view of views.values()) {
    view.open = null;
    view.openByDefault = null;
    view.limit = PAGE_SIZE;
  }
  drawSoon(null);
  drawNow();
}
