/* Operators and API keys as administrators handle them, on a real PostgreSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "grants.h"

#define PASSWORD "correct horse battery"
#define VIEWER   (1u << 1)
#define ADMIN    (1u << 3)

static struct status st;
static char link_text[OPERATOR_SECRET_MAX], secret[OPERATOR_SECRET_MAX], key[API_KEY_TEXT_MAX];
static struct operator_entry entry;

static struct cause by(const char *actor)
{
    return (struct cause){.actor = actor, .now_ms = T0};
}

static enum code invite(const char *name, unsigned roles, const char *selector)
{
    const struct cause cause = by("operator:root");
    const struct grant grant = {roles, selector};
    return operator_invite(fixture_db, &cause, name, &grant, 3600, link_text, fixture_arena, &entry, &st);
}

static enum code redeem(const char *name)
{
    struct session session;
    return operator_link_redeem(fixture_db, link_text, name, PASSWORD, "192.0.2.7", T0, secret, fixture_arena,
                                &session, &st);
}

static enum code login(const char *name)
{
    struct session session;
    return operator_login(fixture_db, name, PASSWORD, "192.0.2.7", T0, secret, fixture_arena, &session, &st);
}

static const char *join(const char *name, unsigned roles, const char *selector)
{
    assert_int_equal(invite(name, roles, selector), CODE_OK);
    assert_int_equal(redeem(NULL), CODE_OK);
    return entry.id;
}

static enum code set_disabled(const char *actor, const char *id, bool disabled)
{
    const struct cause cause = by(actor);
    return operator_set_disabled(fixture_db, &cause, id, disabled, fixture_arena, &entry, &st);
}

static enum code set_grant(const char *actor, const char *id, unsigned roles, const char *selector)
{
    const struct cause cause = by(actor);
    const struct grant grant = {roles, selector};
    return operator_set_grant(fixture_db, &cause, id, &grant, fixture_arena, &entry, &st);
}

static void invited_operator_cannot_sign_in_before_the_link_is_used(void **state)
{
    (void)state;
    assert_int_equal(invite("alice", VIEWER, "env=prod"), CODE_OK);
    assert_int_equal(entry.state, OPERATOR_INVITED);
    assert_int_equal(entry.link_not_after_ms, T0 + 3600 * 1000);
    assert_int_equal(login("alice"), CODE_UNAUTHENTICATED);
    assert_int_equal(redeem("mallory"), CODE_INVALID_ARGUMENT);
    assert_int_equal(redeem("alice"), CODE_OK);
    assert_int_equal(redeem("alice"), CODE_UNAUTHENTICATED);
    assert_int_equal(login("alice"), CODE_OK);
    struct session session;
    assert_int_equal(session_check(fixture_db, secret, T0, fixture_arena, &session, &st), CODE_OK);
    assert_int_equal(session.who.roles, VIEWER);
    assert_string_equal(session.who.label_selector, "env=prod");
    assert_int_equal(operator_get(fixture_db, entry.id, T0, fixture_arena, &entry, &st), CODE_OK);
    assert_int_equal(entry.state, OPERATOR_ACTIVE);
    assert_int_equal(entry.last_login_at_ms, T0);
    assert_int_equal(entry.link_not_after_ms, -1);
}

static void fresh_link_ends_the_former_and_all_sessions(void **state)
{
    (void)state;
    const char *id = join("alice", VIEWER, "");
    char old_session[OPERATOR_SECRET_MAX], old_link[OPERATOR_SECRET_MAX];
    (void)snprintf(old_session, sizeof(old_session), "%s", secret);
    const struct cause cause = by("operator:root");
    assert_int_equal(operator_invite_again(fixture_db, &cause, id, 600, old_link, fixture_arena, &entry, &st),
                     CODE_OK);
    assert_int_equal(
        operator_invite_again(fixture_db, &cause, id, 600, link_text, fixture_arena, &entry, &st), CODE_OK);
    struct session session;
    assert_int_equal(operator_link_redeem(fixture_db, old_link, NULL, PASSWORD, "x", T0, secret,
                                          fixture_arena, &session, &st),
                     CODE_UNAUTHENTICATED);
    assert_int_equal(session_check(fixture_db, old_session, T0, fixture_arena, &session, &st), CODE_OK);
    assert_int_equal(redeem(NULL), CODE_OK);
    assert_int_equal(session_check(fixture_db, old_session, T0, fixture_arena, &session, &st),
                     CODE_UNAUTHENTICATED);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    const struct cause cause = by("operator:root");
    const struct grant grant = {VIEWER, ""};
    assert_int_equal(invite("alice", 0, ""), CODE_INVALID_ARGUMENT);
    assert_int_equal(invite("alice", 1u << 7, ""), CODE_INVALID_ARGUMENT);
    assert_int_equal(invite("alice", VIEWER, "=x"), CODE_INVALID_ARGUMENT);
    assert_int_equal(operator_invite(fixture_db, &cause, "alice", &grant, INVITE_TTL_MAX_SEC + 1, link_text,
                                     fixture_arena, &entry, &st),
                     CODE_INVALID_ARGUMENT);
    assert_int_equal(invite("alice", VIEWER, ""), CODE_OK);
    assert_int_equal(invite("alice", VIEWER, ""), CODE_ALREADY_EXISTS);
    assert_int_equal(set_grant("operator:root", "01890a5d-ac96-774b-bcce-b302099a8057", VIEWER, ""),
                     CODE_NOT_FOUND);
}

static void disabled_operator_is_out_at_once_and_may_come_back(void **state)
{
    (void)state;
    const char *id = join("alice", VIEWER, "");
    struct session session;
    assert_int_equal(set_disabled("operator:root", id, true), CODE_OK);
    assert_int_equal(entry.state, OPERATOR_DISABLED);
    assert_int_equal(session_check(fixture_db, secret, T0, fixture_arena, &session, &st),
                     CODE_UNAUTHENTICATED);
    assert_int_equal(login("alice"), CODE_UNAUTHENTICATED);
    const struct cause cause = by("operator:root");
    assert_int_equal(
        operator_invite_again(fixture_db, &cause, id, 600, link_text, fixture_arena, &entry, &st),
        CODE_FAILED_PRECONDITION);
    assert_int_equal(set_disabled("operator:root", id, false), CODE_OK);
    assert_int_equal(login("alice"), CODE_OK);
}

static void last_administrator_of_the_whole_fleet_stays(void **state)
{
    (void)state;
    const char *alice = join("alice", ADMIN, "");
    (void)join("limited", ADMIN, "env=prod");
    assert_int_equal(set_disabled("api-key:1", alice, true), CODE_FAILED_PRECONDITION);
    assert_int_equal(set_grant("api-key:1", alice, VIEWER, ""), CODE_FAILED_PRECONDITION);
    assert_int_equal(set_grant("api-key:1", alice, ADMIN, "env=prod"), CODE_FAILED_PRECONDITION);
    const char *bob = join("bob", ADMIN, "");
    assert_int_equal(set_disabled("operator:bob", bob, true), CODE_FAILED_PRECONDITION); /* oneself */
    assert_int_equal(set_grant("operator:bob", bob, VIEWER, ""), CODE_FAILED_PRECONDITION);
    assert_int_equal(set_grant("operator:bob", alice, VIEWER, "env=dev"), CODE_OK);
    assert_int_equal(entry.who.roles, VIEWER);
    assert_string_equal(entry.who.label_selector, "env=dev");
    assert_int_equal(set_disabled("operator:x", bob, true), CODE_FAILED_PRECONDITION);
}

