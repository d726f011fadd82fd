/* Read-only kinds by hand: see inspect.h. One process, one thread, at a terminal or in a script. */
#include "agent/inspect.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "agent/kinds/kind.h"
#include "base/buf.h"
#include "base/clock.h"
#include "kinds/checks.h"
#include "kinds/confine.h"
#include "kinds/starttls.h"
#include "wire/wire.h"

#define DEFAULT_CONFIG "/etc/clm-agent/agent.conf"
#define EXIT_USAGE     2
#define EXIT_FAILED    3
#define JSON_MAX       (64u * 1024 * 1024)

struct inspection {
    struct arena *arena;
    const char *config, *state_dir;
    bool json;
    Clm__TaskSpec spec;
    Clm__DiscoverSpec discover;
    Clm__ValidateSpec validate;
    Clm__TaskResult result;
};

/* The options of both, by what they set in the specification. */
static const struct option discover_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"state-dir", required_argument, NULL, 's'},
    {"json", no_argument, NULL, 'j'},
    {"root", required_argument, NULL, 'r'},
    {"range", required_argument, NULL, 'n'},
    {"port", required_argument, NULL, 'p'},
    {"server-name", required_argument, NULL, 'S'},
    {"no-files", no_argument, NULL, 'F'},
    {"no-listening", no_argument, NULL, 'L'},
    {"no-configurations", no_argument, NULL, 'C'},
    {0},
};

static const struct option validate_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"state-dir", required_argument, NULL, 's'},
    {"json", no_argument, NULL, 'j'},
    {"target", required_argument, NULL, 't'},
    {"certificate", required_argument, NULL, 'f'},
    {"endpoint", required_argument, NULL, 'e'},
    {"server-name", required_argument, NULL, 'S'},
    {"starttls", required_argument, NULL, 'T'},
    {0},
};

static bool set_common(struct inspection *in, int option)
{
    if (option == 'c')
        in->config = optarg;
    else if (option == 's')
        in->state_dir = optarg;
    else if (option == 'j')
        in->json = true;
    else
        return false;
    return true;
}

static bool set_discover(struct inspection *in, int option)
{
    Clm__DiscoverSpec *spec = &in->discover;
    switch (option) {
    case 'r':
        ARENA_PUSH(in->arena, spec->roots, spec->n_roots, optarg);
        return true;
    case 'n':
        ARENA_PUSH(in->arena, spec->ranges, spec->n_ranges, optarg);
        return true;
    case 'S':
        ARENA_PUSH(in->arena, spec->server_names, spec->n_server_names, optarg);
        return true;
    case 'p':
        if (spec->n_ports >= 64)
            return false;
        if (!spec->ports)
            spec->ports = arena_array(in->arena, 64, sizeof(uint32_t));
        spec->ports[spec->n_ports++] = (uint32_t)strtoul(optarg, NULL, 10);
        return true;
    case 'F':
        spec->has_files = true;
        return true;
    case 'L':
        spec->has_listening = true;
        return true;
    case 'C':
        spec->has_configurations = true;
        return true;
    default:
        return set_common(in, option);
    }
}

static bool set_validate(struct inspection *in, int option)
{
    Clm__ValidateSpec *spec = &in->validate;
    enum starttls starttls;
    switch (option) {
    case 't':
        spec->target = optarg;
        return true;
    case 'f':
        spec->certificate_path = optarg;
        return true;
    case 'e':
        spec->endpoint = optarg;
        return true;
    case 'S':
        spec->server_name = optarg;
        return true;
    case 'T':
        if (!starttls_find(optarg, &starttls)) {
            (void)fprintf(stderr, "clm-agent: --starttls %s: none of " STARTTLS_NAMES "\n", optarg);
            return false;
        }
        spec->has_starttls = true;
        spec->starttls = (Clm__ValidateSpec__Starttls)starttls;
        return true;
    default:
        return set_common(in, option);
    }
}

/* --- output ------------------------------------------------------------------------------------------- */

static const char *text(const char *s)
{
    return s ? s : "";
}

