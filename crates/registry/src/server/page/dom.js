// Small things for the document and for time. All text goes in as text nodes: nothing that an
// instance says of itself is ever parsed as HTML (the page's policy forbids it, too).

const byId = (id) => document.getElementById(id);

/** An element with these attributes and children; children are elements or text. */
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Sets the text where it differs: a selection or a screen reader is not disturbed for nothing. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** A number as people read it: 10,000. */
const count = (number) => number.toLocaleString("en");

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

// The registry's clock minus this machine's: ages are told by the registry's.
let clockOffset = 0;

function noteClock(response) {
  const date = Date.parse(response.headers.get("date") ?? "");
  // The header has whole seconds, so half a second is added on average.
  if (!Number.isNaN(date)) clockOffset = date + 500 - Date.now();
}

const registryNow = () => Date.now() + clockOffset;

function toast(text, bad = false) {
  const shown = el("div", { class: bad ? "toast bad" : "toast" }, text);
  byId("toasts").append(shown);
  while (byId("toasts").childElementCount > 4) byId("toasts").firstElementChild.remove();
  setTimeout(() => shown.remove(), bad ? 12000 : 4000);
}
