/* The page of the API: reads the OpenAPI document, lists its operations, and sends what a person fills in.
 *
 * The document tells of what its reader may see, so another token means another document.
 */

import "../theme.js";
import { el, setText } from "../dom.js";
import { OperationView } from "./operation.js";

const list = document.querySelector("[data-operations]");
const note = document.querySelector("[data-note]");
const tools = document.querySelector("[data-tools]");
const find = tools.querySelector("[data-find]");
const token = tools.querySelector("[data-token]");
const { document: address } = document.body.dataset;

/** What all operations share: the document, the token, and the way to another operation. */
const api = { description: null, token: "", views: new Map(), open };

async function load() {
  api.token = token.value.trim();
  const headers = { Accept: "application/json", ...(api.token ? { Authorization: `Bearer ${api.token}` } : {}) };
  try {
    const response = await fetch(address, { headers, credentials: api.token ? "omit" : "same-origin" });
    if (!response.ok) throw new Error((await response.json().catch(() => ({}))).detail ?? `HTTP ${response.status}`);
    api.description = await response.json();
  } catch (error) {
    setText(note, `The document could not be read: ${error.message}`);
    return;
  } finally {
    tools.hidden = false;
  }
  draw();
  show();
  open(decodeURIComponent(location.hash.slice(1)));
}

function draw() {
  const { tags, paths } = api.description;
  api.views.clear();
  const groups = new Map(tags.map(({ name, description }) => [name, group(name, description)]));
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const view = new OperationView(api, method.toUpperCase(), path, operation);
      api.views.set(operation.operationId, view);
      groups.get(operation.tags[0]).append(view.root);
    }
  }
  list.replaceChildren(...groups.values());
}

function group(name, description) {
  const id = `group-${name.toLowerCase()}`;
  return el("section", { class: "docs__group", "aria-labelledby": id }, el("h2", { id }, name), el("p", { class: "docs__hint" }, description));
}

/** Only what has every word that is looked for. */
function show() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const view of api.views.values()) {
    view.root.hidden = !words.every((word) => view.text.includes(word));
    shown += view.root.hidden ? 0 : 1;
  }
  for (const section of list.children) section.hidden = !section.querySelector("details:not([hidden])");
  setText(note, words.length ? `${shown} of ${api.views.size} operations` : `${api.views.size} operations`);
}

/** Show an operation, with values for its parameters. */
function open(id, values = {}) {
  const view = api.views.get(id);
  if (!view) return;
  if (view.root.hidden) {
    find.value = "";
    show();
  }
  view.open(values);
}

find.addEventListener("input", show);
tools.addEventListener("submit", (event) => {
  event.preventDefault();
  load();
});
addEventListener("hashchange", () => open(decodeURIComponent(location.hash.slice(1))));
load();
