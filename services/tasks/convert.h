/* The border to protobuf: encoded messages ⇄ the service's own structs. Pure; memory from the arena. */
#ifndef CLM_TASKS_CONVERT_H
#define CLM_TASKS_CONVERT_H

#include "store.h"
#include "tasks.h"

/* An encoded TaskSpec, held against limits.c and its own shape: the body is the one that its kind needs. */
enum code spec_read(struct bytes encoded, struct arena *arena, struct spec_facts *ret,
                    struct status *st) MUST_CHECK;
/* An encoded Scope; empty bytes are the scope that allows nothing. */
enum code scope_read(struct bytes encoded, struct arena *arena, struct scope *ret,
                     struct status *st) MUST_CHECK;
/* Plaintext of an envelope: TaskOrder. */
enum code order_write(const struct order *order, struct arena *arena, struct bytes *ret,
                      struct status *st) MUST_CHECK;
enum code receipt_read(struct bytes encoded, struct arena *arena, struct receipt *ret,
                       struct status *st) MUST_CHECK;
/* INVALID_ARGUMENT unless these bytes are a TaskResult within its limits; what its checks say. */
struct result_facts {
    bool served_not_intended;
    int worst; /* Check.Outcome; 0: it has no checks */
};
enum code result_check(struct bytes encoded, struct result_facts *ret, struct status *st) MUST_CHECK;
struct packed_event event_write(const struct change *change, int64_t now_ms, struct arena *arena);
/* What a DISCOVER found, as events of a bounded size for the registry's inventory; `ended`: it came to its
 * end and was not cut short. */
enum code inventory_write(const struct task *task, struct bytes result, bool ended, int64_t now_ms,
                          struct arena *arena, struct packed_event **ret, size_t *ret_n,
                          struct status *st) MUST_CHECK;

#endif
