/* The one connection of the page, and its subscriptions: one per topic, however many panels look at it.
 *
 * Built on the stock `centrifuge` client, which reconnects, resubscribes and resumes by itself.  Values outlive the
 * connection: a feed keeps the last one until a newer arrives or nobody looks at the topic any more.
 *
 * Invariant: a listener that throws is told that it is broken, and harms neither the others nor the connection: the
 * client takes an error out of its callbacks for a broken protocol, and stops for good.
 */

import { Log } from "./log.js";
import { emptyFeed, onBroken, onPublication, onRefused, onSubscribed, onSubscribing, onTrouble } from "./feed.js";

/** The stock client, saying when it will try again: it computes the delay in this method and tells nobody. */
class Client extends globalThis.Centrifuge {
  _getReconnectDelay() {
    const delay = super._getReconnectDelay();
    this.onDelay?.(delay);
    return delay;
  }
}

const UNSUBSCRIBED_BY_US = 0;

/** What comes on the inbox of whoever is signed in, which the server subscribes by itself, is said on the document. */
function inbox(channel, detail) {
  if (channel.startsWith("inbox#")) document.dispatchEvent(new CustomEvent("millpond:inbox", { detail }));
}

export class Live {
  /** @type {{phase: "connecting"|"connected"|"lost"|"closed", since: number, retryAt: number|null, reason: string}} */
  connection = { phase: "connecting", since: Date.now(), retryAt: null, reason: "" };
  #client;
  #topics = new Map();
  #watchers = new Set();
  #hidden = false;

  constructor(path) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.#client = new Client(`${scheme}//${location.host}${path}`, { name: "millpond-page" });
    this.#client.onDelay = (delay) => this.#connectionIs("lost", { retryAt: Date.now() + delay });
    this.#client.on("connecting", ({ code, reason }) => this.#connectionIs(code === 0 ? "connecting" : "lost", { reason }));
    this.#client.on("connected", () => {
      if (this.#hidden) this.#tellHidden();
      this.#connectionIs("connected", { reason: "" });
    });
    this.#client.on("disconnected", ({ reason }) => this.#connectionIs("closed", { reason }));
    this.#client.on("subscribed", (context) => inbox(context.channel, { kind: "subscribed", recovered: context.recovered }));
    this.#client.on("publication", ({ channel, data, tags }) => inbox(channel, { kind: "notification", ...tags, data }));
  }

  get connected() {
    return this.connection.phase === "connected";
  }

  connect() {
    this.#client.connect();
  }

  /** Do not wait for the next attempt. */
  reconnectNow() {
    this.#client.disconnect();
    this.#client.connect();
  }

  /** Whether nobody looks at the page; then it keeps no value fresh. */
  hide(hidden) {
    if (this.#hidden === hidden) return;
    this.#hidden = hidden;
    if (this.connected) this.#tellHidden();
  }

  #tellHidden() {
    this.#client.rpc("hidden", { hidden: this.#hidden }).catch((error) => console.warn("hidden", error));
  }

  /** `listener()` is called at once and after every change of the connection. */
  onConnection(listener) {
    this.#watchers.add(listener);
    this.#call(listener);
  }

  /** Call `listener(feed)` at once and whenever something about the topic changes.  Returns how to stop. */
  watch(topic, listener) {
    const held = this.#topics.get(topic) ?? this.#open(topic);
    held.listeners.add(listener);
    this.#tell(listener, held.feed);
    return () => {
      if (held.listeners.delete(listener) && held.listeners.size === 0) this.#close(topic, held);
    };
  }

  /** Subscribe anew: the server computes unless it has a fresh value, and a refused subscription gets another chance. */
  askAgain(topic) {
    const { subscription } = this.#topics.get(topic);
    subscription.unsubscribe();
    subscription.subscribe();
  }

  /** Follow a log topic; see `Log`. */
  follow(topic, listener) {
    return new Log(this.#client.newSubscription(topic), listener);
  }

  #open(topic) {
    const subscription = this.#client.newSubscription(topic);
    const held = { subscription, feed: emptyFeed(topic), listeners: new Set() };
    const step = (next) => (context) => {
      held.feed = next(held.feed, context);
      for (const listener of [...held.listeners]) this.#tell(listener, held.feed);
    };
    subscription.on("subscribing", step((feed) => onSubscribing(feed, Date.now())));
    subscription.on("subscribed", step((feed, context) => onSubscribed(feed, context, Date.now())));
    subscription.on("publication", step((feed, context) => onPublication(feed, context, Date.now())));
    subscription.on("error", step((feed, context) => onTrouble(feed, context, Date.now())));
    subscription.on("unsubscribed", (context) => {
      if (context.code !== UNSUBSCRIBED_BY_US) step((feed) => onRefused(feed, context, Date.now()))(context);
    });
    this.#topics.set(topic, held);
    subscription.subscribe();
    return held;
  }

  #close(topic, held) {
    this.#topics.delete(topic);
    held.subscription.unsubscribe();
    this.#client.removeSubscription(held.subscription);
  }

  #tell(listener, feed) {
    const error = this.#call(listener, feed);
    if (error) this.#call(listener, onBroken(feed, error, Date.now()));
  }

  /** What the listener threw, if it did. */
  #call(listener, ...told) {
    try {
      listener(...told);
      return null;
    } catch (error) {
      console.error(error);
      return error ?? new Error("unknown");
    }
  }

  #connectionIs(phase, { retryAt = null, reason = this.connection.reason }) {
    const since = this.connection.phase === phase ? this.connection.since : Date.now();
    this.connection = { phase, since, retryAt, reason };
    for (const watcher of this.#watchers) this.#call(watcher);
  }
}
