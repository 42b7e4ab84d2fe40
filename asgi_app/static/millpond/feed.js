/* What is known about one topic.  Pure: each function takes a feed and an event and returns the next feed.
 *
 * Invariant: a value, once there, is only ever replaced by a newer one; signals and errors change what is said about it.
 * Times are milliseconds of Date.now(), given by the caller.
 */

/** A recomputation too short to notice is not worth a flicker; one never heard of again is not claimed for ever. */
const NOTICEABLE = 600;
const FORGOTTEN = 60_000;

const REFUSALS = { 102: "This resource does not exist", 103: "You have no right to see this", 106: "Too many live panels at once", 107: "The parameters are not right" };

export function emptyFeed(topic) {
  return {
    topic,
    known: false, //    the server has answered the subscription
    state: "pending", // pending, fresh, refreshing, outdated, failed: of the value, as last told
    since: 0, //         when that state began
    value: undefined,
    hasValue: false,
    computedAt: 0, //    when the value was computed
    epoch: "",
    offset: 0,
    job: null,
    progress: null, //   {done, total, percent, note}
    problem: null, //    {title, detail}
    snapshot: null, //   what the subscribe reply said of the value that comes right behind it
  };
}

function move(feed, state, now, changes) {
  return { ...feed, ...changes, state, since: changes.since ?? (feed.state === state ? feed.since : now) };
}

/** The subscription is asked for (again): nothing is known of the newest value until the reply. */
export function onSubscribing(feed, now) {
  return move(feed, feed.hasValue ? "refreshing" : "pending", now, { known: false, problem: null, progress: null });
}

/** The reply of a subscribe: `{state, age, job}` of the value, which follows as a publication unless we hold it already. */
export function onSubscribed(feed, context, now) {
  const { state = "pending", age = 0, job = null } = context.data ?? {};
  const snapshot = context.hasRecoveredPublications ? { state, age } : null;
  const known = { known: true, job, snapshot, epoch: context.streamPosition?.epoch ?? "", problem: null };
  if (snapshot || !feed.hasValue) return move(feed, "pending", now, known);
  const computedAt = state === "pending" ? feed.computedAt : now - age * 1000;
  return move(feed, state === "fresh" ? "fresh" : "refreshing", now, { ...known, computedAt });
}

export function onPublication(feed, context, now) {
  switch (context.tags?.kind) {
    case undefined:
      return onValue(feed, context, now);
    case "progress":
      return move(feed, feed.hasValue ? "refreshing" : "pending", now, { since: now - NOTICEABLE, progress: context.data, job: context.data.job ?? feed.job, problem: null });
    case "error":
      return move(feed, "failed", now, { problem: context.data, progress: null, snapshot: null });
    case "stale":
      return move(feed, "outdated", now, { progress: null });
    default:
      return feed;
  }
}

function onValue(feed, context, now) {
  const { state, age } = feed.snapshot ?? { state: "fresh", age: 0 };
  const value = { value: context.data, hasValue: true, offset: context.offset ?? 0, computedAt: now - age * 1000 };
  return move(feed, state === "fresh" ? "fresh" : "refreshing", now, { ...value, snapshot: null, progress: null, problem: null });
}

/** Refused for good, until somebody asks again. */
export function onRefused(feed, context, now) {
  const title = REFUSALS[context.code] ?? "The subscription ended";
  return move(feed, "failed", now, { known: true, progress: null, problem: { title, detail: context.reason } });
}

/** Refused for now; the client asks again by itself. */
export function onTrouble(feed, context, now) {
  return move(feed, "failed", now, { progress: null, problem: { title: "Not available at the moment, trying again", detail: context.error?.message ?? "" } });
}

/** The view of this feed threw at what it was shown; the next value may suit it again. */
export function onBroken(feed, error, now) {
  return move(feed, "failed", now, { progress: null, problem: { title: "This panel cannot show the value", detail: error.message ?? "" } });
}

/** What to say of a feed now: idle, offline, pending, fresh, refreshing, outdated or failed. */
export function shownState(feed, connected, now) {
  if (!feed) return "idle";
  if (!connected) return "offline";
  const held = now - feed.since;
  if (feed.state === "refreshing" && (held < NOTICEABLE || held > FORGOTTEN)) return "fresh";
  return feed.state;
}

/** Is a computation under way that a person would notice? */
export function isWorking(feed, connected, now) {
  return Boolean(feed) && connected && feed.known && (feed.state === "pending" || feed.state === "refreshing") && now - feed.since >= NOTICEABLE;
}

export function versionOf(feed) {
  return feed.epoch ? `${feed.epoch}-${feed.offset}` : String(feed.offset);
}
