/** An agent's bootstrap tokens, and a fresh one. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { useState } from "react";
import { Button, Form } from "react-bootstrap";

import { get, post, type Agent, type Registered, type Token } from "../api";
import { useEvery } from "../live";
import { useMay } from "../session";
import { Time } from "../time";
import { TokenCards, tokenLives } from "../token";
import { Actor, Answer, Badge, Card, Confirm, DataTable, statusName } from "../ui";

const tone = { OPEN: "info", BOUND: "warn", USED: "good", EXPIRED: "idle", REVOKED: "idle" } as const;

export function AgentTokens({ agent }: { agent: Agent }) {
  const may = useMay("operator");
  const list = useQuery({ queryKey: ["tokens", agent.id], queryFn: () => get<{ tokens: Token[] }>(`/agents/${agent.id}/tokens`), refetchInterval: useEvery(10_000) });
  const [revoking, revoke] = useState<Token | null>(null);
  const columns: ColumnDef<Token>[] = [
    { header: "Token", cell: ({ row: { original: t } }) => <><Badge tone={tone[t.state]}>{statusName(t.state)}</Badge>{(t.hostnamePattern || t.sourceCidr) && <span className="sub">{[t.hostnamePattern && `for ${t.hostnamePattern}`, t.sourceCidr && `from ${t.sourceCidr}`].filter(Boolean).join(", ")}</span>}</> },
    { header: "Made", cell: ({ row: { original: t } }) => <><Time at={t.createdAt} /><span className="sub">by <Actor id={t.createdBy} /></span></> },
    { header: "Ends", cell: ({ row }) => <Time at={row.original.notAfterAt} /> },
    { header: "Used", cell: ({ row }) => <Time at={row.original.usedAt} none="not yet" /> },
    ...(may ? [{ header: "Action", cell: ({ row: { original: t } }: { row: { original: Token } }) =>
      (t.state === "OPEN" || t.state === "BOUND") && <Button size="sm" variant="outline-danger" onClick={() => revoke(t)}>Revoke</Button> }] : []),
  ];
  return (
    <Card title="Bootstrap tokens" className="flush">
      <Answer of={list} rows={2}>{(data) => <DataTable caption="Bootstrap tokens" columns={columns} rows={data.tokens} rowId={(t) => t.id} />}</Answer>
      {revoking && (
        <Confirm title="Revoke this token?" verb="Revoke the token" onClose={() => revoke(null)} act={async () => { await post(`/agents/${agent.id}/tokens/${revoking.id}:revoke`); await list.refetch(); }}>
          <p className="mb-0">Who has it can no longer become this agent with it.</p>
        </Confirm>
      )}
    </Card>
  );
}

/** Asks, then shows the token once. */
export function NewToken({ agent, onClose }: { agent: Agent; onClose: () => void }) {
  const client = useQueryClient();
  const [made, setMade] = useState<Registered>();
  const [life, setLife] = useState(3600);
  const [force, setForce] = useState(false);
  if (made?.token) return <>
    <TokenCards token={made.token} until={made.tokenNotAfterAt} />
    <div><Button size="sm" variant="outline-secondary" onClick={onClose}>I have copied it</Button></div>
  </>;
  const act = async () => {
    setMade(await post<Registered>(`/agents/${agent.id}/tokens`, { tokenTtlSec: life, force }));
    await client.invalidateQueries({ queryKey: ["tokens", agent.id] });
  };
  return (
    <Confirm title={`A fresh token for ${agent.hostname}?`} verb="Make the token" danger={force} name={force ? agent.hostname : undefined} onClose={onClose} act={act} stay>
      <p>Whoever uses it becomes this agent, under its id and with its history; the identity that it has now ends with that.</p>
      <Form.Group controlId="token-life" className="mb-2">
        <Form.Label className="mb-1">The token is good for</Form.Label>
        <Form.Select value={life} onChange={(event) => setLife(Number(event.target.value))}>{tokenLives.map(([seconds, name]) => <option key={seconds} value={seconds}>{name}</option>)}</Form.Select>
      </Form.Group>
      <Form.Check id="token-force" label="Also if the agent was online within the last day" checked={force} onChange={(event) => setForce(event.target.checked)} />
    </Confirm>
  );
}
