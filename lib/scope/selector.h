/*
 * Label selectors: "env=prod" (has this value) and "team" (has this label), a list of them with commas; all
 * must hold. An operator's grant is limited by one ("" for the whole fleet), lists are filtered by them.
 */
#ifndef CLM_SCOPE_SELECTOR_H
#define CLM_SCOPE_SELECTOR_H

#include "base/arena.h"
#include "base/status.h"

/* All of which must hold; the arrays hold no NULL. */
struct label_terms {
    const char **pair_name, **pair_value, **present;
    size_t n_pairs, n_present;
};

/* All terms of the selector and of the list. INVALID_ARGUMENT for an empty name or too many terms. */
enum code label_terms_read(const char *selector, const char *const *terms, size_t n, struct arena *arena,
                           struct label_terms *ret, struct status *st) MUST_CHECK;

/* The same as a condition of SQL on a column of jsonb, an object of strings: $1, $2 are the names and values
 * of pairs, $3 the names that must be there. */
#define LABELS_HOLD_IN(column)                                                                               \
    column " @> (SELECT coalesce(jsonb_object_agg(n, v), '{}') FROM unnest($1::text[], $2::text[]) l(n, "    \
           "v)) AND " column " ?& $3::text[]"

#endif
