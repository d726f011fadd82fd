/** What a person may do to an agent: one row an action; the row says whom it is for, when it makes sense, and what it means. */
import { useQueryClient } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";
import { Button, Dropdown, Form } from "react-bootstrap";
import { useNavigate } from "react-router-dom";

import { post, type Agent } from "../api";
import { useMay } from "../session";
import { Confirm } from "../ui";

interface Action {
  verb: string; name: string; role: "operator" | "admin"; danger?: boolean; typed?: boolean; asks?: string;
  when: (agent: Agent) => boolean; means: ReactNode;
}
const actions: Action[] = [
  { verb: "enable", name: "Enable", role: "operator", when: (a) => a.status === "DISABLED", means: "It may connect and gets work again." },
  { verb: "enterSafeMode", name: "Enter safe mode", role: "operator", when: (a) => a.status !== "DISABLED" && !a.safeMode,
    means: "Until somebody ends it, only what changes nothing is done on this host: it is validated and discovered, and its identity is kept alive." },
  { verb: "leaveSafeMode", name: "Leave safe mode", role: "operator", when: (a) => a.safeMode === true,
    means: "The safe mode that an operator asked for ends. What the agent found for itself, it ends when its reason is gone." },
  { verb: "unfreeze", name: "Unfreeze the identity", role: "admin", when: (a) => /second key|frozen|clone/i.test(a.reason ?? ""),
    means: "A second key was used for its token. Only go on when you know which host is the right one." },
  { verb: "disable", name: "Disable", role: "operator", danger: true, typed: true, asks: "Reason", when: (a) => a.status !== "DISABLED",
    means: "Its connections are cut and it gets no further work. Certificates on the host stay as they are, and nobody renews them." },
  { verb: "revoke", name: "Revoke the identity", role: "operator", danger: true, typed: true, when: (a) => a.generation !== undefined || a.bootstrappedAt !== undefined,
    means: "Its certificates go on the revocation list and it is disabled. Only a fresh token brings it back." },
  { verb: "delete", name: "Delete", role: "admin", danger: true, typed: true, when: () => true,
    means: "Its record, tokens and waiting tasks go, and its identity is revoked. What it did stays in the audit log." },
];

function Ask({ agent, action, onClose }: { agent: Agent; action: Action; onClose: () => void }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const [reason, setReason] = useState("");
  const act = async () => {
    if (action.verb === "delete") {
      await post(`/agents/${agent.id}:delete`);
      client.removeQueries({ queryKey: ["agent", agent.id] });
      navigate("/agents");
    } else {
      const body = action.asks && reason.trim() ? { reason: reason.trim() } : undefined;
      client.setQueryData(["agent", agent.id], await post<Agent>(`/agents/${agent.id}:${action.verb}`, body));
    }
    await client.invalidateQueries({ queryKey: ["agents"] });
  };
  return (
    <Confirm title={`${action.name}: ${agent.hostname}?`} verb={action.name} danger={action.danger ?? false} name={action.typed ? agent.hostname : undefined} onClose={onClose} act={act}>
      <p className={action.asks ? "" : "mb-0"}>{action.means}</p>
      {action.asks && (
        <Form.Group controlId="reason">
          <Form.Label className="mb-1">{action.asks}</Form.Label>
          <Form.Control value={reason} maxLength={200} placeholder="for those who read it later" onChange={(event) => setReason(event.target.value)} />
        </Form.Group>
      )}
    </Confirm>
  );
}

export function AgentActions({ agent, onToken, onRun }: { agent: Agent; onToken: () => void; onRun: () => void }) {
  const roles = { operator: useMay("operator"), admin: useMay("admin") };
  const [asking, ask] = useState<Action | null>(null);
  const usable = actions.filter((action) => roles[action.role] && action.when(agent));
  if (!roles.operator) return null;
  return <>
    <Dropdown align="end">
      <Dropdown.Toggle size="sm" variant="outline-secondary" id="agent-actions">Actions</Dropdown.Toggle>
      <Dropdown.Menu>
        {roles.admin && <Dropdown.Item as="button" onClick={onToken}>New bootstrap token</Dropdown.Item>}
        {usable.filter((a) => !a.danger).map((a) => <Dropdown.Item as="button" key={a.verb} onClick={() => ask(a)}>{a.name}</Dropdown.Item>)}
        <Dropdown.Divider />
        {usable.filter((a) => a.danger).map((a) => <Dropdown.Item as="button" key={a.verb} className="text-danger-emphasis" onClick={() => ask(a)}>{a.name}</Dropdown.Item>)}
      </Dropdown.Menu>
    </Dropdown>
    {agent.status !== "DISABLED" && <Button size="sm" onClick={onRun}>Run a task</Button>}
    {asking && <Ask agent={agent} action={asking} onClose={() => ask(null)} />}
  </>;
}
