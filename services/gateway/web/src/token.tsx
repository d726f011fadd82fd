/** A bootstrap token as it is shown once, and what the host's administrator does with it. */
import { useState } from "react";
import { Nav } from "react-bootstrap";

import { useNow } from "./time";
import { Card, Copy } from "./ui";

export const tokenLives: [number, string][] = [[900, "15 minutes"], [3600, "1 hour"], [28800, "8 hours"], [86400, "1 day"], [604800, "7 days"]];

/** One row a way to run the agent. Each asks for the token or reads it from a file: it stays out of shell histories and process lists. */
const ways: { name: string; help: string; line: string }[] = [
  { name: "Debian", help: "The second command shows what the agent would be allowed to do there, and asks. The third asks for the token.",
    line: "sudo apt-get install -y clm-agent && sudo clm-agent setup && sudo clm-agent enroll && sudo systemctl enable --now clm-agent" },
  { name: "Container", help: "Paste the token when the second command waits for it, then press Enter and Ctrl-D. The local policy is /etc/clm-agent/agent.conf of the host. Once the agent is online: sudo podman secret rm clm-token.",
    line: "sudo install -d /etc/clm-agent && cat | sudo podman secret create clm-token - && sudo podman run -d --name clm-agent --restart unless-stopped --secret clm-token,mode=0400 -v /etc/clm-agent:/etc/clm-agent:ro -v clm-agent:/var/lib/clm-agent ghcr.io/ssl-clm/clm-agent:0.1.0 run --token-file /run/secrets/clm-token" },
  { name: "Kubernetes", help: "In a checkout of the platform. Paste the token when the second command waits for it, then press Enter and Ctrl-D. Once the agent is online, delete the Secret.",
    line: "kubectl apply -k deploy/kubernetes/agent/deployment && kubectl -n clm-agents create secret generic clm-agent-token --from-file=token=/dev/stdin" },
];

export function Countdown({ until }: { until: string }) {
  useNow();
  const left = Math.max(0, Math.ceil((Date.parse(until) - Date.now()) / 1000));
  if (left === 0) return <span className="state state-bad">The token has ended</span>;
  const two = (n: number) => String(n).padStart(2, "0");
  const clock = left >= 3600 ? `${Math.floor(left / 3600)}:${two(Math.floor(left / 60) % 60)}:${two(left % 60)}` : `${Math.floor(left / 60)}:${two(left % 60)}`;
  return <span role="timer" title={new Date(until).toLocaleString("en-GB")}>good for {clock}</span>;
}

export function TokenCards({ token, until }: { token: string; until?: string }) {
  const [chosen, choose] = useState(ways[0].name);
  const way = ways.find((one) => one.name === chosen)!;
  return <>
    <Card title="1 · Copy the token" aside={until && <Countdown until={until} />}>
      <p>It works once and is shown only here. Whoever has it can become this agent.</p>
      <div className="token"><code data-testid="token">{token}</code><Copy text={token} what="the token" /></div>
    </Card>
    <Card title="2 · On the host, as its administrator">
      <Nav variant="underline" className="mb-2" activeKey={chosen} onSelect={(name) => name && choose(name)}>
        {ways.map(({ name }) => <Nav.Item key={name}><Nav.Link as="button" eventKey={name} aria-pressed={name === chosen}>{name}</Nav.Link></Nav.Item>)}
      </Nav>
      <p>{way.help}</p>
      <div className="token"><code>{way.line}</code><Copy text={way.line} what="the commands" /></div>
    </Card>
  </>;
}
