/** Who may use the platform: people (operators) and programs (API keys). For administrators. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { useState, type ReactNode } from "react";
import { Button, Form } from "react-bootstrap";

import { get, post, type ApiKey, type Operator, type Role } from "../api";
import { PlatformSafeMode } from "../platform";
import { useMay, useSession } from "../session";
import { Time } from "../time";
import { Countdown } from "../token";
import { Actor, Answer, Badge, Card, Confirm, Copy, DataTable, Empty, Mono, Page, statusName } from "../ui";

const roles: [Role, string][] = [
  ["VIEWER", "sees everything but the audit log"], ["OPERATOR", "registers agents and runs tasks, too"],
  ["ADMIN", "does everything"], ["AUDITOR", "sees everything and the audit log, changes nothing"],
];
const stateTone = { INVITED: "info", ACTIVE: "good", DISABLED: "idle" } as const;

function Grant({ of }: { of: { roles: Role[]; labelSelector?: string } }) {
  return <>{of.roles.map(statusName).join(", ")}{of.labelSelector && <span className="sub">agents with <Mono>{of.labelSelector}</Mono></span>}</>;
}

/** What is shown once, and for how long it is good. */
function Once({ what, text, until, onClose }: { what: string; text: string; until?: string; onClose: () => void }) {
  return (
    <Card title={`Copy ${what}`} aside={until && <Countdown until={until} />}>
      <p>It is shown only here.</p>
      <div className="token mb-3"><code data-testid="once">{text}</code><Copy text={text} what={what} /></div>
      <Button size="sm" variant="outline-secondary" onClick={onClose}>I have copied it</Button>
    </Card>
  );
}

/** `roles`: one, or those that somebody has by the API, which a change of labels must not take away; joined by commas. */
interface Draft { name: string; roles: string; labelSelector: string; days: number }
const several = (draft: Draft) => draft.roles.split(",") as Role[];

/** Asks for a name and a grant. */
function Ask({ title, verb, draft, set, named, children, onClose, act }: {
  title: string; verb: string; draft: Draft; set: (draft: Draft) => void; named: boolean; children?: ReactNode; onClose: () => void; act: () => Promise<unknown>;
}) {
  const [began] = useState(draft.roles);
  return (
    <Confirm title={title} verb={verb} danger={false} onClose={onClose} act={act}>
      <div className="stack">
        {named && (
          <Form.Group controlId="grant-name">
            <Form.Label className="mb-1">Name</Form.Label>
            <Form.Control value={draft.name} required maxLength={64} autoFocus autoComplete="off" spellCheck={false} onChange={(event) => set({ ...draft, name: event.target.value })} />
          </Form.Group>
        )}
        <Form.Group controlId="grant-role">
          <Form.Label className="mb-1">Role</Form.Label>
          <Form.Select value={draft.roles} onChange={(event) => set({ ...draft, roles: event.target.value })}>
            {began.includes(",") && <option value={began}>{began.split(",").map(statusName).join(", ")}: as until now</option>}
            {roles.map(([role, what]) => <option key={role} value={role}>{statusName(role)}: {what}</option>)}
          </Form.Select>
        </Form.Group>
        <Form.Group controlId="grant-labels">
          <Form.Label className="mb-1">Only agents with these labels</Form.Label>
          <Form.Control value={draft.labelSelector} maxLength={512} placeholder="env=prod, team" spellCheck={false} autoComplete="off" onChange={(event) => set({ ...draft, labelSelector: event.target.value })} />
          <Form.Text>Empty: the whole fleet</Form.Text>
        </Form.Group>
        {children}
      </div>
    </Confirm>
  );
}

const fresh: Draft = { name: "", roles: "VIEWER", labelSelector: "", days: 90 };
const grantOf = (draft: Draft) => ({ roles: several(draft), ...(draft.labelSelector.trim() ? { labelSelector: draft.labelSelector.trim() } : {}) });

interface Invitation { operator: Operator; link?: string; linkNotAfterAt?: string }

