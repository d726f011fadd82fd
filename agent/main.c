/*
 * clm-agent. One binary: what the administrator calls, and the two processes that exec starts of itself
 * ("net", "enrol-request"; not for people).
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent/doctor.h"
#include "agent/exec/enrol.h"
#include "agent/exec/exec.h"
#include "agent/exec/heads.h"
#include "agent/exec/safemarks.h"
#include "agent/exec/spawn.h"
#include "agent/facts.h"
#include "agent/inspect.h"
#include "agent/kinds/kind.h"
#include "agent/net/net.h"
#include "agent/setup.h"
#include "agent/status.h"
#include "agent/uninstall.h"
#include "base/log.h"

#define DEFAULT_CONFIG "/etc/clm-agent/agent.conf"
#define EXIT_USAGE     2

struct options {
    const char *config, *state_dir, *token_file, *reason;
    const char *dir, *user; /* of the hidden commands */
};

struct command {
    const char *name, *arguments, *help; /* help NULL: not listed */
    int (*run)(const struct options *options);
    int (*run_args)(int argc, char **argv); /* parses its own arguments */
};

extern const struct command commands[];

static int run_agent(const struct options *options)
{
    struct exec_options exec = {options->config, options->state_dir, options->token_file, false};
    return exec_main(&exec);
}

static int run_enroll(const struct options *options)
{
    struct exec_options exec = {options->config, options->state_dir,
                                options->token_file ? options->token_file : "-", true};
    return exec_main(&exec);
}

static int run_status(const struct options *options)
{
    return agent_status_main(options->config, options->state_dir);
}

static int run_doctor(const struct options *options)
{
    return doctor_main(options->config, options->state_dir);
}

static int run_audit_head(const struct options *options)
{
    return heads_print_main(options->config, options->state_dir);
}

static int run_safe_mode(const struct options *options)
{
    return safe_mode_enter_main(options->config, options->state_dir, options->reason);
}

static int run_leave_safe_mode(const struct options *options)
{
    return safe_mode_leave_main(options->config, options->state_dir);
}

static int run_version(const struct options *options)
{
    (void)options;
    (void)printf("clm-agent %s\nbuilt       %s\ncommit      %s\noperations ", agent_build.version,
                 agent_build.date, agent_build.commit);
    for (const struct task_kind *kind = task_kinds; kind->name; kind++)
        (void)printf(" %s", kind->name);
    (void)putchar('\n');
    return 0;
}

static int run_help(const struct options *options)
{
    (void)options;
    (void)puts("clm-agent - carries out certificate work on this host\n");
    for (const struct command *command = commands; command->name; command++) {
        if (command->help)
            (void)printf("  clm-agent %-8s %s\n%20s%s\n", command->name, command->arguments, "",
                         command->help);
    }
    (void)puts("\nA token is never an argument. The configuration is also the local policy: what it does not "
               "allow, the\n"
               "platform cannot ask for.");
    return 0;
}

/* The user was found by exec; the child looks it up again, because numbers in arguments are easier to get
 * wrong. */
static int with_user(const struct options *options, int (*run)(const struct options *, uid_t, gid_t))
{
    uid_t uid;
    gid_t gid;
    struct status st;
    if (spawn_find_user(options->user ? options->user : "", &uid, &gid, &st) != CODE_OK) {
        log_error("the process cannot be confined", "reason", st.msg, NULL);
        return 1;
    }
    int exit_status = run(options, uid, gid);
    /* Behind the filter even what libraries and sanitizers do at exit may be forbidden. */
    _exit(exit_status);
}

static int start_net(const struct options *options, uid_t uid, gid_t gid)
{
    return options->dir ? net_main(SPAWN_CHANNEL_FD, options->dir, uid, gid) : EXIT_USAGE;
}

static int start_enrol_request(const struct options *options, uid_t uid, gid_t gid)
{
    (void)options;
    return enrol_child_main(SPAWN_CHANNEL_FD, uid, gid);
}

static int run_net(const struct options *options)
{
    return with_user(options, start_net);
}

static int run_enrol_request(const struct options *options)
{
    return with_user(options, start_enrol_request);
}

