/* The table of presets and what is made of it: see preset.h. */
#include "presets/preset.h"

#include <errno.h>
#include <fnmatch.h>
#include <glob.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

#define CONFS_MAX   16 /* of one server; more versions of PostgreSQL than that do not run on a host */
#define LIST(...)   ((const char *const[]){__VA_ARGS__, NULL})
#define PLACES(...) ((const struct preset_place[]){__VA_ARGS__})

const struct preset presets[] = {
    {"nginx", nginx_read, LIST("/usr/sbin/nginx", "/usr/local/nginx/sbin/nginx"),
     PLACES({"/etc/nginx/nginx.conf", "{program} -s reload", "{program} -t -q"},
            {NULL, "{program} -p {dir}/ -c {conf} -s reload", "{program} -p {dir}/ -c {conf} -t -q"})},
    {"apache", apache_read, LIST("/usr/sbin/apache2", "/usr/sbin/httpd"),
     PLACES({"/etc/apache2/apache2.conf", "/usr/sbin/apache2ctl graceful", "/usr/sbin/apache2ctl configtest"},
            {"/etc/httpd/conf/httpd.conf", "/usr/sbin/apachectl graceful", "/usr/sbin/apachectl configtest"},
            {NULL, "{program} -f {conf} -k graceful", "{program} -f {conf} -t"})},
    {"haproxy", haproxy_read, LIST("/usr/sbin/haproxy"),
     PLACES({"/etc/haproxy/haproxy.cfg", "/usr/sbin/service haproxy reload", "{program} -c -f {conf}"},
            {NULL,
             "/sbin/start-stop-daemon --stop --quiet --signal USR2 --exec {program} --pidfile {pid_file}",
             "{program} -c -f {conf}"})},
    {"tomcat", tomcat_read, LIST("/usr/share/tomcat*/bin/catalina.sh"),
     PLACES({"/var/lib/tomcat*/conf/server.xml", "/usr/sbin/service {above} restart",
             "/usr/sbin/runuser -u tomcat -- /usr/bin/env CATALINA_BASE={parent} "
             "/usr/share/{above}/bin/catalina.sh "
             "configtest"},
            {NULL, NULL, "{as}/usr/bin/env CATALINA_BASE={parent} {program} configtest"})},
    {"postgresql", postgresql_read, LIST("/usr/lib/postgresql/*/bin/postgres", "/usr/bin/postgres"),
     PLACES({"/etc/postgresql/*/*/postgresql.conf", "/usr/bin/pg_ctlcluster {above} {name} reload",
             "/usr/lib/postgresql/{above}/bin/postgres -C ssl -D {dir}"},
            {"/var/lib/pgsql/data/postgresql.conf", "/usr/sbin/service postgresql reload",
             "/usr/bin/postgres -C ssl -D {dir}"},
            {NULL, "{as}/usr/lib/postgresql/{version}/bin/pg_ctl reload -D {dir}",
             "/usr/lib/postgresql/{version}/bin/postgres -C ssl -D {dir}"})},
    {"postfix", postfix_read, LIST("/usr/sbin/postfix"),
     PLACES({"/etc/postfix/main.cf", "{program} reload", "/usr/sbin/postconf -n"},
            {NULL, "{program} -c {dir} reload", "/usr/sbin/postconf -c {dir} -n"})},
    {"dovecot", dovecot_read, LIST("/usr/sbin/dovecot"),
     PLACES({"/etc/dovecot/dovecot.conf", "/usr/bin/doveadm reload", "/usr/bin/doveconf -n"},
            {NULL, "/usr/bin/doveadm -c {conf} reload", "/usr/bin/doveconf -c {conf} -n"})},
    {.name = NULL},
};

const struct preset *preset_find(const char *name)
{
    for (const struct preset *preset = presets; name && preset->name; preset++) {
        if (strcmp(preset->name, name) == 0)
            return preset;
    }
    return NULL;
}

static bool list_holds(char *const *list, size_t n, const char *item)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i], item) == 0)
            return true;
    }
    return false;
}

static char **confs_of(const struct preset *preset, struct arena *arena, size_t *ret_n)
{
    char **confs = NULL;
    size_t n = 0;
    for (const struct preset_place *place = preset->places; place->conf; place++) {
        glob_t found = {0};
        if (glob(place->conf, 0, NULL, &found) == 0) {
            for (size_t i = 0; i < found.gl_pathc && n < CONFS_MAX; i++) {
                if (!list_holds(confs, n, found.gl_pathv[i]))
                    ARENA_PUSH(arena, confs, n, arena_strdup(arena, found.gl_pathv[i]));
            }
        }
        globfree(&found);
    }
    *ret_n = n;
    return confs;
}

char **preset_confs(const struct preset *preset, struct arena *arena)
{
    size_t n;
    char **confs = confs_of(preset, arena, &n);
    ARENA_PUSH(arena, confs, n, NULL);
    return confs;
}

