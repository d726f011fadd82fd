/*
 * The inventory: which certificates are on the fleet's hosts, where, used by whom, and whether they are
 * served. Filled by what DISCOVER found (events of clm-tasks); a scan that came to its end replaces what
 * earlier ones said of the places that it looked at.
 */
#ifndef CLM_REGISTRY_INVENTORY_H
#define CLM_REGISTRY_INVENTORY_H

#include "registry.h"

enum place_source { PLACE_FILE = 1, PLACE_CONFIGURATION, PLACE_LISTENER, PLACE_NETWORK };

struct certificate { /* as hosts describe it */
    const char *id, *fingerprint, *subject, *issuer, *serial, *key_type, *signature_algorithm;
    const char *dns_names; /* with line breaks between them */
    int64_t not_before_ms, not_after_ms;
    bool is_ca, self_signed;
    /* of lists */
    int64_t n_places, n_agents;
    bool served;
};

struct certificate_place {
    const char *certificate; /* its id */
    enum place_source source;
    const char *place, *server_name, *alias, *used_by, *key_path, *process; /* all but place may be NULL */
    bool served;
    uint8_t key[32];
    /* of lists */
    const char *agent_id, *hostname;
    int64_t first_seen_ms, last_seen_ms;
};

/* One page of what a scan found. */
struct scan_page {
    const char *agent_id;
    int64_t seen_ms;                        /* the same for all pages of a scan */
    const struct certificate *certificates; /* unique by id */
    size_t n_certificates;
    struct certificate_place *places;
    size_t n_places;
    bool supersedes; /* what else was said of these very places is gone */
    bool replace; /* the last page of a scan that came to its end: what it covered and did not find is gone */
    bool files, configurations, listening;
    const char *const *roots; /* of files; none: everywhere */
    size_t n_roots;
};
/* Inside the caller's transaction. Of an agent that is not known nothing is kept. Pages may come in any order
 * and more than once. */
enum code inventory_apply(struct db *tx, const struct scan_page *page, struct arena *arena,
                          struct status *st) MUST_CHECK;

struct certificate_filter {
    const char *selector;
    const char *agent_id, *fingerprint, *issuer, *key_type, *name; /* NULL: any; issuer: a part of it */
    int64_t expires_before_ms;                                     /* -1: any */
    int served;                                                    /* -1: any */
    int64_t after_ms; /* page: not_after and id of the last one; -1: the first page */
    const char *after_id;
};
#define PLACES_SHOWN 20
/* Those that end first come first; places: PLACES_SHOWN of each at most, in the certificates' order. */
enum code certificates_list(struct db *db, const struct certificate_filter *filter, size_t max,
                            struct arena *arena, struct certificate **ret, size_t *ret_n,
                            struct certificate_place **ret_places, size_t *ret_n_places,
                            struct status *st) MUST_CHECK;
/* Forgets certificates that are nowhere any more. */
enum code inventory_trim(struct db *db, int64_t now_ms, struct arena *arena, struct status *st) MUST_CHECK;

#endif
