// Renders the shipped Kustomize directories offline and holds every object against the published schemas
// (kubernetes-models: types, required, enums, quantities; client-node's attribute maps: unknown fields) and
// against rules of our own for what schemas do not see. Prints one line a check; exits 1 if one failed.
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import YAML from "yaml";
import * as k8s from "@kubernetes/client-node";

const require = createRequire(import.meta.url);
const top = join(dirname(fileURLToPath(import.meta.url)), "../..");
const platform = ["overlays/dev", "overlays/production"];
const all = [...platform, "agent/daemonset", "agent/deployment"];
const ownKinds = new Set(["ServiceMonitor"]); // a custom resource: its schema is its operator's

let passed = 0;
const failures = [];
const check = (holds, what) => (holds ? (passed += 1) : failures.push(what));

function render(directory) {
    const text = execFileSync("kubectl", ["kustomize", join(top, "deploy/kubernetes", directory)], { encoding: "utf8" });
    return YAML.parseAllDocuments(text).map((document) => {
        if (document.errors.length) throw new Error(`${directory}: ${document.errors[0]}`);
        return document.toJS();
    });
}

// ---- the published schemas

function model(object) {
    const group = object.apiVersion.includes("/") ? object.apiVersion : "v1";
    return require(`kubernetes-models/${group}`)[object.kind];
}

function attributes(type) {
    return k8s[type]?.getAttributeTypeMap?.();
}

function unknownFields(value, type, path, found) {
    const list = /^(?:Array|Set)<(.*)>$/.exec(type);
    const map = /^\{ \[key: string\]: (.*); \}$/.exec(type);
    if (list) {
        if (!Array.isArray(value)) found.push(`${path} is not a list`);
        else value.forEach((entry, i) => unknownFields(entry, list[1], `${path}[${i}]`, found));
    } else if (map) {
        Object.entries(value ?? {}).forEach(([key, entry]) => unknownFields(entry, map[1], `${path}.${key}`, found));
    } else if (attributes(type)) {
        const known = new Map(attributes(type).map((attribute) => [attribute.baseName, attribute.type]));
        for (const [key, entry] of Object.entries(value ?? {})) {
            if (known.has(key)) unknownFields(entry, known.get(key), `${path}.${key}`, found);
            else found.push(`${path}.${key} is no field of ${type}`);
        }
    }
    return found;
}

function schema(object, where) {
    if (ownKinds.has(object.kind)) return;
    const Model = model(object);
    check(Model !== undefined, `${where}: ${object.apiVersion} ${object.kind} is not an API of Kubernetes`);
    if (!Model) return;
    let why = "";
    try {
        new Model(object).validate();
    } catch (error) {
        why = error.message;
    }
    check(why === "", `${where}: ${why}`);
    const version = object.apiVersion.split("/").pop();
    const type = version[0].toUpperCase() + version.slice(1) + object.kind;
    check(attributes(type) !== undefined, `${where}: ${type} is not known`);
    const unknown = unknownFields(object, type, object.kind, []);
    check(unknown.length === 0, `${where}: ${unknown.join("; ")}`);
}

// ---- rules of our own

const templateOf = (object) => (object.kind === "CronJob" ? object.spec.jobTemplate.spec.template : object.spec?.template);
const podOf = (object) => templateOf(object)?.spec;
const labelsOf = (object) => templateOf(object)?.metadata?.labels ?? {};
const fits = (selector, labels) =>
    Object.entries(selector?.matchLabels ?? {}).every(([key, value]) => labels[key] === value) &&
    (selector?.matchExpressions ?? []).every((e) => e.operator === "In" && e.values.includes(labels[e.key]));

