#include "fixture.h"

#include "pki/digest.h"
#include "wire/wire.h"

static struct fixture_agent a, b;

static int setup(void **state)
{
    (void)fixture_setup(state);
    a = fixture_agent(AGENT_A);
    b = fixture_agent(AGENT_B);
    return 0;
}

static int teardown(void **state)
{
    fixture_agent_free(&a);
    fixture_agent_free(&b);
    return fixture_teardown(state);
}

static struct task leased_task(Clm__Task__Kind kind)
{
    struct task task = fixture_task(AGENT_A, kind);
    (void)fixture_lease(AGENT_A);
    return task;
}

static struct bytes result_bytes(const char *step)
{
    Clm__TaskResult result = CLM__TASK_RESULT__INIT;
    Clm__Step one = CLM__STEP__INIT;
    Clm__Step *steps[] = {&one};
    one.name = arena_strdup(arena, step);
    result.steps = steps;
    result.n_steps = 1;
    struct bytes packed;
    wire_pack(&result.base, arena, &packed.data, &packed.len);
    return packed;
}

static enum code send_page(const char *task_id, unsigned page, struct bytes data)
{
    struct result_submission submission = {
        .agent_id = AGENT_A, .task_id = task_id, .attempt = 1, .page = page, .has_data = true, .data = data};
    bool finished = true;
    enum code code = task_submit_result(&app, db, arena, &submission, &finished, &st);
    assert_true(code != CODE_OK || !finished);
    return code;
}

static struct bytes receipt_over(const char *task_id, struct bytes result, unsigned pages)
{
    static uint8_t digest[SHA256_SIZE];
    Clm__Receipt receipt = fixture_receipt_of(&a, task_id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    sha256(result, digest);
    receipt.has_pages = 1;
    receipt.pages = pages;
    receipt.has_result_sha256 = 1;
    receipt.result_sha256 = (ProtobufCBinaryData){.len = SHA256_SIZE, .data = digest};
    return fixture_receipt(&a, &receipt);
}

static enum code send_receipt(const char *agent_id, const char *task_id, unsigned attempt,
                              struct bytes receipt)
{
    struct result_submission submission = {
        .agent_id = agent_id, .task_id = task_id, .attempt = attempt, .receipt = receipt};
    bool finished = false;
    enum code code = task_submit_result(&app, db, arena, &submission, &finished, &st);
    assert_true(code != CODE_OK || finished);
    return code;
}

static void receipt_over_its_pages_ends_the_task(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    struct bytes result = result_bytes("swap");
    struct bytes first = {result.data, 3}, second = {result.data + 3, result.len - 3};
    assert_ok(send_page(task.id, 2, second)); /* in any order, more than once */
    assert_ok(send_page(task.id, 1, second));
    assert_ok(send_page(task.id, 1, first));
    assert_ok(send_page(task.id, 1, first));
    clock_advance(5000);
    assert_ok(send_receipt(AGENT_A, task.id, 1, receipt_over(task.id, result, 2)));
    struct task now = fixture_get(task.id);
    assert_int_equal(now.state, STATE_SUCCEEDED);
    assert_true(now.finished_at_ms == FIXTURE_NOW + 5000);
    assert_string_equal(now.message, "what happened");
    assert_int_equal(now.result.len, result.len);
    assert_memory_equal(now.result.data, result.data, result.len);
    assert_int_equal(fixture_count("SELECT count(*) FROM result_pages"), 0);
    assert_int_equal(fixture_count("SELECT count(*) FROM receipts WHERE NOT late"), 1);
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.finished'"), 1);
}

static struct bytes report_bytes(const Clm__Check__Outcome *outcomes, size_t n)
{
    Clm__TaskResult result = CLM__TASK_RESULT__INIT;
    result.checks = arena_array(arena, n + 1, sizeof(*result.checks));
    for (size_t i = 0; i < n; i++) {
        Clm__Check *check = result.checks[result.n_checks++] = arena_alloc(arena, sizeof(*check));
        clm__check__init(check);
        check->id = arena_printf(arena, "check-%zu", i);
        check->has_outcome = 1;
        check->outcome = outcomes[i];
    }
    struct bytes out;
    wire_pack(&result.base, arena, &out.data, &out.len);
    return out;
}

static size_t reports(const char *selector, const char *agent_id, int64_t verdict, struct report **ret)
{
    const struct report_filter filter = {.selector = selector,
                                         .agent_id = agent_id,
                                         .verdicts = &verdict,
                                         .n_verdicts = verdict ? 1 : 0,
                                         .limit = 2};
    size_t n;
    bool more;
    assert_ok(reports_list(db, arena, &filter, ret, &n, &more, &st));
    return n + more;
}

static void validation_has_a_report_by_the_worst_of_its_checks(void **state)
{
    (void)state;
    static const Clm__Check__Outcome good[] = {CLM__CHECK__OUTCOME__PASS, CLM__CHECK__OUTCOME__PASS},
                                     bad[] = {CLM__CHECK__OUTCOME__PASS, CLM__CHECK__OUTCOME__FAIL,
                                              CLM__CHECK__OUTCOME__WARN};
    struct bytes results[] = {report_bytes(good, 2), report_bytes(bad, 3), result_bytes("swap")};
    struct report *found;
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        struct task task = leased_task(i < 2 ? CLM__TASK__KIND__VALIDATE : CLM__TASK__KIND__RENEW);
        assert_ok(send_page(task.id, 1, results[i]));
        assert_ok(send_receipt(AGENT_A, task.id, 1, receipt_over(task.id, results[i], 1)));
    }
    assert_int_equal(reports(NULL, NULL, 0, &found), 2);
    assert_int_equal(found[0].verdict, CLM__CHECK__OUTCOME__FAIL);
    assert_int_equal(found[0].result.len, results[1].len);
    assert_int_equal(found[1].verdict, CLM__CHECK__OUTCOME__PASS);
    assert_int_equal(reports(NULL, AGENT_A, CLM__CHECK__OUTCOME__FAIL, &found), 1);
    assert_int_equal(reports(NULL, AGENT_A, CLM__CHECK__OUTCOME__WARN, &found), 0);
    assert_int_equal(reports(NULL, NO_TASK, 0, &found), 0);
    assert_int_equal(reports("env=elsewhere", NULL, 0, &found), 0);
    (void)leased_task(CLM__TASK__KIND__VALIDATE);
    assert_int_equal(reports(NULL, NULL, 0, &found), 2);
}

