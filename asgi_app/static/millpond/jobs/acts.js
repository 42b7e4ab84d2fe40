/* What the buttons do.  Each says what it is about to do, does it, and says what came of it: at the job, and aloud. */

import { isLive } from "./job.js";
import { cancel, discard, retry } from "./service.js";

/** Milliseconds after which a job that was told to end, and has not, deserves a word. */
const PATIENCE = 10_000;

export class Acts {
  #page;

  /** `page`: `{told(job), gone(id), go(id), say(text), signIn}`. */
  constructor(page) {
    this.#page = page;
  }

  async run(what, row) {
    const does = { cancel: () => this.#cancel(row), retry: () => this.#retry(row), discard: () => this.#discard(row) }[what];
    row.begin(what);
    try {
      await does();
    } catch (problem) {
      row.end();
      this.#explain(what, row, problem);
    }
  }

  /** A job has ended that was told to. */
  ended(row) {
    row.end();
    row.say(null);
    this.#page.say(`${row.job.name}: ${row.job.status}`);
  }

  async #cancel(row) {
    this.#page.say(`Cancelling ${row.job.name}`);
    row.cancelling = true;
    const job = await cancel(row.id);
    this.#page.told(job);
    if (!isLive(job)) return;
    setTimeout(() => {
      if (row.cancelling && isLive(row.job)) row.say({ text: "It was told to end and has not yet: it looks when it reports its progress, and goes on while others wait for its value." });
    }, PATIENCE);
  }

  async #retry(row) {
    this.#page.say(`Running ${row.job.name} again`);
    const job = await retry(row.id);
    row.end();
    this.#page.told(job);
    row.say({ text: "Runs again as a new job.", link: { text: "Show it", go: () => this.#page.go(job) } });
    this.#page.say(`${job.name} runs again as a new job`);
  }

  async #discard(row) {
    await discard(row.id);
    this.#page.say(`${row.job.name} discarded`);
    this.#page.gone(row);
  }

  #explain(what, row, problem) {
    row.cancelling = false;
    if (problem.status === 404) return this.#page.gone(row, "This job is no longer known");
    if (problem.status === 403 && what === "discard") row.denyDiscard();
    const link = problem.status === 401 ? { text: "Sign in", go: this.#page.signIn } : undefined;
    row.say({ text: `${problem.message}.`, bad: true, link });
    this.#page.say(`${row.job.name} was not ${{ cancel: "cancelled", retry: "run again", discard: "discarded" }[what]}: ${problem.message}`);
    return undefined;
  }
}
