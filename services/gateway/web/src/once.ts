/**
 * Idempotency keys. When no answer came it is not known whether a request had its effect: sent again it must be known as the same one.
 * What differs from what was sent last gets a key of its own.
 */
import { useRef } from "react";

export function useOnce(): (body: unknown) => Record<string, string> {
  const last = useRef({ text: "", key: "" });
  return (body) => {
    const text = JSON.stringify(body);
    if (text !== last.current.text) last.current = { text, key: crypto.randomUUID() };
    return { "Idempotency-Key": last.current.key };
  };
}
