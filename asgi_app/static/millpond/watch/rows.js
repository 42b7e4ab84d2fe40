/* Rows of a table, kept as long as they are the same thing: selections and places stay where they are. */

import { el, setText } from "../dom.js";

/** Show `items` in `body` in their order; `keyOf(item, index)` tells them apart, `cellsOf(item)` says what stands there. */
export function fill(body, items, keyOf, cellsOf) {
  const old = new Map([...body.rows].filter((row) => row.dataset.key).map((row) => [row.dataset.key, row]));
  const rows = items.map((item, index) => {
    const key = String(keyOf(item, index));
    const row = old.get(key) ?? el("tr", { "data-key": key });
    write(row, cellsOf(item));
    return row;
  });
  const kept = new Set(rows);
  for (const row of [...body.rows]) if (!kept.has(row)) row.remove();
  rows.forEach((row, index) => {
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
  });
}

function write(row, cells) {
  cells.forEach((cell, index) => {
    const place = row.cells[index] ?? row.appendChild(made(cell));
    const [main, note, error] = place.children;
    setText(main, cell.text);
    setText(note, cell.note ?? "");
    setText(error, cell.error ?? "");
    if (cell.state !== undefined) main.dataset.state = cell.state;
  });
}

function made({ label, number, code, state }) {
  const how = state === undefined ? null : "watch__state";
  return el(
    label ? "td" : "th",
    { "data-label": label, scope: label ? null : "row", class: number ? "number" : null },
    el(code ? "code" : "span", { class: how }),
    el("span", { class: "watch__beside" }),
    el("span", { class: "watch__error" }),
  );
}
