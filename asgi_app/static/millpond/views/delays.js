/* The reports that follow the filters: by carrier, hour, route and day, and how sure the means are. */

import { barScale, bars, bottomAxis, Chart, fromZero, line, sharedZero, sideAxis, tip } from "../chart.js";
import { el, setText } from "../dom.js";
import { count, dayAndMonth, decimal, minutes, share, wallClock } from "../format.js";
import { at, drawBar, drawWhisker, extent, Table } from "../table.js";
import { keys, stage } from "./shared.js";

const DAY = 86400;
const NO_FLIGHTS = "No flights match these filters.";
const two = (value) => String(value).padStart(2, "0");
const means = (rows) => extent(rows.map((row) => row.mean));

/** `chosen()` is the carrier the filters name: its row is marked, as this report shows all of them. */
export function carriersView(body, chosen) {
  const columns = [
    { label: "Carrier", head: true, class: "name", text: (row) => row.name || row.carrier },
    { label: "", class: "wide", draw: (cell, row, scale) => drawBar(cell, row.mean, scale) },
    { label: "Mean, min", class: "number", text: (row) => decimal(row.mean) },
    { label: "Late", class: "number soft", text: (row) => share(row.p_late) },
    { label: "Flights", class: "number soft extra", text: (row) => count(row.flights) },
  ];
  const table = new Table(columns, { key: (row) => row.carrier, caption: "Mean departure delay by carrier; late means more than 15 minutes", scale: means });
  const fill = stage(body, NO_FLIGHTS, el("div", { class: "scroll" }, table.element));
  let shown = [];
  const mark = () => table.show(shown, (tr, row) => tr.toggleAttribute("data-chosen", row.carrier === chosen()));
  return {
    mark,
    show({ rows }) {
      shown = [...rows].sort((a, b) => b.mean - a.mean);
      fill(rows.length > 0);
      mark();
    },
    rows: (value) => value.rows,
  };
}

export function hourlyView(body) {
  const host = el("div");
  const fill = stage(body, NO_FLIGHTS, keys(["key--bar-delay", "mean delay in minutes (right)"], ["key--line", "flights (left)"]), host);
  let rows = [];
  const [flights, delay] = sharedZero(() => rows.map((row) => row.mean));
  const chart = new Chart(host, 190, (colours) => ({
    scales: { x: barScale(1, false), delay, flights },
    axes: [bottomAxis(colours, (hour) => (Number.isInteger(hour) ? two(hour) : ""), 34), sideAxis(colours, "flights", colours.accent), sideAxis(colours, "delay", colours.warn, true)],
    series: [{}, bars(colours["mark-delay"], { scale: "delay" }), line(colours["mark-flights"], { scale: "flights" })],
    plugins: [tip((index) => [`${two(rows[index].hour)}:00 to ${two(rows[index].hour)}:59`, `mean delay ${minutes(rows[index].mean)}`, `${share(rows[index].p_late)} late`, `${count(rows[index].flights)} flights`])],
  }));
  return {
    show(value) {
      rows = value.rows;
      fill(rows.length > 0);
      if (!rows.length) return;
      const worst = rows.reduce((most, row) => ((row.mean ?? 0) > (most.mean ?? 0) ? row : most));
      chart.draw([rows.map((row) => row.hour), rows.map((row) => row.mean), rows.map((row) => row.flights)], `Mean delay by hour of the day. Worst at ${two(worst.hour)} hours: ${minutes(worst.mean)}.`);
    },
    rows: (value) => value.rows,
  };
}

export function routesView(body) {
  const columns = [
    { label: "Route", head: true, text: (row) => `${row.origin}\u2013${row.dest}` },
    { label: "", class: "wide", draw: (cell, row, scale) => drawBar(cell, row.mean, scale) },
    { label: "Mean, min", class: "number", text: (row) => decimal(row.mean) },
    { label: "Late", class: "number soft", text: (row) => share(row.p_late) },
    { label: "Flights", class: "number soft extra", text: (row) => count(row.flights) },
  ];
  const table = new Table(columns, { key: (row) => `${row.origin}${row.dest}`, caption: "The routes with the largest mean departure delay", scale: means });
  const fill = stage(body, NO_FLIGHTS, el("div", { class: "scroll" }, table.element));
  return {
    show({ rows }) {
      fill(rows.length > 0);
      table.show(rows);
    },
    rows: (value) => value.rows,
  };
}

