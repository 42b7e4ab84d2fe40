/* A sign for each state: its shape says what its colour does. */

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {
  queued: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11M8 5v3l2 1.5",
  running: "M5 3.2v9.6l8-4.8z",
  retrying: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3",
  succeeded: "M3 8.5l3.5 3.5L13 4.5",
  failed: "M4 4l8 8M12 4l-8 8",
  cancelled: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11M4.2 4.2l7.6 7.6",
  dead: "M8 2v12M4.5 5.5h7",
  expired: "M4 2.5h8M4 13.5h8M5 2.5c0 3 6 8 6 11M11 2.5c0 3-6 8-6 11",
};

/** An empty sign; `shapeIcon` gives it its shape. */
export function icon() {
  const picture = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" })) picture.setAttribute(name, value);
  picture.append(document.createElementNS(SVG, "path"));
  return picture;
}

export function shapeIcon(picture, status) {
  picture.firstChild.setAttribute("d", SHAPES[status] ?? SHAPES.queued);
}
