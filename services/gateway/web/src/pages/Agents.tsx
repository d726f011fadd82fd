import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { useState } from "react";
import { Form } from "react-bootstrap";
import { Link } from "react-router-dom";

import { agentStatuses, get, type Agent } from "../api";
import { useFilters, useTyped } from "../filters";
import { useEvery } from "../live";
import { useMay } from "../session";
import { Time } from "../time";
import { Answer, Choice, DataTable, Empty, Id, Page, Pager, Refresh, StatusBadge, named } from "../ui";
import { BulkActions } from "./BulkActions";

const columns: ColumnDef<Agent>[] = [
  { id: "HOSTNAME", header: "Agent", cell: ({ row: { original: a } }) => <><Link className="fw-semibold" to={`/agents/${a.id}`}>{a.hostname}</Link><span className="sub"><Id>{a.id}</Id></span></> },
  { header: "Status", cell: ({ row }) => <StatusBadge agent={row.original} /> },
  { header: "Bootstrap", cell: ({ row: { original: a } }) => a.bootstrappedAt ? <>Enrolled <span className="sub"><Time at={a.bootstrappedAt} /></span></> : <span className="nowrap">Waits for the agent</span> },
  { id: "HEARTBEAT", header: "Last heartbeat", cell: ({ row }) => <Time at={row.original.lastHeartbeatAt} none="never" /> },
  { id: "EXPIRY", header: "Certificate ends", cell: ({ row }) => <Time at={row.original.identityNotAfterAt} none="none yet" /> },
  { header: "Version", cell: ({ row }) => row.original.facts?.agentVersion ?? "–" },
  { header: "Labels", cell: ({ row }) => <Labels agent={row.original} /> },
];

export function Labels({ agent }: { agent: Agent }) {
  return <span className="chips">{agent.labels.map(({ name, value }) => <span className="chip" key={name}>{value ? `${name}=${value}` : name}</span>)}</span>;
}

const sortable = ["HOSTNAME", "HEARTBEAT", "EXPIRY"] as const;

export function Agents() {
  const may = useMay("operator");
  const filters = useFilters();
  const [params, set] = filters;
  const [q, status, label, sort, page] = ["q", "status", "label", "sort", "page"].map((name) => params.get(name) ?? "");
  const [search, setSearch] = useTyped("q", filters);
  const [labels, setLabels] = useTyped("label", filters);
  const query = { search: q, status, label: label.split(",").map((one) => one.trim()).filter(Boolean), sort: sort.replace("-", ""), descending: sort.startsWith("-") ? "true" : "", pageToken: page, pageSize: 50 };
  const list = useQuery({
    queryKey: ["agents", query],
    queryFn: () => get<{ agents: Agent[]; nextPageToken?: string }>("/agents", query),
    refetchInterval: useEvery(3000),
    placeholderData: keepPreviousData,
  });
  const [chosen, choose] = useState<ReadonlySet<string>>(new Set());
  const rows = list.data?.agents ?? [];
  const selected = rows.filter((agent) => chosen.has(agent.id));
  const toggle = (ids: string[], on: boolean) => choose((before) => {
    const after = new Set(before);
    ids.forEach((id) => (on ? after.add(id) : after.delete(id)));
    return after;
  });
  const select: ColumnDef<Agent> = {
    id: "select",
    header: () => <Form.Check aria-label="Select all on this page" checked={rows.length > 0 && selected.length === rows.length} onChange={(event) => toggle(rows.map((a) => a.id), event.target.checked)} />,
    cell: ({ row: { original: a } }) => <Form.Check aria-label={`Select ${a.hostname}`} checked={chosen.has(a.id)} onChange={(event) => toggle([a.id], event.target.checked)} />,
  };
  const filtered = Boolean(q || status || label);
  return (
    <Page title="Agents" actions={<>
      <Refresh fetching={list.isFetching} refetch={list.refetch} />
      {may && <Link className="btn btn-primary btn-sm" to="/agents/register">Register an agent</Link>}
    </>}>
      <Form className="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <Form.Group controlId="search" className="grow">
          <Form.Label>Hostname or agent id</Form.Label>
          <Form.Control type="search" value={search} onChange={(event) => setSearch(event.target.value)} placeholder="part of the name, or the id's first digits" maxLength={253} />
        </Form.Group>
        <Choice id="status" label="Status" value={status} set={(value) => set("status", value)} of={[["", "All"], ...named(agentStatuses)]} />
        <Form.Group controlId="label">
          <Form.Label>Labels</Form.Label>
          <Form.Control value={labels} onChange={(event) => setLabels(event.target.value)} placeholder="env=prod, team" />
        </Form.Group>
      </Form>
      <BulkActions agents={selected} clear={() => choose(new Set())} />
      <div className="panel flush">
        <Answer of={list} rows={6}>{(data) => data.agents.length === 0 ? (filtered
            ? <Empty title="No agent matches">Search for less, or <Link to="/agents">show all.</Link></Empty>
            : <Empty title="No agents yet">{may ? <Link to="/agents/register">Register the first one.</Link> : "An operator registers them."}</Empty>)
          : <DataTable caption="Agents" columns={may ? [select, ...columns] : columns} rows={rows} rowId={(a) => a.id} sorting={{ by: sortable, value: sort, set: (value) => set("sort", value) }} />}</Answer>
      </div>
      <Pager page={page || null} next={list.data?.nextPageToken} go={(token) => set("page", token)} />
    </Page>
  );
}