const struct command commands[] = {
    {"run", "[--config FILE] [--state-dir DIR] [--token-file FILE]",
     "Runs the agent. With a token, enrols first if the host is not enrolled.", run_agent, NULL},
    {"enroll", "[--config FILE] [--state-dir DIR] [--token-file FILE|-]",
     "Turns a bootstrap token into an identity. Reads it from FILE (deleted afterwards), standard input or a "
     "prompt.",
     run_enroll, NULL},
    {"setup", "[--config FILE] [--manage SERVER[=CONF]]... [--command TEXT] [--test TEXT] [--yes]",
     "Finds the servers of this host and writes what the agent may do for them into the policy, after your "
     "yes.",
     NULL, setup_main},
    {"discover",
     "[--config FILE] [--root DIR] [--range RANGE] [--port N] [--no-files] [--no-listening] [--json]",
     "Prints the certificates of this host, and of ranges that the policy allows.", NULL, discover_main},
    {"validate",
     "[--config FILE] --target NAME|--certificate FILE|--endpoint HOST:PORT [--starttls P] [--json]",
     "Checks what is installed and served. Exit status 3 if a check fails.", NULL, validate_main},
    {"checks", "", "Prints the checks of validate: what each is about, and how to mend it.", NULL,
     checks_main},
    {"status", "[--config FILE] [--state-dir DIR]", "Shows who this agent is and what it has to do.",
     run_status, NULL},
    {"uninstall", "[--config FILE] [--state-dir DIR] [--yes] [--wait SECONDS] [--force]",
     "Says farewell to the platform and removes the identity. What it manages goes on being served.", NULL,
     uninstall_main},
    {"doctor", "[--config FILE] [--state-dir DIR]",
     "Checks what the agent needs and says what is wrong and how to mend it. Changes nothing.", run_doctor,
     NULL},
    {"audit-head", "[--config FILE] [--state-dir DIR]",
     "Prints the newest head of the platform's audit log that this host has verified.", run_audit_head, NULL},
    {"safe-mode", "[--config FILE] [--state-dir DIR] [--reason TEXT]",
     "Puts this agent into safe mode: it looks and reports, and changes nothing.", run_safe_mode, NULL},
    {"leave-safe-mode", "[--config FILE] [--state-dir DIR]",
     "Ends the safe mode that was asked for on this host, or that a failed rollback left behind.",
     run_leave_safe_mode, NULL},
    {"version", "", "Prints the version.", run_version, NULL},
    {"help", "", "Prints this.", run_help, NULL},
    {"net", "", NULL, run_net, NULL},
    {"enrol-request", "", NULL, run_enrol_request, NULL},
    {0},
};

static bool parse_options(int argc, char **argv, struct options *ret)
{
    static const struct option known[] = {
        {"config", required_argument, NULL, 'c'},
        {"state-dir", required_argument, NULL, 's'},
        {"token-file", required_argument, NULL, 't'},
        {"dir", required_argument, NULL, 'd'},
        {"user", required_argument, NULL, 'u'},
        {"reason", required_argument, NULL, 'r'},
        {0},
    };
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'c':
            ret->config = optarg;
            break;
        case 's':
            ret->state_dir = optarg;
            break;
        case 't':
            ret->token_file = optarg;
            break;
        case 'd':
            ret->dir = optarg;
            break;
        case 'u':
            ret->user = optarg;
            break;
        case 'r':
            ret->reason = optarg;
            break;
        default:
            return false;
        }
    }
    if (optind < argc)
        (void)fprintf(stderr, "clm-agent: unexpected argument \"%s\"\n", argv[optind]);
    return optind == argc;
}

static const struct command *command_find(const char *name)
{
    if (strcmp(name, "--version") == 0 || strcmp(name, "--help") == 0)
        name += 2;
    for (const struct command *command = commands; command->name; command++) {
        if (strcmp(command->name, name) == 0)
            return command;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const char *level = getenv("CLM_LOG_LEVEL"), *format = getenv("CLM_LOG_FORMAT");
    const struct command *command = argc > 1 ? command_find(argv[1]) : NULL;
    struct options options = {.config = DEFAULT_CONFIG};
    bool is_net = command && !command->help;
    if (is_net) /* started through /proc/self/exe, it would be called "exe" */
        (void)prctl(PR_SET_NAME, "clm-agent-net", 0, 0, 0);
    log_init(is_net ? "agent-net" : "agent",
             level && log_level_parse(level) >= 0 ? (enum log_level)log_level_parse(level) : LOG_LEVEL_INFO,
             format && strcmp(format, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
    if (!command) {
        (void)fprintf(stderr, argc > 1 ? "clm-agent: unknown command; try `clm-agent help`\n"
                                       : "clm-agent: a command is missing; try `clm-agent help`\n");
        return EXIT_USAGE;
    }
    if (command->run_args)
        return command->run_args(argc - 1, argv + 1);
    if (!parse_options(argc - 1, argv + 1, &options))
        return EXIT_USAGE;
    return command->run(&options);
}