static void receipt_says_when_the_task_began(void **state)
{
    (void)state;
    static const struct {
        int64_t said, shown;
    } cases[] = {
        {FIXTURE_NOW + 3, FIXTURE_NOW + 3}, {FIXTURE_NOW + 999999, FIXTURE_NOW + 5000}, {0, FIXTURE_NOW}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        clock_fake(FIXTURE_NOW);
        struct task task = leased_task(CLM__TASK__KIND__RENEW);
        clock_advance(5000);
        Clm__Receipt receipt = fixture_receipt_of(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED);
        receipt.has_started_at_ms = 1;
        receipt.started_at_ms = cases[i].said;
        assert_ok(send_receipt(AGENT_A, task.id, 1, fixture_receipt(&a, &receipt)));
        assert_true(fixture_get(task.id).started_at_ms == cases[i].shown);
    }
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__REFUSED, false));
    assert_true(fixture_get(task.id).started_at_ms == -1);
}

static void same_receipt_again_gets_the_same_answer(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    struct bytes result = result_bytes("swap"), receipt = receipt_over(task.id, result, 1);
    assert_ok(send_page(task.id, 1, result));
    assert_ok(send_receipt(AGENT_A, task.id, 1, receipt));
    uint64_t version = fixture_get(task.id).version;
    assert_ok(send_receipt(AGENT_A, task.id, 1, receipt));
    assert_ok(send_receipt(AGENT_A, task.id, 1, receipt));
    assert_int_equal(fixture_get(task.id).version, version);
    assert_int_equal(fixture_count("SELECT count(*) FROM receipts"), 1);
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.finished'"), 1);
}

static void changed_or_missing_page_is_refused(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    struct bytes result = result_bytes("swap"), other = result_bytes("swap?"),
                 receipt = receipt_over(task.id, result, 2);
    assert_int_equal(send_receipt(AGENT_A, task.id, 1, receipt), CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "page 1 of 2"));
    assert_ok(send_page(task.id, 1, other));
    receipt = receipt_over(task.id, result, 1);
    assert_int_equal(send_receipt(AGENT_A, task.id, 1, receipt), CODE_INVALID_ARGUMENT);
    assert_int_equal(fixture_get(task.id).state, STATE_LEASED);
    assert_ok(send_page(task.id, 1, result));
    assert_ok(send_receipt(AGENT_A, task.id, 1, receipt));
}