function Operators() {
  const self = useSession();
  const client = useQueryClient();
  const list = useQuery({ queryKey: ["operators"], queryFn: () => get<{ operators: Operator[] }>("/operators", { pageSize: 500 }) });
  const [open, setOpen] = useState<{ kind: "create" } | { kind: "grant" | "disable" | "enable" | "invite"; operator: Operator } | null>(null);
  const [draft, set] = useState(fresh);
  const [made, setMade] = useState<Invitation>();
  const close = () => setOpen(null);
  const after = async (answer?: Invitation) => {
    if (answer?.link) setMade(answer);
    await client.invalidateQueries({ queryKey: ["operators"] });
  };
  const columns: ColumnDef<Operator>[] = [
    { header: "Name", cell: ({ row: { original: o } }) => <><span className="fw-semibold">{o.name}</span>{o.name === self.name && <span className="sub">you</span>}</> },
    { header: "State", cell: ({ row: { original: o } }) => <Badge tone={stateTone[o.state]}>{statusName(o.state)}</Badge> },
    { header: "May", cell: ({ row }) => <Grant of={row.original} /> },
    { header: "Last signed in", cell: ({ row }) => <Time at={row.original.lastLoginAt} none="never" /> },
    { header: "Action", cell: ({ row: { original: o } }) => (
      <span className="d-flex gap-2 flex-wrap">
        <Button size="sm" variant="outline-secondary" aria-label={`Change ${o.name}`} onClick={() => { set({ ...fresh, name: o.name, roles: o.roles.join() || "VIEWER", labelSelector: o.labelSelector ?? "" }); setOpen({ kind: "grant", operator: o }); }}>Change</Button>
        {o.state !== "DISABLED" && <Button size="sm" variant="outline-secondary" aria-label={`New link for ${o.name}`} onClick={() => setOpen({ kind: "invite", operator: o })}>New link</Button>}
        {o.state === "DISABLED" ? <Button size="sm" variant="outline-secondary" aria-label={`Enable ${o.name}`} onClick={() => setOpen({ kind: "enable", operator: o })}>Enable</Button>
          : o.name !== self.name && <Button size="sm" variant="outline-danger" aria-label={`Disable ${o.name}`} onClick={() => setOpen({ kind: "disable", operator: o })}>Disable</Button>}
      </span>
    ) },
  ];
  return <>
    {made?.link && <Once what={`the link for ${made.operator.name}`} text={`${location.origin}/first-admin#${made.link}`} until={made.linkNotAfterAt} onClose={() => setMade(undefined)} />}
    <Card title="Operators" className="flush" aside={<Button size="sm" onClick={() => { set(fresh); setOpen({ kind: "create" }); }}>Invite an operator</Button>}>
      <Answer of={list}>{(data) => <DataTable caption="Operators" columns={columns} rows={data.operators} rowId={(o) => o.id} />}</Answer>
    </Card>
    {open?.kind === "create" && (
      <Ask title="Invite an operator" verb="Make the link" draft={draft} set={set} named onClose={close} act={async () => after(await post<Invitation>("/operators", { name: draft.name.trim(), ...grantOf(draft) }))} />
    )}
    {open?.kind === "grant" && (
      <Ask title={`What ${open.operator.name} may do`} verb="Change it" draft={draft} set={set} named={false} onClose={close} act={async () => { await post(`/operators/${open.operator.id}:setGrant`, grantOf(draft)); await after(); }} />
    )}
    {open?.kind === "invite" && (
      <Confirm title={`A new link for ${open.operator.name}?`} verb="Make the link" danger={false} onClose={close} act={async () => after(await post<Invitation>(`/operators/${open.operator.id}:invite`))}>
        <p className="mb-0">Whoever opens it chooses a new password and is signed in as {open.operator.name}. An earlier link ends.</p>
      </Confirm>
    )}
    {(open?.kind === "disable" || open?.kind === "enable") && (
      <Confirm title={`${open.kind === "disable" ? "Disable" : "Enable"} ${open.operator.name}?`} verb={open.kind === "disable" ? "Disable" : "Enable"} danger={open.kind === "disable"}
        name={open.kind === "disable" ? open.operator.name : undefined} onClose={close} act={async () => { await post(`/operators/${open.operator.id}:${open.kind}`); await after(); }}>
        <p className="mb-0">{open.kind === "disable" ? "Every session ends at once." : "The password works again."}</p>
      </Confirm>
    )}
  </>;
}

