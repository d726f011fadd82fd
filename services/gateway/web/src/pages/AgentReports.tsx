/** What validations of an agent's certificates found, newest first; the task has each check. */
import { useQuery } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { Link } from "react-router-dom";

import { get, type Report } from "../api";
import { useEvery } from "../live";
import { Time } from "../time";
import { Answer, Badge, Card, DataTable, Empty, Mono, statusName } from "../ui";

const tone = { PASS: "good", WARN: "warn", FAIL: "bad" } as const;
const what = (r: Report) => r.asked?.target ?? r.asked?.endpoint ?? r.asked?.certificatePath ?? "";
const wrong = (r: Report) => r.checks.filter((check) => check.outcome !== "PASS");

const columns: ColumnDef<Report>[] = [
  { header: "Validated", cell: ({ row: { original: r } }) => <Link className="fw-semibold" to={`/tasks/${r.taskId}`}><Time at={r.validatedAt} /></Link> },
  { header: "What", cell: ({ row: { original: r } }) => <><Mono>{what(r)}</Mono>{r.certificate?.subject && <span className="sub">{r.certificate.subject}</span>}</> },
  { header: "Verdict", cell: ({ row: { original: r } }) => r.verdict && <Badge tone={tone[r.verdict]}>{statusName(r.verdict)}</Badge> },
  { header: "Checks", cell: ({ row: { original: r } }) => <>{r.checks.length - wrong(r).length} of {r.checks.length} pass{wrong(r).slice(0, 3).map((check) => <span className="sub" key={check.id}>{check.id}: {check.reason}</span>)}</> },
  { header: "Ends", cell: ({ row: { original: r } }) => <Time at={r.certificate?.notAfterAt} /> },
];

export function AgentReports({ id }: { id: string }) {
  const list = useQuery({ queryKey: ["reports", id], queryFn: () => get<{ reports: Report[] }>("/reports", { agentId: id, pageSize: 5 }), refetchInterval: useEvery(10_000) });
  return (
    <Card title="Validation reports" className="flush">
      <Answer of={list}>{(data) => data.reports.length === 0 ? <Empty title="None yet">Run Validate: it checks a certificate and what is served, and changes nothing.</Empty>
        : <DataTable caption="Validation reports, newest first" columns={columns} rows={data.reports} rowId={(r) => r.taskId} />}</Answer>
    </Card>
  );
}
