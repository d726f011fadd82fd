import { useSyncExternalStore } from "react";

let now = Date.now();
const listeners = new Set<() => void>();
let timer: number | undefined;

function subscribe(listener: () => void) {
  listeners.add(listener);
  timer ??= window.setInterval(() => {
    now = Date.now();
    listeners.forEach((each) => each());
  }, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      window.clearInterval(timer);
      timer = undefined;
    }
  };
}

/** Wall clock in ms, a new value each second. */
export const useNow = () => useSyncExternalStore(subscribe, () => now);

const units: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 365 * 86400], ["month", 30 * 86400], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1],
];
const words = new Intl.RelativeTimeFormat("en", { numeric: "always" });

export function relative(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (Math.abs(seconds) < 5) return "just now";
  const [unit, size] = units.find(([, each]) => Math.abs(seconds) >= each) ?? units[units.length - 1];
  return words.format(Math.trunc(seconds / size), unit);
}

/** "3 minutes ago", and the exact time on hover and for screen readers that ask. */
export function Time({ at, none = "–" }: { at?: string; none?: string }) {
  useNow();
  if (!at) return <span className="text-body-secondary">{none}</span>;
  return (
    <time dateTime={at} title={`${new Date(at).toLocaleString("en-GB", { timeZoneName: "short" })}\n${at}`}>
      {relative(Date.parse(at) - Date.now())}
    </time>
  );
}

export function duration(ms?: number): string {
  if (ms === undefined) return "–";
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h ${Math.round((ms % 3_600_000) / 60_000)} min`;
  return `${Math.floor(ms / 86_400_000)} d ${Math.round((ms % 86_400_000) / 3_600_000)} h`;
}
