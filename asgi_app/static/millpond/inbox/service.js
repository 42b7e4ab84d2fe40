/* What the pages ask of the inbox's API.  Every failure is an error with words for a person. */

const BASE = "/api/v1/notifications";

/** `{items, next, unread}`, the newest first. */
export const readPage = (cursor = "", limit = 50) => ask("GET", `${BASE}?limit=${limit}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);

/** `{ids}` or `{up_to}` was read: `{unread}`. */
export const markRead = (what) => ask("POST", `${BASE}/read`, what);

async function ask(method, address, what = null) {
  const csrf = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1];
  const headers = { Accept: "application/json", ...(what ? { "Content-Type": "application/json" } : {}), ...(what && csrf ? { "X-CSRFToken": csrf } : {}) };
  let response;
  try {
    response = await fetch(address, { method, headers, body: what && JSON.stringify(what), cache: "no-store", credentials: "same-origin" });
  } catch {
    throw new Error("The service does not answer");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(response.status === 401 ? "You are signed out" : body.detail ?? `HTTP ${response.status}`);
  return body;
}
