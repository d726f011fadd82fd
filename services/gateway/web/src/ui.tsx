import { useQuery, type UseQueryResult } from "@tanstack/react-query";
import { flexRender, getCoreRowModel, useReactTable, type ColumnDef } from "@tanstack/react-table";
import { useEffect, useId, useState, type ReactNode } from "react";
import { Alert, Button, Form, Modal, Placeholder, Table } from "react-bootstrap";
import { Link } from "react-router-dom";

import { get, Problem, taskKinds, type Agent, type AgentStatus, type TaskKind, type TaskState } from "./api";

/** The frame of a view: its heading, which takes the focus after navigation, and what can be done. */
export function Page({ title, above, actions, children }: {
  title: ReactNode; above?: ReactNode; actions?: ReactNode; children: ReactNode;
}) {
  useEffect(() => {
    const text = document.querySelector("h1")?.textContent;
    document.title = text ? `${text} · SSL CLM Agents` : "SSL CLM Agents";
  });
  return (
    <div className="page">
      {above && <nav aria-label="Path" className="path">{above}</nav>}
      <div className="heading">
        <h1>{title}</h1>
        <div className="actions">{actions}</div>
      </div>
      {children}
    </div>
  );
}

export function Card({ title, aside, children, className = "" }: {
  title: string; aside?: ReactNode; children: ReactNode; className?: string;
}) {
  const id = useId();
  return (
    <section className={`panel ${className}`} aria-labelledby={id}>
      <div className="panel-heading"><h2 id={id}>{title}</h2>{aside}</div>
      {children}
    </section>
  );
}

export function Loading({ rows = 4 }: { rows?: number }) {
  return (
    <div role="status" className="loading">
      <span className="visually-hidden">Loading…</span>
      {Array.from({ length: rows }, (_, i) => (
        <Placeholder as="div" animation="glow" key={i} aria-hidden><Placeholder xs={i % 2 ? 7 : 11} /></Placeholder>
      ))}
    </div>
  );
}

const advice: Record<number, string> = {
  403: "Ask an administrator for the role that this needs.",
  404: "It may have been removed. Go back to the list.",
  409: "Somebody else changed it. Look at it again, then repeat.",
  412: "Somebody else changed it. Look at it again, then repeat.",
  429: "Wait a little, then try again.",
  503: "A part of the platform is away. This page tries again by itself.",
};

export function Failure({ error, retry }: { error: unknown; retry?: () => void }) {
  const problem = error instanceof Problem ? error : new Problem(0, "Something went wrong", String(error));
  return (
    <Alert variant="danger" className="failure">
      <Alert.Heading as="h2" className="h6">{problem.title}</Alert.Heading>
      {problem.detail && <p className="mb-1">{problem.detail}</p>}
      {advice[problem.status] && <p className="mb-1">{advice[problem.status]}</p>}
      {problem.requestId && <p className="mb-1 small">Request {problem.requestId}</p>}
      {retry && <Button size="sm" variant="outline-danger" onClick={retry}>Try again</Button>}
    </Alert>
  );
}

/** Of a question to the server: a placeholder while it is under way, why it failed, or what it said. What was said stays when asking again fails. */
export function Answer<T>({ of, rows, children }: { of: UseQueryResult<T>; rows?: number; children: (data: T) => ReactNode }) {
  if (of.isPending) return <Loading rows={rows} />;
  return <>
    {of.data !== undefined && children(of.data)}
    {of.isError && <Failure error={of.error} retry={() => void of.refetch()} />}
  </>;
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return <div className="empty"><p className="fw-semibold mb-1">{title}</p>{children && <div>{children}</div>}</div>;
}

export function Refresh({ fetching, refetch }: { fetching: boolean; refetch: () => unknown }) {
  return (
    <Button variant="outline-secondary" size="sm" onClick={() => void refetch()} aria-label="Refresh" title="Refresh now">
      <svg className={fetching ? "turning" : ""} viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
        <path fill="none" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" d="M13.500 8a5.500 5.500 0 1 1-1.600-3.900M13.500 1.800v3h-3" />
      </svg>
    </Button>
  );
}

