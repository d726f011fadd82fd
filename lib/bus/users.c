/*
 * Who may do what on the bus: one row a user, and the writer of nats-server's authorization block. Least
 * privilege: a service calls only the methods that its row names, serves only its own queue, reads only its
 * own durables.
 */
#include <ctype.h>
#include <string.h>

#include "bus/bus.h"

const struct bus_user bus_users[] = {
    {
        .name = "registry",
        .serves = true,
        .emits = true,
        .reads = true, /* what its database has forgotten, after a restore */
        .call = {"bootstrap.CreateToken", "bootstrap.IssueServiceCertificate", "bootstrap.GetTrustBundle",
                 "bootstrap.ListTokens", "bootstrap.RevokeToken", "bootstrap.ListAgentIdentities",
                 "bootstrap.BeginEpoch", "tasks.BeginEpoch", "tasks.GetTaskStatistics", "tasks.GetAgentJobs"},
        .publish = {BUS_SUBJECT_TICK},
        .consumer = {{"registry_bootstrap", "clm.event.bootstrap.>"},
                     {"registry_tasks", "clm.event.tasks.>"}},
    },
    {
        .name = "bootstrap",
        .serves = true,
        .emits = true,
        .call = {"registry.ListAgentSnapshot", "tasks.AuthorizeCertificate",
                 "bootstrap.IssueServiceCertificate"},
        .consumer = {{"bootstrap_registry", "clm.event.registry.agent.>"}},
    },
    {
        .name = "tasks",
        .serves = true,
        .emits = true,
        .call = {"registry.ListAgentSnapshot", "bootstrap.ListIdentities",
                 "bootstrap.IssueServiceCertificate", "bootstrap.GetTrustBundle"},
        .publish = {BUS_SUBJECT_WAKE},
        .consumer = {{"tasks_registry", "clm.event.registry.>"},
                     {"tasks_bootstrap", "clm.event.bootstrap.identity.>"}},
    },
    {
        .name = "gateway",
        .call = {"registry.Authenticate",
                 "registry.RegisterAgent",
                 "registry.GetAgent",
                 "registry.GetAgentMetrics",
                 "registry.ListAgents",
                 "registry.DisableAgent",
                 "registry.EnableAgent",
                 "registry.GetDashboard",
                 "registry.GetAgentJobs",
                 "registry.Login",
                 "registry.RedeemLink",
                 "registry.GetSession",
                 "registry.ListSessions",
                 "registry.EndSession",
                 "registry.SeeAgents",
                 "registry.SetAgentLabels",
                 "registry.SetAgentScope",
                 "registry.ListOperators",
                 "registry.GetOperator",
                 "registry.CreateOperator",
                 "registry.InviteOperator",
                 "registry.SetOperatorGrant",
                 "registry.DisableOperator",
                 "registry.EnableOperator",
                 "registry.ListOperatorSessions",
                 "registry.EndOperatorSessions",
                 "registry.ListApiKeys",
                 "registry.GetApiKey",
                 "registry.CreateApiKey",
                 "registry.RevokeApiKey",
                 "registry.ReportHeartbeats",
                 "registry.ListAgentStates",
                 "registry.ListAudit",
                 "registry.GetAuditHead",
                 "registry.ListAuditHeads",
                 "registry.GetAuditProof",
                 "registry.GetAuditConsistency",
                 "registry.ListFleetHeads",
                 "registry.GetFleetConsistency",
                 "registry.CosignHead",
                 "registry.DeclareRestored",
                 "registry.ListCosignatures",
                 "registry.ReportRefusals",
                 "registry.ListAlerts",
                 "registry.AcknowledgeAlert",
                 "registry.ResolveAlert",
                 "registry.ListActivity",
                 "registry.ListCertificates",
                 "bootstrap.BootstrapAgent",
                 "bootstrap.ConfirmIdentity",
                 "bootstrap.SignCertificate",
                 "bootstrap.IssueServiceCertificate",
                 "bootstrap.GetTrustBundle",
                 "tasks.CreateTask",
                 "tasks.GetTask",
                 "tasks.ListTasks",
                 "tasks.ListReports",
                 "tasks.CancelTask",
                 "tasks.RetryTask",
                 "tasks.LeaseTasks",
                 "tasks.SubmitResult",
                 "bootstrap.RenewIdentity",
                 "bootstrap.SayFarewell",
                 "registry.RevokeAgent",
                 "registry.UnfreezeAgent",
                 "registry.EnterSafeMode",
                 "registry.LeaveSafeMode",
                 "registry.CreateAgentToken",
                 "registry.ListAgentTokens",
                 "registry.ListAgentIdentities",
                 "bootstrap.GetCrl",
                 "registry.RevokeAgentToken",
                 "registry.ReportSuperseded",
                 "registry.DeleteAgent",
                 "registry.GetPlatform",
                 "registry.EnterPlatformSafeMode",
                 "registry.LeavePlatformSafeMode"},
        .subscribe = {"clm.event.registry.agent.>", BUS_SUBJECT_WAKE, BUS_SUBJECT_TICK, BUS_SUBJECT_FEED},
        .reads = true,
    },
    {
        .name = "admin",
        .publish = {"$JS.API.>", "$SRV.>"},
    },
    {.name = NULL},
};

