import { useState, type ReactNode } from "react";
import { Button, Form, Modal } from "react-bootstrap";
import { useNavigate } from "react-router-dom";

import { post, taskKinds, type Agent, type Task, type TaskKind } from "../api";
import { useOnce } from "../once";
import { useMay } from "../session";
import { Failure, Mono, statusName } from "../ui";

/** One row a field: what the form shows, and how its text becomes a value of the specification. */
interface Field {
  name: string; label: string; help?: string; required?: boolean; placeholder?: string;
  type?: "text" | "lines" | "pem" | "check" | "number" | "select"; options?: [string, string][]; initial?: string | boolean; max?: number;
}

const target: Field = { name: "target", label: "Target", help: "A [target …] of the host's local policy", placeholder: "nginx" };
const forms: Record<TaskKind, { what: string; fields: Field[] }> = {
  RENEW: { what: "Makes a new key on the host, gets a certificate for it, installs both and looks whether they are served.", fields: [
    { ...target, required: true },
    { name: "dnsNames", label: "Names", type: "lines", help: "One a line. Empty: those of the certificate in place" },
    { name: "keyType", label: "Key", type: "select", initial: "EC_P256", options: [["EC_P256", "EC P-256"], ["EC_P384", "EC P-384"], ["RSA_2048", "RSA 2048"], ["RSA_3072", "RSA 3072"]] },
    { name: "reuseKey", label: "Keep the present key", type: "check" },
  ] },
  DEPLOY: { what: "Installs a certificate for a key that is on the host, and looks whether it is served.", fields: [
    { ...target, required: true },
    { name: "chainPem", label: "Certificate chain (PEM, leaf first)", type: "pem", required: true },
    { name: "keyPath", label: "Key file", help: "Empty: the target's present key file", placeholder: "/etc/ssl/private/site.key" },
  ] },
  VALIDATE: { what: "Checks a certificate and what is served: chain, key, names, dates. Changes nothing.", fields: [
    { ...target, help: "A [target …] of the host's local policy, or fill in the two below" },
    { name: "certificatePath", label: "Certificate file", placeholder: "/etc/ssl/site.pem" },
    { name: "endpoint", label: "Endpoint", placeholder: "127.0.0.1:443" },
    { name: "serverName", label: "Server name (SNI)" },
    { name: "expectedFingerprintSha256", label: "Expected SHA-256", help: "64 lower-case hexadecimal digits" },
  ] },
  DISCOVER: { what: "Finds the certificates on this host. Reads no keys and changes nothing.", fields: [
    { name: "roots", label: "Directories", type: "lines", help: "One a line. Empty: the discovery roots of the local policy" },
    { name: "listening", label: "Look at listening sockets", type: "check", initial: true },
    { name: "configurations", label: "Read the configuration of known servers", type: "check", initial: true },
  ] },
};

type Values = Record<string, string | boolean>;
const initial = (kind: TaskKind): Values => Object.fromEntries(forms[kind].fields.map((f) => [f.name, f.initial ?? (f.type === "check" ? false : "")]));

function specOf(kind: TaskKind, values: Values) {
  const spec: Record<string, unknown> = {};
  for (const field of forms[kind].fields) {
    const value = values[field.name];
    if (field.type === "lines") {
      const lines = String(value).split("\n").map((line) => line.trim()).filter(Boolean);
      if (lines.length) spec[field.name] = lines;
    } else if (typeof value === "boolean") spec[field.name] = value;
    else if (value.trim()) spec[field.name] = field.type === "pem" ? value : value.trim();
  }
  return { kind, [kind.toLowerCase()]: spec };
}

function Input({ field, value, set }: { field: Field; value: string | boolean; set: (value: string | boolean) => void }) {
  const id = `task-${field.name}`;
  const help = field.help ? `${id}-help` : undefined;
  if (field.type === "check") return <Form.Check id={id} label={field.label} checked={value === true} onChange={(event) => set(event.target.checked)} />;
  let control: ReactNode;
  if (field.type === "select")
    control = <Form.Select value={String(value)} onChange={(event) => set(event.target.value)}>{field.options!.map(([v, name]) => <option key={v} value={v}>{name}</option>)}</Form.Select>;
  else if (field.type === "lines" || field.type === "pem")
    control = <Form.Control as="textarea" rows={field.type === "pem" ? 6 : 2} value={String(value)} required={field.required} aria-describedby={help} spellCheck={false} className={field.type === "pem" ? "font-monospace" : ""} onChange={(event) => set(event.target.value)} />;
  else
    control = <Form.Control value={String(value)} required={field.required} placeholder={field.placeholder} aria-describedby={help} spellCheck={false} autoComplete="off" onChange={(event) => set(event.target.value)} />;
  return <Form.Group controlId={id}><Form.Label className="mb-1">{field.label}</Form.Label>{control}{help && <Form.Text id={help}>{field.help}</Form.Text>}</Form.Group>;
}

