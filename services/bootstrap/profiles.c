/*
 * The profiles. Runs in the signer and in init. Every rule that limits a CA is in the table below or in one
 * of the three name functions; there is no other way to a signature.
 */
#include "profiles.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"

#define DAY_SEC          (24 * 60 * 60)
#define BACKDATE_SEC     300
#define CRL_LIFE_MAX_SEC (30 * DAY_SEC)

const char *const platform_services[] = {"registry", "bootstrap", "tasks", "gateway", NULL};

static const struct profile_info profiles[] = {
    [PROFILE_AGENT_IDENTITY] = {.name = "AGENT_IDENTITY",
                                .ca = CA_AGENTS,
                                .purpose = PURPOSE_AGENT_IDENTITY,
                                .san = SAN_AGENT,
                                .p256_only = true,
                                .max_life_sec = 30 * DAY_SEC},
    [PROFILE_AGENT_TASK] = {.name = "AGENT_TASK",
                            .ca = CA_AGENTS,
                            .purpose = PURPOSE_AGENT_TASK,
                            .san = SAN_AGENT,
                            .p256_only = true,
                            .max_life_sec = 30 * DAY_SEC},
    [PROFILE_SERVICE] = {.name = "SERVICE",
                         .ca = CA_SERVICES,
                         .purpose = PURPOSE_SERVICE,
                         .tls_client_and_server = true,
                         .san = SAN_SERVICE,
                         .p256_only = true,
                         .max_life_sec = 366 * DAY_SEC},
    [PROFILE_ENVELOPE] = {.name = "ENVELOPE",
                          .ca = CA_ENVELOPE,
                          .purpose = PURPOSE_ENVELOPE,
                          .san = SAN_SERVICE,
                          .p256_only = true,
                          .only_service = "tasks",
                          .max_life_sec = DAY_SEC},
    [PROFILE_MANAGED_SERVER] = {.name = "MANAGED_SERVER",
                                .ca = CA_MANAGED,
                                .purpose = PURPOSE_TLS_SERVER,
                                .san = SAN_HOSTS,
                                .max_life_sec = 90 * DAY_SEC},
    [PROFILE_GATEWAY_TLS] = {.name = "GATEWAY_TLS",
                             .ca = CA_SERVICES,
                             .purpose = PURPOSE_TLS_SERVER,
                             .san = SAN_SERVICE_AND_HOSTS,
                             .p256_only = true,
                             .listed_hosts = true,
                             .only_service = "gateway",
                             .max_life_sec = 366 * DAY_SEC},
    [PROFILE_BUS_TLS] = {.name = "BUS_TLS",
                         .ca = CA_SERVICES,
                         .purpose = PURPOSE_TLS_SERVER,
                         .tls_client_and_server = true, /* nodes of a cluster are each other's clients */
                         .san = SAN_HOSTS,
                         .p256_only = true,
                         .init_only = true,
                         .max_life_sec = 731 * DAY_SEC},
};
_Static_assert(ARRAY_LEN(profiles) == PROFILE_END, "a row for each profile");

static const struct {
    const char *name;
    enum pki_purpose purpose;
} issuing_cas[] = {
    [CA_AGENTS] = {"agents", PURPOSE_AGENT_IDENTITY},
    [CA_SERVICES] = {"services", PURPOSE_SERVICE},
    [CA_ENVELOPE] = {"envelope", PURPOSE_ENVELOPE},
    [CA_MANAGED] = {"managed", PURPOSE_TLS_SERVER},
};
_Static_assert(ARRAY_LEN(issuing_cas) == ISSUING_CA_COUNT, "a row for each issuing CA");

const char *issuing_ca_name(enum issuing_ca ca)
{
    return issuing_cas[ca].name;
}

enum pki_purpose issuing_ca_purpose(enum issuing_ca ca)
{
    return issuing_cas[ca].purpose;
}

