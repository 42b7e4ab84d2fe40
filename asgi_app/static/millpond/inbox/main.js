/* The page of the inbox: what the service has listed becomes a live list.
 *
 * What comes on the inbox is put in as it comes; after a connection that was lost and could not recover everything the
 * newest page is read again, so that nothing is missing from it.
 */

import "../theme.js";
import "./badge.js";
import { showConnection } from "../connection.js";
import { partsOf, setText } from "../dom.js";
import { Live } from "../live.js";
import { Book } from "./book.js";
import { Note } from "./note.js";
import { markRead, readPage } from "./service.js";

const TICK = 10_000;
const AGAIN = 3000;
const parts = partsOf(document);
const book = new Book();
const notes = new Map();
const live = new Live(document.body.dataset.websocket);
let loaded = false;

function draw() {
  const shown = book.shown;
  const keep = new Set(shown.map(({ id }) => id));
  for (const [id, note] of notes) {
    if (keep.has(id)) continue;
    if (note.root.contains(document.activeElement)) parts.heading.focus();
    note.root.remove();
    notes.delete(id);
  }
  let place = parts.list.firstElementChild;
  for (const item of shown) {
    let note = notes.get(item.id);
    if (!note) notes.set(item.id, (note = new Note(item, read)));
    if (note.root === place) place = place.nextElementSibling;
    else parts.list.insertBefore(note.root, place);
    note.show(item);
    note.tick(item, Date.now());
  }
  parts.list.hidden = shown.length === 0;
  parts.empty.hidden = shown.length > 0;
  parts.older.hidden = book.next === null;
}

async function load() {
  try {
    const page = await readPage();
    if (!loaded) parts.list.replaceChildren();
    loaded = true;
    book.restart(page);
    wrong("");
    draw();
    counted(page.unread);
  } catch (error) {
    wrong(error.message);
    setTimeout(() => live.connected && load(), AGAIN);
  }
}

async function read(note) {
  note.busy(true);
  await mark({ ids: [note.id] }, () => {
    const shown = book.shown;
    const at = shown.findIndex(({ id }) => id === note.id);
    const next = [...shown.slice(at + 1), ...shown.slice(0, at).reverse()].find(({ read_at: readAt }) => readAt === null);
    if (next) notes.get(next.id)?.focus();
    else parts.heading.focus();
  });
  note.busy(false);
}

async function mark(what, done) {
  try {
    const { unread } = await markRead(what);
    const focused = document.activeElement?.closest(".note, form");
    book.read(what, new Date().toISOString());
    if (focused || document.activeElement === document.body) done();
    draw();
    wrong("");
    counted(unread);
    setText(parts.aloud, "Marked as read");
  } catch (error) {
    wrong(error.message);
  }
}

function counted(unread) {
  setText(parts.count, unread ? `${unread} unread` : book.shown.length ? "all read" : "");
  parts.all.hidden = unread === 0;
}

function wrong(text) {
  parts.problem.hidden = !text;
  setText(parts.problem, text);
}

document.addEventListener("millpond:inbox", ({ detail }) => {
  if (detail.kind === "subscribed") {
    if (!detail.recovered || !loaded) load();
    return;
  }
  if (!loaded) return; // the page that is on its way has it
  if (detail.kind === "read") book.read(detail.data, new Date().toISOString());
  else if (book.tell(detail.data, Number(detail.replaces ?? 0))) setText(parts.aloud, `New: ${detail.data.title}`);
  draw();
});
document.addEventListener("millpond:unread", ({ detail }) => counted(detail));
parts.all.addEventListener("submit", (event) => {
  event.preventDefault();
  mark({ up_to: book.top }, () => parts.heading.focus());
});
parts.older.addEventListener("click", async (event) => {
  event.preventDefault();
  try {
    const last = book.shown.at(-1)?.id;
    book.older(await readPage(book.next));
    draw();
    const first = book.shown.find(({ id }) => id < last);
    if (first && parts.older.hidden) notes.get(first.id).focus();
  } catch (error) {
    wrong(error.message);
  }
});
setInterval(() => book.shown.forEach((item) => notes.get(item.id)?.tick(item, Date.now())), TICK);

showConnection(live);
live.connect();
