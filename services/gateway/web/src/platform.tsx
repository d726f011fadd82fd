/** The whole platform's safe mode: said above every page, begun and ended by administrators. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button, Form } from "react-bootstrap";

import { get, post, type Platform } from "./api";
import { useEvery } from "./live";
import { useMay } from "./session";
import { Time } from "./time";
import { Actor, Card, Confirm } from "./ui";

const usePlatform = () => useQuery({ queryKey: ["platform"], queryFn: () => get<Platform>("/platform"), refetchInterval: useEvery(10_000) });

export function PlatformBanner() {
  const { data } = usePlatform();
  if (!data?.safeMode) return null;
  return (
    <div role="status" className="banner">
      <strong>The whole platform is in safe mode:</strong> nothing is changed on any host.
      {data.reason && <> {data.reason}</>} <span className="sub d-inline">{data.changedBy && <><Actor id={data.changedBy} />, </>}<Time at={data.changedAt} /></span>
    </div>
  );
}

export function PlatformSafeMode() {
  const admin = useMay("admin");
  const client = useQueryClient();
  const { data } = usePlatform();
  const [asking, ask] = useState(false);
  const [reason, setReason] = useState("");
  if (!admin || !data) return null;
  const verb = data.safeMode ? "Leave safe mode" : "Enter safe mode";
  const act = async () => {
    client.setQueryData(["platform"], await post<Platform>(`/platform:${data.safeMode ? "leaveSafeMode" : "enterSafeMode"}`, reason.trim() ? { reason: reason.trim() } : {}));
    setReason("");
  };
  return (
    <Card title="Safe mode of the whole platform" aside={<Button size="sm" variant={data.safeMode ? "outline-secondary" : "outline-danger"} onClick={() => ask(true)}>{verb}</Button>}>
      <p className="mb-0">{data.safeMode ? "Every agent looks and reports; nothing is installed, renewed or reloaded." : "Off. Use it to stop every change on every host at once, say during an incident."}</p>
      {asking && (
        <Confirm title={`${verb}: every agent?`} verb={verb} danger={!data.safeMode} name={data.safeMode ? undefined : "everywhere"} onClose={() => ask(false)} act={act}>
          <Form.Group controlId="platform-reason">
            <Form.Label className="mb-1">Reason</Form.Label>
            <Form.Control value={reason} maxLength={200} placeholder="for those who read it later" onChange={(event) => setReason(event.target.value)} />
          </Form.Group>
        </Confirm>
      )}
    </Card>
  );
}