static void sessions_of_an_operator_are_listed_and_ended(void **state)
{
    (void)state;
    const char *id = join("alice", VIEWER, "");
    struct session *sessions;
    size_t n;
    assert_int_equal(login("alice"), CODE_OK);
    assert_int_equal(operator_sessions(fixture_db, id, T0, fixture_arena, &sessions, &n, &st), CODE_OK);
    assert_int_equal(n, 2);
    const struct cause cause = by("operator:root");
    assert_int_equal(operator_end_sessions(fixture_db, &cause, id, fixture_arena, &entry, &st), CODE_OK);
    assert_int_equal(operator_sessions(fixture_db, id, T0, fixture_arena, &sessions, &n, &st), CODE_OK);
    assert_int_equal(n, 0);
}

static void key_is_made_listed_and_revoked(void **state)
{
    (void)state;
    const struct cause cause = by("operator:root");
    const struct grant grant = {VIEWER, "env=prod"};
    struct api_key_entry made, *listed;
    struct api_key who;
    size_t n;
    assert_int_equal(
        api_key_issue(fixture_db, &cause, "ci", &grant, T0 + 1000, key, fixture_arena, &made, &st), CODE_OK);
    assert_string_equal(made.created_by, "operator:root");
    assert_int_equal(made.expires_at_ms, T0 + 1000);
    assert_int_equal(api_key_check(fixture_db, key, T0, fixture_arena, &who, &st), CODE_OK);
    assert_string_equal(who.id, made.key.id);
    assert_int_equal(
        api_key_issue(fixture_db, &cause, "ci", &grant, T0 + 1000, key, fixture_arena, &made, &st),
        CODE_ALREADY_EXISTS);
    assert_int_equal(api_keys_list(fixture_db, false, NULL, 10, T0, fixture_arena, &listed, &n, &st),
                     CODE_OK);
    assert_int_equal(n, 1);
    assert_int_equal(listed[0].last_used_at_ms, T0);
    assert_int_equal(api_keys_list(fixture_db, false, NULL, 10, T0 + 1000, fixture_arena, &listed, &n, &st),
                     CODE_OK);
    assert_int_equal(n, 0); /* expired */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(api_key_revoke(fixture_db, &cause, who.id, fixture_arena, &made, &st), CODE_OK);
        assert_int_equal(made.revoked_at_ms, T0);
    }
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_pending WHERE action = 'api_key.revoked'"),
                     1);
    assert_int_equal(api_keys_list(fixture_db, true, NULL, 10, T0, fixture_arena, &listed, &n, &st), CODE_OK);
    assert_int_equal(n, 1);
    assert_int_equal(api_key_revoke(fixture_db, &cause, "0123456789abcdef", fixture_arena, &made, &st),
                     CODE_NOT_FOUND);
}

