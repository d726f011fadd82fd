/* Reason phrases (RFC 9110 section 15). */
#include "http/http.h"

#include <http_parser.h>

const char *http_reason(int status)
{
    switch (status) {
#define PHRASE(number, name, text)                                                                           \
    case number:                                                                                             \
        return #text;
        HTTP_STATUS_MAP(PHRASE)
#undef PHRASE
    default:
        return "Unknown";
    }
}
