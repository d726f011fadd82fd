/* A revoked certificate on its way to the signer: serial (20 octets, leading zeros), seconds (8), reason (1).
 */
#ifndef CLM_BOOTSTRAP_REVOKED_RECORD_H
#define CLM_BOOTSTRAP_REVOKED_RECORD_H

#include <string.h>

#include "pki/crl.h"

#define REVOKED_RECORD_BYTES 29u
#define CRL_PIECE_BYTES      (32u * 1024) /* of a list; a record's multiple is not needed */
#define REVOKED_PER_PIECE    1024u

static inline void revoked_record_read(const uint8_t record[REVOKED_RECORD_BYTES], struct crl_entry *ret)
{
    size_t zeros = 0;
    uint64_t sec = 0;
    while (zeros < CRL_SERIAL_MAX - 1 && record[zeros] == 0)
        zeros++;
    ret->serial_len = CRL_SERIAL_MAX - zeros;
    memcpy(ret->serial, record + zeros, ret->serial_len);
    for (size_t i = 0; i < 8; i++)
        sec = sec << 8 | record[CRL_SERIAL_MAX + i];
    ret->revoked_at_ms = (int64_t)(sec % (1ULL << 40)) * 1000;
    ret->reason = (enum crl_reason)record[28];
}

static inline void revoked_record_write(const struct crl_entry *entry, uint8_t ret[REVOKED_RECORD_BYTES])
{
    uint64_t sec = (uint64_t)(entry->revoked_at_ms / 1000);
    memset(ret, 0, REVOKED_RECORD_BYTES);
    memcpy(ret + CRL_SERIAL_MAX - entry->serial_len, entry->serial, entry->serial_len);
    for (size_t i = 0; i < 8; i++)
        ret[CRL_SERIAL_MAX + i] = (uint8_t)(sec >> (8 * (7 - i)));
    ret[28] = (uint8_t)entry->reason;
}

#endif
