// The controls that pages share: the indicator of the page's own connection, and the filter.

// The pause after the last key press before the filter applies, in milliseconds.
const TYPING_PAUSE = 120;

/** Shows the connection's state: connecting, live, paused, waiting or lost. */
function showConnectionState(state, text, title = null) {
  setAttribute(byId("connection"), "data-state", state);
  setText(byId("connection-text"), text);
  setAttribute(byId("connection"), "title", title);
}

/** Calls back with the words in the filter, in lower case, after they were changed. "/" focuses it. */
function watchFilter(onWords) {
  let timer = null;
  byId("search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => onWords(byId("search").value.toLowerCase().split(/\s+/).filter(Boolean)), TYPING_PAUSE);
  });
  document.addEventListener("keydown", (event) => {
    const inField = event.target.closest?.("input, select, dialog");
    if (event.key !== "/" || inField || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    byId("search").focus();
  });
}
