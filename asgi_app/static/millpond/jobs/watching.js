/* The subscriptions of the page: one for each live job that is shown, the newest first, as many as a connection may have. */

/** Less than the service allows a connection (128 unless set otherwise). */
export const MOST = 100;

export class Watching {
  #live;
  #tell;
  #stops = new Map();
  #due = false;

  /** `tell(job)` hears of every version. */
  constructor(live, tell) {
    this.#live = live;
    this.#tell = tell;
  }

  /** Watch just these from now on.  Later in this turn: a subscription must not be ended while it tells. */
  only(ids) {
    this.wanted = new Set(ids);
    if (this.#due) return;
    this.#due = true;
    setTimeout(() => this.#change());
  }

  #change() {
    this.#due = false;
    for (const [id, stop] of this.#stops) {
      if (this.wanted.has(id)) continue;
      stop();
      this.#stops.delete(id);
    }
    for (const id of this.wanted) {
      if (!this.#stops.has(id)) this.#stops.set(id, this.#live.watch(`job:${id}`, (feed) => feed.hasValue && this.#tell(feed.value)));
    }
  }
}
