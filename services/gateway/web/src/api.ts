/** The REST API as the console uses it. What the server does not say is absent, never null. */

export const agentStatuses = ["ONLINE", "OFFLINE", "SAFE_MODE", "BOOTSTRAPPING", "EXPIRED", "DISABLED"] as const;
export type AgentStatus = (typeof agentStatuses)[number];
export const taskKinds = ["RENEW", "DEPLOY", "VALIDATE", "DISCOVER"] as const;
export type TaskKind = (typeof taskKinds)[number];
export const taskStates = [
  "SCHEDULED", "READY", "LEASED", "RUNNING", "SUCCEEDED", "INSTALLED_UNVERIFIED", "FAILED", "CANCELLED", "EXPIRED",
] as const;
export type TaskState = (typeof taskStates)[number];

export interface Label { name: string; value?: string }
export interface Scope { operations: TaskKind[]; paths: string[]; dnsNames: string[]; version?: number }
export interface HostFacts {
  hostname?: string; os?: string; kernel?: string; arch?: string; agentVersion?: string; buildDate?: string; gitCommit?: string;
  operations: TaskKind[];
}
export interface Agent {
  id: string; hostname: string; status: AgentStatus; safeMode?: boolean; reason?: string; labels: Label[]; scope?: Scope;
  createdAt?: string; bootstrappedAt?: string; lastHeartbeatAt?: string; generation?: number;
  identityFingerprintSha256?: string; identityNotAfterAt?: string; facts?: HostFacts;
  clockSkewMs?: number; version?: number; safeModeEnds?: string; identityDaysLeft?: number; statusSinceAt?: string;
}
export interface Token {
  id: string; state: "OPEN" | "BOUND" | "USED" | "EXPIRED" | "REVOKED"; createdBy?: string; createdAt?: string; notAfterAt?: string;
  boundAt?: string; usedAt?: string; revokedAt?: string; hostnamePattern?: string; sourceCidr?: string;
}
export interface HostMetrics {
  cpuPermille?: number; processors?: number; load1Milli?: number; memoryTotalBytes?: number; memoryUsedBytes?: number;
  diskTotalBytes?: number; diskUsedBytes?: number; uptimeSec?: number;
}
/** What one step of history came to: means and last values. */
export interface MetricsPoint extends HostMetrics { beginsAt?: string; samples?: number; cpuMaxPermille?: number; load1MaxMilli?: number }
export interface AgentMetrics { latest?: HostMetrics; latestAt?: string; stepSec?: number; points: MetricsPoint[] }
export interface Operator {
  id: string; name: string; roles: Role[]; labelSelector?: string; state: "INVITED" | "ACTIVE" | "DISABLED"; createdAt?: string; lastLoginAt?: string;
}
export interface ApiKey {
  id: string; name: string; roles: Role[]; labelSelector?: string; createdBy?: string; createdAt?: string; expiresAt?: string; lastUsedAt?: string;
}
/** Of the platform as a whole. */
export interface Platform { safeMode?: boolean; reason?: string; changedBy?: string; changedAt?: string }
/** The token is shown once, in this answer. */
export interface Registered { agent: Agent; token?: string; tokenNotAfterAt?: string }
export interface Activity { occurredAt?: string; event?: string; agentId?: string; actor?: string; message?: string }
/** How many end within that time and not within the one before; 0: have ended; without it: later. */
export interface Ends { withinSec?: number; n?: number; served?: number }
export const taskResults = ["succeeded", "installedUnverified", "failed", "expired", "cancelled"] as const;
/** Tasks that ended in an hour or a day. */
export type TaskPeriod = { beginsAt?: string } & Partial<Record<(typeof taskResults)[number], number>>;
export interface Dashboard {
  total: number; online: number; offline: number; disabled: number; expired: number; safeMode: number; bootstrapping: number;
  identitiesExpiring: number; recentActivity: Activity[]; openAlerts?: number; recentAlerts: Alert[];
  identitiesByEnd: Ends[]; certificatesByEnd?: Ends[]; versions: { version?: string; n?: number }[];
  tasks?: { hours: TaskPeriod[]; days: TaskPeriod[] };
}
/** What an agent has done of one kind. */
export type Job = {
  kind: TaskKind; meanMs?: number; longestMs?: number; lastTaskId?: string; lastState?: TaskState; lastFinishedAt?: string; lastMs?: number;
  lastMessage?: string;
} & Partial<Record<(typeof taskResults)[number], number>>;
export interface CertificateInfo {
  subject?: string; issuer?: string; serial?: string; dnsNames: string[]; notBeforeAt?: string; notAfterAt?: string;
  fingerprintSha256?: string; keyType?: string; signatureAlgorithm?: string; isCa?: boolean; selfSigned?: boolean;
}
export interface Step { name?: string; ok?: boolean; startedAt?: string; durationMs?: number; message?: string }
export interface Check { id?: string; outcome?: "PASS" | "WARN" | "FAIL"; reason?: string; remedy?: string }
export interface FoundCertificate {
  certificate?: CertificateInfo; source?: "FILE" | "CONFIGURATION" | "LISTENER"; path?: string; endpoint?: string;
  serverName?: string; usedBy?: string; keyPath?: string; served?: boolean;
}
/** One place of a certificate. */
export interface CertificatePlace {
  agentId?: string; hostname?: string; source?: string; place?: string; serverName?: string; alias?: string; usedBy?: string; keyPath?: string;
  process?: string; served?: boolean; firstSeenAt?: string; lastSeenAt?: string;
}
export interface CertificateView { certificate?: CertificateInfo; placeCount?: number; agentCount?: number; served?: boolean; places: CertificatePlace[] }
export interface TaskResult {
  steps: Step[]; checks: Check[]; certificates: FoundCertificate[]; fingerprintBeforeSha256?: string;
  fingerprintAfterSha256?: string; servedFingerprintSha256?: string; certificate?: CertificateInfo; truncated?: boolean;
  filesScanned?: number; filesUnreadable?: number;
}
/** What a VALIDATE found. */
export interface Report { taskId: string; agentId: string; validatedAt?: string; verdict?: Check["outcome"]; asked?: { target?: string; endpoint?: string; certificatePath?: string }; checks: Check[]; certificate?: CertificateInfo }
export interface TaskAttempt { attempt?: number; outcome?: string; endedAt?: string; steps: Step[] }
export interface Identity {
  generation?: number; state?: "PENDING" | "CURRENT" | "SUPERSEDED" | "EXPIRED" | "REVOKED"; serial?: string; fingerprintSha256?: string;
  issuedAt?: string; notAfterAt?: string; confirmedAt?: string; revokedAt?: string; tokenId?: string;
}
export interface TaskSpec {
  kind: TaskKind;
  deploy?: Record<string, unknown>; renew?: Record<string, unknown>;
  validate?: Record<string, unknown>; discover?: Record<string, unknown>;
}
export interface Task {
  id: string; agentId: string; kind: TaskKind; state: TaskState; spec?: TaskSpec; attempt?: number; lease?: number;
  maxAttempts?: number; priority?: number; createdBy?: string; createdAt?: string; leasedAt?: string; startedAt?: string;
  finishedAt?: string; deadlineAt?: string; phase?: string; progressPermille?: number; message?: string; result?: TaskResult;
  cancelRequested?: boolean; attempts?: TaskAttempt[]; breakGlass?: boolean;
}
export interface Alert {
  id: string; kind: string; state: "OPEN" | "ACKNOWLEDGED" | "RESOLVED"; entityId?: string; agentId?: string; hostname?: string;
  message?: string; firstAt?: string; lastAt?: string; count?: number; acknowledgedAt?: string; acknowledgedBy?: string;
}
export interface AuditRecord {
  eventId?: string; action?: string; origin?: string; entityId?: string; agentId?: string; actor?: string; occurredAt?: string;
  source?: string; outcome?: string; detail?: string; traceId?: string; count?: number;
}
export interface AuditEntry { index?: number; leaf?: string; record?: AuditRecord }
export interface AuditProof { entry?: AuditEntry; treeSize?: number; inclusion: string[]; head?: { head?: string } }
export type Role = "VIEWER" | "OPERATOR" | "ADMIN" | "AUDITOR";
export interface Session {
  id: string; name: string; roles: Role[]; source?: string; createdAt?: string; lastUsedAt?: string; notAfterAt?: string;
}

