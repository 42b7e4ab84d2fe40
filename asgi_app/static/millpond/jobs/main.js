/* The page of the jobs: reads the listing, follows its live jobs over the one connection, and does what its buttons say. */

import "../theme.js";
import { showConnection } from "../connection.js";
import { partsOf, setText } from "../dom.js";
import { Live } from "../live.js";
import { Acts } from "./acts.js";
import { Book } from "./book.js";
import { calmOf } from "./calm.js";
import { Filter } from "./filter.js";
import { FILTERS, isLive } from "./job.js";
import { List, sayProblem } from "./list.js";
import { Poller } from "./poller.js";
import { readPage } from "./service.js";
import { MOST, Watching } from "./watching.js";

const TICK = 1000;
/** The service tells its time in whole seconds: a smaller difference of the clocks is none. */
const UNSURE = 1500;
const PARTIAL = { status: 503, message: "The store cannot be reached: only actions are listed" };

const { websocket, username, staff } = document.body.dataset;
const parts = partsOf(document);
const signIn = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
const live = new Live(websocket);
const list = new List(parts, { run: Boolean(username), staff: staff === "yes" }, act);
const isCalm = calmOf(parts.list, () => list.isUnfolded);
const watching = new Watching(live, told);
const acts = new Acts({ told, gone, go, say, signIn });
const filter = new Filter(parts.filter, restart);
const poller = new Poller(read, (problem) => {
  if (problem.status === 401) poller.stop();
  parts.skeleton.hidden = true;
  sayProblem(parts.problem, problem, signIn);
});
let book = new Book(filter.state, filter.name);
let ahead = 0; // of the service's clock, in milliseconds
let wasConnected = false;

const now = () => Date.now() + ahead;
const question = (cursor = "") => ({ status: FILTERS[filter.state], name: filter.name, cursor });

async function read(signal) {
  const asked = book;
  const page = await readPage(question(), signal);
  if (asked !== book) return;
  if (page.clock) ahead = Math.abs(page.clock - Date.now()) > UNSURE ? page.clock - Date.now() : 0;
  sayProblem(parts.problem, page.partial ? PARTIAL : null, signIn, "Computations are missing.");
  filter.suggest(page.items.map(({ name }) => name));
  book.top(page, now(), isCalm());
  draw();
}

/** Another filter: another list. */
function restart() {
  book = new Book(filter.state, filter.name);
  draw();
  poller.now();
}

function draw() {
  list.draw(book, now());
  list.frame(book, filter);
  watching.only(book.live(MOST));
}

/** A version of a job, from wherever. */
function told(job) {
  if (!book.tell(job, now())) return;
  list.change(book, job.id, now());
  if (isLive(job)) return;
  watching.only(book.live(MOST));
  const row = list.row(job.id);
  if (!row?.cancelling) return;
  row.cancelling = false;
  acts.ended(row);
}

function gone(row, why = "") {
  const next = list.neighbour(row);
  const focused = row.root.contains(document.activeElement);
  book.drop(row.id);
  draw();
  if (focused) (next ?? parts.heading).focus();
  if (why) say(why);
}

/** Go to a job that was asked for here. */
function go(job) {
  if (!book.put(job, now())) {
    filter.clear();
    book.put(job, now());
  }
  draw();
  list.row(job.id).focus();
  list.row(job.id).root.scrollIntoView({ block: "nearest" });
}

function act(what, row) {
  if (what !== "toggle") return acts.run(what, row);
  row.toggle();
  return row.tick(now(), book.toldAt(row.id));
}

/** Aloud, for who does not see it. */
function say(text) {
  setText(parts.aloud, text);
}

parts.news.addEventListener("click", () => {
  book.open(now());
  draw();
  scrollTo({ top: 0 });
  list.row(book.shown[0])?.focus();
});
parts.older.addEventListener("click", async () => {
  const asked = book;
  parts.older.setAttribute("aria-disabled", "true");
  try {
    const page = await readPage(question(book.next));
    if (asked !== book) return;
    const last = book.shown.at(-1);
    book.older(page, now());
    draw();
    if (document.activeElement === parts.older || document.activeElement === document.body) list.row(book.shown[book.shown.indexOf(last) + 1])?.focus();
    say(`${page.items.length} older jobs`);
  } catch (problem) {
    sayProblem(parts.problem, problem, signIn);
  } finally {
    parts.older.removeAttribute("aria-disabled");
  }
});
parts.everything.addEventListener("click", () => filter.clear());
for (const place of document.querySelectorAll("[data-origin]")) setText(place, place.textContent.replaceAll("ORIGIN", location.origin));
setInterval(() => list.tick(book, now()), TICK);

showConnection(live);
live.onConnection(() => {
  const again = live.connected && !wasConnected;
  wasConnected = live.connected;
  if (again) poller.now();
});
live.connect();
poller.now();
