/** What an agent has done: how its tasks of each kind ended, and how long they took. */
import { useQuery } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { Link } from "react-router-dom";

import { get, taskResults, type Job } from "../api";
import { axis, colour, Picture, still } from "../chart";
import { useEvery } from "../live";
import { duration, Time } from "../time";
import { Answer, Card, DataTable, Empty, StateBadge, statusName } from "../ui";

const results: Record<(typeof taskResults)[number], [name: string, tone: string]> = {
  succeeded: ["succeeded", "good"], installedUnverified: ["not verified", "warn"], failed: ["failed", "bad"], expired: ["expired", "info"], cancelled: ["cancelled", "idle"],
};
const count = (job: Job) => taskResults.reduce((sum, name) => sum + (job[name] ?? 0), 0);
const said = (job: Job) => taskResults.filter((name) => job[name]).map((name) => `${job[name]} ${results[name][0]}`).join(", ") || "none ended";

const columns: ColumnDef<Job>[] = [
  { header: "Kind", cell: ({ row }) => <span className="fw-semibold">{statusName(row.original.kind)}</span> },
  { header: "Ended", cell: ({ row: { original: j } }) => <>{count(j)}<span className="sub">{said(j)}</span></> },
  { header: "On average", cell: ({ row }) => <span className="nowrap">{duration(row.original.meanMs)}</span> },
  { header: "Longest", cell: ({ row }) => <span className="nowrap">{duration(row.original.longestMs)}</span> },
  { header: "Last", cell: ({ row: { original: j } }) => j.lastState ? <><Link to={`/tasks/${j.lastTaskId}`}><StateBadge state={j.lastState} /></Link><span className="sub"><Time at={j.lastFinishedAt} />{j.lastMs !== undefined && `, in ${duration(j.lastMs)}`}</span></> : "–" },
];

function ResultsPlot({ jobs }: { jobs: Job[] }) {
  const label = `Tasks by kind and result: ${jobs.map((job) => `${statusName(job.kind)} ${said(job)}`).join("; ")}`;
  return (
    <figure className="plot">
      <figcaption><span>Tasks by result</span><span className="fw-semibold">{jobs.reduce((sum, job) => sum + count(job), 0)}</span></figcaption>
      <Picture label={label} make={() => ({
        type: "bar",
        data: { labels: jobs.map((job) => statusName(job.kind)), datasets: taskResults.map((name) => ({ label: results[name][0], data: jobs.map((job) => job[name] ?? 0), backgroundColor: colour(`${results[name][1]}-fill`), maxBarThickness: 18 })) },
        options: { ...still, indexAxis: "y", interaction: { mode: "index", axis: "y", intersect: false }, scales: { x: { ...axis(), stacked: true, beginAtZero: true, ticks: { ...axis().ticks, precision: 0, maxTicksLimit: 6 } }, y: { ...axis(), stacked: true, grid: { display: false } } } },
      })} />
    </figure>
  );
}

function TimesPlot({ jobs }: { jobs: Job[] }) {
  const begun = jobs.filter((job) => job.meanMs !== undefined);
  const label = `How long tasks took: ${begun.map((job) => `${statusName(job.kind)} ${duration(job.meanMs)} on average, ${duration(job.longestMs)} at most`).join("; ") || "none began"}`;
  return (
    <figure className="plot">
      <figcaption><span>How long they took</span><span>average, longest</span></figcaption>
      <Picture label={label} make={() => ({
        type: "bar",
        data: { labels: begun.map((job) => statusName(job.kind)), datasets: [
          { label: "average", data: begun.map((job) => (job.meanMs ?? 0) / 1000), backgroundColor: colour("info-fill"), maxBarThickness: 12 },
          { label: "longest", data: begun.map((job) => (job.longestMs ?? 0) / 1000), backgroundColor: colour("idle-fill"), maxBarThickness: 12 },
        ] },
        options: {
          ...still, indexAxis: "y", interaction: { mode: "index", axis: "y", intersect: false },
          plugins: { tooltip: { callbacks: { label: ({ dataset, parsed }) => `${dataset.label}: ${duration((parsed.x ?? 0) * 1000)}` } } },
          scales: { x: { ...axis(), beginAtZero: true, ticks: { ...axis().ticks, maxTicksLimit: 6, callback: (value) => `${value} s` } }, y: { ...axis(), grid: { display: false } } },
        },
      })} />
    </figure>
  );
}

export function AgentJobs({ id }: { id: string }) {
  const query = useQuery({ queryKey: ["jobs", id], queryFn: () => get<{ jobs: Job[] }>(`/agents/${id}/jobs`), refetchInterval: useEvery(10_000) });
  const jobs = query.data?.jobs ?? [];
  return (
    <Card title="Jobs" className={jobs.length ? "flush" : ""}>
      <Answer of={query} rows={3}>{() => jobs.length === 0 ? <Empty title="No task has ended yet">How each kind ends, and how long it takes, is shown here.</Empty>
        : <>
          <div className="plots inset"><ResultsPlot jobs={jobs} /><TimesPlot jobs={jobs} /></div>
          <DataTable caption="Tasks by kind" columns={columns} rows={jobs} rowId={(job) => job.kind} />
        </>}</Answer>
    </Card>
  );
}
