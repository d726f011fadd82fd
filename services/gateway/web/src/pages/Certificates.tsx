/** Every certificate that hosts have: when it ends, where it is, and whether it is served. Those that end first come first. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { useState } from "react";
import { Button, Form } from "react-bootstrap";
import { Link } from "react-router-dom";

import { get, type CertificatePlace, type CertificateView } from "../api";
import { useFilters, useTyped } from "../filters";
import { useEvery } from "../live";
import { Time, useNow } from "../time";
import { AgentLink, Answer, Badge, Card, Choice, DataTable, Empty, Mono, OnlyOf, Page, Pager, Refresh, shortId, statusName } from "../ui";
import { Certificate } from "./TaskPage";

const DAY = 86_400_000;
const ends: [string, string][] = [["", "Any time"], ["0", "Already ended"], ["7", "Within 7 days"], ["30", "Within 30 days"], ["90", "Within 90 days"]];

/** Red when it has ended, amber while there is a week left. */
function End({ at }: { at?: string }) {
  useNow();
  const left = at ? Date.parse(at) - Date.now() : Infinity;
  return left > 7 * DAY ? <Time at={at} /> : <Badge tone={left <= 0 ? "bad" : "warn"}><Time at={at} /></Badge>;
}

const places: ColumnDef<CertificatePlace>[] = [
  { header: "Agent", cell: ({ row: { original: p } }) => p.agentId && <AgentLink id={p.agentId} /> },
  { header: "Where", cell: ({ row: { original: p } }) => <><Mono>{p.place}</Mono>{(p.serverName ?? p.alias) && <span className="sub">as {p.serverName ?? p.alias}</span>}</> },
  { header: "Found by", cell: ({ row }) => row.original.source && statusName(row.original.source) },
  { header: "Used by", cell: ({ row }) => row.original.usedBy ?? row.original.process ?? "–" },
  { header: "Served", cell: ({ row }) => row.original.served ? <Badge tone="good">Served</Badge> : "no" },
  { header: "Last seen", cell: ({ row }) => <Time at={row.original.lastSeenAt} /> },
];

export function CertificateTable({ of, agent = true }: { of: CertificateView[]; agent?: boolean }) {
  const [open, setOpen] = useState<string | null>(null);
  const columns: ColumnDef<CertificateView>[] = [
    { header: "Certificate", cell: ({ row: { original: { certificate: c } } }) => (
      <>
        <Button variant="link" className="p-0 fw-semibold text-start" aria-expanded={open === c?.fingerprintSha256} onClick={() => setOpen(open === c?.fingerprintSha256 ? null : c?.fingerprintSha256 ?? null)}>
          {c?.dnsNames[0] ?? c?.subject ?? "no subject"}
        </Button>
        <span className="sub">{(c?.dnsNames.length ?? 0) > 1 ? `and ${c!.dnsNames.length - 1} more ${c!.dnsNames.length === 2 ? "name" : "names"}` : <Mono>{shortId(c?.fingerprintSha256 ?? "")}</Mono>}</span>
      </>
    ) },
    { header: "Ends", cell: ({ row }) => <End at={row.original.certificate?.notAfterAt} /> },
    { header: "Issuer", cell: ({ row: { original: { certificate: c } } }) => c?.selfSigned ? "itself" : c?.issuer },
    { header: "Key", cell: ({ row }) => <span className="nowrap">{row.original.certificate?.keyType}</span> },
    { header: "Where", cell: ({ row: { original: v } }) => <>{v.placeCount ?? 0} {v.placeCount === 1 ? "place" : "places"}{agent && <span className="sub">on {v.agentCount ?? 0} {v.agentCount === 1 ? "agent" : "agents"}</span>}</> },
    { header: "Served", cell: ({ row }) => row.original.served ? <Badge tone="good">Served</Badge> : "no" },
  ];
  const shown = of.find((v) => v.certificate?.fingerprintSha256 === open);
  return <>
    <DataTable caption="Certificates, those that end first come first" columns={columns} rows={of} rowId={(v) => v.certificate?.fingerprintSha256 ?? ""} />
    {shown?.certificate && (
      <div className="detail">
        <Certificate of={shown.certificate} />
        <DataTable caption="Where it is" columns={places} rows={shown.places} rowId={(p) => `${p.agentId}${p.source}${p.place}${p.serverName}${p.alias}`} />
        {(shown.placeCount ?? 0) > shown.places.length && <p className="sub">{shown.places.length} of {shown.placeCount} places are shown.</p>}
      </div>
    )}
  </>;
}

