// Requests to the registry, with the token that the reader entered.

const TOKEN_KEY = "farcall-registry-token";

let token = loadToken();

function loadToken() {
  try { return sessionStorage.getItem(TOKEN_KEY); } catch { return null; }
}

/** Stores the token for the session; null removes it. */
function storeToken(text) {
  token = text;
  try {
    if (text === null) sessionStorage.removeItem(TOKEN_KEY);
    else sessionStorage.setItem(TOKEN_KEY, text);
  } catch { /* Without storage the token lasts until the page is reloaded. */ }
}

/** Sends a request with the token. Paths are relative to the page. */
function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  return fetch(path, { cache: "no-store", credentials: "same-origin", redirect: "error", ...options, headers });
}

/** Returns the error text of a response without success. */
async function errorText(response) {
  try {
    const { error } = await response.json();
    if (typeof error === "string") return error;
  } catch { /* Not the registry's JSON: a proxy's answer, perhaps. */ }
  return `the answer was ${response.status} ${response.statusText}`.trim();
}
