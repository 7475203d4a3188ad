// A table that is updated in place: rows keep their elements, so that the focus, a selection and open
// details survive updates. It can be sorted by its heads and filtered, and is shown in portions.

/** The words of the filter, all of which a row's text must contain. */
let filterWords = [];
const matches = (text) => filterWords.every((word) => text.includes(word));

// Rows that a click adds.
const PORTION = 100;

/**
 * A column: { name, title, label (in cards, if it differs), sortKey, descending (first direction of
 * sorting), text (the text of a cell for an item) or create (() => { nodes, update }) }.
 */
class SortableTable {
  constructor({ label, columns, keyOf, searchText, limit = 25, sort = null, empty, detail = null }) {
    Object.assign(this, { label, columns, keyOf, searchText, limit, sort, detail });
    this.items = [];
    this.rows = new Map();
    this.open = new Set();
    this.heads = new Map(columns.map((column) => [column.name, this.createHead(column)]));
    Object.assign(this, makeTable(label, columns.map(({ name }) => name), [...this.heads.values()]));
    this.empty = el("p", { class: "empty" });
    this.emptyText = empty;
    this.more = new MoreButton(PORTION, () => {
      this.limit += PORTION;
      this.draw();
    });
    this.element = el("div", { class: "listed" }, this.createSortSelect(), this.table, this.empty, this.more.element);
    this.showSort();
  }

  createHead({ name, title, sortKey, descending }) {
    if (!sortKey) return makeHead(name, title);
    const button = el("button", { type: "button" }, title);
    button.addEventListener("click", () => {
      const same = this.sort?.name === name;
      this.sortBy(name, same ? !this.sort.descending : Boolean(descending));
    });
    return makeHead(name, button);
  }

  /** Creates the control for sorting on a phone, which shows no heads. */
  createSortSelect() {
    const sortable = this.columns.filter(({ sortKey }) => sortKey);
    this.sortSelect = el("select", {}, ...(this.sort ? [] : [el("option", { value: "" }, "the server's order")]),
      ...sortable.map(({ name, title, label }) => el("option", { value: name }, (label ?? title).toLowerCase())));
    this.sortSelect.addEventListener("change", () => {
      const column = this.columns.find(({ name }) => name === this.sortSelect.value);
      if (column) this.sortBy(column.name, Boolean(column.descending));
      else this.sortBy(null);
    });
    return el("label", { class: "choice" }, "Sorted by ", this.sortSelect);
  }

  sortBy(name, descending) {
    this.sort = name === null ? null : { name, descending };
    this.showSort();
    this.draw({ forced: true });
  }

  showSort() {
    for (const [name, head] of this.heads) {
      const sorted = this.sort?.name === name;
      setAttribute(head, "aria-sort", sorted ? (this.sort.descending ? "descending" : "ascending") : null);
    }
    this.sortSelect.value = this.sort?.name ?? "";
  }

  /** Draws the items that match the filter; returns how many there are. */
  draw({ items = this.items, forced = false } = {}) {
    this.items = items;
    const found = this.sorted(filterWords.length > 0 ? items.filter((item) => matches(this.searchText(item))) : items);
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
    this.more.update(found.length - shown.length);
    return found.length;
  }

  sorted(items) {
    if (!this.sort) return items;
    const { name, descending } = this.sort;
    const { sortKey } = this.columns.find((column) => column.name === name);
    const direction = descending ? -1 : 1;
    return items.map((item) => [sortKey(item), this.keyOf(item), item])
      .sort(([a, x], [b, y]) => direction * (typeof a === "number" && typeof b === "number" ? a - b : compare(String(a), String(b))) || compare(x, y))
      .map(([, , item]) => item);
  }

  /** The items to show. Rows keep their places under the pointer and while one has the focus. */
  portion(found, forced) {
    const isHeld = !forced && this.sort && this.rows.size > 0 && (this.body.matches(":hover") || this.body.contains(document.activeElement));
    if (!isHeld) return found.slice(0, this.limit);
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

let rowCount = 0;

/** A row (a card on a phone), and the details below it if it is open. */
class Row {
  constructor(table, key) {
    this.table = table;
    this.key = key;
    this.id = `row-${(rowCount += 1)}`;
    this.cells = table.columns.map((column) => {
      const { name, title, label = title } = column;
      const cell = makeCell(name, label);
      if (!column.create) return { cell, update: (item) => setText(cell, column.text(item)) };
      const content = column.create(this);
      cell.append(...content.nodes);
      return { cell, update: (item) => content.update(item, cell) };
    });
    this.element = makeRow(...this.cells.map(({ cell }) => cell));
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
      this.detailCell = el("td", { role: "cell" }, this.detail.element);
      this.detailRow = el("tr", { class: "detail", role: "row", id: this.id }, this.detailCell);
    }
    // As wide as the visible columns: more would create empty ones.
    setAttribute(this.detailCell, "colspan", this.table.columnsShown());
    this.detail.update(item);
  }

  elements() {
    return this.detail ? [this.element, this.detailRow] : [this.element];
  }
}
