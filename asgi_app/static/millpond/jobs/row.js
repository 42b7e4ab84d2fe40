/* One job of the list: a line that says how it is, and below it, when unfolded, everything that is known.
 *
 * Built once and changed in place, so that focus and selection stay where they are.
 */

import { el, setText } from "../dom.js";
import { age, localTime } from "../format.js";
import { Details } from "./details.js";
import { icon, shapeIcon } from "./icons.js";
import { isLive, isRetryable, leftOf, momentOf, parametersOf, placeOf, problemOf, progressOf, timesOf } from "./job.js";

/** The second press of a double one is not meant for the button that has taken the place of the first. */
const DOUBLE = 500;

export class Row {
  #parts;
  #details = null;
  #fresh = new Set(); // buttons that have just come
  #doing = ""; //   the action under way: cancel, retry, discard
  #said = null; //  what came of the last one: {text, bad, link}
  #job;

  /** `rights`: `{run, staff}` of whoever looks; `act(what, row)` is called by the buttons. */
  constructor(job, rights, act) {
    this.id = job.id;
    this.rights = rights;
    this.act = act;
    this.#parts = this.#build();
    this.root = this.#parts.root;
  }

  get isOpen() {
    return this.#parts.name.getAttribute("aria-expanded") === "true";
  }

  get job() {
    return this.#job;
  }

  focus() {
    this.#parts.name.focus();
  }

  /** Show this version.  `now` is the service's clock, `toldAt` when the version came, by the same. */
  show(job, now, toldAt) {
    this.#job = job;
    const { root, icon: sign, state, name, parameters, problem, result } = this.#parts;
    if (root.dataset.status !== job.status) {
      root.dataset.status = job.status;
      shapeIcon(sign, job.status);
      setText(state, job.status);
    }
    setText(name.firstChild, job.name);
    setText(parameters, parametersOf(job));
    const wrong = problemOf(job);
    problem.hidden = !wrong;
    setText(problem, wrong);
    result.hidden = !job.result_url;
    if (job.result_url) result.href = job.result_url;
    this.#showButtons();
    this.tick(now, toldAt);
  }

  /** What changes by itself: ages, and what is left. */
  tick(now, toldAt) {
    const job = this.#job;
    const { times, moment, attempt } = this.#parts;
    setText(times, timesOf(job, now));
    times.hidden = !times.textContent;
    setText(moment, `${isLive(job) ? "asked for " : ""}${age(now - momentOf(job))}`);
    moment.dateTime = new Date(momentOf(job)).toISOString();
    moment.title = localTime(momentOf(job));
    attempt.hidden = job.attempt < 2;
    setText(attempt, `attempt ${job.attempt}`);
    this.#showProgress(job, now, toldAt);
    if (this.isOpen) this.#details.show(job, now);
  }

  /** An action has begun: its button says so, and takes no second press. */
  begin(what) {
    this.#doing = what;
    this.say(null);
    this.#showButtons();
  }

  /** It is over. */
  end() {
    this.#doing = "";
    this.#showButtons();
  }

  /** What came of it: `{text, bad?, link?: {text, go}}`, or null. */
  say(what) {
    this.#said = what;
    const { said } = this.#parts;
    said.hidden = !what;
    said.toggleAttribute("data-bad", Boolean(what?.bad));
    if (!what) return;
    said.replaceChildren(what.text);
    if (!what.link) return;
    const link = typeof what.link.go === "string" ? el("a", { href: what.link.go }, what.link.text) : el("button", { class: "link", type: "button" }, what.link.text);
    if (typeof what.link.go !== "string") link.addEventListener("click", what.link.go);
    said.append(" ", link);
  }

  /** No right to forget jobs of this kind. */
  denyDiscard() {
    this.rights.discard = false;
    this.#showButtons();
  }

