/* A log topic: what was published on it, each line once and in order, whatever becomes of the connection.
 *
 * The service gives a client that comes back what it missed.  When that is more than it keeps, and at the start, the
 * newest are read from the history instead; what comes meanwhile is told apart by its position.
 */

import { Lines } from "./lines.js";

const KEPT = 100;
const AGAIN = 3000;

export class Log {
  #subscription;
  #listener;
  #lines = new Lines(KEPT);
  #complete = false;

  /** `listener({lines, state, complete})` is called after every change; states are those of the subscription. */
  constructor(subscription, listener) {
    this.#subscription = subscription;
    this.#listener = listener;
    subscription.on("subscribing", () => this.#tell("offline"));
    subscription.on("subscribed", (context) => this.#subscribed(context));
    subscription.on("publication", (publication) => this.#lines.take(publication) && this.#tell("live"));
    subscription.on("unsubscribed", ({ reason }) => this.#tell("ended", reason));
    subscription.subscribe();
  }

  publish(data) {
    return this.#subscription.publish(data);
  }

  /** How many are there: `{numClients, numUsers}`. */
  present() {
    return this.#subscription.presenceStats();
  }

  #subscribed({ streamPosition, recovered }) {
    if (this.#lines.begin(streamPosition?.epoch ?? "") || !recovered) this.#complete = false;
    this.#tell("live");
    if (!this.#complete) this.#read();
  }

  async #read() {
    try {
      const { publications } = await this.#subscription.history({ limit: KEPT, reverse: true });
      for (const publication of publications) this.#lines.take(publication);
      this.#complete = true;
      this.#tell("live");
    } catch {
      setTimeout(() => this.#subscription.state === "subscribed" && !this.#complete && this.#read(), AGAIN);
    }
  }

  #tell(state, reason = "") {
    this.#listener({ lines: this.#lines.all, state, reason, complete: this.#complete });
  }
}
