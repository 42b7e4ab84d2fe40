/* The replay's clock, the departures board, and the last 24 hours: flights.clock and flights.board. */

import { barScale, bars, bottomAxis, Chart, line, sharedZero, sideAxis, tip } from "../chart.js";
import { el, setText } from "../dom.js";
import { count, minutes, moment, timeOfDay, wallClock } from "../format.js";
import { Table } from "../table.js";
import { keys, stage } from "./shared.js";

const HOUR = 3600;
const NOTHING_YET = "No departures yet.";
/** Minutes from which a departure counts as late, here as in the reports. */
const LATE = 15;
/** At high speed the whole board turns over at once; only a few new rows are worth pointing at. */
const FEW = 4;

export function clockView(body) {
  const time = el("span", { class: "replay__time" });
  const speed = el("span", { class: "replay__speed" });
  const clock = el("div", { class: "replay__clock" }, time, speed);
  return {
    show(value) {
      if (!clock.isConnected) body.append(clock);
      setText(time, moment(wallClock(value.now)));
      setText(speed, value.paused || !value.speed ? "paused" : `×${count(value.speed)}`);
    },
    note: ({ replayed }) => `New York departures, a replay of 2013; not live data. ${count(replayed)} so far`,
  };
}

function standing({ cancelled, delay }) {
  if (cancelled) return ["cancelled", "board__cancelled"];
  if (delay === null || delay === undefined) return ["–", "soft"];
  const whole = Math.round(delay);
  if (whole > 0) return [`+${whole} min`, whole > LATE ? "board__late" : ""];
  return whole < 0 ? [`\u2212${-whole} min`, "board__early"] : ["on time", ""];
}

export function boardView(body) {
  const columns = [
    { label: "Time", text: (row) => timeOfDay(wallClock(row.time)) },
    { label: "Flight", head: true, class: "board__flight", text: (row) => `${row.carrier} ${row.flight}` },
    { label: "From", text: (row) => row.origin },
    { label: "To", text: (row) => row.dest },
    {
      label: "Delay",
      class: "number",
      draw(cell, row) {
        const [text, style] = standing(row);
        setText(cell, text);
        cell.className = `number ${style}`;
      },
    },
  ];
  const key = (row) => `${row.time} ${row.carrier}${row.flight} ${row.origin}`;
  const table = new Table(columns, { key, caption: "The last twelve replayed departures", class: "board" });
  const fill = stage(body, NOTHING_YET, el("div", { class: "scroll" }, table.element));
  let before = new Set();
  return {
    show({ rows }) {
      fill(rows.length > 0);
      const few = rows.filter((row) => !before.has(key(row))).length <= FEW;
      table.show(rows, (tr, row) => tr.toggleAttribute("data-new", few && !before.has(key(row))));
      before = new Set(rows.map(key));
    },
  };
}

export function hoursView(body) {
  const host = el("div");
  const fill = stage(body, NOTHING_YET, keys(["", "flights per hour (left)"], ["key--delay", "mean delay in minutes (right)"]), host);
  let rows = [];
  const [flights, delay] = sharedZero(() => rows.map((row) => row.delay));
  const chart = new Chart(host, 300, (colours) => ({
    scales: { x: barScale(HOUR, true), flights, delay },
    axes: [bottomAxis(colours, timeOfDay, 48), sideAxis(colours, "flights", colours.accent), sideAxis(colours, "delay", colours.warn, true)],
    series: [{}, bars(colours["mark-flights"], { scale: "flights" }), line(colours["mark-delay"], { scale: "delay" })],
    plugins: [tip((index) => [moment(wallClock(rows[index].hour)), `${count(rows[index].flights)} flights`, `mean delay ${minutes(rows[index].delay)}`])],
  }));
  return {
    show({ per_hour: hours }) {
      rows = hours;
      fill(rows.length > 0);
      if (!rows.length) return;
      const last = rows.at(-1);
      const label = `Flights per hour and mean delay over ${rows.length} replayed hours. Last hour: ${count(last.flights)} flights, mean delay ${minutes(last.delay)}.`;
      chart.draw([rows.map((row) => wallClock(row.hour)), rows.map((row) => row.flights), rows.map((row) => (row.flights ? row.delay : null))], label);
    },
    rows: (value) => value.per_hour,
  };
}
