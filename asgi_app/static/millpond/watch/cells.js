/* What stands in the rows: [label, text, how] for each cell, the first of which heads the row. */

import { decimal, duration } from "../format.js";

const NONE = "–";

export function topicCells({ topic, kind, watchers, hidden, told, computed, seconds, state, error }) {
  return [
    { text: topic, code: true, note: kind },
    { label: "Watchers", text: String(watchers), number: true, note: hidden ? `${hidden} hidden` : "" },
    { label: "Told a minute", text: decimal(told), number: true },
    { label: "Computed a minute", text: kind === "value" ? decimal(computed) : NONE, number: true },
    { label: "Takes", text: seconds === null ? NONE : duration(seconds * 1000), number: true },
    { label: "State", text: state || NONE, state, error },
  ];
}

export function processCells({ host, pid, connections, subscriptions, watched, lag, draining, feed }) {
  const kinds = Object.entries(connections);
  const state = draining ? "draining" : feed ? "live" : "deaf";
  return [
    { text: `${host} ${pid}` },
    { label: "Connections", text: String(kinds.reduce((sum, [, count]) => sum + count, 0)), number: true },
    { label: "Of these", text: kinds.map(([name, count]) => `${count} ${name}`).join(", ") },
    { label: "Subscriptions", text: String(subscriptions), number: true },
    { label: "Topics", text: String(watched), number: true },
    { label: "Loop lag", text: `${Math.round(lag * 1000)} ms`, number: true },
    { label: "State", text: state, state },
  ];
}

export function readerCells({ user, transport, stuck, age }) {
  return [
    { text: user || "the public" },
    { label: "By", text: transport },
    { label: "Stuck for", text: duration(stuck * 1000), number: true },
    { label: "Open for", text: duration(age * 1000), number: true },
  ];
}
