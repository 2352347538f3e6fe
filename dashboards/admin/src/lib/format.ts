// Numbers, times and names as a person reads them. An absent value is an en dash, never 0.

export const ABSENT = "–";

type Maybe = number | null | undefined;

function known(value: Maybe): value is number {
  return value !== null && value !== undefined && Number.isFinite(value);
}

/** Three significant digits, without an exponent: 0.123, 1.23, 12.3, 123, 1,234. */
export function number(value: Maybe): string {
  if (!known(value)) return ABSENT;
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString("en-GB", { maximumFractionDigits: digits });
}

/** A latency: ms below one second, else s. */
export function seconds(value: Maybe): string {
  if (!known(value)) return ABSENT;
  if (value === 0) return "0 ms";
  if (Math.abs(value) < 0.0995) return `${(value * 1000).toFixed(Math.abs(value) < 0.00995 ? 1 : 0)} ms`;
  if (Math.abs(value) < 0.9995) return `${(value * 1000).toFixed(0)} ms`;
  if (Math.abs(value) < 100) return `${value.toFixed(Math.abs(value) < 10 ? 2 : 1)} s`;
  return `${value.toFixed(0)} s`;
}

export function perSecond(value: Maybe): string {
  return known(value) ? `${number(value)}/s` : ABSENT;
}

/** A share of 1 as percent; what is not 0 never reads as 0 %. */
export function percent(value: Maybe, digits?: number): string {
  if (!known(value)) return ABSENT;
  const hundred = value * 100;
  if (hundred > 0 && hundred < 0.01) return "< 0.01 %";
  const places = digits ?? (hundred === 0 || Math.abs(hundred) >= 10 ? 0 : Math.abs(hundred) >= 1 ? 1 : 2);
  return `${hundred.toFixed(places)} %`;
}

/** A change against 1: 1.12 is +12 %. */
export function effect(ratio: Maybe): string {
  if (!known(ratio)) return ABSENT;
  const hundred = (ratio - 1) * 100;
  const text = Math.abs(hundred) >= 10 ? Math.abs(hundred).toFixed(0) : Math.abs(hundred).toFixed(1);
  if (Number(text) === 0) return "±0 %";
  return `${hundred > 0 ? "+" : "−"}${text} %`;
}

export function bytes(value: Maybe): string {
  if (!known(value)) return ABSENT;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${number(size)} ${units[unit]}`;
}

/** A span of time: 8 s, 3 min, 2 h 5 min, 4 d. */
export function duration(total_s: Maybe): string {
  if (!known(total_s)) return ABSENT;
  const whole = Math.max(0, Math.round(total_s));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 && minutes < 10 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 && days < 7 ? `${days} d ${hours % 24} h` : `${days} d`;
}

/** How long ago (or ahead) a moment is, seen from `now` (ms). */
export function ago(iso: string, now: number): string {
  const distance_s = (now - Date.parse(iso)) / 1000;
  if (!Number.isFinite(distance_s)) return ABSENT;
  if (Math.abs(distance_s) < 2) return "just now";
  return distance_s > 0 ? `${coarse(distance_s)} ago` : `in ${coarse(-distance_s)}`;
}

function coarse(total_s: number): string {
  if (total_s < 60) return `${Math.round(total_s)} s`;
  if (total_s < 3600) return `${Math.round(total_s / 60)} min`;
  if (total_s < 86_400) return `${Math.round(total_s / 3600)} h`;
  return `${Math.round(total_s / 86_400)} d`;
}

export function clock(iso: string | number): string {
  return new Date(iso).toLocaleTimeString("en-GB");
}

export function moment(iso: string | number): string {
  return new Date(iso).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

const ACRONYMS = new Set(["api", "cpu", "gpu", "itl", "kv", "slo", "ttft"]);

/** breach_predicted and ROLLING_BACK as words: "Breach predicted", "Rolling back"; acronyms stay so: "Within SLO". */
export function words(name: string): string {
  const text = name
    .toLowerCase()
    .split(/[_.\s]+/)
    .map((word) => (ACRONYMS.has(word) ? word.toUpperCase() : word))
    .join(" ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The end of an id: enough to tell two apart (UUIDv7 begins with the time). */
export function shortId(id: string): string {
  return id.replaceAll("-", "").slice(-8);
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${number(count)} ${count === 1 ? one : many}`;
}
