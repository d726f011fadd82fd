/*
 * What each CA may sign: one table, enforced where the keys are (the signer, and init before there is one).
 * Nothing of a CSR but its key, and the names that the profile's SAN shape lets through, gets into a
 * certificate.
 */
#ifndef CLM_BOOTSTRAP_PROFILES_H
#define CLM_BOOTSTRAP_PROFILES_H

#include "pki/crl.h"
#include "pki/issue.h"

enum profile { /* the numbers of signer.proto */
               PROFILE_AGENT_IDENTITY = 1,
               PROFILE_AGENT_TASK,
               PROFILE_SERVICE,
               PROFILE_ENVELOPE,
               PROFILE_MANAGED_SERVER,
               PROFILE_GATEWAY_TLS,
               PROFILE_BUS_TLS, /* init only */
               PROFILE_END,
};

enum issuing_ca { CA_AGENTS, CA_SERVICES, CA_ENVELOPE, CA_MANAGED, ISSUING_CA_COUNT };
const char *issuing_ca_name(enum issuing_ca ca);         /* "agents": the file's name, too */
enum pki_purpose issuing_ca_purpose(enum issuing_ca ca); /* its own EKU, which binds all that it issues */

enum san_shape {
    SAN_AGENT,             /* exactly the agent's SPIFFE id, made here; the CSR's names are ignored */
    SAN_SERVICE,           /* the CSR holds exactly the service's SPIFFE id and nothing else */
    SAN_SERVICE_AND_HOSTS, /* that, and at least one DNS name or address */
    SAN_HOSTS,             /* DNS names and addresses, at least one, and no URI */
};

struct profile_info {
    const char *name;
    enum issuing_ca ca;
    enum pki_purpose purpose; /* EKU and key usage */
    bool tls_client_and_server;
    enum san_shape san;
    bool p256_only;
    bool init_only;           /* never for the running service */
    bool listed_hosts;        /* only names of gateway-names in the CA directory */
    const char *only_service; /* NULL: any of the services */
    int64_t max_life_sec;
};
/* NULL if there is no such profile. */
const struct profile_info *profile_info(enum profile profile);

/* The issuing CAs and the trust domain that they sign for. One thread. */
struct ca_set {
    struct issuer *issuer[ISSUING_CA_COUNT];
    struct der certificate[ISSUING_CA_COUNT];
    struct der root;
    char trust_domain[256];
    char crl_url[256];   /* what its lists' addresses begin with; "": none */
    char *gateway_names; /* one a line, as init was told or an administrator added; may be NULL */
};
void ca_set_done(struct ca_set *set);
#define AUTO_CA_SET CLEANUP(ca_set_done)

struct profile_request {
    enum profile profile;
    struct bytes csr;
    const char *subject; /* agent id or service name; "" for SAN_HOSTS */
    uint32_t generation; /* agent profiles */
    int64_t life_sec;    /* from now */
};

/* The certificate starts 5 minutes ago, for clocks that differ. INVALID_ARGUMENT: a CSR that is none, an
 * unknown profile. PERMISSION_DENIED: the profile does not allow it; the message says what. */
enum code profile_issue(struct ca_set *set, const struct profile_request *request, struct der *ret,
                        struct status *st) MUST_CHECK;

/* The list of everything that one CA revoked, from now for life_sec. */
enum code profile_crl(struct ca_set *set, enum issuing_ca ca, struct crl_request *request, int64_t life_sec,
                      struct der *ret, struct status *st) MUST_CHECK;

/* "http://…" or "https://…" without spaces, not too long. */
bool crl_url_valid(const char *url);

/* Names of the services of this platform, ended by NULL. */
extern const char *const platform_services[];

#endif
