/*
 * The border: what hangs on struct request.border, for the files that speak protobuf and bus (rpc.c,
 * events.c, peers.c, main.c). Use cases do not look inside.
 */
#ifndef CLM_BOOTSTRAP_BORDER_H
#define CLM_BOOTSTRAP_BORDER_H

#include "bootstrap.h"
#include "service/service.h"

struct bootstrap_config {
    struct service_config base;
    char *ca_dir, *gateway_address, *crl_url;
    char **reserved_names;
    int64_t token_failures_per_min, identity_life_ms, certificate_life_ms, service_life_ms, crl_life_ms,
        checkin_interval_ms, signer_start_ms;
};

struct app { /* the process's state; constant while it serves */
    struct settings settings;
    struct signer *signer;
    struct throttle *throttle;
};

/* Counters of this service, made by main.c before it serves. */
struct bootstrap_metrics {
    struct metric *tokens_refused, *certificates, *signer_restarts, *crl_begins, *crl_ends;
};
extern struct bootstrap_metrics bootstrap_metrics;

struct border {
    struct worker *worker;
    const struct rpc_ctx *rpc; /* NULL for an event */
};

/* border lives as long as the request. */
void request_init(struct request *req, struct border *border, struct worker *worker,
                  const struct rpc_ctx *rpc, struct arena *arena);

extern const struct rpc_method bootstrap_methods[];
extern const size_t bootstrap_n_methods;
extern const struct event_handler bootstrap_events[];

/* One-shot commands (commands.c). */
int command_signer(int argc, char **argv, const void *config);
int command_init(int argc, char **argv, const void *config);
int command_init_bus(int argc, char **argv, const void *config);
int command_renew_certificates(int argc, char **argv, const void *config);
int command_publish_secret(int argc, char **argv, const void *config);

#endif