const words = (name: string) => name.charAt(0) + name.slice(1).toLowerCase().replaceAll("_", " ");
export const agentTone: Record<AgentStatus, string> = {
  ONLINE: "good", OFFLINE: "bad", SAFE_MODE: "warn", BOOTSTRAPPING: "info", EXPIRED: "bad", DISABLED: "idle",
};
const taskTone: Record<TaskState, string> = {
  SCHEDULED: "idle", READY: "info", LEASED: "info", RUNNING: "info", SUCCEEDED: "good", INSTALLED_UNVERIFIED: "warn",
  FAILED: "bad", CANCELLED: "idle", EXPIRED: "bad",
};
export const statusName = words;

export function Badge({ tone, children, title }: { tone: string; children: ReactNode; title?: string }) {
  return <span className={`state state-${tone}`} title={title}>{children}</span>;
}
export const StatusBadge = ({ agent }: { agent: Agent }) =>
  <Badge tone={agentTone[agent.status] ?? "idle"} title={agent.reason}>{words(agent.status)}</Badge>;
export const StateBadge = ({ state }: { state: TaskState }) => <Badge tone={taskTone[state] ?? "idle"}>{words(state)}</Badge>;

export const shortId = (id: string) => `${id.slice(0, 8)}…${id.slice(-4)}`;

/** Hostname of an agent that is known by its id only. */
export function AgentLink({ id }: { id: string }) {
  const agent = useQuery({ queryKey: ["agent", id], queryFn: () => get<Agent>(`/agents/${id}`), staleTime: 60_000 });
  return <Link to={`/agents/${id}`} title={id}>{agent.data?.hostname ?? shortId(id)}</Link>;
}

/** One of a list's filters: a choice among [value, text]. */
export function Choice({ id, label, value, set, of }: { id: string; label: string; value: string; set: (value: string) => void; of: readonly (readonly [string, string])[] }) {
  return (
    <Form.Group controlId={id}>
      <Form.Label>{label}</Form.Label>
      <Form.Select value={value} onChange={(event) => set(event.target.value)}>{of.map(([one, text]) => <option key={one} value={one}>{text}</option>)}</Form.Select>
    </Form.Group>
  );
}
export const named = (names: readonly string[]) => names.map((one) => [one, words(one)] as const);

/** Beside the filters of a list that another page has narrowed to one agent. */
export function OnlyOf({ agent, clear }: { agent: string; clear: () => void }) {
  if (!agent) return null;
  return <p className="mb-2">Only of <AgentLink id={agent} /> · <button type="button" className="btn btn-link p-0 align-baseline" onClick={clear}>of all agents</button></p>;
}

/** Which kinds of task a scope allows. */
export function Operations({ id, value, set }: { id: string; value: TaskKind[]; set: (value: TaskKind[]) => void }) {
  return (
    <fieldset>
      <legend className="fs-6 mb-1">Tasks</legend>
      {taskKinds.map((kind) => (
        <Form.Check inline key={kind} id={`${id}-${kind}`} label={words(kind)} checked={value.includes(kind)}
          onChange={(event) => set(event.target.checked ? [...value, kind] : value.filter((one) => one !== kind))} />
      ))}
    </fieldset>
  );
}

/** How the server sorts, by the name that a column's id is; the address says it: "HOSTNAME", or "-HOSTNAME" for the other way. */
export interface Sorting { by: readonly string[]; value: string; set: (value: string) => void }

function Header({ id, sorting, children }: { id: string; sorting?: Sorting; children: ReactNode }) {
  if (!sorting?.by.includes(id)) return <th scope="col">{children}</th>;
  const now = sorting.value === id ? "ascending" : sorting.value === `-${id}` ? "descending" : undefined;
  const next = now === "ascending" ? `-${id}` : now === "descending" ? "" : id;
  return (
    <th scope="col" aria-sort={now}>
      <button type="button" className="sort" onClick={() => sorting.set(next)}>{children}<span aria-hidden="true">{now ? (now === "ascending" ? " ▲" : " ▼") : ""}</span></button>
    </th>
  );
}

/** A table whose rows come from the server a page at a time. */
export function DataTable<Row>({ caption, columns, rows, rowId, sorting }: {
  caption: string; columns: ColumnDef<Row>[]; rows: Row[]; rowId: (row: Row) => string; sorting?: Sorting;
}) {
  const table = useReactTable({ data: rows, columns, getCoreRowModel: getCoreRowModel(), getRowId: rowId });
  return (
    <Table hover responsive className="data" tabIndex={0}>
      <caption className="visually-hidden">{caption}</caption>
      <thead>
        {table.getHeaderGroups().map((group) => (
          <tr key={group.id}>
            {group.headers.map((header) => (
              <Header key={header.id} id={header.column.id} sorting={sorting}>{flexRender(header.column.columnDef.header, header.getContext())}</Header>
            ))}
          </tr>
        ))}
      </thead>
      <tbody>
        {table.getRowModel().rows.map((row) => (
          <tr key={row.id}>
            {row.getVisibleCells().map((cell) => <td key={cell.id}>{flexRender(cell.column.columnDef.cell, cell.getContext())}</td>)}
          </tr>
        ))}
      </tbody>
    </Table>
  );
}

