/*
 * The net process. Started anew by exec (fork and exec of the same binary), so that no byte of exec's memory
 * is in it. One loop: the channel to exec, and the link to the gateway. Ends when exec does.
 */
#include "agent/net/net.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "agent/ipc.h"
#include "agent/net/link.h"
#include "base/file.h"
#include "base/log.h"
#include "pki/csr.h"
#include "sandbox/sandbox.h"

#define KEYS_BACK 16 /* generations before the present one whose keys may still lie here */

struct net {
    struct loop *loop;
    struct ipc *ipc;
    struct link *link;
    int exit_status;
};

static void net_end(struct net *net, int exit_status)
{
    net->exit_status = exit_status;
    loop_stop(net->loop);
}

/* ---- the identity key -------------------------------------------------------------------------------------
 */

/* In the current directory: the parents need not be passable for net's user. */
static enum code key_read(uint32_t generation, struct key **ret, struct secret **ret_pem, struct status *st)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "identity-%u.key", generation);
    TRY(secret_read_file(path, 64 * 1024, false, ret_pem, st));
    return key_parse(*ret_pem, NULL, ret, st);
}

static enum code key_make(uint32_t generation, struct key **ret, struct status *st)
{
    char path[64];
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *pem = NULL;
    (void)snprintf(path, sizeof(path), "identity-%u.key", generation);
    TRY(key_generate(KEY_EC_P256, &key, st));
    TRY(key_to_pem(key, NULL, &pem, st));
    TRY(file_write_atomic(path, pem->data, pem->len, 0600, st));
    *ret = TAKE(key);
    return CODE_OK;
}

static enum code make_identity(struct net *net, uint32_t generation, struct status *st)
{
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_DER struct der csr = {0};
    struct pki_names names = {0};
    enum code code = key_read(generation, &key, &pem, st);
    if (code == CODE_NOT_FOUND)
        code = key_make(generation, &key, st);
    TRY(code);
    TRY(csr_make(key, "clm-agent identity", &names, &csr, st));
    Clm__Agent__IdentityCsr answer = CLM__AGENT__IDENTITY_CSR__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    answer.has_generation = answer.has_csr = 1;
    answer.generation = generation;
    answer.csr = (ProtobufCBinaryData){csr.len, csr.data};
    frame.identity_csr = &answer;
    ipc_send(net->ipc, &frame.base);
    return CODE_OK;
}

/* One that was found under another generation's name is moved to its own, which keys_forget keeps. */
static enum code key_rename(uint32_t from, uint32_t to, struct status *st)
{
    char old[64], name[64];
    if (from == to)
        return CODE_OK;
    (void)snprintf(old, sizeof(old), "identity-%u.key", from);
    (void)snprintf(name, sizeof(name), "identity-%u.key", to);
    if (rename(old, name) != 0)
        return status_errno(st, CODE_UNAVAILABLE, errno, "cannot rename %s", old);
    return dir_fsync(".", st);
}

static void keys_forget(uint32_t below)
{
    for (uint32_t back = 1; back <= KEYS_BACK && back <= below; back++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "identity-%u.key", below - back);
        (void)unlink(path);
    }
}

/* A bootstrap makes its key before it knows the generation, and a renewal may be given a later one than it
 * asked for. */
static enum code use_identity(struct net *net, const Clm__Agent__Identity *identity, struct status *st)
{
    uint32_t from = identity->generation;
    for (uint32_t back = 0; back <= KEYS_BACK; back++) {
        AUTO_KEY struct key *key = NULL;
        AUTO_SECRET struct secret *pem = NULL;
        uint32_t candidate = back < KEYS_BACK && back <= from ? from - back : 0;
        enum code code = key_read(candidate, &key, &pem, st);
        if (code != CODE_OK && code != CODE_NOT_FOUND)
            return code;
        if (code == CODE_OK && identity->n_chain > 0 &&
            key_matches_cert(key, (struct bytes){identity->chain[0].data, identity->chain[0].len})) {
            TRY(key_rename(candidate, from, st));
            return link_set_identity(net->link, identity, pem, st);
        }
        if (candidate == 0)
            break;
    }
    return status_set(st, CODE_DATA_LOSS, "there is no key for the identity certificate of generation %u",
                      identity->generation);
}

