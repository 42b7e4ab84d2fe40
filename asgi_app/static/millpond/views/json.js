/* Any value at all, as indented JSON. */

import { el, setText } from "../dom.js";

/** More than a person reads, and as much as a browser lays out without stalling. */
const SHOWN = 100_000;

export function jsonView(body, name) {
  const text = el("pre", { class: "json", tabindex: "0", role: "region", "aria-label": `Value of ${name}`, hidden: true });
  const cut = el("p", { class: "empty", hidden: true }, "The value is longer than this; the JSON link has all of it.");
  body.append(text, cut);
  return {
    show(value) {
      const json = JSON.stringify(value, null, 2);
      text.hidden = false;
      setText(text, json.slice(0, SHOWN));
      cut.hidden = json.length <= SHOWN;
    },
  };
}
