/* How many notifications have not been read, in the header of every page of somebody who is signed in.
 *
 * Where the page has a connection, `live.js` says "millpond:inbox" on the document for what comes on the inbox; elsewhere
 * the number is that of the moment the page was opened or came back into view.
 */

import { setText } from "../dom.js";
import { readPage } from "./service.js";

/** Milliseconds in which what has come is counted together. */
const TOGETHER = 300;
const badge = document.querySelector("[data-unread-badge]");
let timer = 0;

function show(unread) {
  badge.hidden = unread === 0;
  setText(badge.querySelector("[data-unread-count]"), unread > 99 ? "99+" : String(unread));
  document.dispatchEvent(new CustomEvent("millpond:unread", { detail: unread }));
}

async function count() {
  timer = 0;
  if (!navigator.onLine) return; // it is asked again once the browser is back
  try {
    show((await readPage("", 1)).unread);
  } catch {
    // The next event, or the next look, asks again.
  }
}

function soon() {
  timer ||= setTimeout(count, TOGETHER);
}

if (badge) {
  document.addEventListener("millpond:inbox", ({ detail }) => (detail.kind === "read" ? show(detail.data.unread) : soon()));
  document.addEventListener("visibilitychange", () => document.hidden || soon());
  window.addEventListener("online", soon);
  count();
}
