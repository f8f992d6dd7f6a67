/** How numbers and times are written on the page. */

/** A length of time in ms: `0.4 s`, `12 s`, `3m 05s`, `1h 02m`. */
export function duration(ms: number): string {
  const safe = Math.max(0, ms);
  if (safe < 9_950) return `${(safe / 1000).toFixed(1)} s`;
  const seconds = Math.round(safe / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m ${pad(seconds % 60)}s`;
  return `${Math.floor(minutes / 60)}h ${pad(minutes % 60)}m`;
}

/** A length of time that still grows, in whole seconds, so that it does not flicker. */
export function runningDuration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return seconds < 60 ? `${seconds} s` : duration(seconds * 1000);
}

function pad(value: number): string {
  return value.toString().padStart(2, "0");
}

/** How long ago: `now`, `5m`, `3h`, `2d`, then the date. */
export function ago(then: number, now: number): string {
  const minutes = Math.floor(Math.max(0, now - then) / 60_000);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (days < 7) return `${days}d`;
  const date = new Date(then);
  const sameYear = date.getFullYear() === new Date(now).getFullYear();
  return date.toLocaleDateString(undefined, {
    day: "numeric",
    month: "short",
    ...(sameYear ? {} : { year: "numeric" }),
  });
}

/** Hour and minute of the reader's zone. */
export function clockTime(then: number): string {
  return new Date(then).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
}

/** Date and time in full, for hints. */
export function fullTime(then: number): string {
  return new Date(then).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** US dollars, with more places the smaller the sum. */
export function dollars(sum: number): string {
  if (sum >= 1) return `$${sum.toFixed(2)}`;
  if (sum >= 0.01) return `$${sum.toFixed(3)}`;
  return `$${sum.toPrecision(2)}`;
}

/** `1 file`, `3 files`. */
export function count(number: number, singular: string, plural = `${singular}s`): string {
  return `${number.toLocaleString()} ${number === 1 ? singular : plural}`;
}

/** The last piece of a path. */
export function baseName(path: string): string {
  const pieces = path.split("/").filter((piece) => piece !== "");
  return pieces.at(-1) ?? path;
}
