/* See fixture.h. */
#include "fixture.h"

#include "support/pg.h"
#include "wire/wire.h"

struct tasks app;
struct db *db;
struct arena *arena;
struct status st;
struct der_list roots;
char woken[64][UUID_TEXT_SIZE];
size_t n_woken;

static struct issuer *ca;
static uint64_t version;

static void record_wake(struct tasks *tasks, const char *const *agent_ids, size_t n)
{
    (void)tasks;
    for (size_t i = 0; i < n && n_woken < 64; i++)
        memcpy(woken[n_woken++], agent_ids[i], UUID_TEXT_SIZE);
}

struct db *fixture_db(void)
{
    struct db_config config = {.conninfo = pg_conninfo(), .schema = "tasks", .statement_timeout_ms = 10000};
    struct db *session = NULL;
    if (db_open(&config, &session, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return session;
}

static void make_ca(void)
{
    AUTO_KEY struct key *key = NULL;
    assert_ok(key_generate(KEY_EC_P256, &key, &st));
    struct cert_request request = {.common_name = "root",
                                   .is_ca = true,
                                   .path_len = -1,
                                   .not_before_ms = FIXTURE_NOW - 86400000,
                                   .not_after_ms = FIXTURE_NOW + INT64_C(365) * 86400000};
    struct pki_names none = {0};
    request.names = &none;
    roots.n = 1;
    assert_ok(issuer_self_sign(key, &request, &roots.item[0], &st));
    assert_ok(issuer_new(TAKE(key), der_bytes(&roots.item[0]), &ca, &st));
}

static struct der issue(const struct key *key, const char *kind, const char *name, const char *serial,
                        enum pki_purpose purpose, int64_t life_ms)
{
    char uri[400];
    AUTO_DER struct der spki = {0};
    struct der certificate = {0};
    spiffe_format("test.example", kind, name, uri);
    struct pki_names names = {.uri = {uri}, .n_uri = 1};
    assert_ok(key_spki(key, &spki, &st));
    struct cert_request request = {.spki = der_bytes(&spki),
                                   .common_name = name,
                                   .subject_serial = serial,
                                   .names = &names,
                                   .purpose = purpose,
                                   .path_len = -1,
                                   .not_before_ms = FIXTURE_NOW - 300000,
                                   .not_after_ms = FIXTURE_NOW + life_ms};
    assert_ok(issuer_sign(ca, &request, &certificate, &st));
    return certificate;
}

static void make_signer(void)
{
    AUTO_KEY struct key *key = NULL;
    AUTO_DER_LIST struct der_list chain = {.n = 1};
    assert_ok(key_generate(KEY_EC_P256, &key, &st));
    chain.item[0] = issue(key, "service", "tasks", NULL, PURPOSE_ENVELOPE, 86400000);
    app.signer = envelope_signer_new();
    assert_ok(envelope_signer_set(app.signer, &key, &chain, &st));
}

int fixture_setup(void **state)
{
    (void)state;
    clock_fake(FIXTURE_NOW);
    arena = arena_new();
    st = (struct status){0};
    n_woken = 0;
    db = fixture_db();
    if (db_migrate(db, "tasks", tasks_migrations, &st) != CODE_OK ||
        db_query(db,
                 "TRUNCATE tasks, agents, identities, receipts, outbox, task_tallies, agent_jobs, "
                 "order_reports CASCADE",
                 NULL, NULL, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    fixture_platform(false);
    if (!ca)
        make_ca();
    app = (struct tasks){
        .roots = &roots, .lease_expiry_ms = 60000, .lease_return_ms = 600000, .wake = record_wake};
    make_signer();
    return 0;
}

int fixture_teardown(void **state)
{
    (void)state;
    envelope_signer_free(app.signer);
    db_close(db);
    arena_free(arena);
    clock_real();
    return 0;
}

struct bytes fixture_scope(const Clm__Task__Kind *operations, size_t n, const char *path, const char *name)
{
    char *paths[] = {arena_strdup(arena, path)}, *names[] = {arena_strdup(arena, name)};
    Clm__Scope scope = CLM__SCOPE__INIT;
    scope.operations = arena_dup(arena, operations, n * sizeof(*operations));
    scope.n_operations = n;
    scope.paths = paths;
    scope.n_paths = path != NULL;
    scope.dns_names = names;
    scope.n_dns_names = name != NULL;
    struct bytes packed;
    wire_pack(&scope.base, arena, &packed.data, &packed.len);
    return packed;
}

void fixture_agent_state(const char *id, unsigned status, bool safe_mode, bool disabled, struct bytes scope)
{
    const char *name = "env", *value = "prod";
    struct agent agent = {.status = status,
                          .safe_column =
                              safe_column_of(disabled || status == 1, status == 2, false, safe_mode),
                          .scope = scope,
                          .label_names = &name,
                          .label_values = &value,
                          .n_labels = 1};
    assert_ok(store_agent_put(db, arena, id, ++version, &agent, "0.1", &st));
}

void fixture_agent_column(const char *id, enum safe_column column)
{
    struct agent agent;
    assert_ok(store_agent_get(db, arena, id, &agent, &st));
    agent.safe_column = column;
    agent.reason = column == SAFE_SAFE_MODE ? "CLOCK" : "";
    assert_ok(store_agent_put(db, arena, id, ++version, &agent, "0.1", &st));
}

void fixture_platform(bool safe_mode)
{
    if (db_query(db,
                 safe_mode ? "UPDATE platform SET safe_mode = true, version = 0"
                           : "UPDATE platform SET safe_mode = false, version = 0",
                 NULL, NULL, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

static void put_identity(const struct fixture_agent *agent, bool confirmed)
{
    assert_ok(store_identity_put(db, arena, agent->id, agent->generation, der_bytes(&agent->certificate),
                                 confirmed, ++version, &st));
}

struct fixture_agent fixture_agent(const char *id)
{
    static const Clm__Task__Kind all[] = {CLM__TASK__KIND__DEPLOY, CLM__TASK__KIND__RENEW,
                                          CLM__TASK__KIND__VALIDATE, CLM__TASK__KIND__DISCOVER};
    struct fixture_agent agent = {.id = id};
    assert_ok(key_generate(KEY_EC_P256, &agent.key, &st));
    agent.certificate = issue(agent.key, "agent", id, "0", PURPOSE_AGENT_TASK, INT64_C(30) * 86400000);
    fixture_agent_state(id, 6, false, false, fixture_scope(all, 4, "/etc/ssl/**", "*.example.com"));
    put_identity(&agent, true);
    return agent;
}

void fixture_agent_free(struct fixture_agent *agent)
{
    key_free(agent->key);
    der_done(&agent->certificate);
}

void fixture_rotate(struct fixture_agent *agent, bool confirmed)
{
    fixture_agent_free(agent);
    agent->key = NULL;
    agent->generation++;
    assert_ok(key_generate(KEY_EC_P256, &agent->key, &st));
    agent->certificate = issue(agent->key, "agent", agent->id, arena_printf(arena, "%u", agent->generation),
                               PURPOSE_AGENT_TASK, INT64_C(30) * 86400000);
    put_identity(agent, confirmed);
}

struct bytes fixture_spec(Clm__Task__Kind kind)
{
    Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
    Clm__DeploySpec deploy = CLM__DEPLOY_SPEC__INIT;
    Clm__RenewSpec renew = CLM__RENEW_SPEC__INIT;
    Clm__ValidateSpec validate = CLM__VALIDATE_SPEC__INIT;
    char *names[] = {arena_strdup(arena, "www.example.com")};
    spec.has_kind = 1;
    spec.kind = kind;
    deploy.target = renew.target = validate.target = arena_strdup(arena, "nginx");
    deploy.chain_pem = arena_strdup(arena, "-----BEGIN CERTIFICATE-----");
    renew.dns_names = names;
    renew.n_dns_names = 1;
    renew.has_life_sec = 1;
    renew.life_sec = 7200;
    spec.deploy = kind == CLM__TASK__KIND__DEPLOY ? &deploy : NULL;
    spec.renew = kind == CLM__TASK__KIND__RENEW ? &renew : NULL;
    spec.validate = kind == CLM__TASK__KIND__VALIDATE ? &validate : NULL;
    struct bytes packed;
    wire_pack(&spec.base, arena, &packed.data, &packed.len);
    return packed;
}

struct new_task fixture_request(const char *agent_id, Clm__Task__Kind kind)
{
    struct bytes spec = fixture_spec(kind);
    return (struct new_task){.agent_id = agent_id,
                             .spec = spec,
                             .request = spec,
                             .priority = 5,
                             .max_attempts = 3,
                             .deadline_sec = 3600,
                             .not_before_at_ms = -1,
                             .created_by = "api-key:1"};
}

struct task fixture_task(const char *agent_id, Clm__Task__Kind kind)
{
    struct new_task request = fixture_request(agent_id, kind);
    struct task task;
    assert_ok(task_create(&app, db, arena, &request, &task, &st));
    return task;
}

struct task fixture_get(const char *task_id)
{
    struct task task;
    assert_ok(task_get(db, arena, task_id, &task, &st));
    return task;
}

struct lease_request fixture_checkin(const char *agent_id, unsigned free_slots)
{
    return (struct lease_request){.agent_id = agent_id, .free_slots = free_slots};
}

struct delivery fixture_lease(const char *agent_id)
{
    struct lease_request request = fixture_checkin(agent_id, 4);
    struct lease_answer answer;
    assert_ok(task_lease(&app, db, arena, &request, 1, &answer, &st));
    assert_int_equal(answer.n_deliveries, 1);
    return answer.deliveries[0];
}

Clm__Receipt fixture_receipt_of(const struct fixture_agent *agent, const char *task_id, unsigned attempt,
                                Clm__Receipt__Outcome outcome)
{
    Clm__Receipt receipt = CLM__RECEIPT__INIT;
    receipt.agent_id = arena_strdup(arena, agent->id);
    receipt.task_id = arena_strdup(arena, task_id);
    receipt.has_attempt = receipt.has_generation = receipt.has_outcome = 1;
    receipt.attempt = attempt;
    receipt.generation = agent->generation;
    receipt.outcome = outcome;
    receipt.message = arena_strdup(arena, "what happened");
    return receipt;
}

struct bytes fixture_receipt(const struct fixture_agent *agent, const Clm__Receipt *receipt)
{
    struct bytes content;
    AUTO_DER struct der cms = {0};
    struct der_list none = {0};
    wire_pack(&receipt->base, arena, &content.data, &content.len);
    assert_ok(
        cms_sign(CMS_CONTENT_RECEIPT, content, agent->key, der_bytes(&agent->certificate), &none, &cms, &st));
    return (struct bytes){arena_dup(arena, cms.data, cms.len), cms.len};
}

enum code fixture_submit(const struct fixture_agent *agent, const char *task_id, unsigned attempt,
                         Clm__Receipt__Outcome outcome, bool retryable)
{
    Clm__Receipt receipt = fixture_receipt_of(agent, task_id, attempt, outcome);
    receipt.has_retryable = 1;
    receipt.retryable = retryable;
    struct result_submission submission = {.agent_id = agent->id,
                                           .task_id = task_id,
                                           .attempt = attempt,
                                           .receipt = fixture_receipt(agent, &receipt)};
    bool finished;
    return task_submit_result(&app, db, arena, &submission, &finished, &st);
}

int64_t fixture_count(const char *sql)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_ok(db_query_one(db, sql, NULL, &rows, &st));
    return db_int(rows, 0, 0);
}