/* ---- the channel ------------------------------------------------------------------------------------------
 */

static void on_frame(const ProtobufCMessage *msg, void *arg)
{
    struct net *net = arg;
    const Clm__Agent__Frame *frame = (const Clm__Agent__Frame *)msg;
    struct status st;
    enum code code = CODE_OK;
    if (frame->make_identity)
        code = make_identity(net, frame->make_identity->generation, &st);
    if (code == CODE_OK && frame->identity)
        code = use_identity(net, frame->identity, &st);
    if (code == CODE_OK && frame->snapshot)
        link_set_snapshot(net->link, frame->snapshot);
    if (code == CODE_OK && frame->result)
        code = link_send_result(net->link, frame->result, &st);
    if (code == CODE_OK && frame->sign)
        code = link_send_sign(net->link, frame->sign, &st);
    if (code == CODE_OK && frame->renew)
        code = link_send_renew(net->link, frame->renew, &st);
    if (code == CODE_OK && frame->farewell)
        code = link_send_farewell(net->link, frame->farewell, &st);
    if (code == CODE_OK && frame->has_forget_below)
        keys_forget(frame->forget_below);
    if (code != CODE_OK) {
        log_error("net cannot do what exec asked", "reason", st.msg, NULL);
        net_end(net, 1);
    }
    if (frame->shutdown)
        net_end(net, 0);
}

static void on_channel_closed(const struct status *why, void *arg)
{
    struct net *net = arg;
    bool exec_gone = why->code == CODE_UNAVAILABLE;
    if (!exec_gone)
        log_error("the channel to exec is broken", "reason", why->msg, NULL);
    net_end(net, exec_gone ? 0 : 1);
}

static void on_link_frame(const Clm__Agent__Frame *frame, void *arg)
{
    struct net *net = arg;
    ipc_send(net->ipc, &frame->base);
}

static void on_term(int signum, void *arg)
{
    (void)signum;
    net_end(arg, 0);
}

/* ---- start ------------------------------------------------------------------------------------------------
 */

static enum code confine(const char *dir, uid_t uid, gid_t gid, struct status *st)
{
    if (chdir(dir) != 0)
        return status_errno(st, CODE_FAILED_PRECONDITION, errno, "cannot enter %s", dir);
    secret_harden_process();
    key_lock_memory();
    if (uid != (uid_t)-1)
        TRY(sandbox_drop_user(uid, gid, st));
    struct sandbox_limits limits = {.open_files = 64, .file_bytes = 1024 * 1024};
    TRY(sandbox_limit(&limits, st));
    /* The drop of the user made the process dumpable again. */
    secret_harden_process();
    return sandbox_enter(SANDBOX_NET, st);
}

int net_main(int channel_fd, const char *dir, uid_t uid, gid_t gid)
{
    struct status st;
    (void)signal(SIGINT, SIG_IGN); /* a terminal's Ctrl-C is exec's to handle */
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    if (confine(dir, uid, gid, &st) != CODE_OK) {
        log_error("net cannot be confined", "reason", st.msg, NULL);
        return 1;
    }
    struct net net = {.loop = loop_new()};
    struct ipc_config ipc = {.fd = channel_fd,
                             .desc = &clm__agent__frame__descriptor,
                             .max_frame = IPC_NET_FRAME_MAX,
                             .on_frame = on_frame,
                             .on_closed = on_channel_closed,
                             .arg = &net};
    struct link_config link = {.on_frame = on_link_frame, .arg = &net};
    net.link = link_new(net.loop, &link);
    net.ipc = ipc_new(net.loop, &ipc);
    struct loop_signal *term = loop_signal_new(net.loop, SIGTERM, on_term, &net);
    loop_run(net.loop);
    loop_signal_free(term);
    link_free(net.link);
    ipc_free(net.ipc);
    loop_free(net.loop);
    return net.exit_status;
}
