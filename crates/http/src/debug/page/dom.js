// Small things for the document, for numbers and for time. All text goes in as text nodes: nothing
// that a caller or a method says of itself is ever parsed as HTML (the page's policy forbids it, too).

const byId = (id) => document.getElementById(id);

/** An element with these attributes and children; children are elements or text. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for a part of a drawing. */
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Sets the text where it differs: a selection or a screen reader is not disturbed for nothing. */
function setText(element, text) {
  // The text node itself stays, so that a selection in it does.
  if (element.firstChild?.nodeType === Node.TEXT_NODE && element.childNodes.length === 1) {
    if (element.firstChild.data !== text) element.firstChild.data = text;
  } else if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Puts the element before another one of the same parent; it keeps its focus where the browser can do that. */
function place(parent, element, next) {
  if (parent.moveBefore && element.parentNode === parent) parent.moveBefore(element, next);
  else parent.insertBefore(element, next);
}

/** Has these children in this order, and moves only those that stand elsewhere. */
function arrange(parent, elements) {
  const wanted = new Set(elements);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const element of elements) {
    if (element === next) next = next.nextElementSibling;
    else place(parent, element, next);
  }
}

/** A whole number as people read it: 10,000. */
const count = (number) => number.toLocaleString("en");
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** So many a second. */
function rate(perSecond) {
  if (perSecond === 0) return "0";
  if (perSecond < 0.1) return "<0.1";
  if (perSecond < 9.95) return perSecond.toFixed(1);
  return count(Math.round(perSecond));
}

/** A part of a whole: "0.4%". */
function percent(part, whole) {
  if (part === 0 || whole === 0) return "0%";
  const of100 = (100 * part) / whole;
  if (of100 < 0.1) return "<0.1%";
  // What is not all of it is not told as if it were.
  if (of100 > 99.9 && part < whole) return ">99.9%";
  return of100 < 9.95 ? `${of100.toFixed(1)}%` : `${Math.round(of100)}%`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
function bytes(number) {
  let unit = 0;
  while (number >= 1024 && unit < UNITS.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${unit === 0 || number >= 100 || Number.isInteger(number) ? Math.round(number) : number.toFixed(1)} ${UNITS[unit]}`;
}

/** How long something took, as exactly as it matters: "230 µs", "1.2 ms", "3.4 s". */
function took(microseconds) {
  if (microseconds < 999.5) return `${Math.round(microseconds)} µs`;
  const milliseconds = microseconds / 1000;
  if (milliseconds < 9.95) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59950) return `${(milliseconds / 1000).toFixed(1)} s`;
  return duration(milliseconds);
}

const MINUTE = 60, HOUR = 60 * MINUTE, DAY = 24 * HOUR;

/** A length of time in words: "12 s", "4 min", "3 h 20 min", "5 d". */
function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < MINUTE) return `${seconds} s`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min`;
  if (seconds < DAY) {
    const minutes = Math.floor((seconds % HOUR) / MINUTE);
    return `${Math.floor(seconds / HOUR)} h` + (minutes ? ` ${minutes} min` : "");
  }
  return `${count(Math.floor(seconds / DAY))} d`;
}

/** A length of time as somebody has set it, without rounding: "90 s", "5 min". */
function setting(milliseconds) {
  if (milliseconds >= 60000 && milliseconds % 60000 === 0) return `${count(milliseconds / 60000)} min`;
  return milliseconds % 1000 === 0 ? `${count(milliseconds / 1000)} s` : `${count(milliseconds)} ms`;
}

const clockTime = (milliseconds) => new Date(milliseconds).toLocaleTimeString("en-GB");

// The server's clock minus this machine's: what happened is told by the server's.
let clockOffset = 0;

function noteClock(response) {
  const date = Date.parse(response.headers.get("date") ?? "");
  // The header has whole seconds, so half a second is added on average; less than that is no difference.
  if (!Number.isNaN(date)) clockOffset = Math.abs(date + 500 - Date.now()) < 2000 ? 0 : date + 500 - Date.now();
}

const serverNow = () => Date.now() + clockOffset;
const collator = new Intl.Collator("en", { numeric: true });
const compare = (a, b) => collator.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);
