/* Proofs as a peer sent them: sizes, then hashes. What verifies must be what the two trees really are. */
#include <stdlib.h>
#include <string.h>

#include "merkle/merkle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t number[2] = {0};
    struct merkle_hash root[2] = {{{0}}, {{1}}};
    struct merkle_hash proof[MERKLE_PROOF_MAX + 8];
    size_t head = sizeof(number);
    if (size < head)
        return 0;
    memcpy(number, data, head);
    size_t n = (size - head) / SHA256_SIZE;
    if (n > ARRAY_LEN(proof))
        n = ARRAY_LEN(proof);
    if (n > 0)
        memcpy(proof, data + head, n * SHA256_SIZE);
    struct status st;
    /* The roots are no hashes of anything: nothing may lead to them. */
    if (merkle_inclusion_verify(&root[0], number[0], number[1], proof, n, &root[1], &st) == CODE_OK)
        abort();
    if (merkle_consistency_verify(number[0], &root[0], number[1], &root[1], proof, n, &st) == CODE_OK)
        abort();
    struct merkle_frontier frontier;
    if (merkle_frontier_read(number[0], (struct bytes){data + head, size - head}, &frontier, &st) ==
        CODE_OK) {
        struct merkle_hash whole;
        merkle_root(&frontier, &whole);
        if (frontier.n != (unsigned)__builtin_popcountll(number[0]))
            abort();
    }
    return 0;
}
