// A table that is kept and updated in place: rows stay the elements that they are, so that focus,
// selection and what is open survive; it is sorted by its heads, filtered, and shown in portions.

/** The words that are looked for, each somewhere in what a row tells. */
let words = [];
const matches = (haystack) => words.every((word) => haystack.includes(word));

// Further rows that a click shows.
const MORE_ROWS = 100;

/**
 * A column: { name, title, label (on a phone, where it differs), by (what it is sorted by), down
 * (sorted from the top first), text (what a cell says of an item) or make (() => { nodes, update }) }.
 */
class Table {
  constructor({ label, columns, keyOf, haystackOf, limit = 25, sort = null, empty, detail = null }) {
    Object.assign(this, { label, columns, keyOf, haystackOf, limit, sort, detail });
    this.items = [];
    this.rows = new Map();
    this.open = new Set();
    this.heads = new Map(columns.map((column) => [column.name, this.makeHead(column)]));
    this.body = el("tbody", { role: "rowgroup" });
    this.table = el("table", { role: "table", "aria-label": label },
      el("colgroup", {}, ...columns.map(({ name }) => el("col", { class: `c-${name}` }))),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...this.heads.values())),
      this.body);
    this.empty = el("p", { class: "empty" });
    this.emptyText = empty;
    this.rest = el("button", { type: "button", class: "rest", hidden: "" });
    this.rest.addEventListener("click", () => {
      this.limit += MORE_ROWS;
      this.draw();
    });
    this.element = el("div", { class: "listed" }, this.makeChoice(), this.table, this.empty, this.rest);
    this.showSort();
  }

  makeHead(column) {
    const { name, title, by } = column;
    const head = el("th", { class: `h-${name}`, role: "columnheader", scope: "col" });
    if (!by) {
      head.append(title);
      return head;
    }
    const button = el("button", { type: "button" }, title);
    button.addEventListener("click", () => {
      const same = this.sort?.name === name;
      this.sortBy(name, same ? !this.sort.down : Boolean(column.down));
    });
    head.append(button);
    return head;
  }

  /** The same choice where there is no room for heads. */
  makeChoice() {
    const sortable = this.columns.filter(({ by }) => by);
    this.choice = el("select", {}, ...(this.sort ? [] : [el("option", { value: "" }, "as they come")]),
      ...sortable.map(({ name, title, label }) => el("option", { value: name }, (label ?? title).toLowerCase())));
    this.choice.addEventListener("change", () => {
      const column = this.columns.find(({ name }) => name === this.choice.value);
      if (column) this.sortBy(column.name, Boolean(column.down));
      else this.sortBy(null);
    });
    return el("label", { class: "choice" }, "Sorted by ", this.choice);
  }

  sortBy(name, down) {
    this.sort = name === null ? null : { name, down };
    this.showSort();
    this.draw({ forced: true });
  }

  showSort() {
    for (const [name, head] of this.heads) {
      const sorted = this.sort?.name === name;
      setAttribute(head, "aria-sort", sorted ? (this.sort.down ? "descending" : "ascending") : null);
    }
    this.choice.value = this.sort?.name ?? "";
  }

  /** Draws what the filter leaves of the items; returns how many that is. */
  draw({ items = this.items, forced = false } = {}) {
    this.items = items;
    const found = this.sorted(words.length > 0 ? items.filter((item) => matches(this.haystackOf(item))) : items);
    const shown = this.portion(found, forced);
    const elements = [];
    const present = new Set();
    for (const item of shown) {
      const key = this.keyOf(item);
      if (present.has(key)) continue;
      present.add(key);
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, (row = new Row(this, key)));
      row.update(item);
      elements.push(...row.elements());
    }
    for (const key of this.rows.keys()) if (!present.has(key)) this.rows.delete(key);
    arrange(this.body, elements);
    this.table.hidden = found.length === 0;
    this.empty.hidden = found.length > 0;
    setText(this.empty, items.length > 0 ? "Nothing here matches the filter." : this.emptyText);
    this.element.classList.toggle("short", found.length < 2);
    const left = found.length - shown.length;
    this.rest.hidden = left === 0;
    setText(this.rest, `Show ${count(Math.min(left, MORE_ROWS))} more of ${count(left)}`);
    return found.length;
  }

  sorted(items) {
    if (!this.sort) return items;
    const { name, down } = this.sort;
    const { by } = this.columns.find((column) => column.name === name);
    const direction = down ? -1 : 1;
    return items.map((item) => [by(item), this.keyOf(item), item])
      .sort(([a, x], [b, y]) => direction * (typeof a === "number" && typeof b === "number" ? a - b : compare(String(a), String(b))) || compare(x, y))
      .map(([, , item]) => item);
  }

  /** What there is room for. Under the pointer and around the focus rows do not change places. */
  portion(found, forced) {
    const held = !forced && this.sort && this.rows.size > 0 && (this.body.matches(":hover") || this.body.contains(document.activeElement));
    if (!held) return found.slice(0, this.limit);
    const byKey = new Map(found.map((item) => [this.keyOf(item), item]));
    const shown = [];
    for (const key of this.keysInOrder()) {
      if (byKey.has(key)) shown.push(byKey.get(key));
      byKey.delete(key);
    }
    shown.push(...[...byKey.values()].slice(0, Math.max(0, this.limit - shown.length)));
    return shown.slice(0, this.limit);
  }

  keysInOrder() {
    const keyOf = new Map([...this.rows].map(([key, row]) => [row.element, key]));
    return [...this.body.children].map((element) => keyOf.get(element)).filter((key) => key !== undefined);
  }

  columnsShown() {
    return [...this.heads.values()].filter((head) => getComputedStyle(head).display !== "none").length;
  }

  toggle(key) {
    if (!this.open.delete(key)) this.open.add(key);
    this.draw();
  }
}

let rowsMade = 0;

/** A row, a card on a phone, and what is told in detail below it where it is open. */
class Row {
  constructor(table, key) {
    this.table = table;
    this.key = key;
    this.id = `row-${(rowsMade += 1)}`;
    this.cells = table.columns.map((column) => {
      const { name, title, label = title } = column;
      const cell = el("td", { class: name, role: "cell", "data-label": label });
      if (!column.make) return { cell, update: (item) => setText(cell, column.text(item)) };
      const made = column.make(this);
      cell.append(...made.nodes);
      return { cell, update: (item) => made.update(item, cell) };
    });
    this.element = el("tr", { role: "row" }, ...this.cells.map(({ cell }) => cell));
  }

  get isOpen() {
    return this.table.open.has(this.key);
  }

  update(item) {
    for (const { update } of this.cells) update(item);
    this.element.classList.toggle("open", this.isOpen);
    if (!this.isOpen) {
      this.detail = null;
      return;
    }
    if (!this.detail) {
      this.detail = this.table.detail();
      this.whole = el("td", { role: "cell" }, this.detail.element);
      this.below = el("tr", { class: "detail", role: "row", id: this.id }, this.whole);
    }
    // As wide as what there is room for: more would make columns that nothing is in.
    setAttribute(this.whole, "colspan", this.table.columnsShown());
    this.detail.update(item);
  }

  elements() {
    return this.detail ? [this.element, this.below] : [this.element];
  }
}
