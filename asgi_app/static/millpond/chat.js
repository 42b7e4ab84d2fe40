/* The chat: a log topic as lines of text, a form for those who may write, and how many are there. */

import { el, partsOf, setText } from "./dom.js";

/** How often it is asked who is there. */
const COUNTED = 15_000;
/** Pixels from the end at which somebody still reads the newest. */
const NEAR = 24;
const STATES = { live: "fresh", offline: "offline", ended: "failed" };

export function startChat(live, root) {
  const parts = partsOf(root);
  const me = document.body.dataset.user;
  const drawn = new Map();
  let state = "offline";
  let sending = false;

  const log = live.follow(root.dataset.chat, (now) => {
    const back = now.state === "live" && state !== "live";
    state = now.state;
    root.dataset.state = STATES[state];
    draw(now.lines);
    if (state === "live") {
      if (back) count();
    } else setText(parts.status, "not connected");
    say(state === "ended" ? now.reason : state === "offline" ? "Not connected. What is said meanwhile comes once you are back." : "", state === "ended");
    parts.button?.setAttribute("aria-disabled", String(state !== "live"));
  });

  function draw(lines) {
    const { lines: list } = parts;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR;
    const keep = new Set(lines.map(({ offset }) => offset));
    for (const [offset, line] of drawn) {
      if (keep.has(offset)) continue;
      line.remove();
      drawn.delete(offset);
    }
    lines.forEach((line, index) => {
      if (drawn.has(line.offset)) return;
      const mine = me !== "" && line.user === me;
      const shown = el("li", { "data-mine": mine, "data-server": line.user === null }, el("span", { class: "chat__who" }, mine ? "You" : line.name), line.text);
      drawn.set(line.offset, shown);
      list.insertBefore(shown, list.children[index] ?? null);
    });
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  function say(text, wrong = false) {
    setText(parts.say, text);
    parts.say.toggleAttribute("data-wrong", wrong);
  }

  async function count() {
    if (state !== "live" || document.hidden) return;
    try {
      const { numClients } = await log.present();
      if (state === "live") setText(parts.status, numClients === 1 ? "one reads along" : `${numClients} read along`);
    } catch {
      // It is asked again soon.
    }
  }

  parts.form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = parts.form.elements.text;
    const text = input.value.trim();
    if (!text || sending) return;
    if (state !== "live") return say("Not connected: your line is not sent. Try again once you are back.", true);
    sending = true;
    try {
      await log.publish({ text });
      input.value = "";
      say("");
    } catch (error) {
      say(`Not sent: ${error.message ?? "the service does not answer"}`, true);
    }
    sending = false;
  });
  setInterval(count, COUNTED);
}
