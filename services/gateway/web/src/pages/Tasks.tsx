import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { Form, ProgressBar } from "react-bootstrap";
import { Link } from "react-router-dom";

import { get, isOver, taskKinds, taskStates, type Task } from "../api";
import { useFilters } from "../filters";
import { useEvery } from "../live";
import { Time } from "../time";
import { Actor, AgentLink, Answer, Choice, DataTable, Empty, Mono, OnlyOf, Page, Pager, Refresh, StateBadge, named, shortId, statusName } from "../ui";

const base: ColumnDef<Task>[] = [
  { header: "Task", cell: ({ row: { original: t } }) => <><Link className="fw-semibold" to={`/tasks/${t.id}`}>{statusName(t.kind)}</Link><span className="sub nowrap"><Mono>{shortId(t.id)}</Mono></span></> },
  { id: "agent", header: "Agent", cell: ({ row }) => <AgentLink id={row.original.agentId} /> },
  { header: "State", cell: ({ row: { original: t } }) => <>
    <StateBadge state={t.state} />
    {!isOver(t) && t.progressPermille !== undefined && <ProgressBar className="thin" now={t.progressPermille / 10} aria-label={`Progress of ${statusName(t.kind)}`} />}
  </> },
  { header: "Created", cell: ({ row: { original: t } }) => <><Time at={t.createdAt} /><span className="sub"><Actor id={t.createdBy} /></span></> },
  { header: "Finished", cell: ({ row }) => <Time at={row.original.finishedAt} /> },
  { header: "What came of it", cell: ({ row: { original: t } }) => t.message ?? t.phase ?? "" },
];

export function TaskTable({ tasks, agent = true }: { tasks: Task[]; agent?: boolean }) {
  return <DataTable caption="Tasks, newest first" columns={agent ? base : base.filter((c) => c.id !== "agent")} rows={tasks} rowId={(t) => t.id} />;
}

export function Tasks() {
  const [params, set] = useFilters();
  const [state, kind, agentId, page] = ["state", "kind", "agent", "page"].map((name) => params.get(name) ?? "");
  const query = { state, kind, agentId, pageToken: page, pageSize: 50 };
  const list = useQuery({
    queryKey: ["tasks", query],
    queryFn: () => get<{ tasks: Task[]; nextPageToken?: string }>("/tasks", query),
    refetchInterval: useEvery(3000),
    placeholderData: keepPreviousData,
  });
  return (
    <Page title="Tasks" actions={<Refresh fetching={list.isFetching} refetch={list.refetch} />}>
      <Form className="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <Choice id="state" label="State" value={state} set={(value) => set("state", value)} of={[["", "All"], ...named(taskStates)]} />
        <Choice id="kind" label="Kind" value={kind} set={(value) => set("kind", value)} of={[["", "All"], ...named(taskKinds)]} />
        <OnlyOf agent={agentId} clear={() => set("agent", null)} />
      </Form>
      <div className="panel flush">
        <Answer of={list} rows={6}>{(data) => data.tasks.length === 0 ? (state || kind || agentId
            ? <Empty title="No task matches"><Link to="/tasks">Show all.</Link></Empty>
            : <Empty title="No tasks yet">Open an <Link to="/agents">agent</Link> and run one.</Empty>)
          : <TaskTable tasks={data.tasks} />}</Answer>
      </div>
      <Pager page={page || null} next={list.data?.nextPageToken} go={(token) => set("page", token)} />
    </Page>
  );
}
