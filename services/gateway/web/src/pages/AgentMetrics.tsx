/** How an agent's host has been doing: small plots with the newest value beside them. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Form } from "react-bootstrap";

import { get, type AgentMetrics as Data, type MetricsPoint } from "../api";
import { axis, colour, Picture, still } from "../chart";
import { duration, Time } from "../time";
import { Answer, Card, Empty, Mono } from "../ui";

const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
const share = (used?: number, total?: number) => (used !== undefined && total ? (100 * used) / total : undefined);
const percent = (value: number) => `${Math.round(value)} %`;

/** One row a plot: its value at a point, how it is said, and its upper end. */
const plots: { name: string; value: (p: MetricsPoint) => number | undefined; say: (value: number) => string; most?: number }[] = [
  { name: "Processors", value: (p) => (p.cpuPermille === undefined ? undefined : p.cpuPermille / 10), say: percent, most: 100 },
  { name: "Memory", value: (p) => share(p.memoryUsedBytes, p.memoryTotalBytes), say: percent, most: 100 },
  { name: "Disk", value: (p) => share(p.diskUsedBytes, p.diskTotalBytes), say: percent, most: 100 },
  { name: "Load", value: (p) => (p.load1Milli === undefined ? undefined : p.load1Milli / 1000), say: (value) => value.toFixed(2) },
];
const periods: [number, string][] = [[6 * 3600, "6 hours"], [86400, "1 day"], [7 * 86400, "7 days"], [14 * 86400, "14 days"]];

function Plot({ plot, points }: { plot: (typeof plots)[number]; points: MetricsPoint[] }) {
  const values = points.map((p) => plot.value(p) ?? null);
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return null;
  const last = known[known.length - 1];
  const label = `${plot.name}, ${known.length} points: lowest ${plot.say(Math.min(...known))}, highest ${plot.say(Math.max(...known))}, last ${plot.say(last)}`;
  return (
    <figure className="plot">
      <figcaption><span>{plot.name}</span><span className="fw-semibold">{plot.say(last)}</span></figcaption>
      <Picture label={label} make={() => ({
        type: "line",
        data: {
          labels: points.map((p) => new Date(p.beginsAt ?? 0).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" })),
          datasets: [{ label: plot.name, data: values, borderColor: colour("info-fill"), backgroundColor: colour("info-bg"), fill: true, borderWidth: 1.5, pointRadius: values.length > 40 ? 0 : 2, tension: 0.2 }],
        },
        options: {
          ...still,
          interaction: { mode: "index", intersect: false },
          plugins: { tooltip: { callbacks: { label: ({ parsed }) => (parsed.y === null ? "" : plot.say(parsed.y)) } } },
          scales: { x: { ...axis(), ticks: { ...axis().ticks, maxTicksLimit: 4, maxRotation: 0 }, grid: { display: false } }, y: { ...axis(), min: 0, max: plot.most, ticks: { ...axis().ticks, maxTicksLimit: 5 } } },
        },
      })} />
    </figure>
  );
}

export function AgentMetrics({ id }: { id: string }) {
  const [period, setPeriod] = useState(86400);
  const query = useQuery({
    queryKey: ["metrics", id, period],
    queryFn: () => get<Data>(`/agents/${id}/metrics`, { periodSec: period }),
    refetchInterval: 60_000,
  });
  const latest = query.data?.latest;
  return (
    <Card title="Host" aside={
      <Form.Select size="sm" className="w-auto" aria-label="How far back" value={period} onChange={(event) => setPeriod(Number(event.target.value))}>
        {periods.map(([seconds, name]) => <option key={seconds} value={seconds}>{name}</option>)}
      </Form.Select>
    }>
      <Answer of={query} rows={3}>{(data) => data.points.length === 0 ? <Empty title="No figures">The host tells how it is doing when its local policy says <Mono>metrics = on</Mono>.</Empty>
        : <>
          <div className="plots">{plots.map((plot) => <Plot key={plot.name} plot={plot} points={data.points} />)}</div>
          {latest && (
            <p className="sub mb-0 mt-2">
              {[latest.processors && `${latest.processors} processors`, latest.memoryTotalBytes && `${gib(latest.memoryTotalBytes)} memory`,
                latest.diskTotalBytes && `${gib(latest.diskTotalBytes)} on /`, latest.uptimeSec !== undefined && `up for ${duration(latest.uptimeSec * 1000)}`].filter(Boolean).join(" · ")}
              {" · "}<Time at={data.latestAt} />
            </p>
          )}
        </>}</Answer>
    </Card>
  );
}