export function RunTask({ agent, onClose }: { agent: Agent; onClose: () => void }) {
  const navigate = useNavigate();
  const [kind, setKind] = useState<TaskKind>("RENEW");
  const [values, setValues] = useState<Values>(() => initial("RENEW"));
  const once = useOnce();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const [release, setRelease] = useState(false);
  const [typed, setTyped] = useState("");
  const admin = useMay("admin");
  const inScope = agent.scope?.operations.includes(kind) ?? false;
  const held = agent.safeMode === true && (kind === "RENEW" || kind === "DEPLOY");
  const released = held && admin && release;
  const run = async () => {
    setBusy(true);
    setError(undefined);
    try {
      const order = { agentId: agent.id, spec: specOf(kind, values), ...(released ? { breakGlass: true } : {}) };
      const task = await post<Task>("/tasks", order, once(order));
      navigate(`/tasks/${task.id}`);
    } catch (failed) {
      setError(failed);
      setBusy(false);
    }
  };
  return (
    <Modal show onHide={onClose} centered scrollable aria-labelledby="run-title">
      <Modal.Header closeButton closeLabel="Close"><Modal.Title as="h2" className="h5" id="run-title">Run a task on {agent.hostname}</Modal.Title></Modal.Header>
      <Modal.Body>
        <Form id="run-task" className="stack" onSubmit={(event) => { event.preventDefault(); void run(); }}>
          <Form.Group controlId="task-kind">
            <Form.Label className="mb-1">Kind</Form.Label>
            <Form.Select value={kind} autoFocus onChange={(event) => { const next = event.target.value as TaskKind; setKind(next); setValues(initial(next)); }}>
              {taskKinds.map((one) => <option key={one} value={one}>{statusName(one)}</option>)}
            </Form.Select>
            <Form.Text>{forms[kind].what}</Form.Text>
          </Form.Group>
          {forms[kind].fields.map((field) => (
            <Input key={`${kind}.${field.name}`} field={field} value={values[field.name]} set={(value) => setValues({ ...values, [field.name]: value })} />
          ))}
          {held && (admin ? (
            <fieldset className="glass">
              <legend className="fs-6 mb-1">The agent is in safe mode</legend>
              <Form.Check id="task-release" label="Release this one change (break glass)" checked={release} aria-describedby="task-release-help" onChange={(event) => setRelease(event.target.checked)} />
              <Form.Text id="task-release-help" className="d-block">It is signed and audited, and the host's local policy must allow it. Without it the platform refuses.</Form.Text>
              {release && (
                <Form.Group controlId="task-release-name" className="mt-2">
                  <Form.Label className="mb-1">Type <Mono>{agent.hostname}</Mono> to go on</Form.Label>
                  <Form.Control value={typed} autoComplete="off" spellCheck={false} onChange={(event) => setTyped(event.target.value)} />
                </Form.Group>
              )}
            </fieldset>
          ) : <p className="mb-0 state-warn p-2 rounded">The agent is in safe mode: an administrator has to release a change.</p>)}
          {!inScope && <p className="mb-0 state-warn p-2 rounded">This agent's scope does not allow {statusName(kind)}: the platform will refuse it.</p>}
          {agent.status !== "ONLINE" && <p className="mb-0 text-body-secondary">The agent is not online. The task waits for it, for at most a day.</p>}
          {error !== undefined && <Failure error={error} />}
        </Form>
      </Modal.Body>
      <Modal.Footer>
        <Button variant="outline-secondary" onClick={onClose}>Close</Button>
        <Button type="submit" form="run-task" disabled={busy || (released && typed !== agent.hostname)}>Run</Button>
      </Modal.Footer>
    </Modal>
  );
}
