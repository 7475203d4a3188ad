// The methods: descriptions, counters, and the last ten minutes.

// The period that the columns show: "last_minute" or "total".
let period = "last_minute";
const periodOf = (method) => method[period];

const historyOf = (method) => model.histories.get(method.name) ?? [];
const perSecondOf = (history, field) => history.map((step) => step[field] / STEP_S);
// Without calls there is no latency, not one of zero.
const latencyOf = (history, field) => history.map((step) => (step.calls > 0 ? step[field] : null));
const latency = (field) => ({ sortKey: (method) => periodOf(method)[field], descending: true, text: (method) => (periodOf(method).calls > 0 ? latencyText(periodOf(method)[field]) : "–") });

const RATE_SERIES = [{ name: "calls", title: "calls/s", area: true }, { name: "errors", title: "errors/s", area: true }];
const LATENCY_SERIES = [{ name: "p99", title: "p99", area: false }, { name: "p50", title: "p50", area: false }];

const methodTable = new SortableTable({
  label: "Methods",
  keyOf: ({ name }) => name,
  searchText: (method) => `${method.name}\n${model.descriptions.get(method.name)?.doc ?? ""}\n${Object.keys(method.total.errors).join("\n")}`.toLowerCase(),
  sort: { name: "method", descending: false },
  limit: 50,
  empty: "This server has no methods.",
  detail: () => new MethodDetail(),
  columns: [
    { name: "method", title: "Method", sortKey: ({ name }) => name, create: createMethodCell },
    {
      name: "trend", title: "Calls, 10 min", create: () => {
        const spark = new Sparkline(RATE_SERIES);
        return { nodes: [spark.element], update: (method) => {
          const history = historyOf(method);
          const lists = [perSecondOf(history, "calls"), perSecondOf(history, "errors")];
          spark.draw(lists, `In the last ten minutes at most ${rate(maximum(lists[0]))} calls/s and ${rate(maximum(lists[1]))} errors/s`);
        } };
      },
    },
    { name: "rate", title: "Calls/s", sortKey: (method) => periodOf(method).calls_per_s, descending: true, text: (method) => rate(periodOf(method).calls_per_s) },
    { name: "calls-count", title: "Calls", sortKey: (method) => periodOf(method).calls, descending: true, text: (method) => count(periodOf(method).calls) },
    { name: "failures", title: "Errors", sortKey: (method) => errorsOf(periodOf(method)), descending: true, create: createErrorsCell },
    { name: "flight", title: "In flight", sortKey: (method) => method.in_flight, descending: true, text: (method) => count(method.in_flight) },
    { name: "latency-trend", title: "Latency, 10 min", create: () => {
      const spark = new Sparkline(LATENCY_SERIES);
      return { nodes: [spark.element], update: (method) => {
        const history = historyOf(method);
        const lists = [latencyOf(history, "p99_us"), latencyOf(history, "p50_us")];
        spark.draw(lists, `In the last ten minutes p50 at most ${latencyText(maximum(lists[1]))}, p99 at most ${latencyText(maximum(lists[0]))}`);
      } };
    } },
    { name: "p50", title: "p50", ...latency("p50_us") },
    { name: "p90", title: "p90", ...latency("p90_us") },
    { name: "p99", title: "p99", ...latency("p99_us") },
    { name: "max", title: "Max", ...latency("max_us") },
  ],
});

function createMethodCell(row) {
  const service = el("span", { class: "service-name" });
  const name = el("span", { class: "method-name" });
  const doc = el("span", { class: "doc" });
  const button = el("button", { type: "button", class: "opener", "aria-controls": row.id }, el("span", { class: "full-name" }, service, name), doc);
  button.addEventListener("click", () => row.table.toggle(row.key));
  return { nodes: [button], update: (method) => {
    const dot = method.name.lastIndexOf(".") + 1;
    setText(service, method.name.slice(0, dot));
    setText(name, method.name.slice(dot));
    setText(doc, firstLine(model.descriptions.get(method.name)?.doc ?? ""));
    setAttribute(button, "aria-expanded", String(row.isOpen));
  } };
}

function createErrorsCell() {
  const number = el("span", {});
  const part = el("small", {});
  return { nodes: [number, part], update: (method, cell) => {
    const stats = periodOf(method);
    const failed = errorsOf(stats);
    setText(number, count(failed));
    setText(part, failed > 0 ? percent(failed, stats.calls) : "");
    cell.classList.toggle("some", failed > 0);
    setAttribute(cell, "title", failed > 0 ? codesText(stats.errors) : null);
  } };
}

const firstLine = (text) => text.trim().split("\n", 1)[0];
const byNumber = (codes) => Object.entries(codes).sort(([a, x], [b, y]) => y - x || compare(a, b));
const codesText = (codes) => byNumber(codes).map(([code, number]) => `${code} ${count(number)}`).join(", ");

/** The details of a method, shown while its row is open. */
class MethodDetail {
  constructor() {
    this.signature = el("code", { class: "signature" });
    this.marks = el("span", { class: "marks" });
    this.doc = el("p", { class: "whole-doc" });
    this.example = el("code", { class: "example" });
    this.copy = el("button", { type: "button", class: "copy-example" }, "Copy");
    this.copy.addEventListener("click", () => copyText(this.example));
    this.call = el("p", { class: "example-call" }, this.example, " ", this.copy);
    this.rate = new Chart("Calls a second", RATE_SERIES, rate);
    this.latency = new Chart("Latency", LATENCY_SERIES, latencyText);
    this.spans = el("table", { class: "spans" });
    this.cells = this.makeSpans();
    this.codes = el("ul", { class: "codes" });
    this.element = el("div", { class: "in-detail" },
      el("div", { class: "about-method" }, this.signature, this.marks, this.doc, this.call),
      el("div", { class: "charts" }, this.rate.element, this.latency.element),
      el("div", { class: "beside" }, this.spans, this.codes));
  }