const struct bus_user *bus_user_find(const char *name)
{
    for (const struct bus_user *user = bus_users; user->name; user++)
        if (strcmp(user->name, name) == 0)
            return user;
    return NULL;
}

/* ---- the configuration
 * ----------------------------------------------------------------------------------------- */

/* One array of subjects; false once something did not fit. */
struct list {
    struct buf *out;
    bool first, ok;
};

static void add(struct list *list, const char *fmt, ...) PRINTF(2, 3);
static void add(struct list *list, const char *fmt, ...)
{
    char subject[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(subject, sizeof(subject), fmt, ap);
    va_end(ap);
    list->ok = list->ok && buf_printf(list->out, "%s\n          \"%s\"", list->first ? "" : ",", subject);
    list->first = false;
}

/* Whether events of `service` pass the filter: its relay reads that durable's ack floor. */
static bool filter_reads(const char *filter, const char *service)
{
    char prefix[96];
    (void)snprintf(prefix, sizeof(prefix), "clm.event.%s.", service);
    return strncmp(filter, prefix, strlen(prefix)) == 0;
}

static bool write_publish(const struct bus_user *user, struct buf *out)
{
    struct list list = {out, true, buf_puts(out, "        publish: { allow: [")};
    for (size_t i = 0; i < BUS_SUBJECTS_MAX && user->call[i]; i++)
        add(&list, "clm.rpc.%s", user->call[i]);
    for (size_t i = 0; i < BUS_SUBJECTS_MAX && user->publish[i]; i++)
        add(&list, "%s", user->publish[i]);
    if (user->emits) {
        add(&list, "clm.event.%s.>", user->name);
        for (const struct bus_user *other = bus_users; other->name; other++)
            for (size_t i = 0; i < BUS_CONSUMERS_MAX && other->consumer[i].durable; i++)
                if (filter_reads(other->consumer[i].filter, user->name))
                    add(&list, "$JS.API.CONSUMER.INFO." BUS_STREAM ".%s", other->consumer[i].durable);
    }
    if (user->emits || user->reads)
        add(&list, "$JS.API.STREAM.INFO." BUS_STREAM);
    if (user->reads)
        add(&list, "$JS.API.DIRECT.GET." BUS_STREAM);
    for (size_t i = 0; i < BUS_CONSUMERS_MAX && user->consumer[i].durable; i++) {
        const char *durable = user->consumer[i].durable;
        add(&list, "$JS.API.CONSUMER.INFO." BUS_STREAM ".%s", durable);
        add(&list, "$JS.API.CONSUMER.MSG.NEXT." BUS_STREAM ".%s", durable);
        add(&list, "$JS.ACK." BUS_STREAM ".%s.>", durable);
    }
    return list.ok && buf_puts(out, "\n        ] }\n");
}

static const char *const micro_verbs[] = {"PING", "INFO", "STATS"};

static bool write_subscribe(const struct bus_user *user, struct buf *out)
{
    struct list list = {out, true, buf_puts(out, "        subscribe: { allow: [")};
    add(&list, "_INBOX_%s.>", user->name);
    /* With a queue name behind the subject, nats-server allows no subscription without it. */
    if (user->serves)
        add(&list, "clm.rpc.%s.* %s", user->name, user->name);
    /* What micro.c answers. */
    for (unsigned verb = 0; user->serves && verb < ARRAY_LEN(micro_verbs); verb++) {
        add(&list, "$SRV.%s", micro_verbs[verb]);
        add(&list, "$SRV.%s.clm-%s", micro_verbs[verb], user->name);
        add(&list, "$SRV.%s.clm-%s.*", micro_verbs[verb], user->name);
    }
    for (size_t i = 0; i < BUS_SUBJECTS_MAX && user->subscribe[i]; i++)
        add(&list, "%s", user->subscribe[i]);
    return list.ok && buf_puts(out, "\n        ] }\n");
}

static bool password_valid(const struct secret *password)
{
    if (password->len < 16 || password->len > 128)
        return false;
    for (size_t i = 0; i < password->len; i++)
        if (!isalnum(password->data[i]) && password->data[i] != '-' && password->data[i] != '_')
            return false;
    return true;
}

enum code bus_users_conf(const struct secret *const *passwords, struct buf *out, struct status *st)
{
    bool ok = buf_puts(out, "authorization {\n  users: [\n");
    for (size_t i = 0; bus_users[i].name; i++) {
        const struct bus_user *user = &bus_users[i];
        if (!password_valid(passwords[i]))
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "bus password of %s: must be 16 to 128 letters, digits, '-' or '_'",
                              user->name);
        ok = ok && buf_printf(out, "    {\n      user: %s\n      password: \"%s\"\n      permissions: {\n",
                              user->name, (const char *)passwords[i]->data);
        ok = ok && write_publish(user, out) && write_subscribe(user, out);
        if (user->serves)
            ok = ok && buf_puts(out, "        allow_responses: { max: 1, expires: \"10m\" }\n");
        ok = ok && buf_puts(out, "      }\n    }\n");
    }
    if (!ok || !buf_puts(out, "  ]\n}\n"))
        return status_set(st, CODE_RESOURCE_EXHAUSTED,
                          "bus users: the configuration does not fit its buffer");
    return CODE_OK;
}
