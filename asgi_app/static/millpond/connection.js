/* What the page says about its connection: a word in the masthead, a banner while it is lost. */

import { setText } from "./dom.js";

const WORDS = { connecting: "Connecting", connected: "Live", lost: "Connection lost", closed: "Disconnected" };
/** A hiccup this short heals before anybody reads about it; the masthead tells it all the same. */
const PATIENCE = 1000;

export function showConnection(live) {
  const mark = document.querySelector("[data-connection]");
  const word = document.querySelector("[data-connection-text]");
  const banner = document.querySelector("[data-banner]");
  const title = document.querySelector("[data-banner-title]");
  const text = document.querySelector("[data-banner-text]");
  const countdown = document.querySelector("[data-banner-countdown]");
  document.querySelector("[data-banner-retry]").addEventListener("click", () => live.reconnectNow());

  const show = () => {
    const { phase, since, retryAt, reason } = live.connection;
    const down = phase === "lost" || phase === "closed";
    mark.dataset.connection = phase;
    setText(word, WORDS[phase]);
    banner.hidden = !down || Date.now() - since < PATIENCE;
    if (!down) return;
    setText(title, `${WORDS[phase]}.`);
    setText(text, phase === "lost" ? "What you see stays, but is not updated." : `The service refused${reason ? `: ${reason}` : ""}. What you see is not updated.`);
    setText(countdown, phase === "lost" ? waiting(retryAt) : "");
  };
  live.onConnection(show);
  setInterval(show, 500);
}

function waiting(retryAt) {
  const seconds = retryAt === null ? 0 : Math.ceil((retryAt - Date.now()) / 1000);
  return seconds > 0 ? `Reconnecting in ${seconds} s.` : "Reconnecting now.";
}
