/* A panel: the frame around one live value.  It says how old the value is, whether a newer one is being computed, what
 * went wrong, which version this is and where else to get it; a view draws the value itself.
 *
 * A view is `{show(value), forget?(), note?(value), rows?(value)}`: draw; go back to the start; a line under the title; the
 * numbers as a list of records.
 * Invariant: the last good value stays on screen, whatever fails, and is dimmed when it answers another question.
 */

import { el, partsOf, setText } from "./dom.js";
import { isWorking, shownState, versionOf } from "./feed.js";
import { age } from "./format.js";
import { recordTable } from "./table.js";
import { streamAddress, valueAddress } from "./topic.js";

const TICK = 1000;
/** Steps a person may follow; of millions the share says more. */
const COUNTABLE = 1000;

export class Panel {
  #live;
  #view;
  #parts;
  #feed = null;
  #stop = null;
  #drawn; //  the value on screen
  #records = null;

  constructor(root, live, createView) {
    this.root = root;
    this.#live = live;
    this.#parts = partsOf(root);
    this.#view = createView(this.#parts.body);
    this.#parts.data?.addEventListener("toggle", () => this.#fillRecords());
    live.onConnection(() => this.#frame());
    setInterval(() => this.#frame(), TICK);
  }

  get parts() {
    return this.#parts;
  }

  get topic() {
    return this.#feed?.topic ?? null;
  }

  /** Show this topic from now on; what is on screen stays, dimmed, until its first value. */
  watch(topic) {
    if (topic === this.topic) return;
    this.leave();
    this.address(topic);
    if (this.#drawn !== undefined) this.root.dataset.outdated = "";
    this.#stop = this.#live.watch(topic, (feed) => this.#take(feed));
  }

  /** Stop watching; what is on screen stays. */
  leave() {
    this.#stop?.();
    this.#stop = null;
    this.#feed = null;
    this.#frame();
  }

  /** Stop watching, and show nothing. */
  forget() {
    this.leave();
    this.#drawn = undefined;
    delete this.root.dataset.outdated;
    this.#parts.data.hidden = true;
    this.#view.forget();
  }

  /** Ask for a value again: after a failure, or because it is old. */
  again() {
    if (this.#feed) this.#live.askAgain(this.#feed.topic);
  }

  /** Print a topic and its addresses. */
  address(topic) {
    const { topic: name, json, stream } = this.#parts;
    if (name) setText(name, topic);
    json.href = valueAddress(topic);
    stream.href = streamAddress(topic);
  }

  #take(feed) {
    this.#feed = feed;
    if (feed.hasValue && feed.value !== this.#drawn) this.#draw(feed.value);
    this.#frame();
  }

  #draw(value) {
    this.#drawn = value;
    delete this.root.dataset.outdated;
    this.#parts.skeleton?.remove();
    this.#view.show(value);
    if (this.#view.note) setText(this.#parts.note, this.#view.note(value));
    this.#fillRecords();
  }

  #frame() {
    const now = Date.now();
    const state = shownState(this.#feed, this.#live.connected, now);
    this.root.dataset.state = state;
    setText(this.#parts.age, this.#status(state, now));
    setText(this.#parts.version, this.#feed?.hasValue ? `version ${versionOf(this.#feed)}` : "no value yet");
    this.#frameProgress(now);
    this.#frameProblem();
  }

  #status(state, now) {
    if (!this.#feed?.hasValue) {
      return { idle: "not asked for", offline: "waiting for the connection", failed: "failed" }[state] ?? (this.#feed.known ? "computing" : "waiting");
    }
    const old = age(now - this.#feed.computedAt);
    return { fresh: old, refreshing: `refreshing · ${old}`, outdated: `out of date · ${old}`, failed: `failed · ${old}`, offline: `not live · ${old}`, pending: `computing · ${old}` }[state];
  }

  #frameProgress(now) {
    const { progress: frame, bar, "progress-note": note } = this.#parts;
    if (!frame) return;
    const working = isWorking(this.#feed, this.#live.connected, now);
    const progress = this.#feed?.progress;
    frame.hidden = !(working && (progress || !this.#feed.hasValue));
    this.#parts.button?.setAttribute("aria-disabled", String(working));
    if (frame.hidden) return;
    const percent = progress?.percent ?? null;
    bar.toggleAttribute("data-indeterminate", percent === null);
    bar.firstElementChild.style.width = percent === null ? "" : `${percent}%`;
    if (percent === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(Math.round(percent)));
    const steps = progress?.total && progress.total <= COUNTABLE ? `${progress.done} of ${progress.total}` : "";
    const standing = percent === null ? (progress ? "" : "Queued") : `${Math.round(percent)} %`;
    const text = [standing, steps, progress?.note].filter(Boolean).join(" · ");
    setText(note, text);
    bar.setAttribute("aria-valuetext", text);
  }

  #frameProblem() {
    const { alert } = this.#parts;
    const problem = this.#feed?.problem;
    alert.hidden = !problem;
    if (!problem) return;
    const detail = problem.detail && problem.detail !== problem.title ? `: ${problem.detail}` : "";
    const kept = this.#feed.hasValue ? " The last good value stays here." : "";
    const text = `${problem.title ?? "The computation failed"}${detail}.${kept} `.replace("..", ".");
    if (alert.firstChild?.textContent === text) return;
    const button = el("button", { type: "button", class: "link" }, "Try again");
    button.addEventListener("click", () => this.again());
    alert.replaceChildren(text, button);
  }

  #fillRecords() {
    const { data, "data-table": place } = this.#parts;
    if (!data || !this.#view.rows || this.#drawn === undefined) return;
    data.hidden = false;
    if (!data.open) return;
    this.#records ??= recordTable(place);
    this.#records(this.#view.rows(this.#drawn));
  }
}
