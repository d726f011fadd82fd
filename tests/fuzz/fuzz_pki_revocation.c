/*
 * What a responder or a list's server answers, and what a certificate says of where to ask. The first two
 * bytes are the certificate's length; it is its own issuer here, behind it comes the answer.
 */
#include <stdlib.h>
#include <string.h>

#include "pki/revocation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t len = (size_t)data[0] << 8 | data[1], left = size - 2;
    struct bytes cert = {data + 2, len < left ? len : left};
    struct bytes answer = {cert.data + cert.len, left - cert.len};
    struct revocation_sources sources;
    enum revocation found = REVOCATION_UNKNOWN;
    char text[128];
    AUTO_DER struct der request = {0};
    struct status st;
    if (revocation_sources(cert, &sources, &st) != CODE_OK)
        return 0;
    for (size_t i = 0; i < sources.n_ocsp; i++) {
        if (strncasecmp(sources.ocsp[i], "http://", 7) != 0)
            abort();
    }
    (void)!ocsp_request_make(cert, cert, &request, &st);
    (void)!ocsp_answer_read(answer, cert, cert, 1800000000000, &found, text, &st);
    (void)!crl_read(answer, cert, cert, 1800000000000, &found, text, &st);
    return 0;
}