/** Names with their values; what has no value is left out. */
export function Facts({ of }: { of: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {of.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false).map(([name, value]) => (
        <div key={name}><dt>{name}</dt><dd>{value}</dd></div>
      ))}
    </dl>
  );
}

/** An id or a token's like: one word, never broken. */
export const Id = ({ children }: { children: ReactNode }) => <code className="mono id">{children}</code>;

/** "operator:alice" and its like, as people say it; the whole on hover. */
export function Actor({ id }: { id?: string }) {
  if (!id) return null;
  const [kind, name] = [id.slice(0, id.indexOf(":")), id.slice(id.indexOf(":") + 1)];
  const said = { operator: name, agent: "the agent", service: `the ${name} service`, "api-key": `API key ${name}` }[kind] ?? id;
  return <span title={id}>{said}</span>;
}

export const Mono = ({ children }: { children: ReactNode }) =>
  <code className={`mono ${typeof children === "string" && children.length > 32 ? "long" : ""}`}>{children}</code>;

export function Copy({ text, what }: { text: string; what: string }) {
  const [done, setDone] = useState(false);
  return (
    <>
      <Button size="sm" variant="outline-primary" aria-label={`Copy ${what}`} onClick={() => {
        void navigator.clipboard.writeText(text).then(() => {
          setDone(true);
          window.setTimeout(() => setDone(false), 2000);
        });
      }}>{done ? "Copied" : "Copy"}</Button>
      <span role="status" className="visually-hidden">{done ? `${what} copied` : ""}</span>
    </>
  );
}

/** Asks before something that hurts; with `name`, only after that was typed; with `stay`, what comes of it takes the place of the question. */
export function Confirm({ title, verb, name, danger = true, stay = false, onClose, act, children }: {
  title: string; verb: string; name?: string; danger?: boolean; stay?: boolean; onClose: () => void; act: () => Promise<unknown>; children: ReactNode;
}) {
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const id = useId();
  const go = async () => {
    setBusy(true);
    setError(undefined);
    try {
      await act();
      if (!stay) onClose();
    } catch (failed) {
      setError(failed);
      setBusy(false);
    }
  };
  return (
    <Modal show onHide={onClose} centered aria-labelledby={id} restoreFocus>
      <Form onSubmit={(event) => { event.preventDefault(); void go(); }}>
        <Modal.Header closeButton closeLabel="Close"><Modal.Title as="h2" className="h5" id={id}>{title}</Modal.Title></Modal.Header>
        <Modal.Body>
          {children}
          {name && (
            <Form.Group controlId={`${id}-name`} className="mt-3">
              <Form.Label>Type <Mono>{name}</Mono> to go on</Form.Label>
              <Form.Control value={typed} onChange={(event) => setTyped(event.target.value)} autoFocus autoComplete="off" spellCheck={false} />
            </Form.Group>
          )}
          {error !== undefined && <div className="mt-3"><Failure error={error} /></div>}
        </Modal.Body>
        <Modal.Footer>
          <Button variant="outline-secondary" onClick={onClose}>Keep it as it is</Button>
          <Button type="submit" variant={danger ? "danger" : "primary"} disabled={busy || (name !== undefined && typed !== name)}>{verb}</Button>
        </Modal.Footer>
      </Form>
    </Modal>
  );
}

/** Next and previous page of a list that the server pages by tokens; "previous" is the browser's own back. */
export function Pager({ page, next, go }: { page: string | null; next?: string; go: (token: string | null) => void }) {
  if (!page && !next) return null;
  return (
    <nav aria-label="Pages" className="pager">
      <Button variant="outline-secondary" size="sm" disabled={!page} onClick={() => go(null)}>First page</Button>
      <Button variant="outline-secondary" size="sm" disabled={!next} onClick={() => next && go(next)}>Next page</Button>
    </nav>
  );
}
