/* The list on the page: rows in the order of the book, and what is said around them.
 *
 * Invariant: rows are only ever inserted, moved and removed by `draw`; a change of a job changes its own row and no other.
 */

import { el, setText } from "../dom.js";
import { Row } from "./row.js";

export class List {
  #parts;
  #rights;
  #act;
  #rows = new Map();

  /** `act(what, row)`: a button of a row was pressed. */
  constructor(parts, rights, act) {
    this.#parts = parts;
    this.#rights = rights;
    this.#act = act;
  }

  get isUnfolded() {
    return [...this.#rows.values()].some((row) => row.isOpen);
  }

  row(id) {
    return this.#rows.get(id);
  }

  /** Show the jobs of the book, in its order. */
  draw(book, now) {
    const { list } = this.#parts;
    const before = this.#rows;
    this.#rows = new Map();
    book.shown.forEach((id, index) => {
      const row = before.get(id) ?? new Row(book.job(id), { ...this.#rights }, this.#act);
      this.#rows.set(id, row);
      row.show(book.job(id), now, book.toldAt(id));
      if (list.children[index] !== row.root) list.insertBefore(row.root, list.children[index] ?? null);
    });
    for (const [id, row] of before) if (!this.#rows.has(id)) row.root.remove();
  }

  /** A job has changed. */
  change(book, id, now) {
    this.#rows.get(id)?.show(book.job(id), now, book.toldAt(id));
  }

  tick(book, now) {
    for (const [id, row] of this.#rows) row.tick(now, book.toldAt(id));
  }

  /** What is said around the rows. */
  frame(book, filter) {
    const { list, skeleton, empty, none, nothing, older, news, full } = this.#parts;
    const rows = book.shown.length;
    skeleton.hidden = book.read;
    list.hidden = rows === 0;
    empty.hidden = !(book.read && rows === 0 && filter.isEverything && !book.next);
    none.hidden = !(book.read && rows === 0 && empty.hidden);
    if (!none.hidden) setText(nothing, missing(filter, book.next));
    older.hidden = !book.next;
    setText(older, rows ? "Show older jobs" : "Look further back");
    full.hidden = !book.isFull;
    const { count, more } = book.news;
    news.hidden = count === 0;
    if (count) setText(news, `${count}${more ? " or more" : ""} new ${count === 1 && !more ? "job" : "jobs"}: show`);
  }

  /** The row after one that goes, or the one before it: where the focus may go. */
  neighbour(row) {
    const other = row.root.nextElementSibling ?? row.root.previousElementSibling;
    return other ? this.#rows.get(other.dataset.id) : null;
  }
}

const KINDS = { all: "job", live: "live job", failed: "failed or dead job", over: "job that is over" };

function missing(filter, further) {
  const which = `No ${KINDS[filter.state]}${filter.name ? ` of ${filter.name}` : ""}`;
  if (further) return `${which} among the newest.`;
  return filter.name ? `${which}. A name must be written in full.` : `${which}.`;
}

/** A problem with the list as a whole, or null: what is wrong, and what happens.  Said once, however often it is met. */
export function sayProblem(place, problem, signIn, title = "The list could not be read.") {
  place.hidden = !problem;
  const said = problem?.message ?? "";
  if (place.dataset.said === said) return;
  place.dataset.said = said;
  if (!problem) return;
  const after = problem.status === 401 ? el("a", { href: signIn }, "Sign in") : "Trying again every few seconds.";
  place.replaceChildren(el("strong", {}, title), ` ${said}. `, after);
}