static void result_that_is_no_task_result_is_refused(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    struct bytes junk = {(const uint8_t *)"\xff\xff\xff", 3};
    assert_ok(send_page(task.id, 1, junk));
    assert_int_equal(send_receipt(AGENT_A, task.id, 1, receipt_over(task.id, junk, 1)),
                     CODE_INVALID_ARGUMENT);
    assert_int_equal(fixture_get(task.id).state, STATE_LEASED);
    assert_int_equal(fixture_count("SELECT count(*) FROM receipts"), 0);
}

static void receipt_of_another_agent_is_refused(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    Clm__Receipt receipt = fixture_receipt_of(&b, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    struct bytes honest = fixture_receipt(&b, &receipt);
    /* b's own receipt for a's task, as b and as a */
    assert_int_equal(send_receipt(AGENT_B, task.id, 1, honest), CODE_NOT_FOUND);
    assert_int_equal(send_receipt(AGENT_A, task.id, 1, honest), CODE_PERMISSION_DENIED);
    /* b signs what claims to be a's */
    receipt = fixture_receipt_of(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_int_equal(send_receipt(AGENT_A, task.id, 1, fixture_receipt(&b, &receipt)),
                     CODE_PERMISSION_DENIED);
    assert_int_equal(fixture_get(task.id).state, STATE_LEASED);
}

static void receipt_for_another_task_attempt_or_generation_is_refused(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW), other = leased_task(CLM__TASK__KIND__RENEW);
    Clm__Receipt receipt = fixture_receipt_of(&a, other.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_int_equal(send_receipt(AGENT_A, task.id, 1, fixture_receipt(&a, &receipt)),
                     CODE_PERMISSION_DENIED);
    receipt = fixture_receipt_of(&a, task.id, 2, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_int_equal(send_receipt(AGENT_A, task.id, 1, fixture_receipt(&a, &receipt)),
                     CODE_PERMISSION_DENIED);
    assert_int_equal(send_receipt(AGENT_A, task.id, 2, fixture_receipt(&a, &receipt)),
                     CODE_FAILED_PRECONDITION);
    receipt = fixture_receipt_of(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    receipt.generation = 1;
    assert_int_equal(send_receipt(AGENT_A, task.id, 1, fixture_receipt(&a, &receipt)),
                     CODE_PERMISSION_DENIED);
    assert_int_equal(fixture_get(task.id).state, STATE_LEASED);
}

static void altered_or_garbled_receipt_is_refused(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    Clm__Receipt receipt = fixture_receipt_of(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    struct bytes good = fixture_receipt(&a, &receipt);
    /* The content, and the signature at the end. (Letters of the issuer's name compare without case: not
     * those.) */
    struct bytes content;
    wire_pack(&receipt.base, arena, &content.data, &content.len);
    const uint8_t *start = memmem(good.data, good.len, content.data, content.len);
    assert_non_null(start);
    size_t first = (size_t)(start - good.data);
    for (size_t i = first; i < good.len; i += i == first + content.len ? good.len - 60 - i : 1) {
        uint8_t *copy = arena_dup(arena, good.data, good.len);
        copy[i] ^= 0x20;
        assert_int_not_equal(send_receipt(AGENT_A, task.id, 1, (struct bytes){copy, good.len}), CODE_OK);
    }
    assert_int_not_equal(send_receipt(AGENT_A, task.id, 1, (struct bytes){good.data, good.len - 1}), CODE_OK);
    assert_int_not_equal(send_receipt(AGENT_A, task.id, 1, (struct bytes){(const uint8_t *)"x", 1}), CODE_OK);
    assert_int_equal(fixture_get(task.id).state, STATE_LEASED);
    assert_ok(send_receipt(AGENT_A, task.id, 1, good));
}

static void retryable_failure_waits_and_counts_an_attempt(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__VALIDATE);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__FAILED, true));
    struct task now = fixture_get(task.id);
    assert_int_equal(now.state, STATE_SCHEDULED);
    assert_int_equal(now.attempt, 2);
    assert_string_equal(now.message, "what happened");
    clock_advance(5001);
    n_woken = 0;
    assert_ok(task_sweep(&app, db, arena, &st));
    assert_int_equal(n_woken, 1);
    struct delivery delivery = fixture_lease(AGENT_A);
    assert_int_equal(delivery.attempt, 2);
    assert_int_equal(delivery.lease, 2);
    assert_ok(fixture_submit(&a, task.id, 2, CLM__RECEIPT__OUTCOME__FAILED, true));
    clock_advance(10001);
    assert_ok(task_sweep(&app, db, arena, &st));
    assert_int_equal(fixture_lease(AGENT_A).attempt, 3);
    assert_ok(fixture_submit(&a, task.id, 3, CLM__RECEIPT__OUTCOME__FAILED, true));
    assert_int_equal(fixture_get(task.id).state, STATE_FAILED); /* maxAttempts 3 */
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.retried'"), 2);
}

static void old_attempts_receipt_changes_nothing(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__VALIDATE);
    Clm__Receipt receipt = fixture_receipt_of(&a, task.id, 1, CLM__RECEIPT__OUTCOME__FAILED);
    receipt.has_retryable = receipt.retryable = 1;
    struct bytes first = fixture_receipt(&a, &receipt);
    assert_ok(send_receipt(AGENT_A, task.id, 1, first));
    assert_ok(send_receipt(AGENT_A, task.id, 1, first));
    assert_int_equal(fixture_get(task.id).attempt, 2);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    assert_int_equal(fixture_get(task.id).attempt, 2);
    assert_int_equal(fixture_get(task.id).state, STATE_SCHEDULED);
    assert_int_equal(fixture_count("SELECT count(*) FROM receipts WHERE late"), 1);
}

static void each_outcome_has_its_state(void **state)
{
    (void)state;
    static const struct {
        Clm__Receipt__Outcome outcome;
        enum task_state then;
    } cases[] = {
        {CLM__RECEIPT__OUTCOME__SUCCEEDED, STATE_SUCCEEDED},
        {CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED, STATE_INSTALLED_UNVERIFIED},
        {CLM__RECEIPT__OUTCOME__FAILED, STATE_FAILED},
        {CLM__RECEIPT__OUTCOME__CANCELLED, STATE_CANCELLED},
        {CLM__RECEIPT__OUTCOME__REFUSED, STATE_FAILED},
        {CLM__RECEIPT__OUTCOME__CANNOT_OPEN, STATE_SCHEDULED},
        {CLM__RECEIPT__OUTCOME__NOT_GENUINE, STATE_SCHEDULED},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct task task = leased_task(CLM__TASK__KIND__RENEW);
        assert_ok(fixture_submit(&a, task.id, 1, cases[i].outcome, false));
        assert_int_equal(fixture_get(task.id).state, cases[i].then);
        assert_int_equal(fixture_get(task.id).attempt, 1);
    }
}

static int64_t rejected_events(void)
{
    return fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.order_rejected'");
}

/* What an agent was given on its way need not be anybody's task: it is reported all the same, once a minute.
 */
static void an_order_that_is_not_genuine_is_told_whoevers_it_was(void **state)
{
    (void)state;
    struct task theirs = fixture_task(AGENT_B, CLM__TASK__KIND__RENEW);
    assert_ok(fixture_submit(&a, NO_TASK, 1, CLM__RECEIPT__OUTCOME__NOT_GENUINE, false));
    assert_int_equal(rejected_events(), 1);
    clock_advance(60000);
    assert_ok(fixture_submit(&a, theirs.id, 1, CLM__RECEIPT__OUTCOME__NOT_GENUINE, false));
    assert_ok(fixture_submit(&a, theirs.id, 7, CLM__RECEIPT__OUTCOME__NOT_GENUINE, false));
    assert_int_equal(rejected_events(), 2);
    assert_int_equal(fixture_get(theirs.id).state, STATE_READY);
    clock_advance(60000); /* made for another agent's key */
    assert_ok(fixture_submit(&a, theirs.id, 1, CLM__RECEIPT__OUTCOME__CANNOT_OPEN, false));
    assert_int_equal(rejected_events(), 3);
    /* A receipt of another kind for it stays what it was: refused. */
    assert_int_equal(fixture_submit(&a, theirs.id, 1, CLM__RECEIPT__OUTCOME__REFUSED, false), CODE_NOT_FOUND);
    assert_int_equal(fixture_submit(&a, NO_TASK, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false), CODE_NOT_FOUND);
}

static void an_order_that_is_not_genuine_does_not_end_the_genuine_task(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__NOT_GENUINE, false));
    assert_int_equal(rejected_events(), 1);
    clock_advance(10 * 60000);
    assert_ok(task_sweep(&app, db, arena, &st));
    assert_int_equal(fixture_lease(AGENT_A).attempt, 1);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    /* A replay of it afterwards changes nothing, and is told. */
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__NOT_GENUINE, false));
    assert_int_equal(rejected_events(), 2);
    assert_int_equal(fixture_get(task.id).state, STATE_SUCCEEDED);
}

