import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button, Form } from "react-bootstrap";
import { Link } from "react-router-dom";
import type { ChartConfiguration } from "chart.js";

import { get, post, taskResults, type Alert, type Dashboard as Data, type Ends, type TaskPeriod } from "../api";
import { axis, colour, Picture, still } from "../chart";
import { useEvery } from "../live";
import { useMay } from "../session";
import { Time } from "../time";
import { AgentLink, Card, Empty, Failure, Loading, Page, Refresh, statusName } from "../ui";
import { Timeline } from "./Activity";

interface Slice { name: string; tone: string; count: number; to?: string }

const SHOWN = 12;
const number = (n: number) => n.toLocaleString("en");
const said = (slices: Slice[]) => slices.map((s) => `${s.name} ${s.count}`).join(", ");

function Legend({ slices }: { slices: Slice[] }) {
  return (
    <ul className="legend">
      {slices.map(({ name, tone, count, to }) => (
        <li key={name} className={`tone-${tone}`}><span className="dot" aria-hidden="true" />{to ? <Link to={to}>{name}</Link> : name}<span className="count">{number(count)}</span></li>
      ))}
    </ul>
  );
}

function StatusChart({ slices }: { slices: Slice[] }) {
  return <Picture round label={`Agents by status: ${said(slices)}`} make={() => ({
    type: "doughnut",
    data: { labels: slices.map((s) => s.name), datasets: [{ data: slices.map((s) => s.count), backgroundColor: slices.map((s) => colour(`${s.tone}-fill`)), borderWidth: 2, borderColor: colour("panel") }] },
    options: { ...still, cutout: "68%" } as ChartConfiguration["options"],
  })} />;
}