  makeSpans() {
    const titles = ["calls", "calls/s", "errors", "p50", "p90", "p99", "max"];
    const cells = {};
    const row = (title, name) => {
      cells[name] = titles.map(() => el("td", {}));
      return el("tr", {}, el("th", { scope: "row" }, title), ...cells[name]);
    };
    this.spans.append(
      el("thead", {}, el("tr", {}, el("td", {}), ...titles.map((title) => el("th", { scope: "col" }, title)))),
      el("tbody", {}, row("last minute", "last_minute"), row("since the start", "total")));
    return cells;
  }

  update(method) {
    const known = model.descriptions.get(method.name);
    setText(this.signature, signatureOf(method, known));
    setText(this.marks, [idempotence(known), streaming(known)].filter(Boolean).join("; "));
    setText(this.doc, known?.doc.trim() ?? "");
    const example = exampleOf(method, known);
    this.call.hidden = example === null;
    setText(this.example, example ?? "");
    const history = historyOf(method);
    this.rate.draw([perSecondOf(history, "calls"), perSecondOf(history, "errors")]);
    this.latency.draw([latencyOf(history, "p99_us"), latencyOf(history, "p50_us")]);
    for (const [name, cells] of Object.entries(this.cells)) {
      const { calls: number, calls_per_s: perSecond, p50_us: p50, p90_us: p90, p99_us: p99, max_us: max } = method[name];
      const times = [p50, p90, p99, max].map((time) => (number > 0 ? latencyText(time) : "–"));
      [count(number), rate(perSecond), count(errorsOf(method[name])), ...times].forEach((text, index) => setText(cells[index], text));
    }
    this.drawCodes(method);
  }

  drawCodes({ last_minute: minute, total }) {
    const lines = byNumber(total.errors).map(([code, number]) => {
      const recent = minute.errors[code] ?? 0;
      return [code, `${count(number)} in total, ${count(recent)} in the last minute`];
    });
    const text = JSON.stringify(lines);
    if (text === this.codesText) return;
    this.codesText = text;
    this.codes.replaceChildren(...lines.map(([code, line]) => el("li", {}, el("span", { class: "code" }, code), ` ${line}`)));
  }
}

/** The method's declaration: multiply(a: i64, b: i64) -> i64. */
function signatureOf({ name }, known) {
  const own = name.slice(name.lastIndexOf(".") + 1);
  if (!known) return name;
  const params = known.params.map(({ name: param, type }) => `${param}: ${type}`).join(", ");
  return `${own}(${params})${known.returns ? ` -> ${known.returns}` : ""}`;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A call that can be copied to a shell; null if the types are not known here. */
function exampleOf({ name }, known) {
  if (!model.examples.has(name)) return null;
  const args = quoted(JSON.stringify(model.examples.get(name)));
  if (known?.streaming && model.hasGateway) return streamExampleOf(name, args);
  if (model.itemExamples.has(name)) return null;
  const target = `${location.protocol === "https:" ? "https" : "http"}@${location.host}`;
  return `farcall call ${target} ${/^[\w.]+$/.test(name) ? name : quoted(name)} ${args}`;
}

/** A call of a method that streams: curl shows each item as it comes. */
function streamExampleOf(name, args) {
  const url = quoted(`${location.origin}/rpc/${encodeURIComponent(name)}`);
  if (!model.itemExamples.has(name)) return `curl -N -d ${args} ${url}`;
  const item = quoted(JSON.stringify(model.itemExamples.get(name)));
  // The arguments are the first line, and each item is a further one.
  return `printf '%s\\n' ${args} ${item} | curl -N -H 'content-type: application/x-ndjson' --data-binary @- ${url}`;
}

/** Copies the text of an element, or selects it where a page may not copy. */
function copyText(element) {
  const select = () => getSelection().selectAllChildren(element);
  if (!navigator.clipboard) return select();
  navigator.clipboard.writeText(element.textContent).catch(select);
}

/** The servers at which two calls of a method have the effect of one. */
function idempotence(known) {
  if (known?.idempotent) return "idempotent";
  if (known?.once) return "once";
  return known?.idempotent_at_same_server ? "idempotent at the same server" : "";
}

/** The items that a method takes and sends. */
function streaming(known) {
  const { in: takes, out: sends, in_type: taken, out_type: sent } = known?.streams ?? {};
  const parts = [takes ? `takes items: ${taken ?? "any"}` : "", sends ? `sends items: ${sent ?? "any"}` : ""];
  return parts.filter(Boolean).join("; ");
}

/** Creates the buttons that choose the period. */
function createPeriodChoice() {
  const buttons = [["last_minute", "Last minute"], ["total", "Since the start"]].map(([name, title]) => {
    const button = el("button", { type: "button", class: "count", "aria-pressed": String(name === period), "data-span": name }, title);
    button.addEventListener("click", () => {
      period = name;
      for (const each of buttons) setAttribute(each, "aria-pressed", String(each === button));
      methodTable.draw({ forced: true });
    });
    return button;
  });
  return el("div", { class: "counts", role: "group", "aria-label": "Period of the numbers" }, ...buttons);
}