/* Texts of certificates are foreign: a terminal obeys what it is shown. */
static void print_clean(const char *s)
{
    for (; *s; s++)
        (void)putchar((unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s);
}

static void print_certificates(const Clm__TaskResult *result)
{
    for (size_t i = 0; i < result->n_certificates; i++) {
        const Clm__FoundCertificate *found = result->certificates[i];
        char until[CLOCK_RFC3339_SIZE];
        clock_format_rfc3339(found->certificate->not_after_at_ms, until);
        (void)printf("%.16s  %.10s  %-7s ", text(found->certificate->fingerprint_sha256), until,
                     found->has_served && found->served ? "served" : "");
        print_clean(text(found->path ? found->path : found->endpoint));
        if (found->path && found->alias)
            (void)printf(" (%s)", found->alias);
        if (found->server_name)
            (void)printf(" %s", found->server_name);
        if (found->used_by || found->process)
            (void)printf(" [%s]", found->used_by ? found->used_by : found->process);
        (void)printf("  ");
        print_clean(text(found->certificate->subject));
        (void)putchar('\n');
    }
}

static bool print_checks(const Clm__TaskResult *result)
{
    static const char *const outcomes[] = {"", "pass", "WARN", "FAIL"};
    bool failed = false;
    for (size_t i = 0; i < result->n_checks; i++) {
        const Clm__Check *check = result->checks[i];
        (void)printf("%-4s  %-18s ", outcomes[check->outcome], check->id);
        print_clean(text(check->reason));
        if (check->remedy && check->remedy[0])
            (void)printf("  -> %s", check->remedy);
        (void)putchar('\n');
        failed = failed || check->outcome == CLM__CHECK__OUTCOME__FAIL;
    }
    return failed;
}

static int show(const struct inspection *in, const char *message)
{
    bool failed = false;
    if (in->json) {
        AUTO_BUF struct buf out = {.limit = JSON_MAX};
        struct status st;
        if (json_write(&in->result.base, &out, &st) != CODE_OK) {
            (void)fprintf(stderr, "clm-agent: %s\n", st.msg);
            return 1;
        }
        (void)puts(buf_text(&out));
        for (size_t i = 0; i < in->result.n_checks; i++)
            failed = failed || in->result.checks[i]->outcome == CLM__CHECK__OUTCOME__FAIL;
    } else {
        print_certificates(&in->result);
        failed = print_checks(&in->result);
        (void)fprintf(stderr, "%s\n", text(message));
    }
    return failed ? EXIT_FAILED : 0;
}

/* --- running ------------------------------------------------------------------------------------------ */

static enum code inspect(struct inspection *in, char **ret_message, struct status *st)
{
    char *everything[] = {(char[]){"/**"}};
    Clm__Scope scope = CLM__SCOPE__INIT;
    Clm__TaskOrder order = CLM__TASK_ORDER__INIT;
    struct policy *policy = NULL;
    Clm__Receipt__Outcome outcome = CLM__RECEIPT__OUTCOME__FAILED;
    scope.paths = everything;
    scope.n_paths = 1;
    order.scope = &scope;
    TRY(policy_load(in->config, &policy, st));
    struct task_run run = {.order = &order,
                           .spec = &in->spec,
                           .policy = policy,
                           .state_dir = in->state_dir ? in->state_dir : policy->state_dir,
                           .arena = in->arena,
                           .result = &in->result};
    enum code code = policy_allows_operation(policy, (int)in->spec.kind, st);
    if (code == CODE_OK)
        code = wire_check(&in->spec.base, st);
    if (code == CODE_OK)
        code = task_kind_find((int)in->spec.kind)->run(&run, &outcome, st);
    *ret_message = run.message;
    policy_free(policy);
    return code;
}

static void inspection_init(struct inspection *in, Clm__Task__Kind kind)
{
    memset(in, 0, sizeof(*in));
    in->arena = arena_new();
    in->config = DEFAULT_CONFIG;
    clm__task_spec__init(&in->spec);
    clm__discover_spec__init(&in->discover);
    clm__validate_spec__init(&in->validate);
    clm__task_result__init(&in->result);
    in->spec.has_kind = true;
    in->spec.kind = kind;
    if (kind == CLM__TASK__KIND__DISCOVER)
        in->spec.discover = &in->discover;
    else
        in->spec.validate = &in->validate;
}

static int inspect_main(Clm__Task__Kind kind, const struct option *options,
                        bool (*set)(struct inspection *in, int option), int argc, char **argv)
{
    struct inspection in;
    struct status st;
    char *message = NULL;
    bool usage = false;
    int rc = 1;
    inspection_init(&in, kind);
    for (int c; !usage && (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        usage = !set(&in, c);
    if (usage || optind != argc)
        rc = EXIT_USAGE;
    else if (inspect(&in, &message, &st) != CODE_OK)
        (void)fprintf(stderr, "clm-agent: %s\n", st.msg);
    else
        rc = show(&in, message);
    arena_free(in.arena);
    return rc;
}

int discover_main(int argc, char **argv)
{
    return inspect_main(CLM__TASK__KIND__DISCOVER, discover_options, set_discover, argc, argv);
}

int validate_main(int argc, char **argv)
{
    return inspect_main(CLM__TASK__KIND__VALIDATE, validate_options, set_validate, argc, argv);
}

int checks_main(int argc, char **argv)
{
    (void)argv;
    if (argc != 1)
        return EXIT_USAGE;
    (void)puts("| id | severity | passes when | in general, mend it so |\n|---|---|---|---|");
    for (const struct check_row *row = checks; row->id; row++)
        (void)printf(
            "| `%s` | %s | %s | %s |\n", row->id,
            protobuf_c_enum_descriptor_get_value(&clm__check__severity__descriptor, (int)row->severity)->name,
            row->about, row->remedy);
    return 0;
}