const struct profile_info *profile_info(enum profile profile)
{
    return profile >= PROFILE_AGENT_IDENTITY && profile < PROFILE_END ? &profiles[profile] : NULL;
}

void ca_set_done(struct ca_set *set)
{
    for (size_t i = 0; i < ISSUING_CA_COUNT; i++) {
        if (set->issuer[i])
            issuer_free(set->issuer[i]);
        set->issuer[i] = NULL;
        der_done(&set->certificate[i]);
    }
    der_done(&set->root);
    free(set->gateway_names);
    set->gateway_names = NULL;
}

static enum code refuse(const struct profile_info *row, const char *why, struct status *st)
{
    return status_set(st, CODE_PERMISSION_DENIED, "profile %s: %s", row->name, why);
}

static bool is_platform_service(const char *name)
{
    for (size_t i = 0; platform_services[i]; i++) {
        if (strcmp(platform_services[i], name) == 0)
            return true;
    }
    return false;
}

/* What will stand in the certificate. uri lives as long as the names. */
struct subject {
    struct pki_names names;
    char uri[400];
    char generation[16];
    const char *common_name, *serial;
};

static enum code agent_subject(const struct profile_info *row, const struct ca_set *set,
                               const struct profile_request *request, struct subject *ret, struct status *st)
{
    if (!uuid_valid(request->subject))
        return refuse(row, "the subject must be an agent's id", st);
    spiffe_format(set->trust_domain, "agent", request->subject, ret->uri);
    ret->names.uri[ret->names.n_uri++] = ret->uri;
    (void)snprintf(ret->generation, sizeof(ret->generation), "%u", request->generation);
    ret->serial = ret->generation;
    ret->common_name = request->subject;
    return CODE_OK;
}

static void take_hosts(const struct pki_names *asked, struct subject *ret)
{
    memcpy(ret->names.dns, asked->dns, sizeof(asked->dns));
    ret->names.n_dns = asked->n_dns;
    memcpy(ret->names.ip, asked->ip, sizeof(asked->ip));
    ret->names.n_ip = asked->n_ip;
}

static bool is_listed(const char *lines, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = lines; at && *at;) {
        size_t line = strcspn(at, "\r\n");
        if (line == len && strncasecmp(at, name, len) == 0)
            return true;
        at += line;
        at += strspn(at, "\r\n");
    }
    return false;
}

/* A gateway may renew the certificate that it has, not become another server. */
static enum code check_listed(const struct profile_info *row, const struct ca_set *set,
                              const struct pki_names *asked, struct status *st)
{
    for (size_t i = 0; i < asked->n_dns + asked->n_ip; i++) {
        const char *name = i < asked->n_dns ? asked->dns[i] : asked->ip[i - asked->n_dns];
        if (!is_listed(set->gateway_names, name))
            return status_set(st, CODE_PERMISSION_DENIED,
                              "profile %s: \"%.100s\" is not in gateway-names of the CA directory", row->name,
                              name);
    }
    return CODE_OK;
}

static enum code service_subject(const struct profile_info *row, const struct ca_set *set,
                                 const struct profile_request *request, const struct pki_names *asked,
                                 struct subject *ret, struct status *st)
{
    if (!is_platform_service(request->subject))
        return refuse(row, "the subject must be a service of the platform", st);
    if (row->only_service && strcmp(row->only_service, request->subject) != 0)
        return refuse(row, "it is not for this service", st);
    spiffe_format(set->trust_domain, "service", request->subject, ret->uri);
    if (asked->n_uri != 1 || strcmp(asked->uri[0], ret->uri) != 0)
        return refuse(row, "the CSR must hold exactly the service's own SPIFFE id", st);
    bool hosts = asked->n_dns + asked->n_ip > 0;
    if (hosts != (row->san == SAN_SERVICE_AND_HOSTS))
        return refuse(row, hosts ? "no DNS name or address is allowed" : "a DNS name or an address is needed",
                      st);
    if (row->listed_hosts)
        TRY(check_listed(row, set, asked, st));
    take_hosts(asked, ret);
    ret->names.uri[ret->names.n_uri++] = ret->uri;
    ret->common_name = request->subject;
    return CODE_OK;
}

