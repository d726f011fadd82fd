/* A peer's CSR. Whatever is accepted has a key and only names that are names. */
#include <stdlib.h>
#include <string.h>

#include "pki/csr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct status st;
    AUTO_CSR_INFO struct csr_info info = {0};
    struct bytes quick = {0};
    enum code code = csr_p256_spki((struct bytes){data, size}, &quick, &st);
    if (code == CODE_OK && (quick.data < data || quick.data + quick.len > data + size))
        abort();
    if (csr_verify((struct bytes){data, size}, &info, &st) != CODE_OK) {
        if (st.msg[0] == '\0' || info.spki.data || info.names.n_dns > 0)
            abort();
        return 0;
    }
    if ((info.key_type == KEY_EC_P256) != (code == CODE_OK) &&
        !(code != CODE_OK && info.spki.len != 91)) /* a compressed point is P-256, too */
        abort();
    if (code == CODE_OK && (quick.len != info.spki.len || memcmp(quick.data, info.spki.data, quick.len) != 0))
        abort();
    if (info.spki.len == 0 || info.names.n_dns > PKI_NAMES_MAX)
        abort();
    for (size_t i = 0; i < info.names.n_dns; i++)
        if (strspn(info.names.dns[i], "abcdefghijklmnopqrstuvwxyz0123456789-.*") != strlen(info.names.dns[i]))
            abort();
    return 0;
}
