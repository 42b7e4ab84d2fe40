/* The lines of a log topic, each once and in order.  Pure: no page and no connection.
 *
 * Invariant: a line is told apart by its position, so that what comes twice, live and from the history, is one line; the
 * newest `most` are kept.
 */

/** Characters of a line that are shown; whoever may publish might publish anything. */
const LONGEST = 500;

export class Lines {
  #most;
  #epoch = "";
  #byOffset = new Map();

  constructor(most) {
    this.#most = most;
  }

  /** Positions of another epoch mean something else: what was there is over.  Says whether it was so. */
  begin(epoch) {
    const over = this.#epoch !== "" && epoch !== this.#epoch;
    if (over) this.#byOffset.clear();
    this.#epoch = epoch;
    return over;
  }

  /** Take a publication; what it says, or null when it is there already or says nothing. */
  take({ offset, data, info }) {
    if (!offset || this.#byOffset.has(offset) || typeof data?.text !== "string" || !data.text.trim()) return null;
    const text = data.text.length > LONGEST ? `${data.text.slice(0, LONGEST)}…` : data.text;
    const line = { offset, text, user: info?.user ?? null, name: nameOf(info) };
    this.#byOffset.set(offset, line);
    const surplus = [...this.#byOffset.keys()].sort((a, b) => a - b).slice(0, -this.#most);
    for (const old of surplus) this.#byOffset.delete(old);
    return this.#byOffset.has(offset) ? line : null;
  }

  /** In their order. */
  get all() {
    return [...this.#byOffset.values()].sort((a, b) => a.offset - b.offset);
  }
}

function nameOf(info) {
  if (!info) return "Tower"; // code on the server
  const name = info.conn_info?.name;
  if (typeof name === "string" && name) return name.slice(0, 40);
  return info.user ? `User ${String(info.user).slice(0, 20)}` : "Somebody";
}
