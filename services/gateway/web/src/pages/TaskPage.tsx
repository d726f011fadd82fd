import { useQuery, useQueryClient } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { useState } from "react";
import { Button, ProgressBar } from "react-bootstrap";
import { Link, useParams } from "react-router-dom";

import { get, gone, isOver, post, type CertificateInfo, type Check, type FoundCertificate, type Step, type Task, type TaskSpec, type TaskState } from "../api";
import { useMay } from "../session";
import { duration, Time } from "../time";
import { Actor, AgentLink, Badge, Card, Confirm, DataTable, Empty, Facts, Failure, Id, Loading, Mono, Page, Refresh, StateBadge, statusName } from "../ui";

const checkTone = { PASS: "good", WARN: "warn", FAIL: "bad" } as const;
const checks: ColumnDef<Check>[] = [
  { header: "Check", cell: ({ row }) => row.original.id },
  { header: "Outcome", cell: ({ row }) => row.original.outcome && <Badge tone={checkTone[row.original.outcome]}>{statusName(row.original.outcome)}</Badge> },
  { header: "Why, and what to do", cell: ({ row: { original: c } }) => <>{c.reason}{c.remedy && <span className="sub">{c.remedy}</span>}</> },
];
const found: ColumnDef<FoundCertificate>[] = [
  { header: "Certificate", cell: ({ row: { original: f } }) => <>{f.certificate?.subject || "no subject"}<span className="sub">{f.certificate?.dnsNames.join(", ")}</span></> },
  { header: "Issuer", cell: ({ row }) => row.original.certificate?.issuer },
  { header: "Ends", cell: ({ row }) => <Time at={row.original.certificate?.notAfterAt} /> },
  { header: "Key", cell: ({ row }) => row.original.certificate?.keyType },
  { header: "Where", cell: ({ row: { original: f } }) => <><Mono>{f.endpoint ?? f.path}</Mono>{f.usedBy && <span className="sub">used by {f.usedBy}</span>}</> },
  { header: "Served", cell: ({ row }) => row.original.served ? <Badge tone="good">Served</Badge> : "no" },
];

export function Certificate({ of: c }: { of: CertificateInfo }) {
  return <Facts of={[
    ["Subject", c.subject], ["Names", c.dnsNames.join(", ")], ["Issuer", c.issuer], ["Begins", c.notBeforeAt && <Time at={c.notBeforeAt} />],
    ["Ends", c.notAfterAt && <Time at={c.notAfterAt} />], ["Key", c.keyType], ["Signature", c.signatureAlgorithm],
    ["Serial", c.serial && <Mono>{c.serial}</Mono>], ["SHA-256", c.fingerprintSha256 && <Mono>{c.fingerprintSha256}</Mono>],
  ]} />;
}

const show = (value: unknown) => Array.isArray(value) ? value.join(", ") : typeof value === "boolean" ? (value ? "yes" : "no") : String(value);

