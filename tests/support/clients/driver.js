// Drives stock clients by messages, in Node and in a browser: what the tests order is done, what the clients tell is told.
//
// Orders: {n, op, client, ...}; each is answered by {n, result} or {n, error: {code, message}}.  Told besides: {client,
// event, channel, ctx}, and {ask, client, what, ctx} where a client asks its application for something: {answer, value}
// or {answer, error} comes back.
"use strict";

(function (root) {
  /** Frames of a websocket that are remembered. */
  const FRAMES = 5000;

  /** `versions`: name -> Centrifuge; `parts`: what the environment lacks; `socket(headers, frames)`: a class. */
  function makeDriver(versions, parts, socket, tell) {
    const clients = new Map();
    const asked = new Map();
    let asks = 0;

    function ask(client, what, ctx) {
      const number = ++asks;
      tell({ ask: number, client, what, ctx });
      return new Promise((resolve, reject) => asked.set(number, { resolve, reject }));
    }

    function answer({ answer: number, value, error }) {
      const { resolve, reject } = asked.get(number);
      asked.delete(number);
      if (error === undefined) resolve(value);
      else reject(new Error(error));
    }

    /** Options, with a function for each thing that the client may ask for. */
    function withAsks(name, { asks: names = [], ...options }, channel) {
      for (const what of names) options[what] = (ctx) => ask(name, what, { channel, ...ctx });
      return options;
    }

    function listen(name, emitter, events, channel) {
      for (const event of events)
        emitter.on(event, (ctx) => tell({ client: name, event, channel: channel ?? ctx?.channel, ctx: plain(ctx) }));
    }

    const ops = {
      make({ client: name, version, endpoints, options, headers }) {
        const frames = [];
        const made = new versions[version](endpoints, {
          ...parts,
          websocket: socket(headers, (text) => frames.length < FRAMES && frames.push(text)),
          ...withAsks(name, options),
        });
        const events = ["connecting", "connected", "disconnected", "error", "message"];
        listen(name, made, [...events, "subscribing", "subscribed", "unsubscribed", "publication", "join", "leave"]);
        clients.set(name, { made, frames });
      },
      connect: ({ made }) => made.connect(),
      disconnect: ({ made }) => made.disconnect(),
      frames: ({ frames }) => frames,
      subscribe({ made, client: name, channel, options }) {
        let subscription = made.getSubscription(channel);
        if (subscription === null) {
          subscription = made.newSubscription(channel, withAsks(name, options, channel));
          const events = ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error"];
          listen(name, subscription, events, channel);
        }
        subscription.subscribe();
      },
      unsubscribe: ({ made, channel }) => made.getSubscription(channel).unsubscribe(),
      resubscribe({ made, channel }) {
        made.getSubscription(channel).unsubscribe();
        made.getSubscription(channel).subscribe();
      },
      publish: ({ made, channel, data }) => made.publish(channel, data),
      history: ({ made, channel, options }) => made.history(channel, options),
      presence: ({ made, channel }) => made.presence(channel),
      presenceStats: ({ made, channel }) => made.presenceStats(channel),
      rpc: ({ made, method, data }) => made.rpc(method, data),
      async batch({ made, client: name, orders }) {
        made.startBatching();
        const results = orders.map((order) => attempt({ ...order, client: name }));
        made.stopBatching();
        return Promise.all(results);
      },
      // Its listeners stay: an error that nobody listens to is thrown, and some come after the end.
      forget({ made, client: name }) {
        made.disconnect();
        clients.delete(name);
      },
    };

    async function attempt(order) {
      try {
        const result = await ops[order.op]({ ...clients.get(order.client), ...order });
        return { result: plain(result) };
      } catch (error) {
        return { error: { code: error?.code ?? 0, message: String(error?.message ?? error) } };
      }
    }

    return async function take(message) {
      if (message.answer !== undefined) answer(message);
      else tell({ n: message.n, ...(await attempt(message)) });
    };
  }

  /** What JSON can say of it: a context may hold an error, whose own fields are not among them. */
  function plain(value) {
    if (value instanceof Error) return { ...value, code: value.code, message: value.message };
    if (Array.isArray(value)) return value.map(plain);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(
      Object.entries(value)
        .filter(([, part]) => typeof part !== "function")
        .map(([name, part]) => [name, plain(part)]),
    );
  }

  /** A class of sockets that shows the frames it receives. */
  function showing(Socket, construct, show) {
    return class extends Socket {
      constructor(endpoint, ...rest) {
        super(...construct(endpoint, rest));
        this.addEventListener("message", (event) => show(String(event.data)));
      }
    };
  }

  const exported = { makeDriver, showing };
  if (typeof module === "object") module.exports = exported;
  else root.stock = exported;
})(globalThis);
