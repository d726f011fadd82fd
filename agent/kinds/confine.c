/* The border between a task and the children that parse for it: see confine.h. */
#include "kinds/confine.h"

#include <stdarg.h>
#include <string.h>

#include "base/file.h"
#include "base/secret.h"
#include "kinds/checks.h"
#include "wire/wire.h"

#define FACTS_MAX     (480 * 1024)
#define FACTS_TIME_MS 20000
#define NOBODY        65534

static int in_child(void *arg, const void *in, size_t in_len, int out_fd)
{
    (void)in;
    (void)in_len;
    const struct confined *call = arg;
    struct arena *arena = arena_new();
    Clm__Agent__Facts facts = CLM__AGENT__FACTS__INIT;
    const uint8_t *packed;
    size_t len;
    call->fn(call->arg, arena, &facts);
    wire_pack(&facts.base, arena, &packed, &len);
    return fd_write_all(out_fd, packed, len, NULL) == CODE_OK ? 0 : 1;
}

enum code confine_start(confine_fn *fn, void *arg, struct confined *ret, struct status *st)
{
    *ret = (struct confined){.fn = fn, .arg = arg};
    return sandbox_parse_start(in_child, ret, NULL, 0, FACTS_MAX, FACTS_TIME_MS,
                               geteuid() == 0 ? NOBODY : (uid_t)-1, &ret->job, st);
}

enum code confine_end(struct confined *confined, struct arena *arena, const Clm__Agent__Facts **ret,
                      struct status *st)
{
    AUTO_BUF struct buf out = {.limit = FACTS_MAX};
    ProtobufCMessage *msg;
    enum code code = sandbox_parse_end(&confined->job, &out, st);
    if (code == CODE_OK)
        code = wire_unpack(&clm__agent__facts__descriptor, out.data, out.len, arena, &msg, st);
    if (code == CODE_INVALID_ARGUMENT) {
        code = CODE_FAILED_PRECONDITION;
        if (st)
            st->code = code;
    }
    TRY(code);
    const Clm__Agent__Facts *facts = (const Clm__Agent__Facts *)(const void *)msg;
    if (facts->has_code && facts->code != CODE_OK)
        return status_set(st, code_info((enum code)facts->code)->code, "%s",
                          facts->error ? facts->error : "refused");
    *ret = facts;
    return CODE_OK;
}

enum code confine_run(confine_fn *fn, void *arg, struct arena *arena, const Clm__Agent__Facts **ret,
                      struct status *st)
{
    struct confined confined;
    TRY(confine_start(fn, arg, &confined, st));
    return confine_end(&confined, arena, ret, st);
}

void *arena_push(struct arena *arena, void *array, size_t n, void *item)
{
    /* Full at 0 and at each power of two. */
    void **items = array;
    if ((n & (n - 1)) == 0) {
        items = arena_array(arena, n ? n * 2 : 1, sizeof(void *));
        if (n)
            memcpy(items, array, n * sizeof(void *));
    }
    items[n] = item;
    return items;
}

void confine_fail(Clm__Agent__Facts *facts, struct arena *arena, enum code code, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    facts->has_code = true;
    facts->code = (uint32_t)code;
    facts->error = arena_strdup(arena, text);
}

ProtobufCBinaryData confine_bytes(struct arena *arena, const void *data, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = len ? arena_dup(arena, data, len) : NULL};
}

/* Messages hold times from 1970 on; a certificate may say 1950, and is not to be left out for it. */
static int64_t time_in_message(int64_t at_ms)
{
    return at_ms > 0 ? at_ms : 0;
}

static Clm__CertificateInfo *info_message(struct arena *arena, const struct cert_info *info)
{
    Clm__CertificateInfo *msg = arena_alloc(arena, sizeof(*msg));
    clm__certificate_info__init(msg);
    msg->subject = arena_strdup(arena, info->subject);
    msg->issuer = arena_strdup(arena, info->issuer);
    msg->serial = arena_strdup(arena, info->serial);
    for (size_t i = 0; i < info->names.n_dns; i++)
        ARENA_PUSH(arena, msg->dns_names, msg->n_dns_names, arena_strdup(arena, info->names.dns[i]));
    for (size_t i = 0; i < info->names.n_ip; i++)
        ARENA_PUSH(arena, msg->dns_names, msg->n_dns_names, arena_strdup(arena, info->names.ip[i]));
    msg->has_not_before_at_ms = msg->has_not_after_at_ms = true;
    msg->not_before_at_ms = time_in_message(info->not_before_ms);
    msg->not_after_at_ms = time_in_message(info->not_after_ms);
    msg->fingerprint_sha256 = arena_strdup(arena, info->fingerprint);
    msg->key_type = arena_strdup(arena, info->key_name);
    msg->signature_algorithm = arena_strdup(arena, info->signature_algorithm);
    msg->has_is_ca = msg->has_self_signed = true;
    msg->is_ca = info->is_ca;
    msg->self_signed = info->self_signed;
    return msg;
}

static Clm__Agent__CertFacts *add_info(Clm__Agent__Facts *facts, struct arena *arena,
                                       const struct cert_info *info, uint32_t file)
{
    Clm__Agent__CertFacts *cert = arena_alloc(arena, sizeof(*cert));
    clm__agent__cert_facts__init(cert);
    cert->certificate = info_message(arena, info);
    cert->has_file = true;
    cert->file = file;
    ARENA_PUSH(arena, facts->certs, facts->n_certs, cert);
    return cert;
}

enum code confine_add_cert(Clm__Agent__Facts *facts, struct arena *arena, struct bytes der, uint32_t file,
                           bool with_der, struct status *st)
{
    AUTO_CERT_INFO struct cert_info info = {0};
    TRY(cert_read(der, &info, st));
    Clm__Agent__CertFacts *cert = add_info(facts, arena, &info, file);
    cert->has_der = with_der;
    if (with_der)
        cert->der = confine_bytes(arena, der.data, der.len);
    return CODE_OK;
}

enum code confine_list_cert(Clm__Agent__Facts *facts, struct arena *arena, struct bytes der, uint32_t file,
                            struct status *st)
{
    AUTO_CERT_INFO struct cert_info info = {0};
    TRY(cert_read_listed(der, &info, st));
    (void)add_info(facts, arena, &info, file);
    return CODE_OK;
}

void confine_add_check(Clm__Agent__Facts *facts, struct arena *arena, const char *id,
                       Clm__Check__Outcome outcome, const char *remedy, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    Clm__Check *check = arena_alloc(arena, sizeof(*check));
    clm__check__init(check);
    const struct check_row *row = check_find(id);
    check->id = arena_strdup(arena, id);
    check->has_severity = row != NULL;
    check->severity = row ? row->severity : 0;
    check->has_outcome = true;
    check->outcome = outcome;
    check->reason = arena_strdup(arena, text);
    if (!remedy && row)
        remedy = row->remedy;
    check->remedy = outcome == CLM__CHECK__OUTCOME__PASS ? NULL : arena_strdup(arena, remedy);
    ARENA_PUSH(arena, facts->checks, facts->n_checks, check);
}

void confine_pem(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct bytes *pem = arg;
    AUTO_DER_LIST struct der_list found = {0};
    struct status st;
    enum code code = pem_to_certs(*pem, &found, &st);
    for (size_t i = 0; i < found.n && code == CODE_OK; i++)
        code = confine_add_cert(facts, arena, der_bytes(&found.item[i]), 0, true, &st);
    if (code != CODE_OK)
        confine_fail(facts, arena, code, "%s", st.msg);
}
