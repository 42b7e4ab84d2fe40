/* Marks a panel while delays are out of hand: flights.alarm, which is computed whether somebody looks or not. */

import { el, setText } from "./dom.js";
import { minutes, moment, wallClock } from "./format.js";

export function showAlarm(live, panel) {
  const text = el("p", { class: "alarm", role: "status", hidden: true });
  panel.querySelector("[data-part=alert]").after(text);
  live.watch("flights.alarm", ({ value }) => {
    if (!value) return;
    panel.toggleAttribute("data-alarm", value.alarm);
    text.hidden = !value.alarm;
    if (value.alarm) setText(text, `Delays are out of hand since ${moment(wallClock(value.since))}: ${minutes(value.mean)} in the mean of ${value.hours} hours.`);
  });
}