export const isOver = (task: Task) =>
  !(["SCHEDULED", "READY", "LEASED", "RUNNING"] as TaskState[]).includes(task.state);

/** A problem document (RFC 9457), or what stands for one when there was no answer. */
export class Problem extends Error {
  constructor(readonly status: number, readonly title: string, readonly detail: string, readonly requestId?: string) {
    super(detail || title);
  }
}

/** Asking again would change nothing. */
export const gone = (error: unknown) => error instanceof Problem && (error.status === 404 || error.status === 400);

type Query = Record<string, string | number | readonly string[] | undefined>;

export function queryString(query: Query): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === "") continue;
    if (typeof value === "object") value.forEach((one) => params.append(name, one));
    else params.append(name, String(value));
  }
  const text = params.toString();
  return text ? `?${text}` : "";
}

async function call<T>(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      credentials: "same-origin",
      redirect: "error",
      headers: {
        ...(method === "GET" ? {} : { "X-Clm-Csrf": "1", "Content-Type": "application/json" }),
        ...headers,
      },
      body: method === "GET" ? undefined : JSON.stringify(body ?? {}),
    });
  } catch {
    throw new Problem(0, "No connection", "The platform does not answer. Check the network; this page tries again by itself.");
  }
  const text = await response.text();
  let json: unknown;
  try {
    json = text ? JSON.parse(text) : {};
  } catch {
    json = {};
  }
  if (response.ok) return json as T;
  const problem = json as { title?: string; detail?: string };
  throw new Problem(response.status, problem.title ?? `HTTP ${response.status}`, problem.detail ?? "",
    response.headers.get("X-Request-Id") ?? undefined);
}

export const get = <T>(path: string, query: Query = {}) => call<T>("GET", path + queryString(query));
export const post = <T>(path: string, body?: unknown, headers?: Record<string, string>) => call<T>("POST", path, body, headers);
