/* Numbers, ages and times as people read them.  The locale is fixed, as the page's language is. */

const LOCALE = "en";
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(LOCALE, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(LOCALE, { style: "percent", maximumFractionDigits: 0 });
const when = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const NONE = "–";

const missing = (value) => value === null || value === undefined || Number.isNaN(value);
const two = (value) => String(value).padStart(2, "0");

export const count = (value) => (missing(value) ? NONE : whole.format(value));
export const decimal = (value) => (missing(value) ? NONE : tenths.format(value).replace("-", "\u2212"));
export const share = (value) => (missing(value) ? NONE : percent.format(value));
export const minutes = (value) => (missing(value) ? NONE : `${decimal(value)} min`);

/** Bytes with a binary unit: 41.2 MiB. */
export function bytes(value) {
  if (missing(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${unit === 0 || value >= 100 ? whole.format(value) : tenths.format(value)} ${units[unit]}`;
}

/** How long ago, from milliseconds. */
export function age(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 1) return "now";
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

/** How long something takes, from milliseconds. */
export function duration(milliseconds) {
  if (missing(milliseconds)) return NONE;
  if (milliseconds < 995) return `${Math.max(0, Math.round(milliseconds))} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 9.95) return `${tenths.format(seconds)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), Math.floor(seconds % 60)];
  if (hours === 0) return `${minutes} min ${rest} s`;
  return hours < 48 ? `${hours} h ${minutes} min` : `${Math.round(hours / 24)} days`;
}

/** A moment in this browser's time zone: Mar 14, 2026, 07:20:31. */
export const localTime = (milliseconds) => (missing(milliseconds) ? NONE : when.format(milliseconds));

/** Unix seconds of the wall clock an ISO text shows, as if it were UTC: a replayed hour is drawn as it was read then. */
export function wallClock(iso) {
  const found = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?/.exec(iso ?? "");
  if (!found) return null;
  const [year, month, day, hour, minute, second] = found.slice(1).map((text) => Number(text ?? 0));
  return Date.UTC(year, month - 1, day, hour, minute, second) / 1000;
}

/** The parts of such a wall clock, ready for texts. */
function read(seconds) {
  const date = new Date(seconds * 1000);
  return { day: date.getUTCDate(), month: MONTHS[date.getUTCMonth()], year: date.getUTCFullYear(), time: `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}` };
}

export const timeOfDay = (seconds) => (seconds === null ? NONE : read(seconds).time);

export function dayAndMonth(seconds) {
  const { day, month } = read(seconds);
  return `${day} ${month.slice(0, 3)}`;
}

/** 14 March 2013, 07:20 */
export function moment(seconds) {
  if (seconds === null) return NONE;
  const { day, month, year, time } = read(seconds);
  return `${day} ${month} ${year}, ${time}`;
}

/** 1 Mar to 31 Mar 2013, or 6 Dec 2013 to 5 Jan 2014.  An end at midnight is the end of the day before. */
export function span(from, to) {
  const [start, end] = [wallClock(from), wallClock(to)];
  if (start === null || end === null) return "";
  const last = end > start && end % 86400 === 0 && /[T ]/.test(to) ? end - 1 : end;
  const year = read(start).year === read(last).year ? "" : ` ${read(start).year}`;
  return `${dayAndMonth(start)}${year} to ${dayAndMonth(last)} ${read(last).year}`;
}
