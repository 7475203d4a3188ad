// The list of services, and drawing it: only what changed, and only rows of services that are open,
// so that ten thousand instances cost no more than those that are looked at.

// Rows that a service shows before it is asked for more.
const ROWS_AT_ONCE = 100;
// With no more instances than this in all, services are open from the start.
const OPEN_BY_THEMSELVES = 60;
// With more instances than this in all, they are not opened all at once.
const EXPAND_AT_MOST = 2000;
// Events are drawn together, this many milliseconds after the first.
const DRAW_AFTER = 80;
const COLUMNS = [
  ["state", "State"], ["instance", "Instance"], ["weight", "Weight"], ["zone", "Zone"], ["version", "Version"],
  ["metadata", "Metadata"], ["seen", "Last heartbeat"], ["age", "Age"], ["act", "Action"],
];

const views = new Map();
let drawTimer = null;
let drawAfter = DRAW_AFTER;
let dirty = new Set();
let allDirty = true;
// What was chosen for all services at once; null: by how many there are.
let openAll = null;

class ServiceView {
  constructor(name) {
    this.name = name;
    // What was clicked; null: nothing yet.
    this.open = null;
    this.openByDefault = null;
    this.limit = ROWS_AT_ONCE;
    this.rows = new Map();
    this.meter = el("span", { class: "meter", "aria-hidden": "true" });
    this.tallies = el("span", { class: "tallies" });
    const label = name === "" ? el("span", { class: "name plain" }, "plain list of servers (~)") : el("span", { class: "name" }, name);
    this.head = el("button", { type: "button", class: "head", "aria-expanded": "false" }, label, this.tallies, this.meter);
    this.head.addEventListener("click", () => {
      this.open = this.head.getAttribute("aria-expanded") !== "true";
      this.limit = ROWS_AT_ONCE;
      drawSoon([this.name]);
      drawNow();
    });
    this.element = el("section", { class: "service", "data-service": name }, el("h2", {}, this.head));
    this.table = null;
  }

  /** Draws what the filter leaves of the service; returns how many instances that is. */
  draw(service) {
    const total = service.instances.size;
    const found = isFiltered() ? service.sorted().filter(matches) : null;
    const number = found ? found.length : total;
    this.element.hidden = number === 0;
    this.drawTallies(service.tallies(), total, number);
    const open = this.isOpen() && number > 0;
    setAttribute(this.head, "aria-expanded", String(open));
    // What is closed is not even put in order.
    if (open) this.drawRows(found ?? service.sorted());
    else this.close();
    return number;
  }

  isOpen() {
    return this.open ?? this.openByDefault;
  }

  drawTallies(tallies, total, found) {
    const text = JSON.stringify([tallies, total, found]);
    if (text === this.talliesText) return;
    this.talliesText = text;
    const parts = STATES.filter((state) => tallies[state] > 0);
    const shown = found < total ? [el("span", {}, `${count(found)} of ${count(total)} shown`)] : [];
    this.tallies.replaceChildren(...shown, ...parts.map((state) => el("span", { class: state }, `${count(tallies[state])} ${state}`)));
    this.meter.replaceChildren(...parts.map((state) => {
      const part = el("i", { class: state });
      part.style.flexGrow = String(tallies[state]);
      return part;
    }));
  }

  drawRows(found) {
    if (!this.table) this.makeTable();
    const shown = found.slice(0, this.limit);
    const wanted = new Set(shown.map((instance) => instance.id));
    for (const [id, row] of this.rows) {
      if (!wanted.has(id)) {
        row.remove();
        this.rows.delete(id);
      }
    }
    // What stays is never moved, so that focus stays.
    let next = this.body.firstElementChild;
    for (const instance of shown) {
      let row = this.rows.get(instance.id);
      if (row) row.update(instance);
      else {
        row = new Row(instance);
        this.rows.set(instance.id, row);
      }
      if (row.element === next) next = next.nextElementSibling;
      else this.body.insertBefore(row.element, next);
    }
    const left = found.length - shown.length;
    this.rest.hidden = left === 0;
    setText(this.rest, `Show ${count(Math.min(left, ROWS_AT_ONCE))} more of ${count(left)}`);
  }

