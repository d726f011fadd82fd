/** Pictures by Chart.js. Pages that draw are loaded when they are shown: the first page does not wait for it. */
import {
  ArcElement, BarController, BarElement, CategoryScale, Chart, DoughnutController, Filler, LinearScale, LineController, LineElement,
  PointElement, Tooltip, type ChartConfiguration,
} from "chart.js";
import { useEffect, useRef } from "react";

import { useShade } from "./theme";

Chart.register(ArcElement, BarController, BarElement, CategoryScale, DoughnutController, Filler, LinearScale, LineController, LineElement, PointElement, Tooltip);

export const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const still = { animation: false, responsive: true, maintainAspectRatio: false } as const;
export const axis = () => ({ ticks: { color: colour("bs-secondary-color") }, grid: { color: colour("bs-border-color") } });

/** Drawn anew when what `label` says, or the shade, changes. The picture needs words beside it: screen readers get `label` alone. */
export function Picture({ make, label, round }: { make: () => ChartConfiguration; label: string; round?: boolean }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const shade = useShade();
  const latest = useRef(make);
  latest.current = make;
  useEffect(() => {
    const chart = new Chart(canvas.current!, latest.current());
    return () => chart.destroy();
  }, [label, shade]);
  return <div className={`chart ${round ? "round" : ""}`}><canvas ref={canvas} role="img" aria-label={label} /></div>;
}
