/* One notification of the list.  Built once; only whether it is read, and its age, change. */

import { el, setText } from "../dom.js";
import { age, localTime } from "../format.js";

/** Where it leads, on this very service; as `views/inbox.py: link_of` says. */
export function linkOf(data) {
  const found = [data?.url, data?.result_url].find((address) => typeof address === "string" && /^\/(?![/\\])/.test(address));
  return found ?? (data?.job ? "/jobs" : "");
}

export class Note {
  #time;
  #button = null;
  #unread = null;

  constructor(item, read) {
    this.id = item.id;
    const href = linkOf(item.data);
    const hidden = (text) => el("span", { class: "visually-hidden" }, text);
    this.#time = el("time", { datetime: item.created_at, title: localTime(Date.parse(item.created_at)) });
    this.#unread = hidden(", unread");
    const level = el("p", { class: "note__level" }, el("span", { class: "note__dot", "aria-hidden": "true" }), item.level, this.#unread);
    const when = el("p", { class: "note__when" }, this.#time, ...(href ? [" ", el("a", { href }, "Open", hidden(`: ${item.title}`))] : []));
    const what = el("div", { class: "note__what" }, el("h2", {}, item.title), ...(item.body ? [el("p", { class: "note__body" }, item.body)] : []), when);
    this.#button = el("button", { class: "button button--quiet note__read", type: "button" }, "Mark as read", hidden(`: ${item.title}`));
    this.#button.addEventListener("click", () => this.#button.getAttribute("aria-disabled") === "true" || read(this));
    this.root = el("li", { class: "note", "data-id": item.id, "data-level": item.level }, level, what, this.#button);
    this.show(item);
  }

  show(item) {
    const unread = item.read_at === null;
    this.root.toggleAttribute("data-unread", unread);
    this.#unread.hidden = !unread;
    this.#button.hidden = !unread;
  }

  tick(item, now) {
    setText(this.#time, age(now - Date.parse(item.created_at)));
  }

  busy(is) {
    this.#button.setAttribute("aria-disabled", String(is));
  }

  focus() {
    this.#button.focus();
  }
}
