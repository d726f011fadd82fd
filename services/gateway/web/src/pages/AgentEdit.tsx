/** Changing an agent's labels and scope. What somebody else changed meanwhile is not overwritten. */
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Form } from "react-bootstrap";

import { post, type Agent, type Label } from "../api";
import { Confirm, Operations, statusName } from "../ui";

export const lines = (text: string) => text.split("\n").map((line) => line.trim()).filter(Boolean);
export const labelOf = (text: string): Label => {
  const at = text.indexOf("=");
  return at < 0 ? { name: text } : { name: text.slice(0, at), value: text.slice(at + 1) };
};
const textOf = ({ name, value }: Label) => (value ? `${name}=${value}` : name);

/** One text area of lines. */
export function Lines({ id, label, help, value, set, rows = 3, placeholder }: {
  id: string; label: string; help: string; value: string; set: (value: string) => void; rows?: number; placeholder?: string;
}) {
  return (
    <Form.Group controlId={id}>
      <Form.Label className="mb-1">{label}</Form.Label>
      <Form.Control as="textarea" rows={rows} value={value} placeholder={placeholder} spellCheck={false} aria-describedby={`${id}-help`} onChange={(event) => set(event.target.value)} />
      <Form.Text id={`${id}-help`}>{help}</Form.Text>
    </Form.Group>
  );
}

export function AgentEdit({ agent, what, onClose }: { agent: Agent; what: "labels" | "scope"; onClose: () => void }) {
  const client = useQueryClient();
  const [was] = useState(agent);
  const [labels, setLabels] = useState(agent.labels.map(textOf).join("\n"));
  const [operations, setOperations] = useState(agent.scope?.operations ?? []);
  const [paths, setPaths] = useState((agent.scope?.paths ?? []).join("\n"));
  const [names, setNames] = useState((agent.scope?.dnsNames ?? []).join("\n"));
  const act = async () => {
    const body = what === "labels" ? { labels: lines(labels).map(labelOf) } : { scope: { operations, paths: lines(paths), dnsNames: lines(names) } };
    // The page reads the agent anew while somebody writes here: of what is edited, the version that the form began with counts.
    const { version } = JSON.stringify(agent[what]) === JSON.stringify(was[what]) ? agent : was;
    const changed = await post<Agent>(`/agents/${agent.id}:${what === "labels" ? "setLabels" : "setScope"}`, body, version ? { "If-Match": `"${version}"` } : {});
    client.setQueryData(["agent", agent.id], changed);
    await client.invalidateQueries({ queryKey: ["agents"] });
  };
  return (
    <Confirm title={`${statusName(what.toUpperCase())} of ${agent.hostname}`} verb="Change" danger={false} onClose={onClose} act={act}>
      {what === "labels" ? <Lines id="edit-labels" label="Labels" help="One a line, name=value" value={labels} set={setLabels} rows={5} /> : (
        <div className="stack">
          <p className="mb-0 text-body-secondary">What is wider than before needs an administrator. The host's own policy decides last.</p>
          <Operations id="edit" value={operations} set={setOperations} />
          <Lines id="edit-paths" label="Paths" help="One a line; * within a directory, ** across directories" value={paths} set={setPaths} />
          <Lines id="edit-names" label="DNS names" help="One a line; *.example.com for one label below" value={names} set={setNames} />
        </div>
      )}
    </Confirm>
  );
}
