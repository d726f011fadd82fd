/*
 * The exec process: it holds the task key and has no connection. What it owns is one struct, shared by its
 * life (exec.c), the channel to net (channel.c), what net is told (snapshot.c), the reasons for safe mode
 * (reasons.c), its tasks (job.h), the rotation of the identity (rotation.h) and the watch over the targets
 * (watch.h). One thread, one loop.
 */
#ifndef CLM_AGENT_EXEC_EXEC_H
#define CLM_AGENT_EXEC_EXEC_H

#include "agent/exec/heads.h"
#include "agent/exec/safemode.h"
#include "agent/exec/scopemark.h"
#include "agent/exec/spawn.h"
#include "agent/exec/state.h"
#include "agent/ipc.pb-c.h"
#include "agent/policy/policy.h"
#include "base/arena.h"
#include "loop/loop.h"

enum rotation_phase {
    ROTATION_IDLE,
    ROTATION_KEYS,  /* net was asked for its key's CSR */
    ROTATION_ASKED, /* the platform was asked for the certificates */
};

struct rotation { /* rotation.c: of the identity to its next generation */
    enum rotation_phase phase;
    struct loop_timer *timer;
    int64_t due_ms;    /* wall; 0: not computed for this generation */
    int64_t latest_ms; /* wall: until then running tasks go first */
    int64_t since_ms;  /* monotonic: when the phase began */
    unsigned failures;
    uint32_t generation; /* asked for */
    struct key *task_key;
    struct der task_csr, identity_csr;
};

struct ipc;
struct job;
struct watch;

struct exec {
    struct loop *loop;
    const char *config_path;
    char *net_user; /* as it was at start: a reload of the policy does not move a running agent */
    uid_t net_uid, parser_uid;
    struct agent_state *state;
    struct policy *policy;
    struct safe_mode safe_mode;
    bool marked[SAFE_AGENT_REASON_COUNT]; /* its file was there */
    int marks_fd;                         /* inotify of <state>/safe-mode; -1: looked at now and then only */
    struct loop_watch *marks_watch;
    struct arena *facts_arena;
    Clm__HostFacts facts;
    struct agent_heads heads;
    struct scope_mark scope_mark;
    struct der confirmation; /* CMS; empty once confirmed */

    struct spawned net;
    struct ipc *net_ipc; /* NULL while net is down */
    unsigned net_failures;
    int64_t net_started_ms;
    struct loop_timer *net_timer, *progress_timer, *check_timer, *stop_timer;
    bool link_up, progress_dirty, stopping;
    char link_message[128];               /* the last one logged */
    int64_t last_prune_ms, last_check_ms; /* monotonic */

    struct job *jobs;
    size_t n_jobs;
    uint64_t next_sign_id;
    struct rotation rotation;
    struct watch *watch; /* NULL until the loop runs */
};

/* snapshot.c: what net is told */
void exec_send(struct exec *exec, const Clm__Agent__Frame *frame); /* dropped while net is down */
void exec_tell(struct exec *exec, bool urgent);                    /* the snapshot, as it is */
void exec_changed(struct exec *exec);                              /* the snapshot, now and urgently */
void exec_progressed(struct exec *exec);                           /* merged, at most once a second */
void exec_on_progress(void *exec);                                 /* of the progress timer */

/* reasons.c: safe mode */
void exec_report(struct exec *exec, enum safe_reason reason, bool bad);
/* A reason that only the host's administrator ends; text goes to its file. */
void exec_enter(struct exec *exec, enum safe_reason reason, const char *text);
void exec_look_at_marks(struct exec *exec); /* what the administrator asked for since */
/* Forgets what a former run noted down. Without a watch each check sees a change, and every delivery. */
void exec_watch_marks(struct exec *exec);
/* Whether a root that we hold is valid now: without one nobody can prove to be the platform. */
bool exec_roots_hold(const struct exec *exec);
void exec_compare_clock(struct exec *exec, int64_t platform_ms);

/* channel.c: net's process, and who it is told to be */
void exec_start_net(struct exec *exec);
void exec_on_net_timer(void *exec);
void exec_introduce(struct exec *exec); /* identity, gateway and proxy: the connection begins anew */
/* What check-ins carry until the platform has confirmed this generation. */
enum code exec_make_confirmation(struct exec *exec, struct status *st) MUST_CHECK;
/* exec_introduce, with a confirmation. */
enum code exec_identity_changed(struct exec *exec, struct status *st) MUST_CHECK;

/* exec.c */
void exec_check(struct exec *exec);     /* what is looked at now and then */
void exec_job_ended(struct exec *exec); /* when stopping, the last one ends the loop */

struct exec_options {
    const char *config_path, *state_dir; /* state_dir NULL: the policy's */
    const char *token_path;              /* NULL: none */
    bool enrol_only;
};
/* `clm-agent run` and `clm-agent enroll`. Returns the exit status. */
int exec_main(const struct exec_options *options);

#endif
