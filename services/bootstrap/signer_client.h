/*
 * The service's side of the signer: starts it, asks it, starts it again when it died. Thread-safe; one
 * request at a time goes to the signer.
 */
#ifndef CLM_BOOTSTRAP_SIGNER_CLIENT_H
#define CLM_BOOTSTRAP_SIGNER_CLIENT_H

#include <sys/types.h>

#include "profiles.h"

struct signer;

struct signer_config {
    const char *executable; /* clm-bootstrap itself: "/proc/self/exe"; run as `… signer --dir DIR` */
    const char *ca_dir;
    const char *crl_url; /* where the lists of revoked certificates are: "http://host/crl"; NULL: nowhere */
    int64_t timeout_ms;  /* for one answer; 0: 10 s */
    int64_t start_ms;    /* until its Hello: it derives the keys' passphrase; 0: a minute */
};

/* Starts the signer and waits for its Hello; its error is returned as it is. Strings are copied. */
enum code signer_start(const struct signer_config *config, struct signer **ret, struct status *st) MUST_CHECK;
void signer_stop(struct signer *signer); /* waits for its end; NULL is fine */

/* All of them or none, and only those that profile_issue() lets through; *ret_failed says which it did not.
 * At most SIGNER_ISSUE_MAX. UNAVAILABLE when the signer died: it is started again by the next signer_ensure.
 */
enum code signer_issue(struct signer *signer, const struct profile_request *requests, size_t n,
                       struct der *ret, size_t *ret_failed, struct status *st) MUST_CHECK;
struct signer_crl {
    enum issuing_ca ca;
    uint64_t number;
    int64_t life_sec;
    const struct crl_entry *entries;
    size_t n;
};
/* The list of what a CA revoked, from now on. */
enum code signer_sign_crl(struct signer *signer, const struct signer_crl *order, struct der *ret,
                          int64_t *ret_this_update_ms, int64_t *ret_next_update_ms,
                          struct status *st) MUST_CHECK;
/* Notices a dead signer and starts it again; refuses one that now has another root. */
enum code signer_ensure(struct signer *signer, struct status *st) MUST_CHECK;
bool signer_ready(const struct signer *signer);
pid_t signer_pid(const struct signer *signer);

/* As Hello said; they live as long as the signer object. */
struct bytes signer_root(const struct signer *signer);
struct bytes signer_issuer(const struct signer *signer, enum profile profile); /* whose key signs it */
const struct der_list *signer_issuers(const struct signer *signer); /* in the order of enum issuing_ca */
const char *signer_trust_domain(const struct signer *signer);

#endif