function workload(object, objects, where, restricted) {
    const pod = podOf(object);
    if (object.spec.selector) check(fits(object.spec.selector, labelsOf(object)), `${where}: the selector is not its pods' labels`);
    const volumes = new Map((pod.volumes ?? []).map((volume) => [volume.name, volume]));
    for (const claim of object.spec.volumeClaimTemplates ?? []) volumes.set(claim.metadata.name, claim);
    const used = new Set();
    for (const container of [...(pod.initContainers ?? []), ...pod.containers]) {
        const here = `${where}/${container.name}`;
        check(/:[^:/]+$/.test(container.image) && !container.image.endsWith(":latest"), `${here}: ${container.image} has no tag`);
        check(container.resources?.requests?.cpu && container.resources?.requests?.memory && container.resources?.limits?.memory,
            `${here}: requests and limits`);
        for (const mount of container.volumeMounts ?? []) {
            used.add(mount.name);
            check(volumes.has(mount.name), `${here}: mounts ${mount.name}, which is no volume`);
        }
        for (const kind of ["startupProbe", "livenessProbe", "readinessProbe"]) {
            const port = container[kind]?.httpGet?.port;
            if (port !== undefined)
                check((container.ports ?? []).some((p) => p.name === port || p.containerPort === port), `${here}: ${kind} asks port ${port}`);
        }
        const variables = new Map((container.env ?? []).map((variable) => [variable.name, variable.value]));
        for (const from of container.envFrom ?? []) {
            const source = objects.find((o) => o.kind === "ConfigMap" && o.metadata.name === from.configMapRef?.name);
            Object.entries(source?.data ?? {}).forEach(([key, value]) => variables.set(key, value));
        }
        // Not every image has the public CAs: that of PostgreSQL, which makes the roles, has none.
        const anchor = variables.get("PGSSLROOTCERT");
        if (anchor !== undefined) {
            const mount = (container.volumeMounts ?? []).find((m) => anchor.startsWith(`${m.mountPath}/`));
            check(volumes.get(mount?.name)?.secret?.items?.some((item) => `${mount.mountPath}/${item.path}` === anchor),
                `${here}: ${anchor} (PGSSLROOTCERT) is not there`);
        }
        for (const argument of container.args ?? [])
            for (const [, name] of argument.matchAll(/\$\((\w+)\)/g)) check(variables.has(name), `${here}: $(${name}) is not set`);
        const s = { ...pod.securityContext, ...container.securityContext };
        check(s.readOnlyRootFilesystem === true && s.allowPrivilegeEscalation === false, `${here}: read-only root, no privileges`);
        check(container.securityContext?.capabilities?.drop?.includes("ALL"), `${here}: drops all capabilities`);
        if (restricted)
            check(s.runAsNonRoot === true && s.runAsUser > 0 && s.seccompProfile?.type === "RuntimeDefault" &&
                !container.securityContext.capabilities.add && !pod.hostNetwork && !pod.hostPID, `${here}: Pod Security "restricted"`);
    }
    for (const [name, volume] of volumes) {
        check(used.has(name), `${where}: volume ${name} is mounted nowhere`);
        if (restricted) check(!volume.hostPath, `${where}: ${name} is a path of the host`);
        if (volume.configMap) {
            const source = objects.find((o) => o.kind === "ConfigMap" && o.metadata.name === volume.configMap.name);
            check(source, `${where}: ConfigMap ${volume.configMap.name} is not there`);
            const mounts = pod.containers.concat(pod.initContainers ?? []).flatMap((c) => c.volumeMounts ?? []);
            for (const mount of mounts.filter((m) => m.name === name && m.subPath))
                check(source?.data?.[mount.subPath] !== undefined, `${where}: ${mount.subPath} is not in its ConfigMap`);
        }
        if (volume.secret?.secretName === "clm-pki")
            check(volume.secret.items?.length > 0, `${where}: takes the whole of clm-pki, not just its own part`);
    }
}

function service(object, workloads, where) {
    const targets = workloads.filter((w) => fits({ matchLabels: object.spec.selector }, labelsOf(w)));
    check(targets.length > 0, `${where}: selects no pods`);
    for (const port of object.spec.ports)
        check(targets.every((t) => podOf(t).containers.some((c) => (c.ports ?? []).some((p) =>
            p.name === port.targetPort || p.containerPort === port.targetPort))), `${where}: ${port.targetPort} is no port of its pods`);
}