static void key_without_end_or_role_is_refused(void **state)
{
    (void)state;
    const struct cause cause = by("operator:root");
    struct api_key_entry made;
    const struct grant good = {VIEWER, ""}, none = {0, ""};
    assert_int_equal(api_key_issue(fixture_db, &cause, "a", &good, T0, key, fixture_arena, &made, &st),
                     CODE_INVALID_ARGUMENT);
    assert_int_equal(api_key_issue(fixture_db, &cause, "a", &good, T0 + API_KEY_TTL_MAX_MS + 1, key,
                                   fixture_arena, &made, &st),
                     CODE_INVALID_ARGUMENT);
    assert_int_equal(api_key_issue(fixture_db, &cause, "a", &none, T0 + 1, key, fixture_arena, &made, &st),
                     CODE_INVALID_ARGUMENT);
}

static enum code invite_once(const char *idempotency_key, uint8_t request)
{
    const struct once once = {idempotency_key, {request}};
    struct cause cause = by("operator:root");
    const struct grant grant = {VIEWER, ""};
    cause.once = &once;
    return operator_invite(fixture_db, &cause, "alice", &grant, 3600, link_text, fixture_arena, &entry, &st);
}

static void invitation_with_the_same_key_is_made_once_and_its_link_anew_until_it_was_used(void **state)
{
    (void)state;
    char first[OPERATOR_SECRET_MAX];
    assert_int_equal(invite_once("k", 1), CODE_OK);
    const char *id = entry.id;
    memcpy(first, link_text, sizeof first);
    assert_int_equal(invite_once("k", 2), CODE_ALREADY_EXISTS);
    assert_non_null(strstr(st.msg, "idempotency key"));
    assert_int_equal(invite_once("k", 1), CODE_OK);
    assert_string_equal(entry.id, id);
    assert_string_not_equal(link_text, first);
    assert_int_equal(fixture_number("SELECT count(*) FROM operator_links"), 1);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_pending WHERE action = 'operator.invited'"),
                     1);
    assert_int_equal(redeem(NULL), CODE_OK);
    assert_int_equal(invite_once("k", 1), CODE_OK);
    assert_string_equal(entry.id, id);
    assert_string_equal(link_text, "");
    assert_int_equal(invite_once("another", 1), CODE_ALREADY_EXISTS);
    assert_null(strstr(st.msg, "idempotency key"));
}

