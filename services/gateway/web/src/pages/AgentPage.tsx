import { useQuery } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { lazy, Suspense, useState } from "react";
import { Button } from "react-bootstrap";
import { Link, useParams } from "react-router-dom";

import { get, gone, type Activity, type Agent, type Identity, type Task } from "../api";
import { useEvery } from "../live";
import { useMay } from "../session";
import { Time } from "../time";
import { Answer, Badge, Card, DataTable, Empty, Facts, Failure, Id, Loading, Mono, Page, Refresh, StatusBadge, shortId, statusName } from "../ui";
import { Timeline } from "./Activity";
import { AgentActions } from "./AgentActions";
import { Labels } from "./Agents";
import { AgentEdit } from "./AgentEdit";
import { AgentReports } from "./AgentReports";
import { AgentTokens, NewToken } from "./AgentTokens";
import { AgentCertificates } from "./Certificates";
import { RunTask } from "./RunTask";
import { TaskTable } from "./Tasks";

const AgentJobs = lazy(() => import("./AgentJobs").then((m) => ({ default: m.AgentJobs })));
const AgentMetrics = lazy(() => import("./AgentMetrics").then((m) => ({ default: m.AgentMetrics })));

function AgentTasks({ id }: { id: string }) {
  const tasks = useQuery({ queryKey: ["tasks", { agentId: id }], queryFn: () => get<{ tasks: Task[]; nextPageToken?: string }>("/tasks", { agentId: id, pageSize: 10 }), refetchInterval: useEvery(3000) });
  return (
    <Card title="Tasks" className="flush" aside={tasks.data?.nextPageToken && <Link to={`/tasks?agent=${id}`}>All tasks</Link>}>
      <Answer of={tasks}>{(data) => data.tasks.length === 0 ? <Empty title="No tasks yet">Run one to see what certificates this host has: Discover is safe to begin with.</Empty>
        : <TaskTable tasks={data.tasks} agent={false} />}</Answer>
    </Card>
  );
}

const identityTone = { PENDING: "info", CURRENT: "good", SUPERSEDED: "idle", EXPIRED: "bad", REVOKED: "bad" } as const;
const identityColumns: ColumnDef<Identity>[] = [
  { header: "Generation", cell: ({ row }) => row.original.generation ?? 0 },
  { header: "State", cell: ({ row: { original: i } }) => i.state && <Badge tone={identityTone[i.state]}>{statusName(i.state)}</Badge> },
  { header: "Issued", cell: ({ row: { original: i } }) => <><Time at={i.issuedAt} /><span className="sub">{i.tokenId ? "by a token" : "renewed"}</span></> },
  { header: "Ends", cell: ({ row }) => <Time at={row.original.notAfterAt} /> },
  { header: "Serial", cell: ({ row }) => <Mono>{row.original.serial}</Mono> },
  { header: "SHA-256", cell: ({ row }) => <span title={row.original.fingerprintSha256}><Mono>{shortId(row.original.fingerprintSha256 ?? "")}</Mono></span> },
];

function AgentIdentities({ id }: { id: string }) {
  const list = useQuery({ queryKey: ["identities", id], queryFn: () => get<{ identities: Identity[] }>(`/agents/${id}/identities`), refetchInterval: useEvery(30_000) });
  if (!list.data || list.data.identities.length === 0) return null; // the page says it where the identity stands
  return <Card title="Identities" className="flush"><DataTable caption="Identities, newest first" columns={identityColumns} rows={list.data.identities} rowId={(i) => i.serial ?? ""} /></Card>;
}

function AgentActivity({ id }: { id: string }) {
  const list = useQuery({ queryKey: ["activity", { agentId: id }], queryFn: () => get<{ activity: Activity[] }>("/activity", { agentId: id, pageSize: 10 }), refetchInterval: useEvery(5000) });
  const auditor = useMay("auditor");
  return (
    <Card title="Activity" aside={<span className="d-flex gap-3"><Link to={`/alerts?agent=${id}`}>Alerts</Link>{auditor && <Link to={`/audit?agent=${id}`}>Audit records</Link>}</span>}>
      <Answer of={list}>{(data) => <Timeline entries={data.activity} agent={false} />}</Answer>
    </Card>
  );
}

