import { useState, type FormEvent, type ReactNode } from "react";
import { Button, Form } from "react-bootstrap";
import { Navigate, useLocation, useNavigate } from "react-router-dom";

import icon from "../icon.svg";
import { useSessionQuery, useSignIn } from "../session";
import { Failure, Page } from "../ui";

function Alone({ title, children }: { title: string; children: ReactNode }) {
  return (
    <main className="alone">
      <div>
        <div className="brand"><img src={icon} alt="" width="32" height="32" /><span>SSL CLM Agents</span></div>
        <div className="panel"><Page title={title}>{children}</Page></div>
      </div>
    </main>
  );
}

function useBeginning() {
  const signIn = useSignIn();
  const navigate = useNavigate();
  const from = (useLocation().state as { from?: string } | null)?.from;
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const begin = async (path: string, body: unknown) => {
    setBusy(true);
    setError(undefined);
    try {
      await signIn(path, body);
      navigate(from?.startsWith("/") ? from : "/", { replace: true });
    } catch (failed) {
      setError(failed);
      setBusy(false);
    }
  };
  return { busy, error, begin };
}

const field = (event: FormEvent<HTMLFormElement>, name: string) => String(new FormData(event.currentTarget).get(name) ?? "");

export function Login() {
  const session = useSessionQuery();
  const { busy, error, begin } = useBeginning();
  if (session.data && !busy) return <Navigate to="/" replace />;
  return (
    <Alone title="Sign in">
      <Form onSubmit={(event: FormEvent<HTMLFormElement>) => {
        event.preventDefault();
        void begin("/sessions", { name: field(event, "name"), password: field(event, "password") });
      }}>
        <Form.Group controlId="name">
          <Form.Label>Name</Form.Label>
          <Form.Control name="name" autoComplete="username" required autoFocus maxLength={64} spellCheck={false} autoCapitalize="none" />
        </Form.Group>
        <Form.Group controlId="password">
          <Form.Label>Password</Form.Label>
          <Form.Control name="password" type="password" autoComplete="current-password" required maxLength={256} />
        </Form.Group>
        {error !== undefined && <Failure error={error} />}
        <Button type="submit" disabled={busy}>Sign in</Button>
      </Form>
    </Alone>
  );
}

/** Where the link of `clm-registry create-admin-link` leads; its secret is behind the '#', which no server sees. */
export function FirstAdmin() {
  const [link] = useState(() => window.location.hash.slice(1));
  const { busy, error, begin } = useBeginning();
  const [different, setDifferent] = useState(false);
  if (!link)
    return (
      <Alone title="This link is not complete">
        <p>Copy the whole line out of the file that <code>clm-registry create-admin-link</code> wrote, or make another.</p>
      </Alone>
    );
  return (
    <Alone title="Set your password">
      <Form onSubmit={(event: FormEvent<HTMLFormElement>) => {
        event.preventDefault();
        const password = field(event, "password");
        const same = password === field(event, "again");
        setDifferent(!same);
        if (same) void begin("/links:redeem", { link, name: field(event, "name"), password });
      }}>
        <Form.Group controlId="name">
          <Form.Label>Name</Form.Label>
          <Form.Control name="name" autoComplete="username" required autoFocus maxLength={64} pattern="[A-Za-z0-9._@\-]+" spellCheck={false} autoCapitalize="none" aria-describedby="name-help" />
          <Form.Text id="name-help">The one that you were invited by. As the first administrator, one of your choice: letters, digits and . _ - @</Form.Text>
        </Form.Group>
        <Form.Group controlId="password">
          <Form.Label>Password</Form.Label>
          <Form.Control name="password" type="password" autoComplete="new-password" required minLength={12} maxLength={256} aria-describedby="password-help" />
          <Form.Text id="password-help">At least 12 characters; a few words do well.</Form.Text>
        </Form.Group>
        <Form.Group controlId="again">
          <Form.Label>The same again</Form.Label>
          <Form.Control name="again" type="password" autoComplete="new-password" required isInvalid={different} aria-describedby="again-help" />
          <Form.Control.Feedback type="invalid" id="again-help">The two passwords differ.</Form.Control.Feedback>
        </Form.Group>
        {error !== undefined && <Failure error={error} />}
        <Button type="submit" disabled={busy}>Set the password and sign in</Button>
      </Form>
    </Alone>
  );
}
