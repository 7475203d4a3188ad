// Charts: small ones without words, and large ones with axes and a reading under the pointer.

// The steps of a history, and the length of one in seconds, as the server keeps them.
const STEPS = 120;
const STEP_S = 5;

/** The values at the right end of so many steps; before them there is nothing. */
const xOf = (index, length, steps, width) => ((steps - length + index) / (steps - 1)) * width;

/** The outline of values: a line that breaks where there is none (null). */
function linePath(values, steps, width, height, top) {
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const x = xOf(index, values.length, steps, width).toFixed(1);
    path += `${pen}${x} ${(height - (value / top) * height).toFixed(1)}`;
    // A single value is a dot: a line of no length with round ends.
    if (pen === "M" && (values[index + 1] ?? null) === null) path += "h0.01";
    pen = "L";
  });
  return path;
}

/** The area under values that are never null. */
function areaPath(values, steps, width, height, top) {
  if (values.length === 0) return "";
  const first = xOf(0, values.length, steps, width).toFixed(1);
  return `${linePath(values, steps, width, height, top)}L${width} ${height}L${first} ${height}Z`;
}

const greatest = (values) => values.reduce((most, value) => Math.max(most, value ?? 0), 0);

/** A chart without words. `series`: { name: class, area: whether it is filled }. */
class Spark {
  constructor(series, { width = 120, height = 26 } = {}) {
    Object.assign(this, { width, height });
    this.parts = series.map(({ name, area }) => ({
      area: area ? svg("path", { class: `area ${name}` }) : null,
      line: svg("path", { class: `line ${name}` }),
    }));
    this.element = svg("svg", {
      class: "spark", viewBox: `0 -1 ${width} ${height + 2}`, preserveAspectRatio: "none", role: "img", "aria-label": "",
    }, ...this.parts.flatMap(({ area, line }) => (area ? [area, line] : [line])));
  }

  /** Draws one list of values for each series, on one scale. */
  draw(lists, label, { steps = STEPS, top = Math.max(...lists.map(greatest)) || 1 } = {}) {
    lists.forEach((values, index) => {
      const { area, line } = this.parts[index];
      // What is zero throughout is not drawn: nothing is wrong.
      const shown = index > 0 && greatest(values) === 0 ? [] : values;
      if (area) setAttribute(area, "d", areaPath(shown, steps, this.width, this.height, top));
      setAttribute(line, "d", linePath(shown, steps, this.width, this.height, top));
    });
    setAttribute(this.element, "aria-label", label);
  }
}

/** The next number that people like for the top of an axis: 1, 2 or 5 with zeros. */
function niceTop(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((top) => top >= value * 0.999);
}

/** A chart of the last minutes with axes. `series`: { name, title, area }; `unit` writes a value. */
class Chart {
  constructor(title, series, unit) {
    Object.assign(this, { title, series, unit, lists: [] });
    this.spark = new Spark(series, { width: 600, height: 120 });
    this.reading = el("span", { class: "reading" });
    this.top = el("span", {});
    this.middle = el("span", {});
    this.cross = el("i", { class: "cross", hidden: "" });
    this.plot = el("div", { class: "plot" }, this.spark.element, this.cross);
    const legend = series.map(({ name, title: text }) => el("span", { class: `key ${name}` }, text));
    this.element = el("figure", { class: "chart" },
      el("figcaption", {}, el("b", {}, title), ...legend, this.reading),
      el("div", { class: "axes" }, el("div", { class: "y", "aria-hidden": "true" }, this.top, this.middle, el("span", {}, "0")), this.plot),
      el("div", { class: "x", "aria-hidden": "true" }, el("span", {}, "10 min ago"), el("span", {}, "5 min"), el("span", {}, "now")));
    this.plot.addEventListener("pointermove", (event) => this.read(event));
    this.plot.addEventListener("pointerdown", (event) => this.read(event));
    this.plot.addEventListener("pointerleave", () => this.unread());
  }

  draw(lists) {
    this.lists = lists;
    const top = niceTop(Math.max(...lists.map(greatest)));
    setText(this.top, this.unit(top));
    setText(this.middle, this.unit(top / 2));
    const most = this.series.map(({ title }, index) => `${title} at most ${this.unit(greatest(lists[index]))}`);
    this.spark.draw(lists, `${this.title} over the last ten minutes: ${most.join(", ")}`, { top });
    if (this.at !== undefined) this.tell();
  }

  /** Tells what is under the pointer. */
  read(event) {
    const { left, width } = this.plot.getBoundingClientRect();
    this.at = Math.min(STEPS - 1, Math.max(0, Math.round(((event.clientX - left) / width) * (STEPS - 1))));
    this.cross.hidden = false;
    this.cross.style.left = `${(this.at / (STEPS - 1)) * 100}%`;
    this.tell();
  }

  unread() {
    this.at = undefined;
    this.cross.hidden = true;
    setText(this.reading, "");
  }

  tell() {
    const ago = (STEPS - 1 - this.at) * STEP_S;
    const values = this.series.map(({ title }, index) => {
      const list = this.lists[index];
      const value = list[this.at - (STEPS - list.length)];
      return value === undefined || value === null ? null : `${title} ${this.unit(value)}`;
    }).filter(Boolean);
    const when = ago === 0 ? "now" : `${Math.floor(ago / 60)}:${String(ago % 60).padStart(2, "0")} min ago`;
    setText(this.reading, `${when}: ${values.join(", ") || "no calls"}`);
  }
}
