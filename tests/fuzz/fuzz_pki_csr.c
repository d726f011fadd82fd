/* A peer's CSR. Whatever is accepted has a key and only names that are names. */
#include <stdlib.h>
#include <string.h>

#include "pki/csr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct status st;
    AUTO_CSR_INFO struct csr_info info = {0};
    if (csr_verify((struct bytes){data, size}, &info, &st) != CODE_OK) {
        if (st.msg[0] == '\0' || info.spki.data || info.names.n_dns > 0)
            abort();
        return 0;
    }
    if (info.spki.len == 0 || info.names.n_dns > PKI_NAMES_MAX)
        abort();
    for (size_t i = 0; i < info.names.n_dns; i++)
        if (strspn(info.names.dns[i], "abcdefghijklmnopqrstuvwxyz0123456789-.*") != strlen(info.names.dns[i]))
            abort();
    return 0;
}
