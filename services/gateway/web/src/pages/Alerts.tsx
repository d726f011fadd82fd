import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { useState } from "react";
import { Button, Form } from "react-bootstrap";
import { Link } from "react-router-dom";

import { get, post, type Alert } from "../api";
import { useFilters } from "../filters";
import { useEvery } from "../live";
import { useMay } from "../session";
import { Time } from "../time";
import { Actor, AgentLink, Answer, Badge, Choice, DataTable, Empty, Failure, OnlyOf, Page, Pager, Refresh, named, statusName } from "../ui";

const kinds = ["AGENT_OFFLINE", "IDENTITY_EXPIRING", "IDENTITY_EXPIRED", "BOOTSTRAP_REFUSED", "CLONE", "SAFE_MODE", "TASK_FAILED", "TASK_REFUSED", "SERVED_NOT_INTENDED",
  "SERVED_DIFFERS", "AUDIT_INCONSISTENT", "CRL_LATE"];
const tone = { OPEN: "bad", ACKNOWLEDGED: "warn", RESOLVED: "good" } as const;

export function Alerts() {
  const may = useMay("operator");
  const client = useQueryClient();
  const [params, set] = useFilters();
  const [failed, setFailed] = useState<unknown>();
  const [state, kind, agentId, page] = ["state", "kind", "agent", "page"].map((name) => params.get(name) ?? "");
  const query = { state, kind, agentId, pageToken: page, pageSize: 50 };
  const list = useQuery({
    queryKey: ["alerts", query],
    queryFn: () => get<{ alerts: Alert[]; nextPageToken?: string }>("/alerts", query),
    refetchInterval: useEvery(3000),
    placeholderData: keepPreviousData,
  });
  const act = async (alert: Alert, verb: string) => {
    setFailed(undefined);
    try {
      await post(`/alerts/${alert.id}:${verb}`);
      await client.invalidateQueries({ queryKey: ["alerts"] });
    } catch (error) {
      setFailed(error);
    }
  };
  const columns: ColumnDef<Alert>[] = [
    { header: "Alert", cell: ({ row: { original: a } }) => <><span className="fw-semibold">{statusName(a.kind)}</span><span className="sub">{a.message}</span></> },
    { header: "State", cell: ({ row: { original: a } }) => <><Badge tone={tone[a.state]}>{statusName(a.state)}</Badge>{a.acknowledgedBy && a.state === "ACKNOWLEDGED" && <span className="sub">by <Actor id={a.acknowledgedBy} /></span>}</> },
    { header: "Agent", cell: ({ row: { original: a } }) => a.agentId ? <AgentLink id={a.agentId} /> : "–" },
    { header: "Last", cell: ({ row: { original: a } }) => <><Time at={a.lastAt} />{(a.count ?? 1) > 1 && <span className="sub">{a.count} times</span>}</> },
    { header: "First", cell: ({ row }) => <Time at={row.original.firstAt} /> },
    ...(may ? [{ header: "Action", cell: ({ row: { original: a } }: { row: { original: Alert } }) => (
      <span className="d-flex gap-2">
        {a.state === "OPEN" && <Button size="sm" variant="outline-secondary" aria-label={`Acknowledge ${statusName(a.kind)}`} onClick={() => void act(a, "acknowledge")}>Acknowledge</Button>}
        {a.state !== "RESOLVED" && <Button size="sm" variant="outline-secondary" aria-label={`Resolve ${statusName(a.kind)}`} onClick={() => void act(a, "resolve")}>Resolve</Button>}
      </span>
    ) }] : []),
  ];
  return (
    <Page title="Alerts" actions={<Refresh fetching={list.isFetching} refetch={list.refetch} />}>
      <Form className="filters" onSubmit={(event) => event.preventDefault()}>
        <Choice id="state" label="State" value={state} set={(value) => set("state", value)} of={[["", "Not resolved"], ...named(Object.keys(tone))]} />
        <Choice id="kind" label="Kind" value={kind} set={(value) => set("kind", value)} of={[["", "All"], ...named(kinds)]} />
        <OnlyOf agent={agentId} clear={() => set("agent", null)} />
      </Form>
      {failed !== undefined && <Failure error={failed} />}
      <div className="panel flush">
        <Answer of={list} rows={6}>{(data) => data.alerts.length === 0 ? (state || kind || agentId ? <Empty title="No alert matches"><Link to="/alerts">Show those not resolved.</Link></Empty> : <Empty title="No alerts">Nothing needs you now.</Empty>)
          : <DataTable caption="Alerts, newest first" columns={columns} rows={data.alerts} rowId={(a) => a.id} />}</Answer>
      </div>
      <Pager page={page || null} next={list.data?.nextPageToken} go={(token) => set("page", token)} />
    </Page>
  );
}
