/*
 * What administrators do about people and programs: operators by invitation, what each may do, API keys. Use
 * cases: each runs its own transaction, with its audit record and activity.
 */
#ifndef CLM_REGISTRY_GRANTS_H
#define CLM_REGISTRY_GRANTS_H

#include "registry.h"

enum operator_state { OPERATOR_INVITED = 1, OPERATOR_ACTIVE, OPERATOR_DISABLED };

struct operator_entry {
    const char *id;
    struct operator who;
    enum operator_state state;
    int64_t created_at_ms, last_login_at_ms, disabled_at_ms;
    int64_t link_not_after_ms; /* of a link that still works; -1: there is none */
};

struct grant {
    unsigned roles; /* bits; at least one */
    const char *selector;
};
#define INVITE_TTL_DEFAULT_SEC (24 * 3600)
#define INVITE_TTL_MIN_SEC     300
#define INVITE_TTL_MAX_SEC     (7 * 24 * 3600)

enum code operators_list(struct db *db, const char *after_id, size_t max, int64_t now_ms, struct arena *arena,
                         struct operator_entry **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* NOT_FOUND. */
enum code operator_get(struct db *db, const char *id, int64_t now_ms, struct arena *arena,
                       struct operator_entry *ret, struct status *st) MUST_CHECK;
/* `link` is the only copy of the secret with which the operator sets a password, once. ALREADY_EXISTS. */
enum code operator_invite(struct db *db, const struct cause *cause, const char *name,
                          const struct grant *grant, int64_t ttl_sec, char link[OPERATOR_SECRET_MAX],
                          struct arena *arena, struct operator_entry *ret, struct status *st) MUST_CHECK;
/* A fresh link: former ones end. Using it sets a new password and ends the operator's sessions. */
enum code operator_invite_again(struct db *db, const struct cause *cause, const char *id, int64_t ttl_sec,
                                char link[OPERATOR_SECRET_MAX], struct arena *arena,
                                struct operator_entry *ret, struct status *st) MUST_CHECK;
/* FAILED_PRECONDITION when no administrator of the whole fleet would be left, or it is the caller. */
enum code operator_set_grant(struct db *db, const struct cause *cause, const char *id,
                             const struct grant *grant, struct arena *arena, struct operator_entry *ret,
                             struct status *st) MUST_CHECK;
/* Disabled: sessions end now. */
enum code operator_set_disabled(struct db *db, const struct cause *cause, const char *id, bool disabled,
                                struct arena *arena, struct operator_entry *ret,
                                struct status *st) MUST_CHECK;
enum code operator_sessions(struct db *db, const char *id, int64_t now_ms, struct arena *arena,
                            struct session **ret, size_t *ret_n, struct status *st) MUST_CHECK;
enum code operator_end_sessions(struct db *db, const struct cause *cause, const char *id, struct arena *arena,
                                struct operator_entry *ret, struct status *st) MUST_CHECK;

struct api_key_entry {
    struct api_key key;
    const char *created_by;
    int64_t created_at_ms, expires_at_ms, revoked_at_ms, last_used_at_ms; /* -1: none */
};
#define API_KEY_TTL_DEFAULT_MS (90LL * 24 * 3600 * 1000)
#define API_KEY_TTL_MAX_MS     (3650LL * 24 * 3600 * 1000)

/* Without ended ones unless asked for. */
enum code api_keys_list(struct db *db, bool ended, const char *after_id, size_t max, int64_t now_ms,
                        struct arena *arena, struct api_key_entry **ret, size_t *ret_n,
                        struct status *st) MUST_CHECK;
enum code api_key_get(struct db *db, const char *id, struct arena *arena, struct api_key_entry *ret,
                      struct status *st) MUST_CHECK;
/* text as of api_key_create; "" when an earlier request with this key (cause->once) has made it and it is in
 * use. */
enum code api_key_issue(struct db *db, const struct cause *cause, const char *name, const struct grant *grant,
                        int64_t expires_at_ms, char text[API_KEY_TEXT_MAX], struct arena *arena,
                        struct api_key_entry *ret, struct status *st) MUST_CHECK;
/* Again is no error. */
enum code api_key_revoke(struct db *db, const struct cause *cause, const char *id, struct arena *arena,
                         struct api_key_entry *ret, struct status *st) MUST_CHECK;

/* Statements (store_grants.c). */
struct operator_row;
enum code store_operators_select(struct db *db, const char *id, const char *after_id, size_t max,
                                 int64_t now_ms, struct arena *arena, struct operator_entry **ret,
                                 size_t *ret_n, struct status *st) MUST_CHECK;
/* Nobody else changes operators until the end of the transaction. */
enum code store_operators_lock(struct db *tx, struct status *st) MUST_CHECK;
/* Active ones with role admin and the whole fleet. */
enum code store_operators_admins(struct db *tx, struct arena *arena, int64_t *ret_n,
                                 struct status *st) MUST_CHECK;
enum code store_operator_grant(struct db *tx, const char *id, const struct grant *grant, struct arena *arena,
                               struct status *st) MUST_CHECK;
enum code store_operator_disable(struct db *tx, const char *id, int64_t disabled_at_ms, struct arena *arena,
                                 struct status *st) MUST_CHECK;
/* ALREADY_EXISTS when the name is taken; then nothing else of the transaction can follow. */
enum code store_operator_invite(struct db *tx, const char *id, const char *name, const struct grant *grant,
                                int64_t now_ms, struct arena *arena, struct status *st) MUST_CHECK;
/* Its former links end. */
enum code store_operator_link(struct db *tx, const char *id, const uint8_t hash[32], const char *operator_id,
                              int64_t now_ms, int64_t expires_at_ms, struct arena *arena,
                              struct status *st) MUST_CHECK;
/* Another secret for a link that is there. *ret_changed false: it was used, or ended. */
enum code store_operator_link_renew(struct db *tx, const char *id, const uint8_t hash[32],
                                    int64_t expires_at_ms, struct arena *arena, bool *ret_changed,
                                    struct status *st) MUST_CHECK;
/* The operator of an invitation, who sets a password; ret->id NULL: the link makes a new operator. */
enum code store_link_operator(struct db *tx, const uint8_t hash[32], struct arena *arena,
                              struct operator_row *ret, struct status *st) MUST_CHECK;
enum code store_operator_password(struct db *tx, const char *id, const char *password, struct arena *arena,
                                  struct status *st) MUST_CHECK;
enum code store_operator_seen(struct db *tx, const char *id, int64_t now_ms, struct arena *arena,
                              struct status *st) MUST_CHECK;
/* *ret_n: how many there were. */
enum code store_operator_sessions_delete(struct db *tx, const char *id, struct arena *arena, int64_t *ret_n,
                                         struct status *st) MUST_CHECK;
enum code store_keys_select(struct db *db, const char *id, bool ended, const char *after_id, size_t max,
                            int64_t now_ms, struct arena *arena, struct api_key_entry **ret, size_t *ret_n,
                            struct status *st) MUST_CHECK;
/* *ret_changed false: it has been used, or has ended. */
enum code store_key_renew(struct db *tx, const char *id, const uint8_t hash[32], struct arena *arena,
                          bool *ret_changed, struct status *st) MUST_CHECK;
enum code store_key_revoke(struct db *tx, const char *id, int64_t now_ms, struct arena *arena,
                           bool *ret_changed, struct status *st) MUST_CHECK;

#endif
