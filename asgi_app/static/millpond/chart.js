/* uPlot with the page's colours and size.  Canvas knows no CSS variables: colours are read when a chart is built, and
 * a change of theme builds it anew.
 */

import { el } from "./dom.js";

const uPlot = globalThis.uPlot;
const NAMES = ["ink-soft", "accent", "warn", "mark-flights", "mark-delay", "mark-cancelled", "mark-grid"];

/** The colours of the theme as the browser resolves them. */
function readColours() {
  const probe = document.body.appendChild(el("span", { hidden: true }));
  const colours = {};
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return colours;
}

const tick = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

/** The same colour, let through. */
export const faded = (colour, opacity) => colour.replace(/^rgba?\((.*?)\)$/, (_, parts) => `rgba(${parts.split(",").slice(0, 3)},${opacity})`);

export class Chart {
  #host;
  #describe;
  #height;
  #plot = null;
  #data = null;

  /** `describe(colours)` returns uPlot's options but for the size. */
  constructor(host, height, describe) {
    this.#host = host;
    this.#height = height;
    this.#describe = describe;
    host.classList.add("chart");
    host.setAttribute("role", "img");
    host.style.height = `${height}px`;
    new ResizeObserver(() => this.#fit()).observe(host);
    document.addEventListener("millpond:theme", () => this.#build());
  }

  /** Draw columns of numbers; `label` says in words what they show. */
  draw(data, label) {
    this.#data = data;
    this.#host.setAttribute("aria-label", label);
    if (this.#plot) this.#plot.setData(data);
    else this.#build();
  }

  #build() {
    if (!this.#data || !this.#host.clientWidth) return;
    this.#plot?.destroy();
    const size = { width: this.#host.clientWidth, height: this.#height };
    this.#plot = new uPlot({ ...COMMON, ...this.#describe(readColours()), ...size }, this.#data, this.#host);
  }

  #fit() {
    const width = this.#host.clientWidth;
    if (!width) return;
    if (!this.#plot) this.#build();
    else if (width !== this.#plot.width) this.#plot.setSize({ width, height: this.#height });
  }
}

const COMMON = { legend: { show: false }, cursor: { drag: { x: false, y: false }, y: false, points: { size: 7 } }, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") };

/** The axis of hours or days below a chart; `label(value)` is the text of a split. */
export function bottomAxis(colours, label, space) {
  return axis(colours, { size: 28, space, grid: { show: false }, values: (_, splits) => splits.map(label) });
}

/** An axis in the page's type and colours. */
function axis(colours, options = {}) {
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const line = { stroke: colours["mark-grid"], width: 1 };
  return { stroke: colours["ink-soft"], font, grid: line, ticks: { ...line, size: 4 }, gap: 4, ...options };
}

/** A y axis at the left, or at the right: without lines then, and without the numbers below 0 that only align it. */
export function sideAxis(colours, scale, stroke, right = false) {
  const values = (_, splits) => splits.map((split) => (split < 0 && !right ? "" : tick.format(split)));
  return axis(colours, { scale, stroke, side: right ? 1 : 3, size: 42, space: 34, values, ...(right ? { grid: { show: false } } : {}) });
}

export const bars = (colour, options = {}) => ({ paths: uPlot.paths.bars({ size: [0.72, 60], radius: 0.12 }), fill: colour, stroke: colour, width: 0, points: { show: false }, ...options });
export const line = (colour, options = {}) => ({ stroke: colour, width: 2, points: { show: false }, ...options });

/** A scale with room for half a bar at either end. */
export const barScale = (step, time) => ({ time, range: (_, low, high) => [low - step * 0.6, high + step * 0.6] });

/** A scale from 0 (or below, if the numbers are) to a little above the largest. */
export const fromZero = { range: (_, low, high) => [Math.min(0, (low ?? 0) * 1.1), Math.max(1, (high ?? 1) * 1.08)] };

/** Two scales whose zeros lie on one line, however far below 0 the second goes: `read()` are its numbers now. */
export function sharedZero(read) {
  const bounds = () => {
    const numbers = read().filter((value) => Number.isFinite(value));
    return [Math.min(0, ...numbers) * 1.1, Math.max(1, ...numbers) * 1.08];
  };
  const first = (_, __, most) => {
    const [low, high] = bounds();
    const top = Math.max(1, (most ?? 1) * 1.08);
    return [(top * low) / high, top];
  };
  return [{ range: first }, { range: bounds }];
}

/** A box that follows the pointer: `lines(index)` are its texts. */
export function tip(lines) {
  const box = el("div", { class: "tip", hidden: true });
  const follow = (plot) => {
    const { idx, left } = plot.cursor;
    box.hidden = idx === null || idx === undefined || left < 0;
    if (box.hidden) return;
    box.textContent = lines(idx).join("\n");
    const room = plot.over.clientWidth - box.offsetWidth;
    box.style.left = `${Math.max(0, left > plot.over.clientWidth / 2 ? left - box.offsetWidth - 12 : Math.min(left + 12, room))}px`;
  };
  return { hooks: { init: (plot) => plot.over.append(box), setCursor: follow } };
}