enum code preset_look(const struct preset *preset, const char *conf, struct arena *arena,
                      const Clm__Agent__Facts **ret, struct status *st)
{
    TRY(conf_read(preset->read, conf, arena, ret, st));
    for (size_t i = 0; i < (*ret)->n_servers; i++)
        (*ret)->servers[i]->used_by = arena_strdup(arena, preset->name);
    return CODE_OK;
}

void presets_look(const struct policy *policy, struct arena *arena, preset_on *on, void *arg)
{
    for (const struct preset *preset = presets; preset->name; preset++) {
        size_t n;
        char **confs = confs_of(preset, arena, &n);
        for (struct policy_target **t = policy->targets; t && *t; t++) {
            if ((*t)->preset && (*t)->configuration && strcmp((*t)->preset, preset->name) == 0 &&
                !list_holds(confs, n, (*t)->configuration))
                ARENA_PUSH(arena, confs, n, (*t)->configuration);
        }
        for (size_t i = 0; i < n; i++) {
            struct status st = {0};
            const Clm__Agent__Facts *facts = NULL;
            if (preset_look(preset, confs[i], arena, &facts, &st) != CODE_NOT_FOUND)
                on(arg, preset, confs[i], st.code == CODE_OK ? facts : NULL, &st);
        }
    }
}

/* --- commands ----------------------------------------------------------------------------------------- */

struct words {
    struct arena *arena;
    const char *program, *conf, *dir, *parent, *pid_file;
};

static const char *last_word(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const char *version_of(struct words *words)
{
    AUTO_BUF struct buf text = {0};
    if (file_read(arena_printf(words->arena, "%s/PG_VERSION", words->dir), 64, &text, NULL) != CODE_OK)
        return NULL;
    const char *version = buf_text(&text);
    return arena_strndup(words->arena, version, strspn(version, "0123456789."));
}

static const char *as_owner(struct words *words)
{
    struct stat info;
    if (geteuid() != 0 || stat(words->dir, &info) != 0 || info.st_uid == 0)
        return "";
    const struct passwd *owner = getpwuid(info.st_uid);
    return owner ? arena_printf(words->arena, "/usr/sbin/runuser -u %s -- ", owner->pw_name) : NULL;
}

static const char *word_of(struct words *words, const char *name, size_t len)
{
    const struct {
        const char *name, *value;
    } known[] = {
        {"program", words->program},   {"conf", words->conf},           {"dir", words->dir},
        {"parent", words->parent},     {"name", last_word(words->dir)}, {"above", last_word(words->parent)},
        {"pid_file", words->pid_file},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0)
            return known[i].value;
    }
    if (len == 2 && memcmp(name, "as", 2) == 0)
        return as_owner(words);
    return len == 7 && memcmp(name, "version", 7) == 0 ? version_of(words) : NULL;
}

/* NULL when a word is not known here. */
static const char *fill(struct words *words, const char *pattern)
{
    AUTO_BUF struct buf out = {0};
    while (pattern && *pattern) {
        size_t plain = strcspn(pattern, "{");
        if (!buf_append(&out, pattern, plain))
            return NULL;
        pattern += plain;
        if (*pattern != '{')
            break;
        size_t len = strcspn(++pattern, "}");
        const char *value = word_of(words, pattern, len);
        if (!value || !buf_puts(&out, value))
            return NULL;
        pattern += len + 1;
    }
    return pattern ? arena_strdup(words->arena, buf_text(&out)) : NULL;
}

static const char *find_program(const struct preset *preset, struct arena *arena)
{
    for (const char *const *pattern = preset->programs; *pattern; pattern++) {
        glob_t found = {0};
        const char *program = NULL;
        if (glob(*pattern, 0, NULL, &found) == 0) /* the last: of several versions the newest */
            program = arena_strdup(arena, found.gl_pathv[found.gl_pathc - 1]);
        globfree(&found);
        if (program && access(program, X_OK) == 0)
            return program;
    }
    return NULL;
}

enum code preset_commands(const struct preset *preset, const char *conf, const Clm__Agent__Facts *facts,
                          struct arena *arena, const char **ret_command, const char **ret_test,
                          struct status *st)
{
    struct words words = {
        .arena = arena, .conf = conf, .dir = conf_dir(arena, conf), .pid_file = facts->pid_file};
    words.parent = conf_dir(arena, words.dir);
    words.program = find_program(preset, arena);
    if (!words.program)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "%s has a configuration, %.120s, but no program at %s", preset->name, conf,
                          preset->programs[0]);
    if (strpbrk(conf, " \t\"';,#") || (words.pid_file && strpbrk(words.pid_file, " \t\"';,#")))
        return status_set(st, CODE_INVALID_ARGUMENT, "the path \"%.150s\" cannot stand in a command",
                          strpbrk(conf, " \t\"';,#") ? conf : words.pid_file);
    const struct preset_place *place = preset->places;
    while (place->conf && fnmatch(place->conf, conf, FNM_PATHNAME) != 0)
        place++;
    *ret_command = fill(&words, place->command);
    *ret_test = fill(&words, place->test);
    return CODE_OK;
}
