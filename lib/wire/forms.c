/* See forms.h. */
#include "wire/forms.h"

#include <string.h>

#include "base/cidr.h"

static bool label_valid(const char *s, size_t len, bool underscore)
{
    if (len == 0 || len > 63 || s[0] == '-' || s[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
              s[i] == '-' || (underscore && s[i] == '_')))
            return false;
    return true;
}

static bool labels_valid(const char *s, bool underscore)
{
    if (strlen(s) > 253)
        return false;
    for (;;) {
        size_t len = strcspn(s, ".");
        if (!label_valid(s, len, underscore))
            return false;
        if (!s[len])
            return true;
        s += len + 1;
    }
}

bool form_hostname(const char *s)
{
    return labels_valid(s, false);
}

bool form_hostname_pattern(const char *s)
{
    char plain[254];
    size_t len = strlen(s);
    if (len >= sizeof(plain))
        return false;
    for (size_t i = 0; i <= len; i++)
        plain[i] = s[i] == '*' ? 'x' : s[i];
    return labels_valid(plain, true);
}

bool form_cidr(const char *s)
{
    struct cidr cidr;
    return cidr_parse(s, &cidr);
}

bool form_dns_pattern(const char *s)
{
    if (s[strspn(s, "0123456789abcdefABCDEF:.")] == '\0' && strchr(s, ':'))
        return strlen(s) < 46;
    return labels_valid(s[0] == '*' && s[1] == '.' ? s + 2 : s, true);
}

bool form_path(const char *s)
{
    if (s[0] != '/')
        return false;
    for (const char *p = s; *p;) {
        p += strspn(p, "/");
        size_t len = strcspn(p, "/");
        if ((len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += len;
    }
    for (const unsigned char *p = (const unsigned char *)s; *p; p++)
        if (*p < 0x20 || *p == 0x7f)
            return false;
    return true;
}

bool form_word(const char *s)
{
    return s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] == '\0';
}

bool form_operator(const char *s)
{
    return s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@")] == '\0';
}

bool form_visible_ascii(const char *s)
{
    for (; *s; s++)
        if (*s < 0x21 || *s > 0x7e)
            return false;
    return true;
}

bool form_hex(const char *s)
{
    return s[strspn(s, "0123456789abcdef")] == '\0';
}

bool form_serial(const char *s)
{
    return form_hex(s[0] == '-' && s[1] ? s + 1 : s);
}

bool form_endpoint(const char *s)
{
    const char *colon = strrchr(s, ':');
    if (!colon || colon == s || !colon[1] || strlen(colon + 1) > 5)
        return false;
    unsigned port = 0;
    for (const char *p = colon + 1; *p; p++) {
        if (*p < '0' || *p > '9')
            return false;
        port = port * 10 + (unsigned)(*p - '0');
    }
    if (port == 0 || port > 65535)
        return false;
    for (const char *p = s; p < colon; p++)
        if (!(label_valid(p, 1, true) || *p == '.' || *p == '-' || *p == ':' || *p == '[' || *p == ']'))
            return false;
    return true;
}
