// Helpers for the document. All text is inserted as text nodes: nothing that a client, a method or an
// instance says is ever parsed as HTML (the page's policy forbids it, too).

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
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Sets the text if it differs, so that a selection and a screen reader are not disturbed. */
function setText(element, text) {
  // The text node itself stays, which keeps a selection in it.
  if (element.firstChild?.nodeType === Node.TEXT_NODE && element.childNodes.length === 1) {
    if (element.firstChild.data !== text) element.firstChild.data = text;
  } else if (element.textContent !== text) element.textContent = text;
}

/** Sets the attribute if it differs; null removes it. */
function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
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
