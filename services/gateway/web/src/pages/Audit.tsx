import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { useState } from "react";
import { Button, Form } from "react-bootstrap";
import { Link } from "react-router-dom";

import { get, Problem, type AuditEntry, type AuditProof } from "../api";
import { useFilters, useTyped } from "../filters";
import { headNames, rootOf } from "../merkle";
import { useEvery } from "../live";
import { Time } from "../time";
import { Actor, AgentLink, Answer, Badge, Choice, DataTable, Empty, OnlyOf, Page, Pager, Refresh } from "../ui";

const HOUR = 3_600_000;
const spans: [string, string][] = [["", "Any time"], ["1", "The last hour"], ["24", "The last day"], ["168", "The last 7 days"], ["720", "The last 30 days"]];

type Verdict = { tone: string; text: string; why: string };

/** Asks for the proof and checks it here: leaf and proof must lead to the root that the signed head names. */
async function check(entry: AuditEntry): Promise<Verdict> {
  const proof = await get<AuditProof>(`/audit/records/${entry.index ?? 0}:proof`);
  if (!proof.head?.head) return { tone: "warn", text: "No head yet", why: "The next signed head comes within a minute." };
  if (proof.entry?.leaf !== entry.leaf) return { tone: "bad", text: "Differs", why: "The proof is for another record than the list shows." };
  const root = await rootOf(entry.index ?? 0, proof.treeSize ?? 0, entry.leaf ?? "", proof.inclusion);
  if (!root || !headNames(proof.head.head, root)) return { tone: "bad", text: "Not included", why: "The proof does not lead to the root of the signed head." };
  return { tone: "good", text: "Included", why: `In the tree of ${proof.treeSize} records; clmctl audit verify checks the head's signature as well.` };
}

function Proof({ entry }: { entry: AuditEntry }) {
  const [verdict, setVerdict] = useState<Verdict>();
  const [busy, setBusy] = useState(false);
  const go = async () => {
    setBusy(true);
    try {
      setVerdict(await check(entry));
    } catch (error) {
      setVerdict({ tone: "warn", text: "Not checked", why: error instanceof Problem ? error.message : String(error) });
    }
    setBusy(false);
  };
  return (
    <span role="status">
      {verdict ? <Badge tone={verdict.tone} title={verdict.why}>{verdict.text}</Badge>
        : <Button size="sm" variant="outline-secondary" disabled={busy} aria-label={`Check record ${entry.index ?? 0}`} onClick={() => void go()}>Check</Button>}
    </span>
  );
}

const columns: ColumnDef<AuditEntry>[] = [
  { header: "#", cell: ({ row }) => row.original.index ?? 0 },
  { header: "When", cell: ({ row }) => <Time at={row.original.record?.occurredAt} /> },
  { header: "What", cell: ({ row: { original: { record: r } } }) => <><span className="fw-semibold">{r?.action}</span>{(r?.count ?? 1) > 1 && ` × ${r?.count}`}<span className="sub">{r?.detail}</span></> },
  { header: "Who", cell: ({ row: { original: { record: r } } }) => <><Actor id={r?.actor} />{r?.source && <span className="sub">from {r.source}</span>}</> },
  { header: "Agent", cell: ({ row: { original: { record: r } } }) => r?.agentId ? <AgentLink id={r.agentId} /> : "–" },
  { header: "Outcome", cell: ({ row }) => row.original.record?.outcome },
  { header: "Proof", cell: ({ row }) => <Proof entry={row.original} /> },
];

export function Audit() {
  const filters = useFilters();
  const [params, set] = filters;
  const [actor, action, agentId, since, page] = ["actor", "action", "agent", "since", "page"].map((name) => params.get(name) ?? "");
  const [typedActor, setActor] = useTyped("actor", filters);
  const [typedAction, setAction] = useTyped("action", filters);
  const minute = Math.floor(Date.now() / 60_000) * 60_000; // of the same minute, so of the same question
  const query = { actor, action, agentId, fromAt: since ? new Date(minute - Number(since) * HOUR).toISOString() : "", pageToken: page, pageSize: 50 };
  const list = useQuery({
    queryKey: ["audit", query],
    queryFn: () => get<{ entries: AuditEntry[]; nextPageToken?: string }>("/audit/records", query),
    refetchInterval: useEvery(10_000),
    placeholderData: keepPreviousData,
  });
  return (
    <Page title="Audit" actions={<Refresh fetching={list.isFetching} refetch={list.refetch} />}>
      <Form className="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <Form.Group controlId="actor" className="grow">
          <Form.Label>Who</Form.Label>
          <Form.Control value={typedActor} onChange={(event) => setActor(event.target.value)} placeholder="operator:alice" spellCheck={false} />
        </Form.Group>
        <Form.Group controlId="action" className="grow">
          <Form.Label>What</Form.Label>
          <Form.Control value={typedAction} onChange={(event) => setAction(event.target.value)} placeholder="task.* or session.opened" spellCheck={false} />
        </Form.Group>
        <Choice id="since" label="When" value={since} set={(value) => set("since", value)} of={spans} />
        <OnlyOf agent={agentId} clear={() => set("agent", null)} />
      </Form>
      <div className="panel flush">
        <Answer of={list} rows={6}>{(data) => data.entries.length === 0 ? <Empty title="No record matches">Ask for less, or <Link to="/audit">show all.</Link></Empty>
          : <DataTable caption="Audit records, newest first" columns={columns} rows={data.entries} rowId={(e) => String(e.index ?? 0)} />}</Answer>
      </div>
      <Pager page={page || null} next={list.data?.nextPageToken} go={(token) => set("page", token)} />
    </Page>
  );
}
