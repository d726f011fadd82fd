/* Who asks: the API key or the console session that a request carries. */
#include <string.h>
#include <strings.h>

#include "gateway/rest_parts.h"

#define API_KEY_MAX 256

const char *request_bearer(const struct http_request *request)
{
    const char *value = http_request_header(request, "Authorization");
    if (!value || http_request_header_count(request, "Authorization") != 1 ||
        strncasecmp(value, "Bearer ", 7) != 0)
        return NULL;
    value += 7;
    size_t len = strlen(value);
    return len > 0 && len <= API_KEY_MAX ? value : NULL;
}

bool request_cookie(const struct http_request *request, char out[SESSION_MAX + 1])
{
    const char *at = http_request_header(request, "Cookie");
    if (!at || http_request_header_count(request, "Cookie") != 1)
        return false;
    while (*at) {
        at += strspn(at, "; ");
        size_t len = strcspn(at, ";");
        if (len > strlen(COOKIE) && strncmp(at, COOKIE "=", strlen(COOKIE) + 1) == 0) {
            size_t n = len - strlen(COOKIE) - 1;
            if (n == 0 || n > SESSION_MAX)
                return false;
            memcpy(out, at + strlen(COOKIE) + 1, n);
            out[n] = '\0';
            return true;
        }
        at += len;
    }
    return false;
}

/* A browser adds cookies to requests that another site made: what changes something must show that the
 * console made it. Another site's page cannot set this field without our leave, and says its own origin. */
bool request_is_ours(const struct http_request *request)
{
    const char *csrf = http_request_header(request, "X-Clm-Csrf");
    const char *site = http_request_header(request, "Sec-Fetch-Site");
    const char *origin = http_request_header(request, "Origin");
    const char *host = http_request_header(request, "Host");
    return csrf && strcmp(csrf, "1") == 0 && (!site || strcmp(site, "same-origin") == 0) &&
           (!origin || (host && strncmp(origin, "https://", 8) == 0 && strcasecmp(origin + 8, host) == 0));
}