  makeTable() {
    this.body = el("tbody", { role: "rowgroup" });
    this.table = el("table", { role: "table", "aria-label": `Instances of ${this.name || "the plain list"}` },
      el("colgroup", {}, ...COLUMNS.map(([name]) => el("col", { class: `c-${name}` }))),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
        ...COLUMNS.map(([name, title]) => el("th", { class: `h-${name}`, role: "columnheader", scope: "col" }, title)))),
      this.body);
    this.rest = el("button", { type: "button", class: "rest" });
    this.rest.addEventListener("click", () => {
      this.limit += ROWS_AT_ONCE;
      drawSoon([this.name]);
      drawNow();
    });
    this.element.append(this.table, this.rest);
  }

  close() {
    if (!this.table) return;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.table.remove();
    this.rest.remove();
    this.table = null;
  }

  remove() {
    this.close();
    this.element.remove();
  }
}

/** Has these services drawn again soon; null: all. */
function drawSoon(names) {
  if (names === null) allDirty = true;
  else for (const name of names) dirty.add(name);
  drawTimer ??= setTimeout(drawNow, drawAfter);
}

function drawNow() {
  clearTimeout(drawTimer);
  drawTimer = null;
  const begun = performance.now();
  const all = drawCounts();
  // A service that came or went, or another filter, is a matter of the whole list.
  if (allDirty || [...dirty].some((name) => services.has(name) !== views.has(name))) drawList(all);
  else for (const name of dirty) if (services.has(name)) views.get(name).draw(services.get(name));
  drawExpandAll(all);
  dirty = new Set();
  allDirty = false;
  // Drawing takes a fifth of the time at most, however many events there are.
  drawAfter = Math.max(DRAW_AFTER, 4 * (performance.now() - begun));
}

const isFiltered = () => filter.words.length > 0 || filter.only !== "";

function drawList(all) {
  for (const [name, view] of views) {
    if (!services.has(name)) {
      view.remove();
      views.delete(name);
    }
  }
  const list = byId("services");
  let next = list.firstElementChild;
  let shown = 0;
  for (const service of servicesByName()) {
    let view = views.get(service.name);
    if (!view) views.set(service.name, (view = new ServiceView(service.name)));
    // With a filter, what is found is opened, until there is enough on the page. Without one, it is
    // decided once: a list does not close because another one grew.
    if (isFiltered()) view.openByDefault = openAll ?? shown < ROWS_AT_ONCE;
    else view.openByDefault = openAll ?? view.openByDefault ?? all <= OPEN_BY_THEMSELVES;
    shown += view.draw(service);
    if (view.element === next) next = next.nextElementSibling;
    else list.insertBefore(view.element, next);
  }
  drawEmpty(shown > 0, all);
}

function drawEmpty(anything, all) {
  byId("empty").hidden = anything || !everHeard;
  setText(byId("empty"), all > 0
    ? "Nothing here matches the filter."
    : `No instance is registered yet.\n\ncurl -X POST -H 'X-Farcall-Server: tcp@127.0.0.1:7001' ${new URL("registry", document.baseURI)}`);
}

/** Draws the numbers at the top; returns how many instances there are. */
function drawCounts() {
  const counts = { all: 0, up: 0, draining: 0, stale: 0 };
  for (const service of services.values()) {
    counts.all += service.instances.size;
    const tallies = service.tallies();
    for (const state of STATES) counts[state] += tallies[state];
  }
  for (const [name, number] of Object.entries(counts)) {
    const shown = byId(`count-${name}`);
    setText(shown, count(number));
    shown.parentElement.classList.toggle("none", number === 0);
  }
  setText(byId("count-services"), count(services.size));
  setText(byId("count-services-word"), services.size === 1 ? "service" : "services");
  return counts.all;
}

const isAnyOpen = () => [...views.values()].some((view) => view.table);

function drawExpandAll(all) {
  const anyOpen = isAnyOpen();
  byId("expand-all").hidden = services.size < 2 || (!anyOpen && all > EXPAND_AT_MOST);
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
    view.limit = ROWS_AT_ONCE;
  }
  drawSoon(null);
  drawNow();
}
