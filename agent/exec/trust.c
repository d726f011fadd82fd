/* Checks of foreign certificates. The confined child answers "K<index>" or "N<reason>". */
#include "agent/exec/trust.h"

#include <string.h>

#include "base/file.h"
#include "sandbox/sandbox.h"

#define CHECK_TIMEOUT_MS 5000
#define ANSWER_MAX       512

struct check {
    enum code (*run)(const struct check *check, size_t *ret_root, struct status *st);
    const struct trust_bootstrap *expected;
    const Clm__BootstrapResponse *bootstrap;
    const struct agent_state *state;
    struct bytes csr;
    const Clm__SignResponse *issued;
    int64_t now_ms;
};

/* ---- in the confined child --------------------------------------------------------------------------------
 */

static struct bytes item_bytes(const ProtobufCBinaryData *item)
{
    return (struct bytes){item->data, item->len};
}

static enum code intermediates_of(const ProtobufCBinaryData *chain, size_t n, struct der_list *ret,
                                  struct status *st)
{
    for (size_t i = 1; i < n; i++)
        TRY(der_list_add(ret, item_bytes(&chain[i]), st));
    return CODE_OK;
}

/* The certificate is for the key that the CSR proved. */
static enum code same_key(struct bytes csr, const struct cert_info *leaf, struct status *st)
{
    AUTO_CSR_INFO struct csr_info info = {0};
    char spki[SHA256_HEX_SIZE];
    TRY(csr_verify(csr, &info, st));
    sha256_hex(der_bytes(&info.spki), spki);
    if (strcmp(spki, leaf->spki_sha256) != 0)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "the certificate is for another key than the request's");
    return CODE_OK;
}

static enum code check_agent_chain(const struct check *check, const ProtobufCBinaryData *chain, size_t n,
                                   struct bytes csr, enum pki_purpose purpose, const struct der_list *root,
                                   struct status *st)
{
    const Clm__BootstrapResponse *answer = check->bootstrap;
    if (n == 0)
        return status_set(st, CODE_PERMISSION_DENIED, "the chain is empty");
    AUTO_DER_LIST struct der_list intermediates = {0};
    AUTO_CERT_INFO struct cert_info leaf = {0};
    struct spiffe_id id;
    char generation[16];
    TRY(intermediates_of(chain, n, &intermediates, st));
    TRY(chain_verify(item_bytes(&chain[0]), &intermediates, root, purpose, check->now_ms, st));
    TRY(cert_read(item_bytes(&chain[0]), &leaf, st));
    TRY(same_key(csr, &leaf, st));
    TRY(cert_spiffe(item_bytes(&chain[0]), &id, st));
    (void)snprintf(generation, sizeof(generation), "%u", answer->generation);
    if (strcmp(id.kind, "agent") != 0 || strcmp(id.name, answer->agent_id) != 0 ||
        strcmp(id.trust_domain, answer->trust_domain) != 0 || strcmp(leaf.subject_serial, generation) != 0)
        return status_set(st, CODE_PERMISSION_DENIED, "the certificate names another agent or generation");
    return CODE_OK;
}

static enum code pinned_root(const struct check *check, size_t *ret, struct status *st)
{
    char pin[SHA256_HEX_SIZE];
    hex_encode(check->expected->pin, SHA256_SIZE, pin);
    for (size_t i = 0; i < check->bootstrap->n_roots; i++) {
        AUTO_CERT_INFO struct cert_info info = {0};
        TRY(cert_read(item_bytes(&check->bootstrap->roots[i]), &info, st));
        if (strcmp(info.spki_sha256, pin) == 0) {
            *ret = i;
            return CODE_OK;
        }
    }
    return status_set(st, CODE_PERMISSION_DENIED, "no root is the one that the token pins");
}

static enum code run_bootstrap(const struct check *check, size_t *ret_root, struct status *st)
{
    const Clm__BootstrapResponse *answer = check->bootstrap;
    AUTO_DER_LIST struct der_list root = {0};
    TRY(pinned_root(check, ret_root, st));
    TRY(der_list_add(&root, item_bytes(&answer->roots[*ret_root]), st));
    if (check_agent_chain(check, answer->identity_chain, answer->n_identity_chain,
                          check->expected->identity_csr, PURPOSE_AGENT_IDENTITY, &root, st) != CODE_OK)
        return status_wrap(st, "identity certificate");
    if (check_agent_chain(check, answer->task_chain, answer->n_task_chain, check->expected->task_csr,
                          PURPOSE_AGENT_TASK, &root, st) != CODE_OK)
        return status_wrap(st, "task certificate");
    return CODE_OK;
}

