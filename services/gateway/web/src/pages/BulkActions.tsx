/** One action on many agents: shows first what it would do to which, then what came of each. */
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button, Form, Modal, ProgressBar } from "react-bootstrap";

import { post, Problem, type Agent, type Label } from "../api";
import { Badge, StatusBadge } from "../ui";
import { labelOf } from "./AgentEdit";

interface Bulk { name: string; danger?: boolean; asks?: boolean; changes: (agent: Agent, label?: Label) => boolean; act: (agent: Agent, label?: Label) => Promise<unknown> }

const withMatch = (agent: Agent): Record<string, string> => (agent.version ? { "If-Match": `"${agent.version}"` } : {});
const without = (agent: Agent, label?: Label) => agent.labels.filter((one) => one.name !== label?.name);
const has = (agent: Agent, label?: Label) => agent.labels.some((one) => one.name === label?.name && (one.value ?? "") === (label?.value ?? ""));

const bulks: Bulk[] = [
  { name: "Enable", changes: (a) => a.status === "DISABLED", act: (a) => post(`/agents/${a.id}:enable`) },
  { name: "Disable", danger: true, changes: (a) => a.status !== "DISABLED", act: (a) => post(`/agents/${a.id}:disable`, { reason: "disabled with others in the console" }) },
  { name: "Set a label", asks: true, changes: (a, label) => !has(a, label), act: (a, label) => post(`/agents/${a.id}:setLabels`, { labels: [...without(a, label), label] }, withMatch(a)) },
  { name: "Remove a label", asks: true, changes: (a, label) => a.labels.some((one) => one.name === label?.name), act: (a, label) => post(`/agents/${a.id}:setLabels`, { labels: without(a, label) }, withMatch(a)) },
];

function Preview({ bulk, agents, onClose }: { bulk: Bulk; agents: Agent[]; onClose: () => void }) {
  const client = useQueryClient();
  const [text, setText] = useState("");
  const [results, setResults] = useState<Record<string, string>>({});
  const [phase, setPhase] = useState<"asking" | "running" | "done">("asking");
  const label = bulk.asks ? labelOf(text.trim()) : undefined;
  const ready = !bulk.asks || Boolean(label?.name);
  const concerned = ready ? agents.filter((agent) => bulk.changes(agent, label)) : [];
  const [chosen, setChosen] = useState<Agent[]>([]);
  const run = async () => {
    setChosen(concerned);
    setPhase("running");
    for (const agent of concerned) {
      let result = "";
      try {
        await bulk.act(agent, label);
      } catch (error) {
        result = error instanceof Problem ? error.message : String(error);
      }
      setResults((before) => ({ ...before, [agent.id]: result }));
    }
    setPhase("done");
    await client.invalidateQueries({ queryKey: ["agents"] });
  };
  const shown = phase === "asking" ? concerned : chosen;
  const finished = Object.keys(results).length, failed = Object.values(results).filter(Boolean).length;
  return (
    <Modal show onHide={onClose} centered scrollable backdrop={phase === "running" ? "static" : true} keyboard={phase !== "running"} aria-labelledby="bulk-title">
      <Modal.Header closeButton={phase !== "running"} closeLabel="Close"><Modal.Title as="h2" className="h5" id="bulk-title">{bulk.name}</Modal.Title></Modal.Header>
      <Modal.Body>
        {bulk.asks && phase === "asking" && (
          <Form.Group controlId="bulk-label" className="mb-3">
            <Form.Label className="mb-1">Label</Form.Label>
            <Form.Control value={text} autoFocus maxLength={128} placeholder={bulk.name === "Set a label" ? "env=prod" : "env"} spellCheck={false} autoComplete="off" onChange={(event) => setText(event.target.value)} />
          </Form.Group>
        )}
        <p role="status">
          {phase === "done" ? `${finished - failed} of ${shown.length} changed${failed ? `, ${failed} refused` : ""}.`
            : `${shown.length} of ${agents.length} agents ${phase === "running" ? "are being changed" : "would change"}.`}
        </p>
        {phase === "running" && <ProgressBar className="mb-3" now={(100 * finished) / Math.max(1, shown.length)} aria-label="Progress" />}
        <ul className="bulk">
          {shown.map((agent) => (
            <li key={agent.id}>
              <span>{agent.hostname}{results[agent.id] && <span className="sub">{results[agent.id]}</span>}</span>
              {agent.id in results ? <Badge tone={results[agent.id] ? "bad" : "good"}>{results[agent.id] ? "Refused" : "Changed"}</Badge> : <StatusBadge agent={agent} />}
            </li>
          ))}
        </ul>
      </Modal.Body>
      <Modal.Footer>
        {phase === "asking" && <Button variant={bulk.danger ? "danger" : "primary"} disabled={concerned.length === 0} onClick={() => void run()}>{`${bulk.name}: ${concerned.length}`}</Button>}
        <Button variant="outline-secondary" disabled={phase === "running"} onClick={onClose}>{phase === "done" ? "Done" : "Keep them as they are"}</Button>
      </Modal.Footer>
    </Modal>
  );
}

export function BulkActions({ agents, clear }: { agents: Agent[]; clear: () => void }) {
  const [bulk, setBulk] = useState<Bulk | null>(null);
  if (agents.length === 0) return null;
  return (
    <div className="bulk-bar" role="region" aria-label="Selected agents">
      <span>{agents.length} selected</span>
      {bulks.map((one) => <Button key={one.name} size="sm" variant={one.danger ? "outline-danger" : "outline-secondary"} onClick={() => setBulk(one)}>{one.name}</Button>)}
      <Button size="sm" variant="link" onClick={clear}>Select none</Button>
      {bulk && <Preview bulk={bulk} agents={agents} onClose={() => { setBulk(null); clear(); }} />}
    </div>
  );
}
