import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router-dom";
import type { ChartConfiguration } from "chart.js";

import { get, taskStates, type Dashboard as Data, type Task, type TaskState } from "../api";
import { axis, colour, Picture, still } from "../chart";
import { useEvery } from "../live";
import { useMay } from "../session";
import { Card, Empty, Failure, Loading, Page, Refresh, statusName } from "../ui";
import { Timeline } from "./Activity";

interface Slice { name: string; tone: string; count: number; to: string }

function Legend({ slices }: { slices: Slice[] }) {
  return (
    <ul className="legend">
      {slices.map(({ name, tone, count, to }) => (
        <li key={name} className={`tone-${tone}`}><span className="dot" aria-hidden="true" /><Link to={to}>{name}</Link><span className="count">{count.toLocaleString("en")}</span></li>
      ))}
    </ul>
  );
}

const said = (slices: Slice[]) => slices.map((s) => `${s.name} ${s.count}`).join(", ");

function StatusChart({ slices }: { slices: Slice[] }) {
  return <Picture round label={`Agents by status: ${said(slices)}`} make={() => ({
    type: "doughnut",
    data: { labels: slices.map((s) => s.name), datasets: [{ data: slices.map((s) => s.count), backgroundColor: slices.map((s) => colour(`${s.tone}-fill`)), borderWidth: 2, borderColor: colour("panel") }] },
    options: { ...still, cutout: "68%" } as ChartConfiguration["options"],
  })} />;
}

function TaskChart({ slices }: { slices: Slice[] }) {
  return <Picture label={`Tasks by result: ${said(slices)}`} make={() => ({
    type: "bar",
    data: { labels: slices.map((s) => s.name), datasets: [{ data: slices.map((s) => s.count), backgroundColor: slices.map((s) => colour(`${s.tone}-fill`)), borderRadius: 4, maxBarThickness: 22 }] },
    options: { ...still, indexAxis: "y", scales: { x: { ...axis(), beginAtZero: true, ticks: { ...axis().ticks, precision: 0 } }, y: { ...axis(), grid: { display: false } } } },
  })} />;
}

const resultTone: Partial<Record<TaskState, string>> = { SUCCEEDED: "good", FAILED: "bad", EXPIRED: "bad", INSTALLED_UNVERIFIED: "warn", CANCELLED: "idle" };
const LATEST = 200;

function Tasks() {
  const tasks = useQuery({ queryKey: ["tasks", "latest"], queryFn: () => get<{ tasks: Task[] }>("/tasks", { pageSize: LATEST }), refetchInterval: useEvery(10_000) });
  const slices = taskStates
    .map((state) => ({ name: statusName(state), tone: resultTone[state] ?? "info", to: `/tasks?state=${state}`, count: tasks.data?.tasks.filter((t) => t.state === state).length ?? 0 }))
    .filter((slice) => slice.count > 0);
  return (
    <Card title="Tasks by result" aside={<span className="sub">the latest {LATEST}</span>}>
      {tasks.isPending ? <Loading /> : tasks.isError && !tasks.data ? <Failure error={tasks.error} retry={() => void tasks.refetch()} />
        : slices.length === 0 ? <Empty title="No tasks yet">Open an agent and run one.</Empty>
        : <div className="chart-row"><TaskChart slices={slices} /><Legend slices={slices} /></div>}
    </Card>
  );
}

export function Dashboard() {
  const may = useMay("operator");
  const dashboard = useQuery({ queryKey: ["dashboard"], queryFn: () => get<Data>("/dashboard"), refetchInterval: useEvery(3000) });
  const d = dashboard.data;
  const actions = <>
    <Refresh fetching={dashboard.isFetching} refetch={dashboard.refetch} />
    {may && <Link className="btn btn-primary btn-sm" to="/agents/register">Register an agent</Link>}
  </>;
  if (!d) return <Page title="Dashboard" actions={actions}>{dashboard.isError ? <Failure error={dashboard.error} retry={() => void dashboard.refetch()} /> : <Loading rows={8} />}</Page>;

  const slices: Slice[] = [
    { name: "Online", tone: "good", count: d.online, to: "/agents?status=ONLINE" },
    { name: "Offline", tone: "bad", count: d.offline, to: "/agents?status=OFFLINE" },
    { name: "Safe mode", tone: "warn", count: d.safeMode, to: "/agents?status=SAFE_MODE" },
    { name: "Bootstrapping", tone: "info", count: d.bootstrapping, to: "/agents?status=BOOTSTRAPPING" },
    { name: "Expired", tone: "bad", count: d.expired, to: "/agents?status=EXPIRED" },
    { name: "Disabled", tone: "idle", count: d.disabled, to: "/agents?status=DISABLED" },
  ];
  return (
    <Page title="Dashboard" actions={actions}>
      {dashboard.isError && <Failure error={dashboard.error} retry={() => void dashboard.refetch()} />}
      <div className="tiles">
        <Link className="tile" to="/agents"><span className="number">{d.total.toLocaleString("en")}</span><span className="name">Agents</span></Link>
        {slices.map(({ name, tone, count, to }) => (
          <Link key={name} className={`tile ${count ? `tone-${tone}` : ""}`} to={to}><span className="number">{count.toLocaleString("en")}</span><span className="name">{name}</span></Link>
        ))}
        <Link className={`tile ${d.openAlerts ? "tone-bad" : ""}`} to="/alerts"><span className="number">{(d.openAlerts ?? 0).toLocaleString("en")}</span><span className="name">Open alerts</span></Link>
        <div className={`tile ${d.identitiesExpiring ? "tone-warn" : ""}`} title="Agents whose identity certificate ends within 7 days">
          <span className="number">{d.identitiesExpiring.toLocaleString("en")}</span><span className="name">End in 7 days</span>
        </div>
      </div>
      <div className="columns even">
        <Card title="Agents by status">
          {d.total === 0 ? <Empty title="No agents yet">{may ? <Link to="/agents/register">Register the first one.</Link> : "An operator registers them."}</Empty>
            : <div className="chart-row"><StatusChart slices={slices} /><Legend slices={slices.filter((s) => s.count > 0)} /></div>}
        </Card>
        <Tasks />
      </div>
      <Card title="Recent activity">
        <Timeline entries={d.recentActivity} />
      </Card>
    </Page>
  );
}
