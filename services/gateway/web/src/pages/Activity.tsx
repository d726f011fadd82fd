/** What has happened, newest first: of the fleet or of one agent. */
import { type Activity as Entry } from "../api";
import { Time } from "../time";
import { Actor, AgentLink, Empty, statusName } from "../ui";

/** "task.finished" → "Task finished" */
const eventName = (event = "") => statusName(event.replaceAll(".", "_").toUpperCase());

export function Timeline({ entries, agent = true }: { entries: Entry[]; agent?: boolean }) {
  if (entries.length === 0) return <Empty title="Nothing has happened yet" />;
  return (
    <ol className="timeline" aria-label="Newest first">
      {entries.map((a, i) => (
        <li key={`${a.occurredAt}-${i}`}>
          <span className="when"><Time at={a.occurredAt} /></span>
          <span className="what"><span className="fw-semibold">{eventName(a.event)}</span>{a.message && a.message !== a.event && <> {a.message}</>}</span>
          <span className="who">{agent && a.agentId && <AgentLink id={a.agentId} />}<span className="sub">{a.actor && <>by <Actor id={a.actor} /></>}</span></span>
        </li>
      ))}
    </ol>
  );
}