static enum code host_subject(const struct profile_info *row, const struct pki_names *asked,
                              struct subject *ret, struct status *st)
{
    if (asked->n_uri > 0)
        return refuse(row, "no URI is allowed", st);
    if (asked->n_dns + asked->n_ip == 0)
        return refuse(row, "a DNS name or an address is needed", st);
    take_hosts(asked, ret);
    /* RFC 5280 bounds commonName to 64; a longer name stands in the SAN alone, where everybody looks today.
     */
    if (asked->n_dns > 0 && strlen(asked->dns[0]) <= 64)
        ret->common_name = asked->dns[0];
    return CODE_OK;
}

enum code profile_issue(struct ca_set *set, const struct profile_request *request, struct der *ret,
                        struct status *st)
{
    const struct profile_info *row = profile_info(request->profile);
    if (!row)
        return status_set(st, CODE_INVALID_ARGUMENT, "unknown profile %u", (unsigned)request->profile);
    if (request->life_sec <= 0 || request->life_sec > row->max_life_sec)
        return refuse(row, "the life asked for is longer than it allows, or nothing", st);

    AUTO_CSR_INFO struct csr_info csr = {0};
    TRY(csr_verify(request->csr, &csr, st));
    if (row->p256_only && csr.key_type != KEY_EC_P256)
        return refuse(row, "the key must be EC P-256", st);

    struct subject subject = {0}; /* borrows from csr and request */
    switch (row->san) {
    case SAN_AGENT:
        TRY(agent_subject(row, set, request, &subject, st));
        break;
    case SAN_SERVICE:
    case SAN_SERVICE_AND_HOSTS:
        TRY(service_subject(row, set, request, &csr.names, &subject, st));
        break;
    case SAN_HOSTS:
        TRY(host_subject(row, &csr.names, &subject, st));
        break;
    }

    int64_t now_ms = clock_wall_ms();
    char crl_url[300];
    (void)snprintf(crl_url, sizeof(crl_url), "%s/%s.crl", set->crl_url, issuing_ca_name(row->ca));
    struct cert_request cert = {
        .crl_url = set->crl_url[0] ? crl_url : NULL,
        .spki = der_bytes(&csr.spki),
        .key = csr.key,
        .common_name = subject.common_name,
        .subject_serial = subject.serial,
        .names = &subject.names,
        .purpose = row->purpose,
        .tls_client_and_server = row->tls_client_and_server,
        .path_len = -1,
        .not_before_ms = now_ms - BACKDATE_SEC * 1000,
        .not_after_ms = now_ms + request->life_sec * 1000,
    };
    return issuer_sign(set->issuer[row->ca], &cert, ret, st);
}

bool crl_url_valid(const char *url)
{
    size_t len = strlen(url);
    if (len > 200 || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0))
        return false;
    for (const char *c = url; *c; c++) {
        if (*c <= ' ' || *c > '~')
            return false;
    }
    return url[len - 1] != '/';
}

enum code profile_crl(struct ca_set *set, enum issuing_ca ca, struct crl_request *request, int64_t life_sec,
                      struct der *ret, struct status *st)
{
    if (ca >= ISSUING_CA_COUNT)
        return status_set(st, CODE_INVALID_ARGUMENT, "no such issuing CA");
    if (life_sec <= 0 || life_sec > CRL_LIFE_MAX_SEC)
        return status_set(st, CODE_PERMISSION_DENIED, "a revocation list holds at most %d s",
                          CRL_LIFE_MAX_SEC);
    request->this_update_ms = clock_wall_ms();
    request->next_update_ms = request->this_update_ms + life_sec * 1000;
    return issuer_sign_crl(set->issuer[ca], request, ret, st);
}
