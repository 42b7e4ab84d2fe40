/* The jobs the page knows: those it shows, newest first, and those that have come since.  Pure but for its own state.
 *
 * Invariant: what is shown is one unbroken stretch of the listing; where jobs between two known ones may be missing, the
 * older part is given up.  A job is replaced only by a newer version of itself.
 */

import { belongs, isLive, newer } from "./job.js";

/** Jobs of one page of the API, and pages that are kept at the most. */
export const PAGE = 50;
const MOST_PAGES = 20;
/** A job that leaves the listing, because it has ended or was forgotten, stays so long that its end is seen. */
const LINGER = 10_000;

export class Book {
  #jobs = new Map();
  #toldAt = new Map();
  #shown = [];
  #waiting = null; //  the newest page, when it has jobs that are not shown
  #left = new Map(); // shown ones that the listing does not have any more, and since when
  #reached = ""; //     the newest id of a listing that is shown
  #next = null;
  #pages = 1;
  #read = false;

  /** What is listed: jobs of a filter (`FILTERS`), and of one name unless it is "". */
  constructor(filter, name = "") {
    this.filter = filter;
    this.name = name;
  }

  /** Ids, newest first. */
  get shown() {
    return this.#shown;
  }

  /** Whether the listing was read at all. */
  get read() {
    return this.#read;
  }

  /** Where older ones begin; null when there are none, or enough. */
  get next() {
    return this.#pages < MOST_PAGES ? this.#next : null;
  }

  get isFull() {
    return this.#pages >= MOST_PAGES && this.#next !== null;
  }

  /** How many have come that are not shown, and whether there may be more than that. */
  get news() {
    if (!this.#waiting) return { count: 0, more: false };
    const { items } = this.#waiting;
    return { count: items.filter(({ id }) => !this.#shown.includes(id)).length, more: this.#isBroken() };
  }

  job(id) {
    return this.#jobs.get(id);
  }

  /** When the newest version of a job was told. */
  toldAt(id) {
    return this.#toldAt.get(id);
  }

  /** Live ones of those shown, newest first. */
  live(most) {
    return this.#shown.filter((id) => isLive(this.#jobs.get(id))).slice(0, most);
  }

  /** A newer version of a job that is known; whether it was news. */
  tell(job, now) {
    const known = this.#jobs.get(job.id);
    if (known && newer(known, job) === known) return false;
    this.#jobs.set(job.id, job);
    this.#toldAt.set(job.id, now);
    return true;
  }

  /** The first page, read again.  Its new jobs are shown at once when nobody would be disturbed (`calm`).  Of a `partial`
   * one nobody knows which jobs are gone. */
  top({ items, next, partial = false }, now, calm) {
    for (const job of items) this.tell(job, now);
    const listed = new Set(items.map(({ id }) => id));
    const oldest = next ? items.at(-1)?.id : "";
    const left = oldest === undefined || partial ? [] : this.#shown.filter((id) => id >= oldest && !listed.has(id));
    this.#left = new Map(left.map((id) => [id, this.#left.get(id) ?? now]));
    if (!this.#read) this.#next = next;
    this.#waiting = items.some(({ id }) => !this.#shown.includes(id)) ? { items, next } : null;
    if (calm || !this.#read) this.open(now);
    this.#read = true;
  }

  /** Show what has come, and drop what the listing has had no more for a while. */
  open(now) {
    this.#shown = this.#shown.filter((id) => !(now - this.#left.get(id) > LINGER));
    if (this.#waiting) this.#join(this.#waiting);
    this.#forget();
  }

  /** A page of older ones. */
  older({ items, next }, now) {
    for (const job of items) this.tell(job, now);
    this.#add(items);
    this.#next = next;
    this.#pages = Math.max(this.#pages + (items.length > 0), Math.ceil(this.#shown.length / PAGE));
  }

  /** A job that somebody here has asked for: whether it is of those listed, and shown now. */
  put(job, now) {
    this.tell(job, now);
    if (belongs(job, this.filter) && (!this.name || this.name === job.name)) this.#add([job]);
    return this.#shown.includes(job.id);
  }

  /** A job that is no more. */
  drop(id) {
    this.#shown = this.#shown.filter((each) => each !== id);
    this.#jobs.delete(id);
  }

  #join({ items, next }) {
    if (this.#isBroken()) {
      this.#shown = [];
      this.#pages = 1;
      this.#next = next;
    }
    this.#add(items);
    this.#waiting = null;
    this.#reached = items[0].id;
    const room = this.#pages * PAGE;
    if (this.#shown.length <= room) return;
    this.#shown.length = room;
    this.#next = this.#shown.at(-1);
  }

  #add(items) {
    this.#shown = [...new Set([...this.#shown, ...items.map(({ id }) => id)])].sort().reverse();
  }

  /** Between the oldest that has come and the newest that is shown there may be others. */
  #isBroken() {
    const { items, next } = this.#waiting;
    return Boolean(next) && items.at(-1).id > this.#reached;
  }

  #forget() {
    const kept = new Set([...this.#shown, ...(this.#waiting?.items.map(({ id }) => id) ?? [])]);
    for (const id of this.#jobs.keys()) {
      if (kept.has(id)) continue;
      this.#jobs.delete(id);
      this.#toldAt.delete(id);
    }
  }
}