function ApiKeys() {
  const client = useQueryClient();
  const list = useQuery({ queryKey: ["api-keys"], queryFn: () => get<{ apiKeys: ApiKey[] }>("/api-keys", { pageSize: 500 }) });
  const [open, setOpen] = useState<{ kind: "create" } | { kind: "revoke"; key: ApiKey } | null>(null);
  const [draft, set] = useState(fresh);
  const [made, setMade] = useState<{ apiKey: ApiKey; key: string }>();
  const close = () => setOpen(null);
  const columns: ColumnDef<ApiKey>[] = [
    { header: "Name", cell: ({ row: { original: k } }) => <><span className="fw-semibold">{k.name}</span><span className="sub"><Mono>{k.id}</Mono></span></> },
    { header: "May", cell: ({ row }) => <Grant of={row.original} /> },
    { header: "Made", cell: ({ row: { original: k } }) => <><Time at={k.createdAt} /><span className="sub">{k.createdBy && <>by <Actor id={k.createdBy} /></>}</span></> },
    { header: "Last used", cell: ({ row }) => <Time at={row.original.lastUsedAt} none="never" /> },
    { header: "Ends", cell: ({ row }) => <Time at={row.original.expiresAt} none="never" /> },
    { header: "Action", cell: ({ row: { original: k } }) => <Button size="sm" variant="outline-danger" aria-label={`Revoke ${k.name}`} onClick={() => setOpen({ kind: "revoke", key: k })}>Revoke</Button> },
  ];
  return <>
    {made && <Once what={`the API key ${made.apiKey.name}`} text={made.key} onClose={() => setMade(undefined)} />}
    <Card title="API keys" className="flush" aside={<Button size="sm" onClick={() => { set(fresh); setOpen({ kind: "create" }); }}>Make an API key</Button>}>
      <Answer of={list}>{(data) => data.apiKeys.length === 0 ? <Empty title="No API keys">Programs use one each: clmctl, pipelines, monitoring.</Empty>
        : <DataTable caption="API keys" columns={columns} rows={data.apiKeys} rowId={(k) => k.id} />}</Answer>
    </Card>
    {open?.kind === "create" && (
      <Ask title="Make an API key" verb="Make the key" draft={draft} set={set} named onClose={close} act={async () => {
        setMade(await post("/api-keys", { name: draft.name.trim(), ...grantOf(draft), expiresAt: new Date(Date.now() + draft.days * 86_400_000).toISOString() }));
        await client.invalidateQueries({ queryKey: ["api-keys"] });
      }}>
        <Form.Group controlId="key-days">
          <Form.Label className="mb-1">It is good for</Form.Label>
          <Form.Select value={draft.days} onChange={(event) => set({ ...draft, days: Number(event.target.value) })}>
            {[30, 90, 365].map((days) => <option key={days} value={days}>{days} days</option>)}
          </Form.Select>
        </Form.Group>
      </Ask>
    )}
    {open?.kind === "revoke" && (
      <Confirm title={`Revoke ${open.key.name}?`} verb="Revoke the key" name={open.key.name} onClose={close} act={async () => { await post(`/api-keys/${open.key.id}:revoke`); await client.invalidateQueries({ queryKey: ["api-keys"] }); }}>
        <p className="mb-0">What uses it is refused at once.</p>
      </Confirm>
    )}
  </>;
}

export function Settings() {
  const admin = useMay("admin");
  if (!admin) return <Page title="Settings"><Empty title="For administrators">Ask one of them.</Empty></Page>;
  return <Page title="Settings"><Operators /><ApiKeys /><PlatformSafeMode /></Page>;
}