  toggle(open = !this.isOpen) {
    const { name, body } = this.#parts;
    if (open && !this.#details) {
      this.#details = new Details(this.#parts.discard);
      body.append(this.#details.root);
    }
    name.setAttribute("aria-expanded", String(open));
    body.hidden = !open;
  }

  #showProgress(job, now, toldAt) {
    const { bar, fill, standing } = this.#parts;
    const progress = progressOf(job);
    bar.hidden = !progress;
    const text = progress ? [progress.text, leftOf(job, toldAt, now)].filter(Boolean).join(" · ") : placeOf(job);
    setText(standing, text);
    if (!progress) return;
    bar.toggleAttribute("data-indeterminate", progress.percent === null);
    fill.style.width = progress.percent === null ? "" : `${progress.percent}%`;
    if (progress.percent === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(Math.floor(progress.percent)));
    bar.setAttribute("aria-valuetext", text);
  }

  #showButtons() {
    const { cancel, retry, discard } = this.#parts;
    const job = this.#job;
    if (document.activeElement === cancel && !isLive(job)) this.focus();
    const tookItsPlace = retry.hidden && !cancel.hidden;
    cancel.hidden = !(this.rights.run && isLive(job));
    retry.hidden = !(this.rights.run && isRetryable(job));
    if (tookItsPlace && !retry.hidden) this.#rest(retry);
    discard.hidden = !(this.rights.run && !isLive(job) && (job.kind === "action" ? this.rights.discard !== false : this.rights.staff && this.rights.discard !== false));
    const label = (button, what, words, doing) => {
      const under = this.#doing === what;
      setText(button, under ? doing : words);
      button.setAttribute("aria-disabled", String(this.#doing !== "" || this.#fresh.has(button)));
    };
    label(cancel, "cancel", "Cancel", "Cancelling…");
    label(retry, "retry", "Retry", "Retrying…");
    label(discard, "discard", "Discard", "Discarding…");
  }

  /** A button that has come where another was takes no press for a moment. */
  #rest(button) {
    this.#fresh.add(button);
    setTimeout(() => {
      this.#fresh.delete(button);
      this.#showButtons();
    }, DOUBLE);
  }

  #button(what) {
    const button = el("button", { class: "button button--quiet job__button", type: "button" });
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") !== "true") this.act(what, this);
    });
    return button;
  }

  #build() {
    const titled = `job-${this.id}`;
    const parts = {
      icon: icon(),
      state: el("span", {}),
      name: el("button", { class: "job__name", type: "button", id: titled, "aria-expanded": "false", "aria-controls": `${titled}-all` }, el("span"), icon()),
      parameters: el("code", { class: "job__parameters" }),
      attempt: el("span", { class: "job__attempt" }),
      fill: el("div", { class: "meter__fill" }),
      standing: el("p", { class: "job__standing" }),
      result: el("a", { class: "job__result", hidden: true }, "Result", el("span", { class: "visually-hidden" }, " of this job")),
      times: el("span", {}),
      moment: el("time", {}),
      problem: el("p", { class: "job__problem" }),
      said: el("p", { class: "job__said", hidden: true }),
      body: el("div", { class: "job__all", id: `${titled}-all`, role: "region", "aria-labelledby": titled, hidden: true }),
      cancel: this.#button("cancel"),
      retry: this.#button("retry"),
      discard: this.#button("discard"),
    };
    parts.name.lastChild.firstChild.setAttribute("d", "M6 3.5L10.5 8L6 12.5");
    parts.name.addEventListener("click", () => this.act("toggle", this));
    for (const button of [parts.cancel, parts.retry, parts.discard]) button.setAttribute("aria-describedby", titled);
    parts.bar = el("div", { class: "meter", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-labelledby": titled }, parts.fill);
    const state = el("p", { class: "job__state" }, parts.icon, parts.state, parts.attempt);
    const what = el("div", { class: "job__what" }, el("h2", {}, parts.name), parts.parameters);
    const how = el("div", { class: "job__how" }, parts.bar, parts.standing, parts.result);
    const when = el("p", { class: "job__when" }, parts.times, parts.moment);
    const buttons = el("div", { class: "job__buttons" }, parts.cancel, parts.retry);
    parts.root = el("li", { class: "job", "data-id": this.id }, el("div", { class: "job__line" }, state, what, how, when, buttons), parts.problem, parts.said, parts.body);
    return parts;
  }
}
