/* The page of what is watched: reads it every few seconds while somebody looks, and shows it filtered and sorted. */

import "../theme.js";
import { partsOf, setText } from "../dom.js";
import { Poller } from "../jobs/poller.js";
import { processCells, readerCells, topicCells } from "./cells.js";
import { chosen } from "./choice.js";
import { fill } from "./rows.js";

const parts = partsOf(document);
const input = parts.filter.elements.q;
let sort = document.body.dataset.sort;
let found = null;

async function read(signal) {
  const answer = await fetch("/api/v1/watch", { signal, headers: { Accept: "application/json" } });
  if (!answer.ok) throw await problemOf(answer);
  found = await answer.json();
  live("connected", "Live");
  parts.problem.hidden = true;
  draw();
}

async function problemOf(answer) {
  const { title = answer.statusText, detail = "" } = await answer.json().catch(() => ({}));
  const seconds = Number(answer.headers.get("Retry-After") ?? 0);
  return Object.assign(new Error(detail || title), { status: answer.status, retryAfter: seconds * 1000 });
}

function failed(problem) {
  live("lost", "Not updated");
  setText(parts.problem, `What is watched cannot be read: ${problem.status ? problem.message : "no answer"}. What you see is older.`);
  parts.problem.hidden = false;
}

function live(phase, word) {
  parts.mark.hidden = false;
  parts.mark.dataset.connection = phase;
  setText(parts.live, word);
}

function draw() {
  if (!found) return;
  const rows = chosen(found.topics, input.value, sort);
  fill(parts.processes.tBodies[0], found.processes, (row) => row.process, processCells);
  fill(parts.slow.tBodies[0], found.slow, (row, index) => index, readerCells);
  fill(parts.topics.tBodies[0], rows, (row) => row.topic, topicCells);
  parts.slowly.hidden = found.slow.length === 0;
  parts.none.hidden = rows.length > 0;
  parts.omitted.hidden = found.omitted === 0;
  setText(parts.none, input.value ? "Nobody watches anything like that." : "Nobody watches anything.");
  setText(parts.omitted, `Each process names its most watched topics; ${found.omitted} more are watched.`);
  setText(parts.count, `${rows.length} of ${found.topics.length}`);
}

/** The columns sort here; their links do so without scripts. */
function sortBy(head) {
  sort = head.dataset.sort;
  for (const other of parts.topics.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", head.classList.contains("number") ? "descending" : "ascending");
  parts.filter.elements.sort.value = sort;
  remember();
  draw();
}

function remember() {
  history.replaceState(null, "", `?${new URLSearchParams({ sort, q: input.value })}`);
}

parts.topics.tHead.addEventListener("click", (event) => {
  if (event.metaKey || event.ctrlKey || !event.target.closest("a")) return;
  event.preventDefault();
  sortBy(event.target.closest("th"));
});
input.addEventListener("input", () => {
  remember();
  draw();
});
parts.filter.addEventListener("submit", (event) => event.preventDefault());
new Poller(read, failed).now();