static enum code run_issued(const struct check *check, size_t *ret_root, struct status *st)
{
    const Clm__SignResponse *answer = check->issued;
    if (answer->n_chain == 0)
        return status_set(st, CODE_PERMISSION_DENIED, "the chain is empty");
    AUTO_DER_LIST struct der_list intermediates = {0};
    AUTO_CERT_INFO struct cert_info leaf = {0};
    TRY(intermediates_of(answer->chain, answer->n_chain, &intermediates, st));
    TRY(cert_read(item_bytes(&answer->chain[0]), &leaf, st));
    TRY(same_key(check->csr, &leaf, st));
    enum code code = status_set(st, CODE_PERMISSION_DENIED, "this agent holds no root");
    for (size_t i = 0; i < check->state->roots.n; i++) {
        AUTO_DER_LIST struct der_list root = {0};
        TRY(der_list_add(&root, der_bytes(&check->state->roots.item[i]), st));
        code = chain_verify(item_bytes(&answer->chain[0]), &intermediates, &root, PURPOSE_TLS_SERVER,
                            check->now_ms, st);
        if (code == CODE_OK) {
            *ret_root = i;
            return CODE_OK;
        }
    }
    return code;
}

static int parse_check(void *arg, const void *in, size_t in_len, int out_fd)
{
    (void)in;
    (void)in_len;
    const struct check *check = arg;
    struct status st = {0}, out_st;
    size_t root = 0;
    char answer[ANSWER_MAX];
    enum code code = check->run(check, &root, &st);
    int len = code == CODE_OK ? snprintf(answer, sizeof(answer), "K%zu", root)
                              : snprintf(answer, sizeof(answer), "N%s", st.msg);
    return fd_write_all(out_fd, answer, (size_t)len, &out_st) == CODE_OK ? 0 : 1;
}

/* ---- in exec ----------------------------------------------------------------------------------------------
 */

static enum code run_confined(const struct check *check, uid_t parser_uid, size_t n_roots, size_t *ret_root,
                              struct status *st)
{
    AUTO_BUF struct buf out = {0};
    struct check copy = *check;
    TRY(sandbox_parse(parse_check, &copy, "", 0, ANSWER_MAX, CHECK_TIMEOUT_MS, parser_uid, &out, st));
    const char *text = buf_text(&out);
    if (text[0] != 'K')
        return status_set(st, CODE_PERMISSION_DENIED, "%s", text[0] ? text + 1 : "the parser gave no answer");
    char *end;
    unsigned long root = strtoul(text + 1, &end, 10);
    if (end == text + 1 || *end || root >= n_roots)
        return status_set(st, CODE_INTERNAL, "the parser's answer is malformed");
    *ret_root = root;
    return CODE_OK;
}

enum code trust_check_bootstrap(const struct trust_bootstrap *expected, const Clm__BootstrapResponse *answer,
                                size_t *ret_root, struct status *st)
{
    struct check check = {
        .run = run_bootstrap, .expected = expected, .bootstrap = answer, .now_ms = expected->now_ms};
    if (run_confined(&check, expected->parser_uid, answer->n_roots, ret_root, st) != CODE_OK)
        return status_wrap(st, "the platform's answer is not to be trusted");
    return CODE_OK;
}

enum code trust_check_issued(const struct agent_state *state, struct bytes csr,
                             const Clm__SignResponse *answer, int64_t now_ms, uid_t parser_uid,
                             size_t *ret_root, struct status *st)
{
    struct check check = {.run = run_issued, .state = state, .csr = csr, .issued = answer, .now_ms = now_ms};
    if (run_confined(&check, parser_uid, state->roots.n, ret_root, st) != CODE_OK)
        return status_wrap(st, "the issued certificate is not to be trusted");
    return CODE_OK;
}
