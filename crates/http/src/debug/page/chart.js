// Charts: sparklines, and large charts with axes and a readout at the pointer.

// The number of buckets of a history, and the length of one in seconds, as the server keeps them.
const STEPS = 120;
const STEP_S = 5;

/** The x position of a value: values are aligned to the right end. */
const xOf = (index, length, steps, width) => ((steps - length + index) / (steps - 1)) * width;

/** The line through values, which breaks at null. */
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
    // A single value is a dot: a line without length, with round ends.
    if (pen === "M" && (values[index + 1] ?? null) === null) path += "h0.01";
    pen = "L";
  });
  return path;
}

/** The area under values, none of which is null. */
function areaPath(values, steps, width, height, top) {
  if (values.length === 0) return "";
  const first = xOf(0, values.length, steps, width).toFixed(1);
  return `${linePath(values, steps, width, height, top)}L${width} ${height}L${first} ${height}Z`;
}

const maximum = (values) => values.reduce((max, value) => Math.max(max, value ?? 0), 0);

/** A chart without text. `series`: { name: CSS class, area: true if it is filled }. */
class Sparkline {
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

  /** Draws one list of values per series, on one scale. */
  draw(lists, label, { steps = STEPS, top = Math.max(...lists.map(maximum)) || 1 } = {}) {
    lists.forEach((values, index) => {
      const { area, line } = this.parts[index];
      // A second series of zeros is not drawn: it would look like an error.
      const shown = index > 0 && maximum(values) === 0 ? [] : values;
      if (area) setAttribute(area, "d", areaPath(shown, steps, this.width, this.height, top));
      setAttribute(line, "d", linePath(shown, steps, this.width, this.height, top));
    });
    setAttribute(this.element, "aria-label", label);
  }
}

/** The next round number for the top of an axis: 1, 2 or 5 times a power of ten. */
function roundedTop(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((top) => top >= value * 0.999);
}

/** A chart of the last ten minutes with axes. `series`: { name, title, area }; `format` formats a value. */
class Chart {
  constructor(title, series, format) {
    Object.assign(this, { title, series, format, lists: [] });
    this.spark = new Sparkline(series, { width: 600, height: 120 });
    this.readout = el("span", { class: "readout" });
    this.top = el("span", {});
    this.middle = el("span", {});
    this.crosshair = el("i", { class: "cross", hidden: "" });
    this.plot = el("div", { class: "plot" }, this.spark.element, this.crosshair);
    const legend = series.map(({ name, title: text }) => el("span", { class: `key ${name}` }, text));
    this.element = el("figure", { class: "chart" },
      el("figcaption", {}, el("b", {}, title), ...legend, this.readout),
      el("div", { class: "axes" }, el("div", { class: "y", "aria-hidden": "true" }, this.top, this.middle, el("span", {}, "0")), this.plot),
      el("div", { class: "x", "aria-hidden": "true" }, el("span", {}, "10 min ago"), el("span", {}, "5 min"), el("span", {}, "now")));
    this.plot.addEventListener("pointermove", (event) => this.showReadout(event));
    this.plot.addEventListener("pointerdown", (event) => this.showReadout(event));
    this.plot.addEventListener("pointerleave", () => this.hideReadout());
  }

  draw(lists) {
    this.lists = lists;
    const top = roundedTop(Math.max(...lists.map(maximum)));
    setText(this.top, this.format(top));
    setText(this.middle, this.format(top / 2));
    const maxima = this.series.map(({ title }, index) => `${title} at most ${this.format(maximum(lists[index]))}`);
    this.spark.draw(lists, `${this.title} over the last ten minutes: ${maxima.join(", ")}`, { top });
    if (this.index !== undefined) this.updateReadout();
  }

  /** Shows the values at the pointer. */
  showReadout(event) {
    const { left, width } = this.plot.getBoundingClientRect();
    this.index = Math.min(STEPS - 1, Math.max(0, Math.round(((event.clientX - left) / width) * (STEPS - 1))));
    this.crosshair.hidden = false;
    this.crosshair.style.left = `${(this.index / (STEPS - 1)) * 100}%`;
    this.updateReadout();
  }

  hideReadout() {
    this.index = undefined;
    this.crosshair.hidden = true;
    setText(this.readout, "");
  }

  updateReadout() {
    const ago = (STEPS - 1 - this.index) * STEP_S;
    const values = this.series.map(({ title }, index) => {
      const list = this.lists[index];
      const value = list[this.index - (STEPS - list.length)];
      return value === undefined || value === null ? null : `${title} ${this.format(value)}`;
    }).filter(Boolean);
    const when = ago === 0 ? "now" : `${Math.floor(ago / 60)}:${String(ago % 60).padStart(2, "0")} min ago`;
    setText(this.readout, `${when}: ${values.join(", ") || "no calls"}`);
  }
}
