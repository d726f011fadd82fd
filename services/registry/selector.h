/* Label terms (scope/selector.h) against an agent, and what a label may be. */
#ifndef CLM_REGISTRY_SELECTOR_H
#define CLM_REGISTRY_SELECTOR_H

#include "store.h"

bool label_terms_hold(const struct label_terms *terms, const struct agent *agent);
/* Names: letters, digits, '.', '_', '-', '/'; values: no control characters. */
enum code label_check(const struct label *label, struct status *st) MUST_CHECK;

#endif
