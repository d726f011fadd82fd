/**
 * What happens reaches the pages by server-sent events. A browser keeps one stream, however many tabs it has: the tab that holds the lock
 * reads it and tells the others. A page asks again for what an event is about; while nobody reads, pages ask by themselves.
 */
import { useQueryClient, type QueryClient, type QueryKey } from "@tanstack/react-query";
import { createContext, useContext, useEffect, useState, type ReactNode } from "react";

import { leavingKey } from "./session";

interface Event { type?: string; entityId?: string; agentId?: string }
type Message = { event: Event } | { connected: boolean } | { who: true };

/** What an event's first word makes stale. */
const concerns: Record<string, (event: Event) => QueryKey[]> = {
  agent: (e) => [["agent", e.agentId], ["agents"]],
  identity: (e) => [["agent", e.agentId], ["identities", e.agentId], ["agents"]],
  token: (e) => [["tokens", e.agentId]],
  task: (e) => [["task", e.entityId], ["tasks"], ["jobs", e.agentId], ["reports", e.agentId], ["certificates"]],
  certificate: () => [["certificates"]],
  platform: () => [["platform"], ["agents"]],
  operator: () => [["operators"]],
  apikey: () => [["api-keys"]],
};
const always: QueryKey[] = [["dashboard"], ["activity"], ["alerts"], ["audit"]];
/** Once soon, and once when services that learn of it by the same event have written down what follows from it. */
const PAUSES_MS = [250, 2000];
/** However much happens, a page does not ask again sooner. */
const LEAST_MS = 2000;

/** Asks again for what came up, once for all that comes up within a pause; for everything, if it is not known what. */
function refresher(client: QueryClient) {
  const gathered = PAUSES_MS.map((pause) => ({ pause, asked: 0, stale: new Map<string, QueryKey>(), timer: undefined as number | undefined }));
  return (event: Event) => {
    const word = (event.type ?? "").split(/[._]/)[0];
    for (const gather of gathered) {
      for (const key of word ? [...(concerns[word]?.(event) ?? []), ...always] : [[]]) gather.stale.set(JSON.stringify(key), key);
      gather.timer ??= window.setTimeout(() => {
        gather.timer = undefined;
        gather.asked = Date.now();
        for (const queryKey of gather.stale.values()) void client.invalidateQueries({ queryKey, predicate: (query) => query.queryKey[0] !== leavingKey[0] });
        gather.stale.clear();
      }, Math.max(gather.pause, gather.asked + LEAST_MS - Date.now()));
    }
  };
}

/** Reads the stream until the signal; the browser reconnects by itself and says where it was. */
function read(tell: (message: Message) => void, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    let source: EventSource | undefined, again: number | undefined;
    const begin = () => {
      source = new EventSource("/api/v1/events");
      source.addEventListener("opened", () => tell({ connected: true }));
      source.onmessage = ({ data }: MessageEvent<string>) => tell({ event: JSON.parse(data) as Event });
      source.addEventListener("reset", () => tell({ event: {} })); // some were missed
      source.onerror = () => {
        tell({ connected: false });
        if (source?.readyState === EventSource.CLOSED) again = window.setTimeout(begin, 5000); // refused: it does not try again by itself
      };
    };
    signal.addEventListener("abort", () => {
      source?.close();
      window.clearTimeout(again);
      done();
    });
    begin();
  });
}

const LiveContext = createContext(false);
export const useLive = () => useContext(LiveContext);
/** How often a page asks by itself: seldom while events come. */
export const useEvery = (ms: number) => (useLive() ? Math.max(ms, 15_000) : ms);

export function Live({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const [connected, setConnected] = useState(false);
  useEffect(() => {
    const channel = new BroadcastChannel("clm-events");
    const end = new AbortController();
    const refresh = refresher(client);
    let reads = false, now = false;
    const hear = (message: Message) => {
      if ("event" in message) refresh(message.event);
      else if ("connected" in message) {
        setConnected((now = message.connected));
        if (message.connected) refresh({});
      } else if (reads) channel.postMessage({ connected: now } satisfies Message);
    };
    channel.onmessage = ({ data }: MessageEvent<Message>) => hear(data);
    channel.postMessage({ who: true } satisfies Message);
    const tell = (message: Message) => {
      channel.postMessage(message);
      hear(message);
    };
    navigator.locks.request("clm-events", { signal: end.signal }, () => {
      reads = true;
      return read(tell, end.signal);
    }).catch(() => undefined); // the page went before its turn came
    return () => {
      if (reads) channel.postMessage({ connected: false } satisfies Message); // until another tab reads
      end.abort();
      channel.close();
    };
  }, [client]);
  return <LiveContext.Provider value={connected}>{children}</LiveContext.Provider>;
}
