import { useSyncExternalStore } from "react";

/** Light, dark, or what the system says; kept in this browser. */
export type Theme = "auto" | "light" | "dark";

const key = "clm-theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

function chosen(): Theme {
  const value = localStorage.getItem(key);
  return value === "light" || value === "dark" ? value : "auto";
}

export function applyTheme() {
  const theme = chosen();
  document.documentElement.dataset.bsTheme = theme === "auto" ? (system.matches ? "dark" : "light") : theme;
  listeners.forEach((listener) => listener());
}

export function setTheme(theme: Theme) {
  if (theme === "auto") localStorage.removeItem(key);
  else localStorage.setItem(key, theme);
  applyTheme();
}

system.addEventListener("change", applyTheme);

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const useTheme = () => useSyncExternalStore(subscribe, chosen);
/** What is on the screen, for canvases: "light" or "dark". */
export const useShade = () => useSyncExternalStore(subscribe, () => document.documentElement.dataset.bsTheme ?? "light");