/** On an agent's page: what its host has. */
export function AgentCertificates({ id }: { id: string }) {
  const list = useQuery({ queryKey: ["certificates", { agentId: id }], queryFn: () => get<{ certificates: CertificateView[]; nextPageToken?: string }>("/certificates", { agentId: id, pageSize: 10 }), refetchInterval: useEvery(10_000) });
  return (
    <Card title="Certificates on the host" className="flush" aside={list.data?.nextPageToken && <Link to={`/certificates?agent=${id}`}>All certificates</Link>}>
      <Answer of={list}>{(data) => data.certificates.length === 0 ? <Empty title="None known yet">Run Discover to find them.</Empty>
        : <CertificateTable of={data.certificates} agent={false} />}</Answer>
    </Card>
  );
}

export function Certificates() {
  const filters = useFilters();
  const [params, set] = filters;
  const [name, issuer, key, end, served, agentId, page] = ["name", "issuer", "key", "ends", "served", "agent", "page"].map((one) => params.get(one) ?? "");
  const [typedName, setName] = useTyped("name", filters);
  const [typedIssuer, setIssuer] = useTyped("issuer", filters);
  const hour = Math.floor(Date.now() / 3_600_000) * 3_600_000; // of the same hour, so of the same question
  const query = { name, issuer, keyType: key, served, agentId, expiresBeforeAt: end ? new Date(hour + Number(end) * DAY).toISOString() : "", pageToken: page, pageSize: 50 };
  const list = useQuery({
    queryKey: ["certificates", query],
    queryFn: () => get<{ certificates: CertificateView[]; nextPageToken?: string }>("/certificates", query),
    refetchInterval: useEvery(10_000),
    placeholderData: keepPreviousData,
  });
  const filtered = Boolean(name || issuer || key || end || served || agentId);
  return (
    <Page title="Certificates" actions={<Refresh fetching={list.isFetching} refetch={list.refetch} />}>
      <Form className="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <Form.Group controlId="name" className="grow">
          <Form.Label>Name</Form.Label>
          <Form.Control type="search" value={typedName} onChange={(event) => setName(event.target.value)} placeholder="www.example.com" maxLength={253} spellCheck={false} />
        </Form.Group>
        <Form.Group controlId="issuer" className="grow">
          <Form.Label>Issuer</Form.Label>
          <Form.Control type="search" value={typedIssuer} onChange={(event) => setIssuer(event.target.value)} placeholder="part of it" maxLength={253} spellCheck={false} />
        </Form.Group>
        <Choice id="ends" label="Ends" value={end} set={(value) => set("ends", value)} of={ends} />
        <Choice id="key" label="Key" value={key} set={(value) => set("key", value)} of={[["", "Any"], ["EC", "EC"], ["RSA", "RSA"], ["Ed25519", "Ed25519"]]} />
        <Choice id="served" label="Served" value={served} set={(value) => set("served", value)} of={[["", "Either"], ["true", "Served"], ["false", "Not served"]]} />
        <OnlyOf agent={agentId} clear={() => set("agent", null)} />
      </Form>
      <div className="panel flush">
        <Answer of={list} rows={6}>{(data) => data.certificates.length === 0 ? (filtered ? <Empty title="No certificate matches"><Link to="/certificates">Show all.</Link></Empty> : <Empty title="No certificates known yet">Run Discover on an <Link to="/agents">agent</Link>.</Empty>)
          : <CertificateTable of={data.certificates} />}</Answer>
      </div>
      <Pager page={page || null} next={list.data?.nextPageToken} go={(token) => set("page", token)} />
    </Page>
  );
}