// What each service account may do: "verbs resource names"; an account without rights or rights without an account are not there.
const rights = {
    "clm-init": ["create secrets"],
    "clm-renew-certificates": ["get,patch secrets clm-pki"],
};

function access(objects, workloads, where) {
    const of = (kind) => objects.filter((o) => o.kind === kind);
    const text = (rule) => [rule.verbs.join(), rule.resources.join(), ...(rule.resourceNames ? [rule.resourceNames.join()] : [])].join(" ");
    const given = {};
    for (const binding of of("RoleBinding")) {
        const role = of("Role").find((o) => o.metadata.name === binding.roleRef.name);
        check(role && binding.roleRef.kind === "Role", `${where}: ${binding.metadata.name} binds no role`);
        for (const subject of binding.subjects) {
            check(subject.kind === "ServiceAccount" && subject.namespace === binding.metadata.namespace, `${where}: ${subject.name} is no account of its namespace`);
            (given[subject.name] ??= []).push(...(role?.rules ?? []).map(text));
        }
    }
    check(JSON.stringify(given, Object.keys(given).sort()) === JSON.stringify(rights, Object.keys(rights).sort()), `${where}: rights are ${JSON.stringify(given)}`);
    check(!objects.some((o) => o.kind.startsWith("Cluster")), `${where}: rights beyond the namespace`);
    for (const workload of workloads) {
        const pod = podOf(workload);
        const account = of("ServiceAccount").find((o) => o.metadata.name === pod.serviceAccountName);
        check(pod.automountServiceAccountToken === (account !== undefined) && (account ? rights[account.metadata.name] : !pod.serviceAccountName),
            `${where}: ${workload.metadata.name}: a token for whom it is meant, and nobody else`);
        check(!account || account.automountServiceAccountToken === false, `${where}: ${account?.metadata.name} gives its token to every pod`);
    }
    const reaches = (pod) => objects.some((o) => o.kind === "NetworkPolicy" && fits(o.spec.podSelector, labelsOf(pod)) &&
        (o.spec.egress ?? []).some((rule) => !rule.to && rule.ports.some((p) => p.port === 6443)));
    for (const workload of workloads)
        check(reaches(workload) === podOf(workload).automountServiceAccountToken, `${where}: ${workload.metadata.name}: the way to the API server`);
}

// A pod that starts finds certificates that are not older than a month, whenever the platform was made.
function renewal(objects, where) {
    const job = objects.find((o) => o.kind === "CronJob" && o.metadata.name === "clm-renew-certificates");
    check(job && /^\d+ \d+ \d+ \* \*$/.test(job.spec.schedule) && job.spec.concurrencyPolicy === "Forbid" && !job.spec.suspend, `${where}: a monthly renewal`);
    if (!job) return;
    const container = podOf(job).containers[0];
    check(container.args.join(" ") === "renew-certificates --dir /etc/clm/pki --secret clm-pki", `${where}: ${container.args}`);
    const paths = podOf(job).volumes.find((v) => v.name === "pki").secret.items;
    check(paths.every((item) => item.key.startsWith("ca.") && item.path === `ca/${item.key.slice(3)}`) && !paths.some((item) => item.key === "ca.root.key"),
        `${where}: the renewal sees the issuing CAs and not the root's key`);
    const bootstrap = objects.find((o) => o.kind === "Deployment" && o.metadata.name === "clm-bootstrap");
    const signs = podOf(bootstrap).volumes.find((v) => v.name === "ca").secret.items.map((item) => item.key);
    check(signs.sort().join() === paths.map((item) => item.key).sort().join(), `${where}: the renewal signs with what clm-bootstrap signs with`);
}

// The arrows of the design, and nothing else: "from → to:port".
const servers = ["clm-registry", "clm-bootstrap", "clm-tasks"];
const arrows = new Set([
    ...[...servers, "clm-gateway", "clm-init-bus"].map((from) => `${from} → clm-nats:4222`),
    "clm-nats → clm-nats:6222",
    ...[...servers, "clm-init", "clm-init-admin"].map((from) => `${from} → clm-postgresql:5432`),
]);

