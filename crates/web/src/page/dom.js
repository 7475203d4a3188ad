// Helpers for the document. All text is inserted as text nodes: nothing that a client, a method or an
// instance says is ever parsed as HTML (the page's policy forbids it, too).

// Characters that are not seen, or move what stands around them: two names that differ in them would look the same.
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

/** Returns a text with hidden characters escaped; ends of lines and tabs stay. */
function visible(text) {
  return String(text).replace(HIDDEN, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
}

/** Returns the value of an attribute, with hidden characters escaped if it is one that is shown. */
function shownAttribute(name, value) {
  return name === "title" || name.startsWith("aria-") ? visible(value) : value;
}

const byId = (id) => document.getElementById(id);

/** Creates an HTML element with attributes and children; children are elements or text. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Creates an SVG element. */
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(name, shownAttribute(name, value));
  }
  element.append(...children.map((child) => (child instanceof Node ? child : visible(child))));
  return element;
}

/** Sets the text, with hidden characters escaped, if it differs, so that a selection and a screen reader are not disturbed. */
function setText(element, value) {
  const text = visible(value);
  // The text node itself stays, which keeps a selection in it.
  if (element.firstChild?.nodeType === Node.TEXT_NODE && element.childNodes.length === 1) {
    if (element.firstChild.data !== text) element.firstChild.data = text;
  } else if (element.textContent !== text) element.textContent = text;
}

/** Sets the attribute if it differs; null removes it. */
function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else {
    const shown = String(shownAttribute(name, value));
    if (element.getAttribute(name) !== shown) element.setAttribute(name, shown);
  }
}

/** Moves the element before `next`; it keeps the focus if the browser supports moveBefore. */
function moveBefore(parent, element, next) {
  if (parent.moveBefore && element.parentNode === parent) parent.moveBefore(element, next);
  else parent.insertBefore(element, next);
}

/** Makes these elements the children, in this order, and moves only those that are elsewhere. */
function arrange(parent, elements) {
  const wanted = new Set(elements);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const element of elements) {
    if (element === next) next = next.nextElementSibling;
    else moveBefore(parent, element, next);
  }
}