static void envelope_that_cannot_be_opened_costs_no_attempt(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__CANNOT_OPEN, false));
    clock_advance(300001);
    assert_ok(task_sweep(&app, db, arena, &st));
    struct delivery again = fixture_lease(AGENT_A);
    assert_int_equal(again.attempt, 1);
    assert_int_equal(again.lease, 2);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    assert_int_equal(fixture_get(task.id).state, STATE_SUCCEEDED);
}

static void receipt_after_the_end_is_kept_as_late_evidence(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    clock_advance(600001);
    assert_ok(task_sweep(&app, db, arena, &st)); /* the lease is lost */
    struct task cancelled;
    assert_ok(task_cancel(&app, db, arena, task.id, "api-key:1", &cancelled, &st));
    assert_int_equal(cancelled.state, STATE_CANCELLED);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    assert_int_equal(fixture_get(task.id).state, STATE_CANCELLED);
    assert_int_equal(fixture_count("SELECT count(*) FROM receipts WHERE late"), 1);
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.late_receipt'"), 1);
}

/* What the host did counts, whatever became of the task here: the inventory follows the late receipt. */
static void late_receipt_corrects_the_inventory(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    Clm__TaskResult result = CLM__TASK_RESULT__INIT;
    Clm__FoundCertificate found = CLM__FOUND_CERTIFICATE__INIT, *all[] = {&found};
    found.path = arena_strdup(arena, "/etc/ssl/site.pem");
    result.certificates = all;
    result.n_certificates = 1;
    struct bytes packed;
    wire_pack(&result.base, arena, &packed.data, &packed.len);
    clock_advance(3600001);
    assert_ok(task_sweep(&app, db, arena, &st)); /* the lease is lost, then the deadline passed */
    assert_int_equal(fixture_get(task.id).state, STATE_EXPIRED);
    assert_ok(send_page(task.id, 1, packed));
    assert_ok(send_receipt(AGENT_A, task.id, 1, receipt_over(task.id, packed, 1)));
    assert_int_equal(fixture_get(task.id).state, STATE_EXPIRED);
    static const char told[] =
        "SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.inventory.reported'";
    assert_int_equal(fixture_count(told), 1);
    /* Of an attempt that another one followed nobody knows which came last on the host. */
    struct task now;
    assert_ok(task_retry(&app, db, arena, task.id, "api-key:1", &now, &st));
    assert_ok(send_page(task.id, 1, packed));
    assert_ok(send_receipt(AGENT_A, task.id, 1, receipt_over(task.id, packed, 1)));
    assert_int_equal(fixture_count(told), 1);
}

