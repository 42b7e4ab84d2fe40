/* The machine this runs on: host.metrics.  The page keeps the last minutes itself; the resource is only the moment. */

import { Chart, faded, line } from "../chart.js";
import { el, setText } from "../dom.js";
import { bytes, count, decimal } from "../format.js";
import { Table } from "../table.js";

/** At one value every two seconds, five minutes. */
const KEPT = 150;

function gauge(name, top) {
  const value = el("p", { class: "gauge__value" });
  const more = el("p", { class: "gauge__more" });
  const host = el("div");
  const chart = new Chart(host, 64, (colours) => ({
    padding: [2, 0, 2, 0],
    cursor: { show: false },
    scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(top, (high ?? 0) * 1.1)] } },
    axes: [{ show: false }, { show: false }],
    series: [{}, line(colours["mark-flights"], { fill: faded(colours["mark-flights"], 0.18), width: 1.5 })],
  }));
  const element = el("div", { class: "gauge" }, el("p", { class: "gauge__name" }, name), value, host, more);
  return { element, value, more, chart };
}

export function hostView(body) {
  const gauges = { cpu: gauge("Processor", 100), memory: gauge("Memory", 100), load: gauge("Load", 1), network: gauge("Network out", 1024) };
  const cores = el("div", { class: "cores", role: "img" });
  gauges.cpu.element.append(cores);
  const columns = [
    { label: "Process", head: true, text: (row) => row.role },
    { label: "pid", class: "number soft", text: (row) => String(row.pid) },
    { label: "CPU", class: "number", text: (row) => `${decimal(row.cpu)} %` },
    { label: "Memory", class: "number", text: (row) => bytes(row.rss) },
  ];
  const table = new Table(columns, { key: (row) => row.pid, caption: "Processes of the service" });
  const content = el("div", { hidden: true, class: "host" }, el("div", { class: "gauges" }, ...Object.values(gauges).map((one) => one.element)), el("div", { class: "scroll" }, table.element));
  body.append(content);
  const history = { times: [], cpu: [], memory: [], load: [], network: [] };

  function remember(value, cpu) {
    const time = Date.parse(value.time) / 1000;
    if (time <= history.times.at(-1)) return;
    const points = { times: time, cpu, memory: value.memory.percent, load: value.load[0], network: value.net.sent_per_s };
    for (const [name, point] of Object.entries(points)) {
      history[name].push(point);
      if (history[name].length > KEPT) history[name].shift();
    }
  }

  function showCores(loads) {
    while (cores.children.length > loads.length) cores.lastChild.remove();
    while (cores.children.length < loads.length) cores.append(el("div", { class: "core" }, el("div", { class: "core__fill" })));
    loads.forEach((load, index) => (cores.children[index].firstChild.style.height = `${Math.min(100, load)}%`));
    cores.setAttribute("aria-label", `Load of each core: ${loads.map((load) => `${count(load)} %`).join(", ")}`);
  }

  function showGauge(name, text, more) {
    setText(gauges[name].value, text);
    setText(gauges[name].more, more);
    gauges[name].chart.draw([history.times, history[name]], `${text}, ${more}`);
  }

  return {
    show(value) {
      content.hidden = false;
      const cpu = value.cpu.reduce((sum, load) => sum + load, 0) / Math.max(1, value.cpu.length);
      remember(value, cpu);
      showGauge("cpu", `${count(cpu)} %`, `${value.cpu.length} cores`);
      showGauge("memory", `${count(value.memory.percent)} %`, `${bytes(value.memory.available)} of ${bytes(value.memory.total)} free`);
      showGauge("load", decimal(value.load[0]), `${decimal(value.load[1])} over 5, ${decimal(value.load[2])} over 15 min`);
      showGauge("network", `${bytes(value.net.sent_per_s)}/s`, `${bytes(value.net.received_per_s)}/s in`);
      showCores(value.cpu);
      table.show(value.processes);
    },
    rows: (value) => value.processes,
  };
}
