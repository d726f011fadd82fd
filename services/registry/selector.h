/* Label terms: "env=prod" (has this value) and "team" (has this label); a selector is a list of them with
 * commas. */
#ifndef CLM_REGISTRY_SELECTOR_H
#define CLM_REGISTRY_SELECTOR_H

#include "store.h"

/* All terms of the selector and of the list must hold. INVALID_ARGUMENT for an empty name or too many terms.
 */
enum code label_terms_read(const char *selector, const char *const *terms, size_t n, struct arena *arena,
                           struct label_terms *ret, struct status *st) MUST_CHECK;
bool label_terms_hold(const struct label_terms *terms, const struct agent *agent);
/* Names: letters, digits, '.', '_', '-', '/'; values: no control characters. */
enum code label_check(const struct label *label, struct status *st) MUST_CHECK;

#endif