static void receipt_is_accepted_though_the_lease_was_lost(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    clock_advance(600001);
    assert_ok(task_sweep(&app, db, arena, &st));
    assert_int_equal(fixture_get(task.id).state, STATE_READY);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    assert_int_equal(fixture_get(task.id).state, STATE_SUCCEEDED);
}

static void receipt_for_what_was_never_leased_is_refused(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    assert_int_equal(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false),
                     CODE_FAILED_PRECONDITION);
    assert_int_equal(fixture_submit(&a, NO_TASK, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false), CODE_NOT_FOUND);
}

static void disabled_agents_receipt_is_accepted(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    fixture_agent_state(AGENT_A, 1, false, true, (struct bytes){0});
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    assert_int_equal(fixture_get(task.id).state, STATE_SUCCEEDED);
}

static void key_of_the_generation_before_still_signs_but_not_an_older_one(void **state)
{
    (void)state;
    struct task first = leased_task(CLM__TASK__KIND__RENEW), second = leased_task(CLM__TASK__KIND__RENEW);
    struct fixture_agent old = a;
    a.key = NULL;
    a.certificate = (struct der){0};
    fixture_rotate(&a, true);
    assert_ok(fixture_submit(&old, first.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    fixture_rotate(&a, true);
    assert_int_equal(fixture_submit(&old, second.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false),
                     CODE_PERMISSION_DENIED);
    fixture_agent_free(&old);
}

/* The event that tells of a renewal may come after the first receipt that is signed with it. */
static void receipt_of_a_generation_that_is_not_known_yet_may_come_again_soon(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    struct fixture_agent old = a;
    a.key = NULL;
    a.certificate = (struct der){0};
    fixture_rotate(&a, true);
    assert_int_equal(fixture_count("WITH gone AS (DELETE FROM identities WHERE generation = 1 RETURNING 1) "
                                   "SELECT count(*) FROM gone"),
                     1);
    assert_int_equal(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false),
                     CODE_UNAVAILABLE);
    assert_non_null(strstr(st.msg, "generation 1 is not known here yet"));
    /* Nobody else's key is believed to be that. */
    Clm__Receipt receipt = fixture_receipt_of(&b, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_int_equal(send_receipt(AGENT_A, task.id, 1, fixture_receipt(&b, &receipt)),
                     CODE_PERMISSION_DENIED);
    assert_int_equal(fixture_get(task.id).state, STATE_LEASED);
    assert_ok(fixture_submit(&old, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    fixture_agent_free(&old);
}

static void failure_after_a_cancel_is_not_tried_again(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW), cancelled;
    assert_ok(task_cancel(&app, db, arena, task.id, "api-key:1", &cancelled, &st));
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__FAILED, true));
    assert_int_equal(fixture_get(task.id).state, STATE_CANCELLED);
}

static void success_makes_what_comes_after_it_ready(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW), follower;
    struct new_task request = fixture_request(AGENT_B, CLM__TASK__KIND__VALIDATE);
    const char *after = task.id;
    request.after = &after;
    request.n_after = 1;
    assert_ok(task_create(&app, db, arena, &request, &follower, &st));
    assert_int_equal(follower.state, STATE_SCHEDULED);
    n_woken = 0;
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    assert_int_equal(fixture_get(follower.id).state, STATE_READY);
    assert_int_equal(n_woken, 1);
    assert_string_equal(woken[0], AGENT_B);
}

