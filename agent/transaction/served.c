/* Looking at what the endpoint serves. */
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "kinds/probe.h"
#include "transaction/tx.h"

#define VERIFY_STEP_MS       250
#define VERIFY_QUICK_MS      500
#define VERIFY_QUICK_STEP_MS 10
#define VERIFY_DEFAULT_MS    10000
#define VERIFY_TOGETHER      12

static struct look_at aim(const struct tx *tx)
{
    return (struct look_at){tx->target->endpoint, tx->server_name, policy_target_starttls(tx->target)};
}

bool tx_look(struct tx *tx, char fingerprint[SHA256_HEX_SIZE], char *why, size_t why_size)
{
    struct probe probe;
    struct look_at at = aim(tx);
    bool tls = task_look(tx->run->policy, &at, LOOK_TIMEOUT_MS, false, &probe);
    memcpy(fingerprint, probe.fingerprint, SHA256_HEX_SIZE);
    if (why)
        (void)snprintf(why, why_size, "%s", probe.error);
    probe_done(&probe);
    return tls;
}

enum code tx_probe_before(struct tx *tx, struct status *st)
{
    char why[160] = "";
    int64_t started = clock_wall_ms();
    if (!tx->target->endpoint)
        return tx_note(tx, "probe", NULL, NULL, NULL, st);
    bool up = tx_look(tx, tx->before, why, sizeof(why));
    TRY(tx_note(tx, "probe", NULL, tx->target->endpoint, up ? tx->before : NULL, st));
    if (up)
        task_step(tx->run, "probe", true, started, "%s serves %.16s...", tx->target->endpoint, tx->before);
    else
        task_step(tx->run, "probe", true, started, "%s is not reachable: %s", tx->target->endpoint, why);
    return CODE_OK;
}

static int64_t verify_ms(const struct tx *tx)
{
    int64_t longest = *tx->reload ? 0 : VERIFY_DEFAULT_MS;
    for (struct policy_reload *const *r = tx->reload; *r; r++)
        longest = (*r)->timeout_ms > longest ? (*r)->timeout_ms : longest;
    return longest;
}

/* That one connection shows it says little: for an instant after a reload the former workers answer beside
 * the new ones. Of many at once such a worker takes some; one that a busy server turns away says nothing. */
static bool others_agree(struct tx *tx, const char *wanted, char served[SHA256_HEX_SIZE])
{
    struct probe probe[VERIFY_TOGETHER];
    struct look_at at = aim(tx);
    bool agree = true;
    task_look_together(tx->run->policy, &at, LOOK_TIMEOUT_MS, probe, ARRAY_LEN(probe));
    for (size_t i = 0; i < ARRAY_LEN(probe); i++) {
        if (agree && probe[i].tls && strcmp(probe[i].fingerprint, wanted) != 0) {
            memcpy(served, probe[i].fingerprint, SHA256_HEX_SIZE);
            agree = false;
        }
        probe_done(&probe[i]);
    }
    return agree;
}

/* The instant is short for most servers (nginx gives its new workers 100 ms), so the first steps are. */
bool tx_wait_served(struct tx *tx, const char *wanted, char served[SHA256_HEX_SIZE], char *why,
                    size_t why_size)
{
    int64_t begun_ms = clock_mono_ms(), end_ms = begun_ms + verify_ms(tx);
    for (;;) {
        int64_t started_ms = clock_mono_ms();
        if (tx_look(tx, served, why, why_size) && strcmp(served, wanted) == 0 &&
            others_agree(tx, wanted, served))
            return true;
        int64_t now_ms = clock_mono_ms();
        int64_t step_ms = now_ms < begun_ms + VERIFY_QUICK_MS ? VERIFY_QUICK_STEP_MS : VERIFY_STEP_MS;
        int64_t pause_ms = step_ms - (now_ms - started_ms);
        if (now_ms >= end_ms)
            return false;
        if (pause_ms > 0)
            (void)poll(NULL, 0, (int)pause_ms);
    }
}
