/* The button that has the report mailed: an action, whose end comes to the inbox like that of every job one asked for. */

import { setText } from "./dom.js";

export function startMail(root) {
  if (!root) return; // for those who may
  const button = root.querySelector("[data-mail-button]");
  const say = (text) => setText(root.querySelector("[data-mail-text]"), text);
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    say("Asking");
    say(await ask("/api/v1/actions/demo.mail"));
    button.setAttribute("aria-disabled", "false");
  });
}

/** Run an action without parameters; what to say of it. */
async function ask(address) {
  const csrf = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1] ?? "";
  const headers = { Accept: "application/json", "Content-Type": "application/json", "X-CSRFToken": csrf };
  try {
    const response = await fetch(address, { method: "POST", headers, body: "{}", credentials: "same-origin" });
    if (response.ok) return "Accepted. Its end comes to your inbox.";
    const problem = await response.json();
    return `Refused: ${problem.detail ?? problem.title}`;
  } catch {
    return "The service does not answer.";
  }
}
