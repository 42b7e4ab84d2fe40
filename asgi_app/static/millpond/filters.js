/* The filters: native selects, mirrored in the address of the page so that a view can be reloaded and shared. */

/** Arrow keys change a select at every step; wait for the hand to rest before subscribing to anything. */
const REST = 200;

export class Filters {
  #form;
  #listeners = [];

  constructor(form) {
    this.#form = form;
    this.#restore();
    let timer;
    form.addEventListener("change", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#changed(), REST);
    });
    form.addEventListener("reset", () => setTimeout(() => this.#changed()));
    form.addEventListener("submit", (event) => event.preventDefault());
    addEventListener("popstate", () => {
      this.#restore();
      this.#tell();
    });
  }

  get #selects() {
    return [...this.#form.querySelectorAll("select")];
  }

  /** The choices, by name. */
  get values() {
    return Object.fromEntries(this.#selects.map((select) => [select.name, select.value]));
  }

  /** What each filter is when nothing was chosen: the default of the resources too. */
  get defaults() {
    return Object.fromEntries(this.#selects.map((select) => [select.name, select.options[0].value]));
  }

  /** The choices of some filters in words: "All carriers, Kennedy (JFK)". */
  words(names) {
    return this.#selects.filter((select) => names.includes(select.name)).map((select) => select.selectedOptions[0].text).join(", ");
  }

  onChange(listener) {
    this.#listeners.push(listener);
  }

  #restore() {
    const query = new URLSearchParams(location.search);
    for (const select of this.#selects) {
      const wanted = query.get(select.name);
      select.value = [...select.options].some((option) => option.value === wanted) ? wanted : select.options[0].value;
    }
  }

  #changed() {
    const query = new URLSearchParams(location.search);
    for (const { name, value, options } of this.#selects) {
      if (value === options[0].value) query.delete(name);
      else query.set(name, value);
    }
    history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}${location.hash}`);
    this.#tell();
  }

  #tell() {
    for (const listener of this.#listeners) listener();
  }
}