export function cancellationsView(body) {
  const host = el("div");
  const total = el("li");
  const list = keys(["key--cancelled", "cancelled flights per day"]);
  list.append(total);
  const fill = stage(body, NO_FLIGHTS, list, host);
  let rows = [];
  const chart = new Chart(host, 190, (colours) => ({
    scales: { x: barScale(DAY, true), y: fromZero },
    axes: [bottomAxis(colours, (split) => (split % DAY ? "" : dayAndMonth(split)), 60), sideAxis(colours, "y", colours["ink-soft"])],
    series: [{}, bars(colours["mark-cancelled"])],
    plugins: [tip((index) => [dayAndMonth(wallClock(rows[index].day)), `${count(rows[index].cancelled)} cancelled`, `of ${count(rows[index].flights)} flights`])],
  }));
  return {
    show(value) {
      rows = value.rows;
      fill(rows.length > 0);
      if (!rows.length) return;
      const [cancelled, flights] = ["cancelled", "flights"].map((field) => rows.reduce((sum, row) => sum + row[field], 0));
      const words = `${count(cancelled)} of ${count(flights)} flights cancelled in ${count(rows.length)} days`;
      setText(total, words);
      chart.draw([rows.map((row) => wallClock(row.day)), rows.map((row) => row.cancelled)], `Cancelled flights by day: ${words}.`);
    },
    rows: (value) => value.rows,
  };
}

/** About five round steps across an extent. */
function ticksOf({ low, high }) {
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, index) => (first + index) * step);
}

export function confidenceView(body) {
  const scaleOf = (rows) => {
    const { low, high } = extent(rows.flatMap((row) => [row.low, row.high]));
    const scale = { low: low < 0 ? low * 1.1 : 0, high: high * 1.04 };
    return { ...scale, ticks: ticksOf(scale) };
  };
  const columns = [
    { label: "Carrier", head: true, class: "name", text: (row) => row.name || row.carrier },
    { label: "", class: "wide", draw: (cell, row, scale) => drawWhisker(cell, row, scale, scale.ticks) },
    { label: "Mean, min", class: "number", text: (row) => decimal(row.mean) },
    { label: "Between", class: "number soft", text: (row) => `${decimal(row.low)} and ${decimal(row.high)}` },
  ];
  const table = new Table(columns, { key: (row) => row.carrier, caption: "Mean departure delay by carrier with its confidence interval", scale: scaleOf });
  const ruler = el("div", { class: "whisker whisker--axis", "aria-hidden": "true" });
  table.element.tHead.rows[0].cells[1].append(ruler);
  const why = el("p", { class: "empty" }, "Resampling the flights of each carrier many times takes a worker some seconds. Ask for it and watch it come; whoever asks the same meanwhile joins in.");
  const report = el("div", { hidden: true });
  const fill = stage(report, NO_FLIGHTS, el("div", { class: "scroll" }, table.element));
  body.replaceChildren(why, report);
  const answered = (isAnswered) => {
    why.hidden = isAnswered;
    report.hidden = !isAnswered;
  };
  return {
    forget: () => answered(false),
    show({ rows }) {
      answered(true);
      fill(rows.length > 0);
      const sorted = [...rows].sort((a, b) => b.mean - a.mean);
      const scale = scaleOf(sorted);
      ruler.replaceChildren(...scale.ticks.map((tick) => at(el("span", { class: "whisker__tick" }, String(Math.round(tick * 10) / 10)), tick, scale)));
      table.show(sorted);
    },
    rows: (value) => value.rows,
  };
}
