/* Everything that is known of a job, below its line. */

import { el, setText } from "../dom.js";
import { duration, localTime } from "../format.js";
import { Table } from "../table.js";
import { attemptsOf } from "./job.js";
import { jobAddress } from "./service.js";

const FACTS = {
  Id: (job) => job.id,
  Kind: (job) => (job.kind === "action" ? "action, has side effects" : "computation of a resource"),
  "Asked for": (job) => moment(job.created_at),
  Began: (job) => moment(job.started_at),
  Ended: (job) => moment(job.finished_at),
  Queue: (job) => `${job.queue}, priority ${job.priority} of 9`,
  Attempt: (job) => String(job.attempt || "none yet"),
};

const COLUMNS = [
  { label: "Attempt", class: "number", head: true, text: ({ attempt }) => String(attempt) },
  { label: "Outcome", text: ({ outcome }) => outcome },
  { label: "Began", text: ({ started }) => localTime(started) },
  { label: "Took", class: "number", text: ({ took, outcome }) => (outcome === "running" ? "" : duration(took)) },
  { label: "Worker", text: ({ worker }) => worker },
  { label: "Detail", class: "wide job__detail", text: ({ detail }) => detail },
];

const moment = (iso) => (iso ? localTime(Date.parse(iso)) : "not yet");

export class Details {
  #facts = new Map();
  #parameters = el("pre", { class: "json", tabindex: "0", role: "region", "aria-label": "Parameters" });
  #error = el("pre", { class: "json", tabindex: "0", role: "region", "aria-label": "Error" });
  #wrong = el("section", {}, el("h3", {}, "Error"), this.#error);
  #table = new Table(COLUMNS, { key: ({ attempt, started }) => `${attempt} ${started}`, caption: "Attempts, the newest first" });
  #attempts = el("section", {}, el("h3", {}, "Attempts"), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Attempts" }, this.#table.element));
  #json = el("a", {}, "This job as JSON");
  #result = el("a", {}, "Its result");

  constructor(discard) {
    const facts = Object.keys(FACTS).map((name) => {
      this.#facts.set(name, el("dd"));
      return el("div", {}, el("dt", {}, name), this.#facts.get(name));
    });
    this.root = el(
      "div",
      { class: "details" },
      el("dl", { class: "details__facts" }, ...facts),
      el("section", {}, el("h3", {}, "Parameters"), this.#parameters),
      this.#wrong,
      this.#attempts,
      el("p", { class: "details__links" }, this.#result, this.#json, discard),
    );
  }

  show(job, now) {
    for (const [name, value] of this.#facts) setText(value, FACTS[name](job));
    setText(this.#parameters, JSON.stringify(job.params, null, 2));
    this.#wrong.hidden = !job.error;
    setText(this.#error, job.error ? JSON.stringify(job.error, null, 2) : "");
    const attempts = attemptsOf(job, now);
    this.#attempts.hidden = attempts.length === 0;
    this.#table.show(attempts);
    this.#json.href = jobAddress(job.id);
    this.#result.hidden = !job.result_url;
    if (job.result_url) this.#result.href = job.result_url;
  }
}
