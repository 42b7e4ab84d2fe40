/* What the page asks of the API.  Every failure is a `Problem` with words for a person. */

const BASE = "/api/v1/jobs";

export class Problem extends Error {
  /** `status` 0: there was no answer.  `retryAfter` in milliseconds, null when the service said nothing of it. */
  constructor(message, status, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export const jobAddress = (id) => `${BASE}/${id}`;

/** A page of the listing, and the service's clock: `{items, next, clock}`. */
export async function readPage({ status, name, cursor }, signal) {
  const query = new URLSearchParams(Object.entries({ status, name, cursor }).filter(([, value]) => value));
  const { body, clock } = await ask("GET", query.size ? `${BASE}?${query}` : BASE, signal);
  return { ...body, clock };
}

/** Ask for the end of a job: the job as it is now. */
export const cancel = async (id) => (await ask("DELETE", jobAddress(id))).body;

/** Run a job again: the new one. */
export const retry = async (id) => (await ask("POST", `${jobAddress(id)}/retry`)).body;

/** Forget a job that is over. */
export const discard = (id) => ask("POST", `${jobAddress(id)}/discard`);

async function ask(method, address, signal) {
  const csrf = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1];
  const headers = { Accept: "application/json", ...(csrf && method !== "GET" ? { "X-CSRFToken": csrf } : {}) };
  let response;
  let body;
  try {
    response = await fetch(address, { method, headers, signal, cache: "no-store", credentials: "same-origin" });
    body = response.status === 204 ? null : await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!response) throw new Problem("The service does not answer", 0);
    body = {};
  }
  if (!response.ok) throw new Problem(words(response.status, body), response.status, 1000 * Number(response.headers.get("Retry-After")) || null);
  return { body, clock: Date.parse(response.headers.get("Date")) || null };
}

function words(status, { title = `HTTP ${status}`, detail = "" }) {
  if (status === 401) return "This needs you to be signed in";
  if (status === 403 && detail.startsWith("CSRF")) return "Your sign-in has changed since this page was loaded: reload it and try again";
  if (status === 404) return "This job is no longer known";
  return detail && detail !== title ? `${title}: ${detail}` : title;
}