static void pages_out_of_range_are_refused(void **state)
{
    (void)state;
    struct task task = leased_task(CLM__TASK__KIND__RENEW);
    struct bytes data = {(const uint8_t *)"x", 1};
    assert_int_equal(send_page(task.id, 0, data), CODE_INVALID_ARGUMENT);
    assert_int_equal(send_page(task.id, 65, data), CODE_INVALID_ARGUMENT);
    assert_ok(send_page(task.id, 64, data));
    Clm__Receipt receipt = fixture_receipt_of(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    receipt.has_pages = 1;
    receipt.pages = 4000000000u;
    assert_int_equal(send_receipt(AGENT_A, task.id, 1, fixture_receipt(&a, &receipt)), CODE_INVALID_ARGUMENT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(receipt_over_its_pages_ends_the_task),
        T(validation_has_a_report_by_the_worst_of_its_checks),
        T(receipt_says_when_the_task_began),
        T(same_receipt_again_gets_the_same_answer),
        T(changed_or_missing_page_is_refused),
        T(result_that_is_no_task_result_is_refused),
        T(receipt_of_another_agent_is_refused),
        T(receipt_for_another_task_attempt_or_generation_is_refused),
        T(altered_or_garbled_receipt_is_refused),
        T(retryable_failure_waits_and_counts_an_attempt),
        T(old_attempts_receipt_changes_nothing),
        T(each_outcome_has_its_state),
        T(an_order_that_is_not_genuine_is_told_whoevers_it_was),
        T(an_order_that_is_not_genuine_does_not_end_the_genuine_task),
        T(envelope_that_cannot_be_opened_costs_no_attempt),
        T(receipt_after_the_end_is_kept_as_late_evidence),
        T(late_receipt_corrects_the_inventory),
        T(receipt_is_accepted_though_the_lease_was_lost),
        T(receipt_for_what_was_never_leased_is_refused),
        T(disabled_agents_receipt_is_accepted),
        T(key_of_the_generation_before_still_signs_but_not_an_older_one),
        T(receipt_of_a_generation_that_is_not_known_yet_may_come_again_soon),
        T(failure_after_a_cancel_is_not_tried_again),
        T(success_makes_what_comes_after_it_ready),
        T(pages_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
