/* When the listing is read again: every few seconds while somebody can see the page and there is a network, at once when
 * there is a reason.
 *
 * Invariant: at most one reading is under way, and the answer to an outdated question is dropped.
 */

const EVERY = 4000;
const AFTER_FAILURE = 3000;
const LONGEST = 30_000;

const isIdle = () => document.hidden || !navigator.onLine;

export class Poller {
  #read;
  #failed;
  #timer = null;
  #abort = null;
  #failures = 0;

  /** `read(signal)` asks and takes the answer; `failed(problem)` hears of failures; it is tried again. */
  constructor(read, failed) {
    this.#read = read;
    this.#failed = failed;
    document.addEventListener("visibilitychange", () => (isIdle() ? this.stop() : this.now()));
    addEventListener("online", () => this.now());
    addEventListener("offline", () => this.stop());
  }

  /** Ask now; what is under way is given up. */
  async now() {
    this.stop();
    if (isIdle()) return;
    const abort = (this.#abort = new AbortController());
    let wait = EVERY;
    try {
      await this.#read(abort.signal);
      this.#failures = 0;
    } catch (problem) {
      if (abort.signal.aborted) return;
      wait = Math.min(LONGEST, Math.max(problem.retryAfter ?? 0, AFTER_FAILURE * 1.5 ** this.#failures++));
      this.#failed(problem);
    }
    if (!abort.signal.aborted) this.#timer = setTimeout(() => this.now(), wait);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
  }
}
