import { useQuery } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { Button } from "react-bootstrap";

import { get, post, type Session } from "../api";
import { useSession, useSignOut } from "../session";
import { Time } from "../time";
import { Answer, DataTable, Page, Refresh } from "../ui";

export function Sessions() {
  const own = useSession();
  const signOut = useSignOut();
  const list = useQuery({ queryKey: ["sessions"], queryFn: () => get<{ sessions: Session[] }>("/sessions") });
  const columns: ColumnDef<Session>[] = [
    { header: "From", cell: ({ row: { original: s } }) => <>{s.source}{s.id === own.id && <span className="sub">this one</span>}</> },
    { header: "Signed in", cell: ({ row }) => <Time at={row.original.createdAt} /> },
    { header: "Last used", cell: ({ row }) => <Time at={row.original.lastUsedAt} /> },
    { header: "Ends", cell: ({ row }) => <Time at={row.original.notAfterAt} /> },
    { header: "Action", cell: ({ row: { original: s } }) => (
      <Button size="sm" variant="outline-danger" aria-label={s.id === own.id ? "Sign out" : `End the session from ${s.source}`}
        onClick={() => void (s.id === own.id ? signOut() : post(`/sessions/${s.id}:end`).then(() => list.refetch()))}>
        {s.id === own.id ? "Sign out" : "End"}
      </Button>
    ) },
  ];
  return (
    <Page title="Your sessions" actions={<Refresh fetching={list.isFetching} refetch={list.refetch} />}>
      <div className="panel flush">
        <Answer of={list}>{(data) => <DataTable caption="Your sessions" columns={columns} rows={data.sessions} rowId={(s) => s.id} />}</Answer>
      </div>
    </Page>
  );
}
