/*
 * What the files of a transaction share; nobody else includes it. Journal steps, in order: probe (what was
 * served before), stage and backup (one each a file), swap, test, reload, verify, commit; or rollback,
 * rolled-back; or withdrawn. `swap` divides: before it nothing that a server reads has changed; after it the
 * journal and the files' digests say which side each file is on.
 */
#ifndef CLM_AGENT_TRANSACTION_TX_H
#define CLM_AGENT_TRANSACTION_TX_H

#include "kinds/kinds.h"
#include "stores/place.h"
#include "stores/store.h"
#include "transaction/transaction.h"

#define TX_FILES_MAX 3

struct tx_file {
    const char *role; /* "key", "chain", "cert": the order in which they are swapped */
    const char *path;
    const char *staged; /* name in path's directory */
    const char *backup; /* name in the backup directory; NULL: there was no file */
    struct secret *old, *fresh;
    struct store_meta meta;
    char old_sha[SHA256_HEX_SIZE], new_sha[SHA256_HEX_SIZE];
    bool is_new; /* on disk, as last looked at */
};

struct tx {
    struct task_run *run;
    const struct policy_target *target;
    struct policy_reload *const *reload; /* NULL-ended */
    const struct place *place;
    struct place_at at;
    struct tx_file file[TX_FILES_MAX];
    size_t n;
    struct secret *password; /* of the keystore; NULL: it has none */
    struct store_view in_place;
    const char *server_name;
    char leaf[SHA256_HEX_SIZE];   /* of the new certificate */
    char before[SHA256_HEX_SIZE]; /* served before; "" if nothing was */
    bool old_is_dead;             /* expired, or no certificate at all */
    bool let_pass;                /* by the pre hooks */
    bool reloaded;
};

/* --- tx.c --- */
void tx_init(struct tx *tx, struct task_run *run, const struct policy_target *target);
void tx_done(struct tx *tx);
struct tx_file *tx_file_of(struct tx *tx, const char *role); /* NULL: it has none of that role */
struct tx_file *tx_cert(struct tx *tx);
struct tx_file *tx_key(struct tx *tx); /* the certificate's, when one file holds both */
struct store_tool tx_tool(const struct tx *tx);
struct bytes tx_bytes(const struct secret *secret);
enum code tx_note(struct tx *tx, const char *step, const char *path, const char *other,
                  const char *fingerprint, struct status *st) MUST_CHECK;
/* After the swap nothing is given up because it cannot be written down (a full disk): a resumed run begins at
 * the swap again and comes to the same end. */
void tx_note_late(struct tx *tx, const char *step, const char *path, const char *other,
                  const char *fingerprint);

/* --- hooks.c --- */
/* Runs one of a reload's commands as the step `name`. */
enum code tx_hook(struct tx *tx, const struct policy_reload *reload, const char *name, char *const *argv,
                  const char *reason, struct status *st);
/* The administrator's last word before anything is changed. */
enum code tx_pre_hooks(struct tx *tx, struct status *st) MUST_CHECK;
/* What was let pass did not succeed: whoever took the host out of service has to know. */
void tx_failure_hooks(struct tx *tx, enum code code, Clm__Receipt__Outcome outcome, const struct status *st);

/* --- check.c --- */
enum code tx_read_in_place(struct tx *tx, struct status *st) MUST_CHECK;
enum code tx_open_in_place(struct tx *tx, const struct change *change, struct status *st) MUST_CHECK;
void tx_judge_old(struct tx *tx);
/* Why it may not be installed; else each file's new content is made. */
enum code tx_check_new(struct tx *tx, const struct change *change, struct status *st) MUST_CHECK;

/* --- stage.c --- */
enum code tx_stage(struct tx *tx, struct status *st) MUST_CHECK;
enum code tx_back_up(struct tx *tx, struct status *st) MUST_CHECK;
enum code tx_check_unchanged(struct tx *tx, struct status *st) MUST_CHECK;
enum code tx_check_staged(struct tx *tx, const struct tx_file *file, struct status *st) MUST_CHECK;
void tx_discard_staged(struct tx *tx);
/* Nothing was changed: what was staged goes, and so do the backups. */
void tx_forget(struct tx *tx);

/* --- swap.c --- */
/* Brings what is still old to its new content, in one go; what is new already stays. */
enum code tx_swap(struct tx *tx, struct status *st) MUST_CHECK;
/* All files back in one go, the other way round: certificate first. */
enum code tx_restore(struct tx *tx, struct status *st) MUST_CHECK;

/* --- served.c --- */
/* One look at the endpoint; false when nothing is served. why may be NULL. */
bool tx_look(struct tx *tx, char fingerprint[SHA256_HEX_SIZE], char *why, size_t why_size);
enum code tx_probe_before(struct tx *tx, struct status *st) MUST_CHECK;
/* Until the endpoint serves `wanted` and nothing else, or the time is up. */
bool tx_wait_served(struct tx *tx, const char *wanted, char served[SHA256_HEX_SIZE], char *why,
                    size_t why_size);

/* --- activate.c --- */
/* The new files are in place: make the server use them, look, and commit or roll back. */
enum code tx_activate(struct tx *tx, Clm__Receipt__Outcome *ret_outcome, struct status *st) MUST_CHECK;

/* --- rollback.c --- */
enum code tx_roll_back(struct tx *tx, const char *reason, Clm__Receipt__Outcome *ret_outcome,
                       struct status *st) MUST_CHECK;
/* Somebody else was faster, and what they put there is there again: there is nothing to undo. */
enum code tx_withdraw(struct tx *tx, const char *reason, struct status *st) MUST_CHECK;
/* Files of both sides, and somebody else's: they are left alone, and what was put aside goes. DATA_LOSS. */
enum code tx_give_up(struct tx *tx, const char *reason, struct status *st) MUST_CHECK;

#endif