export function AgentPage() {
  const { id = "" } = useParams();
  const [open, setOpen] = useState<"run" | "token" | "labels" | "scope" | null>(null);
  const may = useMay("operator");
  const every = useEvery(3000);
  const query = useQuery({ queryKey: ["agent", id], queryFn: () => get<Agent>(`/agents/${id}`), refetchInterval: (q) => (gone(q.state.error) ? false : every) });
  const path = <><Link to="/agents">Agents</Link> /</>;
  const agent = query.data;
  if (!agent) return <Page title="Agent" above={path}>{query.isError ? <Failure error={query.error} retry={() => void query.refetch()} /> : <Loading />}</Page>;
  const { facts, scope } = agent;
  return (
    <Page title={<>{agent.hostname} <StatusBadge agent={agent} /></>} above={path} actions={<>
      <Refresh fetching={query.isFetching} refetch={query.refetch} />
      <AgentActions agent={agent} onToken={() => setOpen("token")} onRun={() => setOpen("run")} />
    </>}>
      {query.isError && <Failure error={query.error} retry={() => void query.refetch()} />}
      {open === "token" && <NewToken agent={agent} onClose={() => setOpen(null)} />}
      {agent.reason && <div className="panel">{statusName(agent.status)}{agent.statusSinceAt && <> since <Time at={agent.statusSinceAt} /></>}: {agent.reason}{agent.safeModeEnds && <span className="sub">It ends {agent.safeModeEnds}.</span>}</div>}
      <div className="columns even">
        <Card title="Agent" aside={may && <Button size="sm" variant="link" className="p-0" aria-label="Change the labels" onClick={() => setOpen("labels")}>Labels</Button>}><Facts of={[
          ["Last heartbeat", <Time at={agent.lastHeartbeatAt} none="never" />], ["Version", facts?.agentVersion], ["Operating system", facts?.os],
          ["Kernel", facts?.kernel && `${facts.kernel} ${facts.arch ?? ""}`], ["Reported hostname", facts?.hostname !== agent.hostname && facts?.hostname],
          ["Clock", agent.clockSkewMs !== undefined && (Math.abs(agent.clockSkewMs) < 1000 ? "in step" : `${(agent.clockSkewMs / 1000).toFixed(1)} s off`)],
          ["Built", facts?.buildDate && <>{facts.buildDate}{facts.gitCommit && <span className="sub"><Mono>{facts.gitCommit.slice(0, 12)}</Mono></span>}</>],
          ["Registered", <Time at={agent.createdAt} />], ["Labels", agent.labels.length > 0 && <Labels agent={agent} />], ["Agent id", <Id>{agent.id}</Id>],
        ]} /></Card>
        <Card title="Identity">
          {agent.bootstrappedAt ? <Facts of={[
            ["Enrolled", <Time at={agent.bootstrappedAt} />], ["Certificate ends", <Time at={agent.identityNotAfterAt} />], ["Generation", String(agent.generation ?? 0)],
            ["SHA-256", agent.identityFingerprintSha256 && <Mono>{agent.identityFingerprintSha256}</Mono>],
          ]} /> : <Empty title="Not enrolled yet">The host has not used its token. Its administrator runs <Mono>clm-agent enroll</Mono>.</Empty>}
        </Card>
        <Card title="Scope" aside={may && <Button size="sm" variant="link" className="p-0" aria-label="Change the scope" onClick={() => setOpen("scope")}>Change</Button>}><Facts of={[
          ["Tasks", scope?.operations.map(statusName).join(", ") || "none"], ["Paths", scope && scope.paths.length > 0 && <Mono>{scope.paths.join(", ")}</Mono>],
          ["Names", scope && scope.dnsNames.length > 0 && <Mono>{scope.dnsNames.join(", ")}</Mono>],
          ["The host's policy allows", facts && (facts.operations.map(statusName).join(", ") || "none")],
        ]} /></Card>
      </div>
      {agent.bootstrappedAt && <Suspense fallback={<Loading rows={3} />}><AgentMetrics id={id} /><AgentJobs id={id} /></Suspense>}
      <AgentTasks id={id} />
      <AgentCertificates id={id} />
      <AgentReports id={id} />
      <AgentActivity id={id} />
      <AgentIdentities id={id} />
      <AgentTokens agent={agent} />
      {(open === "labels" || open === "scope") && <AgentEdit agent={agent} what={open} onClose={() => setOpen(null)} />}
      {open === "run" && <RunTask agent={agent} onClose={() => setOpen(null)} />}
    </Page>
  );
}
