// The frame of a table: columns, heads, body, and the button that shows further rows. The roles are
// explicit because a phone shows each row as a card, and browsers drop implied roles then.

/** Creates a table. Columns are names; `heads` are the `th` elements in the same order. */
function makeTable(label, columns, heads) {
  const body = el("tbody", { role: "rowgroup" });
  const table = el("table", { class: "list", role: "table", "aria-label": label },
    el("colgroup", {}, ...columns.map((name) => el("col", { class: `c-${name}` }))),
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads)),
    body);
  return { table, body };
}

/** Creates the head of a column. */
const makeHead = (name, ...content) => el("th", { class: `h-${name}`, role: "columnheader", scope: "col" }, ...content);

/** Creates a cell; the label is shown next to it if the row is a card. */
const makeCell = (name, label, ...content) => el("td", { class: name, role: "cell", "data-label": label }, ...content);

/** Creates a row. */
const makeRow = (...cells) => el("tr", { role: "row" }, ...cells);

/** A button below a table that shows the next portion of rows. */
class MoreButton {
  constructor(portion, onClick) {
    this.portion = portion;
    this.element = el("button", { type: "button", class: "rest", hidden: "" });
    this.element.addEventListener("click", onClick);
  }

  /** Shows how many rows are left; hidden if there are none. */
  update(left) {
    this.element.hidden = left === 0;
    setText(this.element, `Show ${count(Math.min(left, this.portion))} more of ${count(left)}`);
  }
}