static enum code link_once(const char *id, const char *idempotency_key, uint8_t request)
{
    const struct once once = {idempotency_key, {request}};
    struct cause cause = by("operator:root");
    cause.once = &once;
    return operator_invite_again(fixture_db, &cause, id, 3600, link_text, fixture_arena, &entry, &st);
}

static void link_with_the_same_key_is_made_once_and_anew_until_it_was_used_or_another_was_made(void **state)
{
    (void)state;
    char first[OPERATOR_SECRET_MAX], second[OPERATOR_SECRET_MAX];
    assert_int_equal(invite_once("i", 1), CODE_OK);
    const char *id = entry.id;
    assert_int_equal(link_once(id, "k", 1), CODE_OK);
    memcpy(first, link_text, sizeof first);
    assert_int_equal(link_once(id, "k", 2), CODE_ALREADY_EXISTS);
    assert_int_equal(link_once(id, "k", 1), CODE_OK);
    memcpy(second, link_text, sizeof second);
    assert_string_not_equal(second, first);
    assert_int_equal(fixture_number("SELECT count(*) FROM operator_links"), 1);
    assert_int_equal(
        fixture_number("SELECT count(*) FROM audit_pending WHERE action = 'operator.link_created'"), 1);
    /* Somebody asks for another: the first is over, and what repeats it takes nothing away. */
    assert_int_equal(link_once(id, "l", 1), CODE_OK);
    memcpy(second, link_text, sizeof second);
    assert_int_equal(link_once(id, "k", 1), CODE_OK);
    assert_string_equal(link_text, "");
    memcpy(link_text, second, sizeof second);
    assert_int_equal(redeem(NULL), CODE_OK);
    assert_int_equal(link_once(id, "l", 1), CODE_OK);
    assert_string_equal(link_text, "");
    assert_int_equal(fixture_number("SELECT count(*) FROM operator_links WHERE used_at IS NULL"), 0);
}

static enum code issue_once(struct api_key_entry *made)
{
    const struct once once = {"k", {7}};
    struct cause cause = by("operator:root");
    const struct grant grant = {VIEWER, ""};
    cause.once = &once;
    return api_key_issue(fixture_db, &cause, "ci", &grant, T0 + 1000, key, fixture_arena, made, &st);
}

static void key_with_the_same_idempotency_key_is_made_once_and_its_secret_anew_until_it_was_used(void **state)
{
    (void)state;
    char first[API_KEY_TEXT_MAX];
    struct api_key_entry made, again;
    struct api_key found;
    assert_int_equal(issue_once(&made), CODE_OK);
    memcpy(first, key, sizeof first);
    assert_int_equal(issue_once(&again), CODE_OK);
    assert_string_equal(again.key.id, made.key.id);
    assert_int_equal(api_key_check(fixture_db, first, T0, fixture_arena, &found, &st), CODE_UNAUTHENTICATED);
    assert_int_equal(api_key_check(fixture_db, key, T0, fixture_arena, &found, &st), CODE_OK);
    memcpy(first, key, sizeof first);
    assert_int_equal(issue_once(&again), CODE_OK);
    assert_string_equal(key, "");
    assert_int_equal(api_key_check(fixture_db, first, T0, fixture_arena, &found, &st), CODE_OK);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_pending WHERE action = 'api_key.created'"),
                     1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, fixture_reset)
    const struct CMUnitTest tests[] = {
        T(invited_operator_cannot_sign_in_before_the_link_is_used),
        T(fresh_link_ends_the_former_and_all_sessions),
        T(what_makes_no_sense_is_refused),
        T(disabled_operator_is_out_at_once_and_may_come_back),
        T(last_administrator_of_the_whole_fleet_stays),
        T(sessions_of_an_operator_are_listed_and_ended),
        T(key_is_made_listed_and_revoked),
        T(key_without_end_or_role_is_refused),
        T(invitation_with_the_same_key_is_made_once_and_its_link_anew_until_it_was_used),
        T(link_with_the_same_key_is_made_once_and_anew_until_it_was_used_or_another_was_made),
        T(key_with_the_same_idempotency_key_is_made_once_and_its_secret_anew_until_it_was_used),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
