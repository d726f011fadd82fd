/* The forms that a text of the wire may have to have: what the table of limits asks of a field. Pure. */
#ifndef CLM_WIRE_FORMS_H
#define CLM_WIRE_FORMS_H

#include <stdbool.h>

bool form_hostname(const char *s);         /* RFC 1123 section 2.1 */
bool form_hostname_pattern(const char *s); /* a hostname in which `*` stands for a part of a label */
bool form_dns_pattern(const char *s);      /* a DNS name, `*.` before one, or an IP address */
bool form_cidr(const char *s);
bool form_endpoint(const char *s); /* host:port */
bool form_path(const char *s);     /* absolute, without . and .. */
bool form_word(const char *s);
bool form_operator(const char *s);
bool form_visible_ascii(const char *s);
bool form_hex(const char *s); /* lower case */
/* RFC 5280 section 4.1.2.2 wants readers to live with negative ones, too: "-05". */
bool form_serial(const char *s);

#endif
