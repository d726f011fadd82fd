import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Button, Form, Spinner } from "react-bootstrap";
import { Link } from "react-router-dom";

import { get, post, type Agent, type Registered, type TaskKind } from "../api";
import { useOnce } from "../once";
import { useMay } from "../session";
import { Time } from "../time";
import { TokenCards, tokenLives } from "../token";
import { Card, Empty, Failure, Operations, Page, StatusBadge } from "../ui";
import { labelOf, lines } from "./AgentEdit";

function Waiting({ registered }: { registered: Registered }) {
  const { id } = registered.agent;
  const query = useQuery({ queryKey: ["agent", id], queryFn: () => get<Agent>(`/agents/${id}`), refetchInterval: (q) => (q.state.data?.status === "ONLINE" ? false : 1000) });
  const agent = query.data ?? registered.agent;
  const online = agent.status === "ONLINE";
  return (
    <Page title={<>{agent.hostname} <StatusBadge agent={agent} /></>} above={<><Link to="/agents">Agents</Link> / Register</>}>
      {registered.token && !online && <TokenCards token={registered.token} until={registered.tokenNotAfterAt} />}
      <Card title={online ? "The agent is online" : "3 · Wait for it here"}>
        <div role="status" data-testid="wait">
          {online ? <>It came online <Time at={agent.bootstrappedAt} />. <Link to={`/agents/${id}`}>Go to the agent</Link></>
            : <span className="d-flex gap-2 align-items-center"><Spinner size="sm" animation="border" aria-hidden="true" /> {agent.bootstrappedAt ? "It has enrolled; waiting for its first heartbeat." : "Waiting for the agent to use the token."}</span>}
        </div>
        {query.isError && <div className="mt-3"><Failure error={query.error} retry={() => void query.refetch()} /></div>}
      </Card>
    </Page>
  );
}

export function Register() {
  const may = useMay("operator");
  const [registered, setRegistered] = useState<Registered>();
  const [operations, setOperations] = useState<TaskKind[]>(["VALIDATE", "DISCOVER"]);
  const once = useOnce();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  if (registered) return <Waiting registered={registered} />;
  const path = <><Link to="/agents">Agents</Link> /</>;
  if (!may) return <Page title="Register an agent" above={path}><Empty title="Operators and administrators register agents">Ask one of them.</Empty></Page>;

  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const text = (name: string) => String(form.get(name) ?? "");
    setBusy(true);
    setError(undefined);
    try {
      const host = {
        hostname: text("hostname").trim(),
        labels: lines(text("labels")).map(labelOf),
        scope: { operations, paths: lines(text("paths")), dnsNames: lines(text("names")) },
        tokenTtlSec: Number(text("life")),
        ...(text("pattern").trim() ? { tokenHostnamePattern: text("pattern").trim() } : {}),
      };
      setRegistered(await post<Registered>("/agents", host, once(host)));
    } catch (failed) {
      setError(failed);
      setBusy(false);
    }
  };
  return (
    <Page title="Register an agent" above={path}>
      <Form className="stack" onSubmit={(event: FormEvent<HTMLFormElement>) => void submit(event)}>
        <div className="columns">
          <Card title="Host">
            <div className="stack">
              <Form.Group controlId="hostname">
                <Form.Label className="mb-1">Hostname</Form.Label>
                <Form.Control name="hostname" required autoFocus maxLength={253} placeholder="web1.example.com" spellCheck={false} autoComplete="off" />
              </Form.Group>
              <Form.Group controlId="labels">
                <Form.Label className="mb-1">Labels</Form.Label>
                <Form.Control as="textarea" rows={3} name="labels" placeholder={"env=prod\nteam=web"} spellCheck={false} aria-describedby="labels-help" />
                <Form.Text id="labels-help">One a line, name=value</Form.Text>
              </Form.Group>
              <Form.Group controlId="pattern">
                <Form.Label className="mb-1">Only for a host named</Form.Label>
                <Form.Control name="pattern" maxLength={253} placeholder="web-*.example.com" spellCheck={false} autoComplete="off" aria-describedby="pattern-help" />
                <Form.Text id="pattern-help">Optional: the token works on no other host</Form.Text>
              </Form.Group>
              <Form.Group controlId="life">
                <Form.Label className="mb-1">The token is good for</Form.Label>
                <Form.Select name="life" defaultValue={3600}>{tokenLives.map(([seconds, name]) => <option key={seconds} value={seconds}>{name}</option>)}</Form.Select>
              </Form.Group>
            </div>
          </Card>
          <Card title="Scope">
            <div className="stack">
              <p className="mb-0 text-body-secondary">What the platform may ask of this agent. The host's own policy decides last.</p>
              <Operations id="may" value={operations} set={setOperations} />
              <Form.Group controlId="paths">
                <Form.Label className="mb-1">Paths</Form.Label>
                <Form.Control as="textarea" rows={2} name="paths" placeholder="/etc/nginx/tls/**" spellCheck={false} aria-describedby="paths-help" />
                <Form.Text id="paths-help">One a line; * within a directory, ** across directories</Form.Text>
              </Form.Group>
              <Form.Group controlId="names">
                <Form.Label className="mb-1">DNS names</Form.Label>
                <Form.Control as="textarea" rows={2} name="names" placeholder="www.example.com" spellCheck={false} aria-describedby="names-help" />
                <Form.Text id="names-help">One a line; *.example.com for one label below</Form.Text>
              </Form.Group>
            </div>
          </Card>
        </div>
        {error !== undefined && <Failure error={error} />}
        <div><Button type="submit" disabled={busy}>Register</Button></div>
      </Form>
    </Page>
  );
}
