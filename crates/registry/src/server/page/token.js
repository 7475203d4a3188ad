// The dialog for the token. There is one at a time, and everything that needs its result waits for it.

// The open dialog: { result, resolve }; null if it is closed.
let prompt = null;
// Continues the stream after the dialog was cancelled.
let resumeStream = () => {};

/** Opens the dialog with the reason; returns a promise of whether a token was entered or removed. */
function askForToken(reason) {
  setText(byId("token-why"), reason);
  if (!prompt) {
    prompt = {};
    prompt.result = new Promise((resolve) => { prompt.resolve = resolve; });
    byId("token-input").value = "";
    setText(byId("token-wrong"), "");
    byId("token-forget").hidden = token === null;
    byId("token-dialog").showModal();
    byId("token-input").focus();
  }
  return prompt.result;
}

function closePrompt(wasChanged) {
  byId("token-dialog").close();
  const { resolve } = prompt ?? { resolve: () => {} };
  prompt = null;
  resolve(wasChanged);
}

function useToken(text) {
  storeToken(text);
  closePrompt(true);
  restartStream();
}

/** Reopens the stream from the beginning, with the current token. */
function restartStream() {
  lastEventId = null;
  resumeStream();
  reconnectNow();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("token-input").value.trim();
  if (/^[\x21-\x7e]+$/.test(text)) useToken(text);
  else setText(byId("token-wrong"), text === "" ? "Nothing was entered." : "A token has only visible ASCII characters, and no spaces.");
});
byId("token-cancel").addEventListener("click", () => closePrompt(false));
byId("token-dialog").addEventListener("close", () => { if (prompt) closePrompt(false); });
byId("token-forget").addEventListener("click", () => useToken(null));
byId("token-button").addEventListener("click", () =>
  askForToken(token === null ? "This page has no token at present." : "Enter another token to replace the one that this page has."));
