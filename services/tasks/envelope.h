/*
 * The envelope signer: a key that exists in this process's memory only, with a certificate of at most a day
 * from bootstrap. Any thread may seal; each seals with a copy of its own.
 */
#ifndef CLM_TASKS_ENVELOPE_H
#define CLM_TASKS_ENVELOPE_H

#include "pki/cert.h"
#include "tasks.h"

struct envelope_signer *envelope_signer_new(void);
void envelope_signer_free(struct envelope_signer *signer);
/* Takes key and chain (leaf first) into use; refuses a pair that does not match. */
enum code envelope_signer_set(struct envelope_signer *signer, struct key **key, const struct der_list *chain,
                              struct status *st) MUST_CHECK;
/* There is a certificate, and it is good at now_ms. */
bool envelope_signer_ready(struct envelope_signer *signer, int64_t now_ms);
/* No certificate yet, or half of its life is over. */
bool envelope_signer_is_due(struct envelope_signer *signer, int64_t now_ms);

/* What a thread holds while it seals a batch; a new one sees a new certificate. UNAVAILABLE without a
 * certificate. */
struct sealer;
enum code sealer_new(struct envelope_signer *signer, int64_t now_ms, struct sealer **ret,
                     struct status *st) MUST_CHECK;
void sealer_free(struct sealer *sealer);
DEFINE_CLEANUP(sealer, struct sealer *, sealer_free)
#define AUTO_SEALER CLEANUP(cleanup_sealer)
/* A TaskOrder for the next lease of a candidate, sealed to its agent's confirmed task certificate. */
enum code sealer_seal(struct sealer *sealer, const struct order *order, struct bytes recipient,
                      struct arena *arena, struct bytes *ret, struct status *st) MUST_CHECK;

#endif
