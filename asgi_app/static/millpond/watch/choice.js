/* Which topics are shown, in which order.  Pure; the same as the view does without scripts. */

/** Texts from a on, numbers from the largest down, what is not known last. */
export function chosen(topics, text, sort) {
  const wanted = text.toLowerCase();
  const rows = topics.filter(({ topic, kind }) => `${topic} ${kind}`.toLowerCase().includes(wanted));
  return rows.sort((one, other) => before(one[sort], other[sort]) || compare(one.topic, other.topic));
}

function before(one, other) {
  if (typeof one === "string") return (one === "") - (other === "") || compare(one, other);
  return (one === null) - (other === null) || (other ?? 0) - (one ?? 0);
}

const compare = (one, other) => (one < other ? -1 : Number(one > other));
