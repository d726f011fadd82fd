/* See redact.h. One pass: at each place the first rule that holds says how much goes. */
#include "kinds/redact.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define MARK     "[removed]"
#define ENCODED  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
#define IN_TOKEN "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.="
#define LONG_RUN 48 /* characters of base64 or hex in a row; a line of PEM has 64 */

/* What goes: `keep` bytes stay, the `drop` bytes after them do not. drop 0: nothing. */
struct cut {
    size_t keep, drop;
};

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.';
}

/* -----BEGIN … PRIVATE KEY----- up to its END, or to the end of the text. */
static struct cut private_key(const char *text, const char *at)
{
    (void)text;
    if (strncmp(at, "-----BEGIN ", 11) != 0)
        return (struct cut){0};
    size_t line = strcspn(at, "\n");
    const char *label = memmem(at, line, "PRIVATE KEY", 11);
    if (!label)
        return (struct cut){0};
    const char *end = strstr(label, "-----END ");
    size_t len = end ? (size_t)(end - at) + strcspn(end, "\n") : strlen(at);
    return (struct cut){0, len};
}

static struct cut long_run(const char *text, const char *at)
{
    (void)text;
    size_t len = strspn(at, ENCODED);
    if (len < LONG_RUN && strncmp(at, "eyJ", 3) == 0) /* a JSON Web Token */
        len = strspn(at, IN_TOKEN);
    return (struct cut){0, len >= LONG_RUN ? len : 0};
}

/* scheme://user:password@ */
static struct cut in_address(const char *text, const char *at)
{
    (void)text;
    if (strncmp(at, "://", 3) != 0)
        return (struct cut){0};
    size_t len = strcspn(at + 3, "@/ \t\n\"'");
    return (struct cut){3, at[3 + len] == '@' ? len : 0};
}

/* The value after a name: up to its quote's end, or to a blank or separator. */
static size_t value_len(const char *at)
{
    if (*at == '"' || *at == '\'') {
        const char *end = strchr(at + 1, *at);
        return end ? (size_t)(end - at) + 1 : strlen(at);
    }
    return strcspn(at, " \t\n,;&<>");
}

static bool is_secret_name(const char *name, size_t len)
{
    static const char *const ends[] = {"password", "passwd",     "passphrase",  "pass",
                                       "pwd",      "secret",     "token",       "apikey",
                                       "api_key",  "api-key",    "psk",         "private_key",
                                       "cookie",   "credential", "credentials", "authorization"};
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        size_t n = strlen(ends[i]);
        if (len >= n && strncasecmp(name + len - n, ends[i], n) == 0)
            return true;
    }
    return false;
}

/* keystorePass="…", db_password = …, Authorization: Bearer …, --token … */
static struct cut named(const char *text, const char *at)
{
    if (!is_name(*at) || (at > text && is_name(at[-1])))
        return (struct cut){0};
    size_t len = 0;
    while (is_name(at[len]))
        len++;
    if (!is_secret_name(at, len))
        return (struct cut){0};
    const char *to = at + len;
    to += *to == '"' || *to == '\''; /* "password": "…" */
    to += strspn(to, " \t");
    bool option = at[0] == '-' && to > at + len;
    if (*to != '=' && *to != ':' && !option)
        return (struct cut){0};
    to += !option || *to == '=' || *to == ':';
    to += strspn(to, " \t");
    bool whole_line = len >= 13 && strncasecmp(at + len - 13, "authorization", 13) == 0;
    return (struct cut){(size_t)(to - at), whole_line ? strcspn(to, "\n") : value_len(to)};
}

typedef struct cut rule(const char *text, const char *at);
static rule *const rules[] = {private_key, in_address, named, long_run};

/* The end of a key whose beginning was cut off. */
static const char *after_half_a_key(const char *text)
{
    const char *end = strstr(text, "-----END "), *begin = strstr(text, "-----BEGIN ");
    if (!end || (begin && begin < end) || !memmem(end, strcspn(end, "\n"), "PRIVATE KEY", 11))
        return text;
    return end + strcspn(end, "\n");
}

void redact(struct buf *text)
{
    AUTO_BUF struct buf out = {.limit =
                                   16 * text->len + 64}; /* a mark may be longer than what it stands for */
    const char *start = buf_text(text), *at = after_half_a_key(start);
    bool room = at == start || buf_puts(&out, MARK);
    while (*at && room) {
        struct cut cut = {0};
        for (size_t i = 0; i < sizeof(rules) / sizeof(*rules) && cut.drop == 0; i++)
            cut = rules[i](start, at);
        if (cut.drop == 0)
            cut.keep = 1;
        room = buf_append(&out, at, cut.keep) && (cut.drop == 0 || buf_puts(&out, MARK));
        at += cut.keep + cut.drop;
    }
    buf_reset(text);
    if (out.len > text->limit && text->limit > 0)
        out.len = text->limit;
    if (!room || !buf_append(text, out.data, out.len))
        (void)!buf_puts(text, MARK);
}
