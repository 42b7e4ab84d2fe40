/* Small things several views use. */

import { el } from "../dom.js";

/** The key of a chart: pairs of a style and a word. */
export function keys(...entries) {
  return el("ul", { class: "keys" }, ...entries.map(([style, word]) => el("li", {}, el("span", { class: `key ${style}`, "aria-hidden": "true" }), word)));
}

/** Puts nodes into a panel's body, and a sentence in their place while there is nothing to show. */
export function stage(body, sentence, ...nodes) {
  const empty = el("p", { class: "empty", hidden: true }, sentence);
  const content = el("div", { hidden: true }, ...nodes);
  body.append(empty, content);
  return (hasContent) => {
    empty.hidden = hasContent;
    content.hidden = !hasContent;
  };
}
