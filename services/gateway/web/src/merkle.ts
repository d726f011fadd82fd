/** Inclusion proofs of the audit log (RFC 9162 section 2.1.3.2), checked here: the server's word is not taken for it. */

const bytes = (base64: string) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

async function sha256(...parts: (Uint8Array | number[])[]): Promise<Uint8Array> {
  const all = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
}

/** The root to which leaf and proof lead; null if the proof has another length than such a tree's. */
export async function rootOf(index: number, size: number, leaf: string, proof: readonly string[]): Promise<Uint8Array | null> {
  if (index >= size) return null;
  let fn = BigInt(index);
  let sn = BigInt(size - 1);
  let r = await sha256([0], bytes(leaf));
  for (const p of proof.map(bytes)) {
    if (sn === 0n) return null;
    if (fn & 1n || fn === sn) {
      r = await sha256([1], p, r);
      while (!(fn & 1n) && fn !== 0n) {
        fn >>= 1n;
        sn >>= 1n;
      }
    } else {
      r = await sha256([1], r, p);
    }
    fn >>= 1n;
    sn >>= 1n;
  }
  return sn === 0n ? r : null;
}

/** Whether the signed head names this root: its AuditHead.root_sha256 is field 3, 32 bytes. */
export function headNames(head: string, root: Uint8Array): boolean {
  const der = bytes(head);
  const wanted = [0x1a, 0x20, ...root];
  for (let at = 0; at + wanted.length <= der.length; at++)
    if (wanted.every((byte, i) => der[at + i] === byte)) return true;
  return false;
}
