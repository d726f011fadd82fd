/* initdb and postgres as child processes; the data directory belongs to the user that runs them. */
#include "support/pg.h"

#include "tree.h"
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char dir[64], data_dir[96], bin_dir[256], conninfo[160];
static pid_t server;
static pid_t owner; /* the process that may clean up: not a fork of it */

static void die(const char *what)
{
    (void)fprintf(stderr, "private PostgreSQL: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void become_postgres(void)
{
    if (geteuid() != 0)
        return;
    struct passwd *user = getpwnam("postgres");
    if (!user || setgroups(0, NULL) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)
        _exit(126);
}

static pid_t spawn(const char *const argv[], const char *log)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid > 0)
        return pid;
    become_postgres();
    /* SIGQUIT is PostgreSQL's immediate shutdown: a killed test leaves no server behind. */
    (void)prctl(PR_SET_PDEATHSIG, SIGQUIT);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || chdir("/") != 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        _exit(126);
    (void)execv(argv[0], (char *const *)(uintptr_t)argv); /* POSIX: it changes neither */
    _exit(127);
}

static void print_log(const char *log)
{
    FILE *file = fopen(log, "r");
    char line[512];
    while (file && fgets(line, sizeof(line), file))
        (void)fputs(line, stderr);
    if (file)
        (void)fclose(file);
}

static void find_binaries(void)
{
    const char *given = getenv("CLM_PG_BIN");
    glob_t found = {0};
    if (given)
        (void)snprintf(bin_dir, sizeof(bin_dir), "%s", given);
    else if (glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) == 0)
        (void)snprintf(bin_dir, sizeof(bin_dir), "%s", found.gl_pathv[found.gl_pathc - 1]);
    else
        die("no /usr/lib/postgresql/*/bin (install postgresql, or set CLM_PG_BIN)");
    globfree(&found);
}

static bool is_ready(void)
{
    char path[128], line[256];
    (void)snprintf(path, sizeof(path), "%s/postmaster.pid", data_dir);
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    bool ready = false;
    for (int n = 1; fgets(line, sizeof(line), file); n++)
        ready = n == 8 && !strncmp(line, "ready", 5);
    (void)fclose(file);
    return ready;
}

void pg_start_server(void)
{
    char program[300], socket_option[128], log[128];
    (void)snprintf(program, sizeof(program), "%s/postgres", bin_dir);
    (void)snprintf(socket_option, sizeof(socket_option), "unix_socket_directories=%s", dir);
    (void)snprintf(log, sizeof(log), "%s/log", dir);
    const char *argv[] = {program,
                          "-D",
                          data_dir,
                          "-c",
                          socket_option,
                          "-c",
                          "listen_addresses=",
                          "-c",
                          "fsync=off",
                          "-c",
                          "full_page_writes=off",
                          "-c",
                          "max_connections=60",
                          "-c",
                          "shared_buffers=16MB",
                          NULL};
    server = spawn(argv, log);
    for (int i = 0; i < 3000; i++) { /* at most 30 s */
        if (is_ready())
            return;
        if (waitpid(server, NULL, WNOHANG) == server)
            break;
        (void)poll(NULL, 0, 10);
    }
    print_log(log);
    die("the server did not start");
}

void pg_kill_server(void)
{
    if (server > 0) {
        (void)kill(server, SIGQUIT);
        (void)waitpid(server, NULL, 0);
    }
    server = 0;
}

static void clean_up(void)
{
    if (getpid() != owner)
        return;
    pg_kill_server();
    tree_remove(dir);
}

const char *pg_conninfo(void)
{
    if (*conninfo)
        return conninfo;
    find_binaries();
    (void)snprintf(dir, sizeof(dir), "/tmp/clm-pg-XXXXXX");
    if (!mkdtemp(dir))
        die(dir);
    owner = getpid();
    (void)atexit(clean_up);
    struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;
    if (geteuid() == 0 && (!user || chown(dir, user->pw_uid, user->pw_gid) != 0))
        die("user postgres");
    (void)snprintf(data_dir, sizeof(data_dir), "%s/data", dir);
    char program[300], log[128];
    (void)snprintf(program, sizeof(program), "%s/initdb", bin_dir);
    (void)snprintf(log, sizeof(log), "%s/initdb.log", dir);
    const char *argv[] = {program,    "-D", data_dir, "-A",         "trust",     "-U",
                          "postgres", "-E", "UTF8",   "--locale=C", "--no-sync", NULL};
    int status;
    if (waitpid(spawn(argv, log), &status, 0) < 0 || status != 0) {
        print_log(log);
        die("initdb failed");
    }
    pg_start_server();
    (void)snprintf(conninfo, sizeof(conninfo), "host=%s user=postgres dbname=postgres", dir);
    return conninfo;
}
