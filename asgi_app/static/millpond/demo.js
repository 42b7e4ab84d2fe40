/* The demo's panels: which resource each shows, which filters it takes, which view draws it. */

import { showAlarm } from "./alarm.js";
import { startChat } from "./chat.js";
import { el } from "./dom.js";
import { Filters } from "./filters.js";
import { span } from "./format.js";
import { startMail } from "./mail.js";
import { Panel } from "./panel.js";
import { topicOf, valueAddress } from "./topic.js";
import { boardView, clockView, hoursView } from "./views/board.js";
import { cancellationsView, carriersView, confidenceView, hourlyView, routesView } from "./views/delays.js";
import { hostView } from "./views/host.js";

const SAMPLES = [200, 500, 1000, 2000];

/** Start every panel of the demo; returns the names of the resources they show. */
export function startDemo(live) {
  const filters = new Filters(document.querySelector("[data-filters]"));
  const root = (id) => document.getElementById(`panel-${id}`);

  for (const [id, view] of Object.entries({ clock: clockView, board: boardView, hours: hoursView, host: hostView })) {
    new Panel(root(id), live, view).watch(root(id).dataset.resource);
  }

  const chosen = () => filters.values.carrier;
  const reports = { carriers: (body) => carriersView(body, chosen), hourly: hourlyView, routes: routesView, cancellations: cancellationsView };
  for (const [id, view] of Object.entries(reports)) startReport(root(id), live, view, filters);
  startConfidence(root("confidence"), live, filters);
  showAlarm(live, root("hours"));
  startChat(live, root("chat"));
  startMail(document.querySelector("[data-mail]"));
  return new Set(["flights.alarm", ...[...document.querySelectorAll("[data-panel]")].map((panel) => panel.dataset.resource)]);
}

function namesOf(root) {
  return root.dataset.parameters.split(",");
}

function parametersOf(root, filters) {
  return Object.fromEntries(Object.entries(filters.values).filter(([name]) => namesOf(root).includes(name)));
}

/** A view that also says what it is about: the filters in words, and the days the value covers. */
function titled(view, root, filters) {
  return Object.assign(view, { note: (value) => [filters.words(namesOf(root)), span(value.from, value.to)].filter(Boolean).join(" · ") });
}

function startReport(root, live, createView, filters) {
  let view;
  const panel = new Panel(root, live, (body) => (view = titled(createView(body), root, filters)));
  const follow = () => {
    panel.watch(topicOf(root.dataset.resource, parametersOf(root, filters), filters.defaults));
    view.mark?.();
  };
  filters.onChange(follow);
  follow();
}

/** The slow report: nothing is computed until somebody asks, and a change of the filters is a new question. */
function startConfidence(root, live, filters) {
  const panel = new Panel(root, live, (body) => titled(confidenceView(body), root, filters));
  const samples = el("select", { name: "samples" }, ...SAMPLES.map((count) => el("option", { value: count }, String(count))));
  const { button, controls, note } = panel.parts;
  controls.append(el("label", {}, "Samples for each carrier", samples));
  const defaults = { ...filters.defaults, samples: SAMPLES[0] };
  const topic = () => topicOf(root.dataset.resource, { ...parametersOf(root, filters), samples: samples.value }, defaults);
  const ask = () => {
    panel.forget();
    panel.address(topic());
    button.textContent = "Compute";
    note.textContent = filters.words(namesOf(root));
  };
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    if (panel.topic === topic()) panel.again();
    else panel.watch(topic());
    tellMeLater(topic());
    button.textContent = "Compute again";
  });
  samples.addEventListener("change", ask);
  filters.onChange(() => {
    if (topic() !== panel.topic) ask();
  });
  ask();
}

/** Who is signed in and asks over HTTP finds the end of the computation in the inbox, wherever they are by then. */
function tellMeLater(topic) {
  if (!document.body.dataset.user) return;
  fetch(valueAddress(topic), { headers: { Prefer: "respond-async" }, credentials: "same-origin" }).catch((error) => console.warn("respond-async", error));
}
