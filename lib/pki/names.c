/* subjectAltName ⇄ struct pki_names, and what counts as a name. Pure functions, any thread. */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "pki/ossl.h"

#define DNS_MAX   253
#define LABEL_MAX 63
#define URI_MAX   512

void pki_names_done(struct pki_names *names)
{
    for (size_t i = 0; i < names->n_uri; i++)
        free(names->uri[i]);
    for (size_t i = 0; i < names->n_dns; i++)
        free(names->dns[i]);
    for (size_t i = 0; i < names->n_ip; i++)
        free(names->ip[i]);
    memset(names, 0, sizeof(*names));
}

static bool label_valid(const char *label, size_t len)
{
    if (len == 0 || len > LABEL_MAX || label[0] == '-' || label[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!(label[i] >= 'a' && label[i] <= 'z') && !(label[i] >= '0' && label[i] <= '9') && label[i] != '-')
            return false;
    return true;
}

bool name_is_dns(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > DNS_MAX)
        return false;
    if (strncmp(name, "*.", 2) == 0)
        name += 2;
    const char *last = name;
    for (const char *label = name;; label += 1) {
        size_t label_len = strcspn(label, ".");
        if (!label_valid(label, label_len))
            return false;
        last = label;
        label += label_len;
        if (*label == '\0')
            break;
    }
    /* An all-digit last label is an IP address or a mistake (RFC 3696 section 2). */
    return strspn(last, "0123456789") != strlen(last);
}

static bool name_is_uri(const char *uri)
{
    size_t scheme = 0;
    if (!isalpha((unsigned char)uri[0]) || strlen(uri) > URI_MAX)
        return false;
    while (isalnum((unsigned char)uri[scheme]) || (uri[scheme] && strchr("+-.", uri[scheme])))
        scheme++;
    if (uri[scheme] != ':' || uri[scheme + 1] == '\0')
        return false;
    for (const char *c = uri; *c; c++)
        if (*c <= ' ' || *c >= 0x7f || strchr("\"<>\\^`{|}", *c))
            return false;
    return true;
}

/* The entry's text in lower case where that means nothing; NULL if it has a NUL, a control character or is
 * empty. */
static char *entry_text(const ASN1_IA5STRING *string, bool lower)
{
    const uint8_t *data = ASN1_STRING_get0_data(string);
    int len = ASN1_STRING_length(string);
    if (len <= 0 || len > URI_MAX)
        return NULL;
    char *text = MUST(malloc((size_t)len + 1));
    for (int i = 0; i < len; i++) {
        if (data[i] <= ' ' || data[i] >= 0x7f) {
            free(text);
            return NULL;
        }
        text[i] = lower ? (char)tolower(data[i]) : (char)data[i];
    }
    text[len] = '\0';
    return text;
}

static char *address_text(const ASN1_OCTET_STRING *string)
{
    char text[INET6_ADDRSTRLEN];
    int len = ASN1_STRING_length(string);
    if (len != 4 && len != 16)
        return NULL;
    if (!inet_ntop(len == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(string), text, sizeof(text)))
        return NULL;
    return MUST(strdup(text));
}

/* One subjectAltName entry as text in its place; NULL where it is of another kind or no name at all. */
struct slot {
    char **items;
    size_t *n;
    size_t max;
    char *text;
    const char *kind;
};

static struct slot slot_of(const GENERAL_NAME *name, struct pki_names *names)
{
    switch (name->type) {
    case GEN_DNS:
        return (struct slot){names->dns, &names->n_dns, ARRAY_LEN(names->dns),
                             entry_text(name->d.dNSName, true), "DNS name"};
    case GEN_URI:
        return (struct slot){names->uri, &names->n_uri, ARRAY_LEN(names->uri),
                             entry_text(name->d.uniformResourceIdentifier, false), "URI"};
    case GEN_IPADD:
        return (struct slot){names->ip, &names->n_ip, ARRAY_LEN(names->ip), address_text(name->d.iPAddress),
                             "IP address"};
    default:
        return (struct slot){.kind = NULL};
    }
}

static enum code slot_check(const struct slot *slot, int type, struct status *st)
{
    if (!slot->kind)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "subjectAltName holds an entry that is no DNS name, URI or IP address");
    if (!slot->text)
        return status_set(st, CODE_INVALID_ARGUMENT, "subjectAltName holds a malformed %s", slot->kind);
    if ((type == GEN_DNS && !name_is_dns(slot->text)) || (type == GEN_URI && !name_is_uri(slot->text)))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" in subjectAltName is no valid %s",
                          slot->text, slot->kind);
    if (*slot->n == slot->max)
        return status_set(st, CODE_INVALID_ARGUMENT, "subjectAltName holds more than %zu entries of type %s",
                          slot->max, slot->kind);
    return CODE_OK;
}

enum code names_from_san_strict(const GENERAL_NAMES *san, struct pki_names *ret, struct status *st)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(san); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(san, i);
        struct slot slot = slot_of(name, ret);
        AUTO_FREE char *text = slot.text;
        TRY(slot_check(&slot, name->type, st));
        slot.items[(*slot.n)++] = TAKE(text);
    }
    return CODE_OK;
}

void names_from_san_lenient(const GENERAL_NAMES *san, struct pki_names *ret)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(san); i++) {
        struct slot slot = slot_of(sk_GENERAL_NAME_value(san, i), ret);
        AUTO_FREE char *text = slot.text;
        if (text && *slot.n < slot.max)
            slot.items[(*slot.n)++] = TAKE(text);
    }
}

static void push_name(GENERAL_NAMES *san, int type, ASN1_STRING *value)
{
    GENERAL_NAME *name = MUST(GENERAL_NAME_new());
    GENERAL_NAME_set0_value(name, type, value);
    if (sk_GENERAL_NAME_push(san, name) <= 0)
        abort();
}

static void push_text(GENERAL_NAMES *san, int type, const char *text)
{
    ASN1_STRING *value = MUST(ASN1_IA5STRING_new());
    if (ASN1_STRING_set(value, text, (int)strlen(text)) != 1)
        abort();
    push_name(san, type, value);
}

enum code names_to_san(const struct pki_names *names, GENERAL_NAMES **ret, struct status *st)
{
    AUTO_GENERAL_NAMES GENERAL_NAMES *san = MUST(GENERAL_NAMES_new());
    for (size_t i = 0; i < names->n_uri; i++) {
        if (!name_is_uri(names->uri[i]))
            return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" is no valid URI", names->uri[i]);
        push_text(san, GEN_URI, names->uri[i]);
    }
    for (size_t i = 0; i < names->n_dns; i++) {
        if (!name_is_dns(names->dns[i]))
            return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" is no valid DNS name (lower case)",
                              names->dns[i]);
        push_text(san, GEN_DNS, names->dns[i]);
    }
    for (size_t i = 0; i < names->n_ip; i++) {
        ASN1_OCTET_STRING *address = a2i_IPADDRESS(names->ip[i]);
        if (!address)
            return ossl_fail(st, CODE_INVALID_ARGUMENT, "\"%.100s\" is no valid IP address", names->ip[i]);
        push_name(san, GEN_IPADD, address);
    }
    *ret = TAKE(san);
    return CODE_OK;
}
