/* Every declared resource as a panel of its own: the page of a service that has no dashboards yet.
 *
 * To watch a resource is to have it computed: a panel begins when it is scrolled into view, or its button is pressed.
 */

import { el } from "./dom.js";
import { Panel } from "./panel.js";
import { jsonView } from "./views/json.js";

/** List the resources but for those in `shown` elsewhere, and watch them with their defaults. */
export async function startDeclared(live, shown) {
  const section = document.querySelector("[data-declared]");
  const note = section.querySelector("[data-declared-note]");
  let resources;
  try {
    resources = (await listResources()).filter(({ name }) => !shown.has(name));
  } catch (error) {
    note.textContent = `The list of resources could not be read: ${error.message}. Reload the page to try again.`;
    return;
  }
  if (shown.size) section.hidden = resources.length === 0;
  note.textContent = resources.length ? `${resources.length} declared, shown as they are` : "None is declared yet. Name a package with a resources.py in MILLPOND_APPS and start the service again.";
  resources.forEach((resource, index) => startPanel(section, live, resource, index));
}

async function listResources() {
  const found = [];
  let cursor = null;
  do {
    const response = await fetch(`/api/v1/resources${cursor ? `?cursor=${encodeURIComponent(cursor)}` : ""}`, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const page = await response.json();
    found.push(...page.items);
    cursor = page.next;
  } while (cursor);
  return found;
}

function startPanel(section, live, { name, doc, parameters = {} }, index) {
  const root = section.querySelector("template").content.querySelector("section").cloneNode(true);
  label(root, name, `declared-${index}`);
  section.querySelector("[data-declared-panels]").append(root);
  const panel = new Panel(root, live, (body) => jsonView(body, name));
  const { button, controls, note } = panel.parts;
  note.textContent = [doc?.trim().split("\n\n")[0], describe(parameters)].filter(Boolean).join("\n");
  panel.address(name);

  const question = el("input", { type: "text", class: "question", autocomplete: "off", autocapitalize: "none", spellcheck: "false", placeholder: parameters.required?.map((one) => `${one}=`).join("&") || "defaults" });
  if (Object.keys(parameters.properties ?? {}).length) controls.append(el("label", {}, "Parameters", question));
  const watch = () => {
    const query = question.value.trim().replace(/^\?/, "");
    const topic = query ? `${name}?${query}` : name;
    if (panel.topic === topic) panel.again();
    else panel.watch(topic);
    button.textContent = "Ask again";
  };
  button.addEventListener("click", watch);
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter") watch();
  });
  if (!parameters.required?.length) onceSeen(root, () => panel.topic ?? watch());
}

function onceSeen(root, act) {
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    act();
  });
  observer.observe(root);
}

/** Give a copy of the panel its own name and ids. */
function label(root, name, id) {
  root.id = `panel-${id}`;
  root.dataset.panel = id;
  root.dataset.resource = name;
  root.querySelector("h2").textContent = name;
  root.querySelector("h2").id = `title-${id}`;
  root.setAttribute("aria-labelledby", `title-${id}`);
  root.querySelector('[role="progressbar"]').setAttribute("aria-labelledby", `title-${id}`);
}

/** The parameters in a line: `days: integer, 1 to 365, default 30`. */
function describe({ properties = {}, required = [] }) {
  const each = Object.entries(properties).map(([name, schema]) => {
    const kind = schema.enum ? schema.enum.join(" | ") : (schema.type ?? "value");
    const range = schema.minimum !== undefined && schema.maximum !== undefined ? `${schema.minimum} to ${schema.maximum}` : "";
    const standing = required.includes(name) ? "required" : schema.default === undefined ? "" : `default ${JSON.stringify(schema.default)}`;
    return `${name}: ${[kind, range, standing].filter(Boolean).join(", ")}`;
  });
  return each.join("; ");
}