function network(objects, workloads, where) {
    const policies = objects.filter((o) => o.kind === "NetworkPolicy");
    const pods = workloads.map((w) => ({ name: labelsOf(w)["app.kubernetes.io/name"], labels: labelsOf(w) }));
    for (const pod of pods)
        for (const type of ["Ingress", "Egress"])
            check(policies.some((p) => p.spec.policyTypes.includes(type) && fits(p.spec.podSelector, pod.labels)),
                `${where}: ${type} of ${pod.name} is not restricted`);
    const rules = (pod, direction) => policies.filter((p) => fits(p.spec.podSelector, pod.labels)).flatMap((p) => p.spec[direction] ?? []);
    const allows = (pod, direction, peer, port) => rules(pod, direction).some((rule) =>
        rule.ports.some((p) => p.port === port) &&
        rule[direction === "ingress" ? "from" : "to"]?.some((side) => side.podSelector && fits(side.podSelector, peer.labels)));
    for (const from of pods)
        for (const to of pods)
            for (const port of [4222, 5432, 6222]) {
                const open = allows(from, "egress", to, port) && allows(to, "ingress", from, port);
                const arrow = `${from.name} → ${to.name}:${port}`;
                check(open === arrows.has(arrow), `${where}: ${arrow} is ${open ? "open" : "closed"}`);
            }
    for (const name of ["clm-gateway", ...servers]) {
        const pod = pods.find((p) => p.name === name);
        const open = rules(pod, "ingress").filter((rule) => !rule.from).flatMap((rule) => rule.ports.map((p) => p.port));
        check(open.join() === (name === "clm-gateway" ? "8443,8080" : ""), `${where}: ${name} is open to everybody on ${open}`);
    }
}

for (const directory of all) {
    const objects = render(directory);
    const workloads = objects.filter(podOf);
    const names = new Set();
    for (const object of objects) {
        const where = `${directory}: ${object.kind} ${object.metadata.name}`;
        check(!names.has(where), `${where} is there twice`);
        names.add(where);
        check(object.kind === "Namespace" || object.metadata.namespace, `${where} has no namespace`);
        check(object.kind !== "Secret", `${where}: Secrets are by reference only`);
        schema(object, where);
        if (podOf(object)) workload(object, objects, where, platform.includes(directory));
        if (object.kind === "Service" && object.spec.selector) service(object, workloads, where);
        if (object.kind === "PodDisruptionBudget" )
            check(workloads.some((w) => fits(object.spec.selector, labelsOf(w))), `${where}: selects no pods`);
        if (object.kind === "HorizontalPodAutoscaler")
            check(workloads.some((w) => w.kind === object.spec.scaleTargetRef.kind && w.metadata.name === object.spec.scaleTargetRef.name) &&
                object.spec.minReplicas >= 2, `${where}: scales nothing`);
    }
    if (!platform.includes(directory)) continue;
    network(objects, workloads, directory);
    access(objects, workloads, directory);
    renewal(objects, directory);
    for (const name of ["clm-gateway", ...servers]) {
        const one = workloads.find((w) => w.metadata.name === name);
        const scaled = objects.some((o) => o.kind === "HorizontalPodAutoscaler" && o.spec.scaleTargetRef.name === name);
        check(scaled || one.spec.replicas >= 2, `${directory}: ${name} has fewer than two replicas`);
        const container = podOf(one).containers[0];
        check(container.startupProbe && container.livenessProbe?.httpGet.path === "/healthz" &&
            container.readinessProbe?.httpGet.path === "/readyz" && container.lifecycle?.preStop, `${directory}: ${name}: probes, preStop`);
        check(podOf(one).topologySpreadConstraints?.length > 0, `${directory}: ${name}: topology spread`);
        check(objects.some((o) => o.kind === "PodDisruptionBudget" && fits(o.spec.selector, labelsOf(one))), `${directory}: ${name}: budget`);
    }
}

for (const failure of failures) console.log(`FAILED ${failure}`);
console.log(`manifests: ${passed} checks passed, ${failures.length} failed`);
process.exit(failures.length || !passed ? 1 : 0);
