/* Which jobs: a state and a name, mirrored in the address of the page so that a view can be reloaded and shared. */

import { el } from "../dom.js";
import { FILTERS } from "./job.js";

const ADDRESSED = { state: "show", name: "name" };

export class Filter {
  #form;
  #listener;
  #known = new Set();

  /** `listener()` is called after each change. */
  constructor(form, listener) {
    this.#form = form;
    this.#listener = listener;
    this.#restore();
    form.addEventListener("change", () => this.#changed());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#changed();
    });
    addEventListener("popstate", () => {
      this.#restore();
      listener();
    });
    form.hidden = false;
  }

  /** all, live, failed or over. */
  get state() {
    return this.#form.elements.state.value;
  }

  get name() {
    return this.#form.elements.name.value.trim();
  }

  get isEverything() {
    return this.state === "all" && !this.name;
  }

  /** Show everything. */
  clear() {
    this.#form.elements.state.value = "all";
    this.#form.elements.name.value = "";
    this.#changed();
  }

  /** Names to choose from, in addition to those known. */
  suggest(names) {
    for (const name of names) {
      if (this.#known.has(name)) continue;
      this.#known.add(name);
      this.#form.querySelector("datalist").append(el("option", { value: name }));
    }
  }

  #restore() {
    const query = new URLSearchParams(location.search);
    const state = query.get(ADDRESSED.state);
    this.#form.elements.state.value = Object.hasOwn(FILTERS, state ?? "") ? state : "all";
    this.#form.elements.name.value = query.get(ADDRESSED.name) ?? "";
  }

  #changed() {
    const query = new URLSearchParams(location.search);
    for (const [key, value, otherwise] of [[ADDRESSED.state, this.state, "all"], [ADDRESSED.name, this.name, ""]]) {
      if (value === otherwise) query.delete(key);
      else query.set(key, value);
    }
    const address = `${location.pathname}${query.size ? `?${query}` : ""}`;
    if (address === `${location.pathname}${location.search}`) return;
    history.pushState(null, "", address);
    this.#listener();
  }
}
