/* Tables that change in place: rows are kept by key and moved, cells change only where their content does. */

import { el, setText } from "./dom.js";

/** A column is `{label, class?, head?, text(row)}` or `{..., draw(cell, row, scale)}` for a cell with a picture. */
export class Table {
  #columns;
  #key;
  #scale;
  #rows = new Map();
  #body = el("tbody");

  constructor(columns, { key, caption, class: name = "", scale = () => null }) {
    this.#columns = columns;
    this.#key = key;
    this.#scale = scale;
    const head = el("tr", {}, ...columns.map(({ label, class: style }) => el("th", { scope: "col", class: style }, label)));
    this.element = el("table", { class: `table ${name}` }, el("caption", { class: "visually-hidden" }, caption), el("thead", {}, head), this.#body);
  }

  /** Show these rows.  `mark(tr, row)` may decorate a row. */
  show(rows, mark = () => {}) {
    const scale = this.#scale(rows);
    const before = this.#rows;
    this.#rows = new Map();
    rows.forEach((row, index) => {
      const key = this.#key(row, index);
      const line = before.get(key) ?? this.#newLine();
      this.#rows.set(key, line);
      this.#columns.forEach((column, place) => fill(column, line.cells[place], row, scale));
      mark(line, row);
      if (this.#body.children[index] !== line) this.#body.insertBefore(line, this.#body.children[index] ?? null);
    });
    for (const [key, line] of before) if (this.#rows.get(key) !== line) line.remove();
  }

  #newLine() {
    return el("tr", {}, ...this.#columns.map(({ class: style, head }) => (head ? el("th", { scope: "row", class: style }) : el("td", { class: style }))));
  }
}

function fill(column, cell, row, scale) {
  if (column.draw) column.draw(cell, row, scale);
  else setText(cell, column.text(row));
}

/** Plain records as a table, one column for each field; returns how to show a list of them. */
export function recordTable(place) {
  let table = null;
  let fields = "";
  return (records) => {
    const names = Object.keys(records[0] ?? {});
    if (!table || names.join() !== fields) {
      fields = names.join();
      const columns = names.map((name) => ({ label: name, class: typeof records[0][name] === "number" ? "number" : "", text: (record) => plain(record[name]) }));
      table = new Table(columns, { key: (_, index) => index, caption: "The numbers behind the picture" });
      place.replaceChildren(table.element);
    }
    table.show(records);
  };
}

function plain(value) {
  if (typeof value === "number") return String(Math.round(value * 1000) / 1000);
  return value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** The extent of some numbers, always with 0 in it. */
export function extent(values) {
  const numbers = values.filter((value) => Number.isFinite(value));
  return { low: Math.min(0, ...numbers), high: Math.max(0, ...numbers, 1e-9) };
}

const percentOf = ({ low, high }, value) => ((value - low) / (high - low)) * 100;

/** A bar from 0 to `value`, drawn into a cell; kept and only resized when drawn again. */
export function drawBar(cell, value, scale, style = "") {
  if (!cell.firstChild) cell.append(el("div", { class: "bar", "aria-hidden": "true" }, el("div", { class: `bar__fill ${style}` }), el("div", { class: "bar__zero" })));
  const [bar, zero] = cell.firstChild.children;
  const [from, to] = [percentOf(scale, Math.min(0, value ?? 0)), percentOf(scale, Math.max(0, value ?? 0))];
  Object.assign(bar.style, { left: `${from}%`, width: `${to - from}%` });
  zero.style.left = `${percentOf(scale, 0)}%`;
}

/** An interval with its middle, and the lines of the axis behind it. */
export function drawWhisker(cell, { low, mean, high }, scale, ticks) {
  if (!cell.firstChild) cell.append(el("div", { class: "whisker", "aria-hidden": "true" }, el("div"), el("div", { class: "whisker__range" }), el("div", { class: "whisker__dot" })));
  const [lines, range, dot] = cell.firstChild.children;
  lines.replaceChildren(...ticks.map((tick) => at(el("div", { class: "whisker__line", "data-zero": tick === 0 }), tick, scale)));
  Object.assign(range.style, { left: `${percentOf(scale, low)}%`, width: `${percentOf(scale, high) - percentOf(scale, low)}%` });
  at(dot, mean, scale);
}

/** Put an element at a value of the scale. */
export function at(element, value, scale) {
  element.style.left = `${percentOf(scale, value)}%`;
  return element;
}
