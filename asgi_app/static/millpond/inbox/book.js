/* The notifications the page knows, the newest first.  Pure: no page, no network.
 *
 * Invariant: an id stands here once, one that was replaced not at all, and what was read stays read: pushes and listings
 * come in any order.
 */

export class Book {
  /** The `next` of the oldest page that was read, null at the end. */
  next = null;
  #items = new Map();
  #replaced = new Set();
  #readUpTo = 0;
  #readIds = new Set();

  get shown() {
    return [...this.#items.values()].sort((one, other) => other.id - one.id);
  }

  get top() {
    return Math.max(0, ...this.#items.keys());
  }

  /** The newest page: what lies within its range and is not on it is gone.  */
  restart({ items, next }) {
    const lowest = next === null ? 0 : Math.min(...items.map(({ id }) => id));
    const highest = Math.max(0, ...items.map(({ id }) => id));
    const listed = new Set(items.map(({ id }) => id));
    const hole = items.length && next !== null && this.#items.size && lowest > this.top;
    for (const id of [...this.#items.keys()]) if (hole || (id >= lowest && id <= highest && !listed.has(id))) this.#items.delete(id);
    if (hole || this.next === null) this.next = next;
    items.forEach((item) => this.#put(item));
  }

  older({ items, next }) {
    this.next = next;
    items.forEach((item) => this.#put(item));
  }

  /** One that came just now; `replaces` is the id of the one it takes the place of.  False: it was here. */
  tell(item, replaces = 0) {
    if (replaces) {
      this.#replaced.add(replaces);
      this.#items.delete(replaces);
    }
    const isNew = !this.#items.has(item.id);
    this.#put(item);
    return isNew;
  }

  /** `{ids}` or `{up_to}`. */
  read({ ids = [], up_to: upTo = 0 }, at) {
    this.#readUpTo = Math.max(this.#readUpTo, upTo);
    for (const id of ids) this.#readIds.add(id);
    for (const item of this.#items.values()) if (this.#isRead(item.id)) item.read_at ??= at;
  }

  #isRead(id) {
    return id <= this.#readUpTo || this.#readIds.has(id);
  }

  #put(item) {
    if (this.#replaced.has(item.id)) return;
    const known = this.#items.get(item.id);
    const readAt = item.read_at ?? known?.read_at ?? (this.#isRead(item.id) ? item.created_at : null);
    this.#items.set(item.id, { ...item, read_at: readAt });
  }
}