function Spec({ spec }: { spec?: TaskSpec }) {
  const asked = spec && (spec.renew ?? spec.deploy ?? spec.validate ?? spec.discover);
  const rows = Object.entries(asked ?? {}).filter(([, value]) => show(value) !== "");
  if (rows.length === 0) return <p className="mb-0 text-body-secondary">Nothing but the kind: the agent's local policy says the rest.</p>;
  return <Facts of={rows.map(([name, value]) => [name.replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`), <Mono>{show(value)}</Mono>])} />;
}

function Steps({ of }: { of: Step[] }) {
  return (
    <ol className="steps">
      {of.map((step, i) => (
        <li key={i}>
          <span className={`tick ${step.ok ? "ok" : "not"}`}><span aria-hidden="true">{step.ok ? "✓" : "✗"}</span><span className="visually-hidden">{step.ok ? "done" : "failed"}</span></span>
          <span className="fw-semibold">{step.name}</span><span className="message">{step.message}</span><span className="text-body-secondary">{duration(step.durationMs)}</span>
        </li>
      ))}
    </ol>
  );
}

/** What was done in attempts that were followed by another. */
function Attempts({ task }: { task: Task }) {
  const earlier = (task.attempts ?? []).filter((a) => (a.attempt ?? 1) < (task.attempt ?? 1));
  if (earlier.length === 0) return null;
  return <>{earlier.map((a) => (
    <Card key={a.attempt} title={`Attempt ${a.attempt ?? 1}`} aside={<>{a.outcome && statusName(a.outcome)} <Time at={a.endedAt} /></>}>
      {a.steps.length > 0 ? <Steps of={a.steps} /> : <p className="mb-0 text-body-secondary">No step was begun.</p>}
    </Card>
  ))}</>;
}

function Result({ task }: { task: Task }) {
  const result = task.result;
  if (!result) return null;
  return <>
    {result.steps.length > 0 && (
      <Card title="Steps">
        <Steps of={result.steps} />
      </Card>
    )}
    {result.checks.length > 0 && <Card title="Checks" className="flush"><DataTable caption="Checks" columns={checks} rows={result.checks} rowId={(c) => c.id ?? ""} /></Card>}
    {task.kind === "DISCOVER" && (
      <Card title="Certificates found" className="flush" aside={<span className="sub">{result.filesScanned ?? 0} files read, {result.filesUnreadable ?? 0} unreadable{result.truncated ? "; more than could be told" : ""}</span>}>
        {result.certificates.length === 0 ? <Empty title="None">Where the agent may look is in its local policy.</Empty>
          : <DataTable caption="Certificates found" columns={found} rows={result.certificates} rowId={(f) => `${f.certificate?.fingerprintSha256}${f.source}${f.path}${f.endpoint}${f.serverName}`} />}
      </Card>
    )}
    {result.certificate && <Card title="Certificate"><Certificate of={result.certificate} /></Card>}
    {(result.fingerprintBeforeSha256 || result.servedFingerprintSha256) && (
      <Card title="What is served"><Facts of={[
        ["Before", result.fingerprintBeforeSha256 && <Mono>{result.fingerprintBeforeSha256}</Mono>],
        ["Installed", result.fingerprintAfterSha256 && <Mono>{result.fingerprintAfterSha256}</Mono>],
        ["Served now", result.servedFingerprintSha256 && <Mono>{result.servedFingerprintSha256}</Mono>],
      ]} /></Card>
    )}
  </>;
}

const retryable: TaskState[] = ["FAILED", "CANCELLED", "EXPIRED", "INSTALLED_UNVERIFIED"];

export function TaskPage() {
  const { id = "" } = useParams();
  const may = useMay("operator");
  const client = useQueryClient();
  const [asking, setAsking] = useState(false);
  const [retrying, setRetrying] = useState(false);
  const query = useQuery({
    queryKey: ["task", id],
    queryFn: () => get<Task>(`/tasks/${id}`),
    refetchInterval: (q) => (gone(q.state.error) || (q.state.data && isOver(q.state.data)) ? false : 1000),
  });
  const path = <><Link to="/tasks">Tasks</Link> /</>;
  const task = query.data;
  if (!task) return <Page title="Task" above={path}>{query.isError ? <Failure error={query.error} retry={() => void query.refetch()} /> : <Loading />}</Page>;
  const over = isOver(task);
  return (
    <Page title={<>{statusName(task.kind)} <StateBadge state={task.state} /></>} above={path} actions={<>
      <Refresh fetching={query.isFetching} refetch={query.refetch} />
      {may && retryable.includes(task.state) && <Button size="sm" onClick={() => setRetrying(true)}>Retry</Button>}
      {may && !over && <Button size="sm" variant="outline-danger" disabled={task.cancelRequested} onClick={() => setAsking(true)}>{task.cancelRequested ? "Cancelling…" : "Cancel"}</Button>}
    </>}>
      {query.isError && <Failure error={query.error} retry={() => void query.refetch()} />}
      <div role="status" className="visually-hidden">{`${statusName(task.kind)}: ${statusName(task.state)}`}</div>
      {!over && (
        <Card title={task.phase ?? (task.state === "RUNNING" ? "Running on the host" : "Waits for the agent")}>
          <ProgressBar now={(task.progressPermille ?? 0) / 10} label={`${Math.round((task.progressPermille ?? 0) / 10)} %`} visuallyHidden aria-label="Progress" animated striped />
          {task.message && <p className="mb-0 mt-2">{task.message}</p>}
        </Card>
      )}
      {over && task.message && <div className="panel">{task.message}</div>}
      <div className="columns">
        <Card title="Task"><Facts of={[
          ["Agent", <AgentLink id={task.agentId} />], ["Asked by", <Actor id={task.createdBy} />], ["Created", <Time at={task.createdAt} />],
          ["Given to the agent", task.leasedAt && <Time at={task.leasedAt} />], ["Begun", task.startedAt && <Time at={task.startedAt} />],
          ["Finished", task.finishedAt && <Time at={task.finishedAt} />], ["Deadline", !over && task.deadlineAt && <Time at={task.deadlineAt} />],
          ["Took", task.startedAt && task.finishedAt && duration(Date.parse(task.finishedAt) - Date.parse(task.startedAt))],
          ["Released", task.breakGlass && "by an administrator, for an agent in safe mode"],
          ["Attempt", `${task.attempt ?? 1} of ${task.maxAttempts ?? 1}`], ["Task id", <Id>{task.id}</Id>],
        ]} /></Card>
        <Card title="Asked for"><Spec spec={task.spec} /></Card>
      </div>
      <Result task={task} />
      <Attempts task={task} />
      {retrying && (
        <Confirm title="Run this task again?" verb="Retry the task" danger={false} onClose={() => setRetrying(false)} act={async () => { client.setQueryData(["task", id], await post<Task>(`/tasks/${id}:retry`)); await query.refetch(); }}>
          <p className="mb-0">The same task gets one more attempt. What was done before stays on this page.</p>
        </Confirm>
      )}
      {asking && (
        <Confirm title="Cancel this task?" verb="Cancel the task" onClose={() => setAsking(false)} act={async () => client.setQueryData(["task", id], await post<Task>(`/tasks/${id}:cancel`))}>
          <p className="mb-0">What the host has begun, it finishes or undoes: its receipt decides how this ends.</p>
        </Confirm>
      )}
    </Page>
  );
}