/** What becomes of tasks: the fields of a period, how they are said and where they are listed. */
const results: Record<(typeof taskResults)[number], Omit<Slice, "count">> = {
  succeeded: { name: "Succeeded", tone: "good", to: "/tasks?state=SUCCEEDED" },
  installedUnverified: { name: "Installed, not verified", tone: "warn", to: "/tasks?state=INSTALLED_UNVERIFIED" },
  failed: { name: "Failed", tone: "bad", to: "/tasks?state=FAILED" },
  expired: { name: "Expired", tone: "info", to: "/tasks?state=EXPIRED" },
  cancelled: { name: "Cancelled", tone: "idle", to: "/tasks?state=CANCELLED" },
};
const HOUR = 3_600_000, DAY = 24 * HOUR;
const spans = {
  hours: { name: "Last 24 hours", each: HOUR, n: 24, say: (at: number) => new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" }) },
  days: { name: "Last 30 days", each: DAY, n: 30, say: (at: number) => new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" }) },
} as const;

/** Every hour or day up to now: those in which no task ended are not told. */
function everyPeriod(told: TaskPeriod[], { each, n }: { each: number; n: number }): (TaskPeriod & { begins: number })[] {
  const last = Math.floor(Date.now() / each) * each;
  const known = new Map(told.map((period) => [Date.parse(period.beginsAt ?? ""), period]));
  return Array.from({ length: n }, (_, i) => last - (n - 1 - i) * each).map((begins) => ({ ...known.get(begins), begins }));
}

function Tasks({ tasks }: { tasks: Data["tasks"] }) {
  const [span, setSpan] = useState<keyof typeof spans>("hours");
  const periods = tasks ? everyPeriod(tasks[span], spans[span]) : [];
  const slices = taskResults.map((name) => ({ ...results[name], key: name, count: periods.reduce((sum, period) => sum + (period[name] ?? 0), 0) })).filter((slice) => slice.count > 0);
  return (
    <Card title="Tasks that ended" aside={
      <Form.Select size="sm" className="w-auto" aria-label="How far back" value={span} onChange={(event) => setSpan(event.target.value as keyof typeof spans)}>
        {Object.entries(spans).map(([value, { name }]) => <option key={value} value={value}>{name}</option>)}
      </Form.Select>
    }>
      {!tasks ? <Empty title="Not known now">The tasks service is away, or your grant covers some agents only.</Empty>
        : slices.length === 0 ? <Empty title="None in this time">Open an agent and run one.</Empty>
        : <>
          <Picture label={`Tasks that ended, ${spans[span].name.toLowerCase()}: ${said(slices)}`} make={() => ({
            type: "bar",
            data: {
              labels: periods.map((period) => spans[span].say(period.begins)),
              datasets: slices.map((slice) => ({ label: slice.name, data: periods.map((period) => period[slice.key] ?? 0), backgroundColor: colour(`${slice.tone}-fill`), borderRadius: 2, maxBarThickness: 22 })),
            },
            options: {
              ...still, interaction: { mode: "index", intersect: false },
              scales: { x: { ...axis(), stacked: true, grid: { display: false }, ticks: { ...axis().ticks, maxTicksLimit: 8, maxRotation: 0 } }, y: { ...axis(), stacked: true, beginAtZero: true, ticks: { ...axis().ticks, precision: 0, maxTicksLimit: 6 } } },
            },
          })} />
          <div className="legend-row"><Legend slices={slices} /></div>
        </>}
    </Card>
  );
}

const ends: Record<string, [name: string, tone: string]> = {
  0: ["Ended", "bad"], [DAY / 1000]: ["Within a day", "bad"], [7 * DAY / 1000]: ["Within 7 days", "warn"], [30 * DAY / 1000]: ["Within 30 days", "info"],
  [90 * DAY / 1000]: ["Within 90 days", "good"], later: ["Later", "good"],
};

/** How many end when; `to`: where those that end within some days are listed. */
function EndsCard({ title, of, none, to }: { title: string; of: Ends[]; none: string; to?: (days: number) => string }) {
  const slices: Slice[] = of.map((one) => {
    const [name, tone] = ends[one.withinSec ?? "later"] ?? [`Within ${Math.round((one.withinSec ?? 0) * 1000 / DAY)} days`, "info"];
    const days = Math.round((one.withinSec ?? 0) * 1000 / DAY);
    return { name, tone, count: one.n ?? 0, to: one.withinSec === undefined || days === 1 ? undefined : to?.(days) };
  });
  const served = of.some((one) => one.served !== undefined);
  return (
    <Card title={title}>
      {slices.every((slice) => slice.count === 0) ? <Empty title="None yet">{none}</Empty> : <>
        <Picture label={`${title}: ${said(slices)}`} make={() => ({
          type: "bar",
          data: { labels: slices.map((s) => s.name), datasets: [{ data: slices.map((s) => s.count), backgroundColor: slices.map((s) => colour(`${s.tone}-fill`)), borderRadius: 4, maxBarThickness: 22 }] },
          options: { ...still, indexAxis: "y", scales: { x: { ...axis(), beginAtZero: true, ticks: { ...axis().ticks, precision: 0, maxTicksLimit: 6 } }, y: { ...axis(), grid: { display: false } } } },
        })} />
        <div className="legend-row"><Legend slices={slices.filter((s) => s.count > 0)} /></div>
        {served && <p className="sub mb-0 mt-2">{number(of.reduce((sum, one) => sum + (one.withinSec !== undefined && one.withinSec <= 7 * DAY / 1000 ? one.served ?? 0 : 0), 0))} places serve one that has ended or ends within 7 days.</p>}
      </>}
    </Card>
  );
}

function Alerts({ alerts }: { alerts: Alert[] }) {
  const may = useMay("operator");
  const client = useQueryClient();
  const [failed, setFailed] = useState<unknown>();
  const acknowledge = async (alert: Alert) => {
    setFailed(undefined);
    try {
      await post(`/alerts/${alert.id}:acknowledge`);
      await client.invalidateQueries({ queryKey: ["dashboard"] });
      await client.invalidateQueries({ queryKey: ["alerts"] });
    } catch (error) {
      setFailed(error);
    }
  };
  return (
    <Card title="Recent alerts" aside={<Link to="/alerts">All alerts</Link>}>
      {failed !== undefined && <Failure error={failed} />}
      {alerts.length === 0 ? <Empty title="No open alerts">Nothing needs you now.</Empty> : (
        <ol className="timeline acting" aria-label="Open alerts, newest first">
          {alerts.map((alert) => (
            <li key={alert.id}>
              <span className="when"><Time at={alert.lastAt} /></span>
              <span className="what"><span className="fw-semibold">{statusName(alert.kind)}</span>{(alert.count ?? 1) > 1 && ` × ${alert.count}`} {alert.agentId && <>· <AgentLink id={alert.agentId} /></>}<span className="sub">{alert.message}</span></span>
              {may && <Button size="sm" variant="outline-secondary" aria-label={`Acknowledge ${statusName(alert.kind)}${alert.hostname ? ` of ${alert.hostname}` : ""}`} onClick={() => void acknowledge(alert)}>Acknowledge</Button>}
            </li>
          ))}
        </ol>
      )}
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

  const slices = [
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
        <Link className="tile" to="/agents"><span className="number">{number(d.total)}</span><span className="name">Agents</span></Link>
        {slices.map(({ name, tone, count, to }) => (
          <Link key={name} className={`tile ${count ? `tone-${tone}` : ""}`} to={to}><span className="number">{number(count)}</span><span className="name">{name}</span></Link>
        ))}
        <Link className={`tile ${d.openAlerts ? "tone-bad" : ""}`} to="/alerts"><span className="number">{number(d.openAlerts ?? 0)}</span><span className="name">Open alerts</span></Link>
        <Link className={`tile ${d.identitiesExpiring ? "tone-warn" : ""}`} to="/agents?sort=EXPIRY" title="Agents whose identity certificate ends within 7 days">
          <span className="number">{number(d.identitiesExpiring)}</span><span className="name">End in 7 days</span>
        </Link>
      </div>
      <div className={`columns even ${d.certificatesByEnd ? "pairs" : ""}`}>
        <Card title="Agents by status">
          {d.total === 0 ? <Empty title="No agents yet">{may ? <Link to="/agents/register">Register the first one.</Link> : "An operator registers them."}</Empty>
            : <div className="chart-row"><StatusChart slices={slices} /><Legend slices={slices.filter((s) => s.count > 0)} /></div>}
        </Card>
        <Tasks tasks={d.tasks} />
        <EndsCard title="Identities by time to their end" of={d.identitiesByEnd} none="Agents get one when they enrol." />
        {d.certificatesByEnd && <EndsCard title="Certificates by time to their end" of={d.certificatesByEnd} none="Run Discover on an agent to find them." to={(days) => `/certificates?ends=${days}`} />}
      </div>
      <div className="columns">
        <Alerts alerts={d.recentAlerts} />
        <Card title="Recent activity">
          <Timeline entries={d.recentActivity.slice(0, SHOWN)} />
        </Card>
      </div>
    </Page>
  );
}
