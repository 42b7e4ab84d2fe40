/* What a job is, in words.  Pure: nothing here looks at the clock, the page or the network.
 *
 * Times are milliseconds of the service's clock, given by the caller.  Invariant: of two versions of a job the newer counts.
 */

import { duration } from "../format.js";

const LIVE = new Set(["queued", "running", "retrying"]);
const OVER = ["succeeded", "failed", "cancelled", "dead", "expired"];

/** The filters of the page, as the API's list of states. */
export const FILTERS = { all: "", live: [...LIVE].join(), failed: "failed,dead", over: OVER.join() };

const OUTCOMES = { died: "worker died", interrupted: "interrupted", superseded: "outdated meanwhile" };
const PARAMETERS_SHOWN = 120;

export const isLive = (job) => LIVE.has(job.status);
export const isRetryable = (job) => !isLive(job) && job.status !== "succeeded";
export const belongs = (job, filter) => !FILTERS[filter] || FILTERS[filter].split(",").includes(job.status);

/** Of what is known and what was told the newer; of the same version the one told later: it knows the place in the queue. */
export const newer = (known, told) => (known && known.version > told.version ? known : told);

/** A duration that is still growing: whole seconds. */
const seconds = (milliseconds) => (milliseconds < 9950 ? `${Math.max(0, Math.round(milliseconds / 1000))} s` : duration(milliseconds));
const ms = (iso) => (iso ? Date.parse(iso) : null);

/** `{done, percent, text}` of a bar, percent null when nobody knows; null when there is none to draw. */
export function progressOf(job) {
  if (job.status !== "running") return null;
  const { percent = null, done, total, note } = job.progress ?? {};
  const steps = total && total <= 1000 ? `${done} of ${total}` : "";
  const share = percent === null ? "" : `${Math.floor(percent)} %`;
  return { percent, text: [share, steps, note].filter(Boolean).join(" · ") || "no progress reported" };
}

/** Seconds it may still take, counted down from when that was told. */
export function leftOf(job, toldAt, now) {
  if (job.status !== "running" || job.eta === null || job.eta === undefined) return "";
  const left = job.eta - (now - toldAt) / 1000;
  return left < 1 ? "any moment now" : `about ${seconds(left * 1000)} left`;
}

/** Where it stands while it waits. */
export function placeOf(job) {
  if (job.status === "retrying") return `waits for attempt ${job.attempt + 1}`;
  if (job.status !== "queued") return "";
  if (job.position === null) return job.attempt > 0 ? `waits for attempt ${job.attempt + 1}` : "waits";
  return job.position === 1 ? "next in its queue" : `number ${job.position} in its queue`;
}

/** How long it has been at it, or has taken; "" while it waits. */
export function timesOf(job, now) {
  const [started, finished] = [ms(job.started_at), ms(job.finished_at)];
  if (job.status === "running") return `runs for ${seconds(now - started)}`;
  if (isLive(job)) return "";
  return started === null || finished === null ? "never began" : `took ${duration(finished - started)}`;
}

/** When it ended or, while it is live, was asked for. */
export const momentOf = (job) => ms(isLive(job) ? job.created_at : (job.finished_at ?? job.created_at));

/** The parameters in one line, cut where a person stops reading. */
export function parametersOf(job) {
  const line = Object.entries(job.params ?? {}).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ");
  return line.length > PARAMETERS_SHOWN ? `${line.slice(0, PARAMETERS_SHOWN)}…` : line;
}

/** What went wrong: of the job, or of the attempt before while it is tried again. */
export function problemOf(job) {
  if (job.error) return job.error.detail || job.error.title || "It failed";
  const last = job.history?.at(-1);
  return isLive(job) && last && last.outcome !== "interrupted" ? last.detail || OUTCOMES[last.outcome] || "" : "";
}

/** The attempts, newest first: `{attempt, outcome, started, took, worker, detail}`.  The history has neither one that runs
 * nor the last of a computation that succeeded. */
export function attemptsOf(job, now) {
  const past = (job.history ?? []).map(({ attempt, outcome, started_at: began, ended_at: ended, worker, detail }) => {
    return { attempt, outcome: OUTCOMES[outcome] ?? outcome, started: ms(began), took: ms(ended) - ms(began), worker: worker ?? "", detail: detail ?? "" };
  });
  const isUnder = job.status === "running";
  if (isUnder || (job.status === "succeeded" && past.at(-1)?.attempt !== job.attempt)) {
    const started = ms(job.started_at);
    past.push({ attempt: job.attempt, outcome: job.status, started, took: (isUnder ? now : ms(job.finished_at)) - started, worker: "", detail: "" });
  }
  return past.reverse();
}
