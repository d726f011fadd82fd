/*
 * DISCOVER: which certificates are on this host, which file serves which name on which socket. Files below
 * the policy's roots (content decides, symbolic links are not followed, nothing that is no regular file is
 * opened), configurations of known servers, and the listening sockets of this host. Foreign bytes are parsed
 * a batch at a time in confined children; a file that kills its parser costs only itself. Reads only. Runs in
 * a task's child.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "kinds/confine.h"
#include "kinds/kinds.h"
#include "kinds/probe.h"
#include "presets/preset.h"

#define FILE_BYTES_MAX (1024 * 1024)
#define FILES_MAX      200000
#define DEPTH_MAX      32
#define BATCH_FILES    64
#define BATCH_BYTES    (4 * 1024 * 1024)
#define ANSWER_BYTES   (200 * 1024) /* after which a child stops, to stay below its limit */
#define CERTS_A_FILE   300
#define TRUST_BUNDLE_MIN                                                                                     \
    10 /* a file of more roots than this is a trust store and no server's certificate                        \
        */
#define SOCKETS_MAX      256
#define PROBES_MAX       512
#define PROBE_TIMEOUT_MS 2000
#define DEFAULT_MAX      10000
#define RESULT_BYTES     (3584 * 1024) /* a result has at most 4 MiB, of which steps and checks take some */

struct item { /* bytes to look through, and where they are from */
    Clm__FoundCertificate__Source source;
    const char *path, *endpoint, *server_name, *used_by, *key_path;
    uint8_t *data;
    size_t len;
};

struct batch {
    struct item item[BATCH_FILES];
    size_t n, bytes;
};

struct discovery {
    struct task_run *run;
    struct batch batch;
    size_t max, bytes; /* of certificates in the result; bytes packed */
    uint32_t scanned, unreadable;
    Clm__Agent__ServerFacts **server; /* of all configurations */
    size_t n_server;
    bool full, cancelled;
};

/* --- parsing batches ---------------------------------------------------------------------------------- */

struct parse {
    const struct item *item;
    size_t n;
};

struct parse_one {
    struct arena *arena;
    Clm__Agent__Facts *facts;
    uint32_t file;
};

static void on_cert(struct bytes der, void *arg)
{
    struct parse_one *one = arg;
    (void)!confine_add_cert(one->facts, one->arena, der, one->file, false, NULL);
}

static bool is_trust_bundle(const Clm__Agent__Facts *facts, size_t first)
{
    for (size_t i = first; i < facts->n_certs; i++) {
        if (!facts->certs[i]->certificate->is_ca || !facts->certs[i]->certificate->self_signed)
            return false;
    }
    return facts->n_certs - first > TRUST_BUNDLE_MIN;
}

static void parse_batch(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct parse *parse = arg;
    facts->has_files_done = true;
    for (size_t i = 0; i < parse->n && clm__agent__facts__get_packed_size(facts) < ANSWER_BYTES; i++) {
        struct parse_one one = {arena, facts, (uint32_t)i};
        size_t first = facts->n_certs;
        (void)!certs_sniff((struct bytes){parse->item[i].data, parse->item[i].len}, CERTS_A_FILE, on_cert,
                           &one, NULL);
        if (parse->item[i].source == CLM__FOUND_CERTIFICATE__SOURCE__FILE && is_trust_bundle(facts, first))
            facts->n_certs = first;
        facts->files_done = (uint32_t)i + 1;
    }
}

static const Clm__Agent__ServerFacts *server_of_file(const struct discovery *d, const char *path)
{
    for (size_t i = 0; path && i < d->n_server; i++) {
        if (strcmp(d->server[i]->certificate, path) == 0)
            return d->server[i];
    }
    return NULL;
}

static void add_found(struct discovery *d, const struct item *item, Clm__CertificateInfo *info)
{
    Clm__TaskResult *result = d->run->result;
    struct arena *arena = d->run->arena;
    if (result->n_certificates >= d->max) {
        d->full = true;
        return;
    }
    const Clm__Agent__ServerFacts *server = server_of_file(d, item->path);
    Clm__FoundCertificate *found = arena_alloc(arena, sizeof(*found));
    clm__found_certificate__init(found);
    found->certificate = info;
    found->has_source = true;
    found->source = item->source;
    found->path = arena_strdup(arena, item->path);
    found->endpoint = arena_strdup(arena, item->endpoint);
    found->server_name = arena_strdup(arena, item->server_name);
    found->used_by = arena_strdup(arena, item->used_by ? item->used_by : server ? server->used_by : NULL);
    found->key_path = arena_strdup(arena, item->key_path ? item->key_path : server ? server->key : NULL);
    size_t bytes = clm__found_certificate__get_packed_size(found) + 8;
    if (d->bytes + bytes > RESULT_BYTES) {
        d->full = true;
        return;
    }
    d->bytes += bytes;
    ARENA_PUSH(arena, result->certificates, result->n_certificates, found);
}

static uint32_t take_facts(struct discovery *d, const struct item *item, size_t n,
                           const Clm__Agent__Facts *facts)
{
    for (size_t i = 0; i < facts->n_certs; i++) {
        const Clm__Agent__CertFacts *cert = facts->certs[i];
        if (cert->certificate && cert->file < n)
            add_found(d, &item[cert->file], cert->certificate);
    }
    return facts->files_done <= n ? facts->files_done : (uint32_t)n;
}

static void flush(struct discovery *d)
{
    struct batch *batch = &d->batch;
    size_t at = 0, want = batch->n;
    while (at < batch->n) {
        const Clm__Agent__Facts *facts;
        struct parse parse = {batch->item + at, want < batch->n - at ? want : batch->n - at};
        if (confine_run(parse_batch, &parse, d->run->arena, &facts, NULL) != CODE_OK) {
            if (parse.n == 1) {
                d->unreadable++;
                at++;
            }
            want = 1; /* one by one from here, to lose only the bad one */
            continue;
        }
        uint32_t done = take_facts(d, parse.item, parse.n, facts);
        at += done ? done : 1;
    }
    for (size_t i = 0; i < batch->n; i++)
        free(batch->item[i].data);
    batch->n = batch->bytes = 0;
}

/* Takes data. */
static void add_item(struct discovery *d, struct item item)
{
    if (d->batch.n == BATCH_FILES || d->batch.bytes + item.len > BATCH_BYTES)
        flush(d);
    d->batch.item[d->batch.n++] = item;
    d->batch.bytes += item.len;
}

/* --- files -------------------------------------------------------------------------------------------- */

/* Cheap enough for every file of a host, and safe: what can be a certificate at all? */
static bool may_hold_certificate(const uint8_t *data, size_t len)
{
    static const char *const begins[] = {"-----BEGIN CERTIFICATE", "-----BEGIN X509",    "-----BEGIN TRUSTED",
                                         "-----BEGIN PKCS7",       "-----BEGIN PKCS #7", "-----BEGIN CMS"};
    if (len > 64 && data[0] == 0x30 && (data[1] & 0x80))
        return true;
    if (!memmem(data, len, "-----BEGIN ", 11))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
        if (memmem(data, len, begins[i], strlen(begins[i])))
            return true;
    }
    return false;
}

/* NULL if it is no regular file of a fitting size, or could not be read (counted). */
static uint8_t *read_regular(struct discovery *d, int dir, const char *name, int flags, size_t *ret_len)
{
    struct stat info;
    AUTO_CLOSE int look = openat(dir, name, O_PATH | O_CLOEXEC | flags);
    if (look < 0 || fstat(look, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > FILE_BYTES_MAX ||
        info.st_size < 64)
        return NULL;
    AUTO_CLOSE int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > FILE_BYTES_MAX) {
        d->unreadable += fd < 0;
        return NULL;
    }
    uint8_t *data = malloc((size_t)info.st_size + 1);
    if (!data)
        abort();
    if (fd_read_all(fd, data, (size_t)info.st_size, NULL) != CODE_OK) {
        free(data);
        d->unreadable++;
        return NULL;
    }
    *ret_len = (size_t)info.st_size;
    return data;
}

static bool stop(struct discovery *d)
{
    if (!d->cancelled && d->run->cancelled && d->scanned % 256 == 0)
        d->cancelled = d->run->cancelled(d->run);
    if (d->scanned >= FILES_MAX)
        d->full = true;
    return d->full || d->cancelled;
}

static void scan_file(struct discovery *d, int dir, const char *name, const char *path)
{
    size_t len;
    d->scanned++;
    uint8_t *data = read_regular(d, dir, name, O_NOFOLLOW, &len);
    if (!data)
        return;
    if (!may_hold_certificate(data, len)) {
        free(data);
        return;
    }
    add_item(d, (struct item){.source = CLM__FOUND_CERTIFICATE__SOURCE__FILE,
                              .path = arena_strdup(d->run->arena, path),
                              .data = data,
                              .len = len});
}

static void scan_dir(struct discovery *d, int parent, const char *name, const char *path, dev_t device,
                     unsigned depth)
{
    struct stat info;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    /* Another file system may be a network's, or /proc. */
    if (fd < 0 || fstat(fd, &info) != 0 || (depth > 0 && info.st_dev != device)) {
        d->unreadable += fd < 0 && errno != ENOENT;
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    while (dir && !stop(d) && (entry = readdir(dir))) {
        char child[4096];
        struct stat of_entry;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(fd, entry->d_name, &of_entry, AT_SYMLINK_NOFOLLOW) != 0 ||
            (size_t)snprintf(child, sizeof(child), "%s%s%s", path, strcmp(path, "/") == 0 ? "" : "/",
                             entry->d_name) >= sizeof(child))
            continue;
        if (S_ISDIR(of_entry.st_mode) && depth < DEPTH_MAX)
            scan_dir(d, fd, entry->d_name, child, info.st_dev, depth + 1);
        else if (S_ISREG(of_entry.st_mode))
            scan_file(d, fd, entry->d_name, child);
    }
    if (dir)
        (void)closedir(dir);
    else
        (void)close(fd);
}

static enum code scan_roots(struct discovery *d, struct status *st)
{
    const Clm__DiscoverSpec *spec = d->run->spec->discover;
    const char *const *defaults = policy_discovery_roots(d->run->policy);
    for (size_t i = 0; i < spec->n_roots; i++)
        TRY(policy_allows_discovery(d->run->policy, spec->roots[i], st));
    int64_t started = clock_wall_ms();
    for (size_t i = 0; i < spec->n_roots; i++)
        scan_dir(d, AT_FDCWD, spec->roots[i], spec->roots[i], 0, 0);
    for (size_t i = 0; spec->n_roots == 0 && defaults[i]; i++)
        scan_dir(d, AT_FDCWD, defaults[i], defaults[i], 0, 0);
    flush(d);
    task_step(d->run, "files", true, started, "%u files looked through, %u unreadable", d->scanned,
              d->unreadable);
    return CODE_OK;
}

/* --- configurations ----------------------------------------------------------------------------------- */

static void on_configuration(void *arg, const struct preset *preset, const char *conf,
                             const Clm__Agent__Facts *facts, const struct status *st)
{
    struct discovery *d = arg;
    for (size_t i = 0; facts && i < facts->n_servers; i++)
        ARENA_PUSH(d->run->arena, d->server, d->n_server, facts->servers[i]);
    task_step(d->run, "configurations", facts != NULL, clock_wall_ms(), "%s: %s", preset->name,
              facts ? arena_printf(d->run->arena, "%zu TLS servers in %s", facts->n_servers, conf) : st->msg);
}

static void add_configured(struct discovery *d)
{
    for (size_t i = 0; i < d->n_server; i++) {
        const Clm__Agent__ServerFacts *server = d->server[i];
        size_t len;
        /* Links are followed here: the server follows them, and its configuration is the administrator's. */
        uint8_t *data = read_regular(d, AT_FDCWD, server->certificate, 0, &len);
        if (!data)
            continue;
        add_item(d, (struct item){.source = CLM__FOUND_CERTIFICATE__SOURCE__CONFIGURATION,
                                  .path = server->certificate,
                                  .endpoint = server->n_listens ? server->listens[0] : NULL,
                                  .server_name = server->n_names ? server->names[0] : NULL,
                                  .used_by = server->used_by,
                                  .key_path = server->key,
                                  .data = data,
                                  .len = len});
    }
    flush(d);
}

/* --- listening sockets -------------------------------------------------------------------------------- */

struct listener {
    const char *host, *port;
};

static bool read_hex(const char *text, size_t digits, uint32_t *ret)
{
    char copy[9] = "";
    if (digits > 8 || strspn(text, "0123456789ABCDEFabcdef") < digits)
        return false;
    memcpy(copy, text, digits);
    *ret = (uint32_t)strtoul(copy, NULL, 16);
    return true;
}

/* "0100007F:1F90" or the IPv6 form, as /proc/net prints them: 32-bit words in host order. */
static bool read_socket(struct arena *arena, const char *local, bool v6, struct listener *ret)
{
    uint32_t words[4], port;
    size_t n = v6 ? 4 : 1;
    char text[INET6_ADDRSTRLEN];
    for (size_t i = 0; i < n; i++) {
        if (!read_hex(local + 8 * i, 8, &words[i]))
            return false;
    }
    if (local[8 * n] != ':' || !read_hex(local + 8 * n + 1, 4, &port) || port == 0 ||
        !inet_ntop(v6 ? AF_INET6 : AF_INET, words, text, sizeof(text)))
        return false;
    const char *host = strcmp(text, "0.0.0.0") == 0 ? "127.0.0.1" : strcmp(text, "::") == 0 ? "::1" : text;
    *ret = (struct listener){arena_strdup(arena, host), arena_printf(arena, "%u", port)};
    return true;
}

static size_t read_sockets(struct arena *arena, const char *path, bool v6, struct listener *list, size_t n)
{
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    char line[512], local[64], state[4];
    while (f && n < SOCKETS_MAX && fgets(line, sizeof(line), f)) {
        if (sscanf(line, " %*[0-9]: %63s %*s %3s", local, state) != 2 || strcmp(state, "0A") != 0 ||
            !read_socket(arena, local, v6, &list[n]))
            continue;
        bool known = false;
        for (size_t i = 0; i < n; i++) {
            bool loopbacks = strcmp(list[n].host, "::1") == 0 && strcmp(list[i].host, "127.0.0.1") == 0;
            known |= strcmp(list[i].port, list[n].port) == 0 &&
                     (loopbacks || strcmp(list[i].host, list[n].host) == 0);
        }
        n += !known;
    }
    return n;
}

static const char *endpoint_text(struct arena *arena, const char *host, const char *port)
{
    return arena_printf(arena, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static size_t plan_probes(struct discovery *d, struct probe *probes)
{
    struct listener *list = arena_array(d->run->arena, SOCKETS_MAX + 1, sizeof(*list));
    size_t n = read_sockets(d->run->arena, "/proc/net/tcp", false, list, 0), probes_n = 0;
    n = read_sockets(d->run->arena, "/proc/net/tcp6", true, list, n);
    for (size_t i = 0; i < n && probes_n < PROBES_MAX; i++) {
        probes[probes_n++] =
            (struct probe){.host = list[i].host, .port = list[i].port, .timeout_ms = PROBE_TIMEOUT_MS};
        const char *endpoint = endpoint_text(d->run->arena, list[i].host, list[i].port);
        for (size_t s = 0; s < d->n_server && probes_n < PROBES_MAX; s++) {
            const Clm__Agent__ServerFacts *server = d->server[s];
            for (size_t l = 0; l < server->n_listens && server->n_names > 0; l++) {
                if (strcmp(server->listens[l], endpoint) != 0 || server->names[0][0] == '*')
                    continue;
                probes[probes_n] = probes[probes_n - 1];
                probes[probes_n++].server_name = server->names[0];
                break;
            }
        }
    }
    return probes_n;
}

static const char *user_of_socket(const struct discovery *d, const char *endpoint)
{
    for (size_t s = 0; s < d->n_server; s++) {
        for (size_t l = 0; l < d->server[s]->n_listens; l++) {
            if (strcmp(d->server[s]->listens[l], endpoint) == 0)
                return d->server[s]->used_by;
        }
    }
    return NULL;
}

static void add_served(struct discovery *d, const struct probe *probe)
{
    const char *endpoint = endpoint_text(d->run->arena, probe->host, probe->port);
    const struct der *leaf = &probe->chain.item[0];
    uint8_t *data = malloc(leaf->len);
    if (!data)
        abort();
    memcpy(data, leaf->data, leaf->len);
    add_item(d, (struct item){.source = CLM__FOUND_CERTIFICATE__SOURCE__LISTENER,
                              .endpoint = endpoint,
                              .server_name = probe->server_name,
                              .used_by = user_of_socket(d, endpoint),
                              .data = data,
                              .len = leaf->len});
}

static void look_at_sockets(struct discovery *d)
{
    int64_t started = clock_wall_ms();
    struct probe *probes = arena_array(d->run->arena, PROBES_MAX + 1, sizeof(*probes));
    size_t n = plan_probes(d, probes), tls = 0;
    probe_run(probes, n);
    for (size_t i = 0; i < n; i++) {
        if (probes[i].tls) {
            add_served(d, &probes[i]);
            tls++;
        }
        probe_done(&probes[i]);
    }
    flush(d);
    task_step(d->run, "listening", true, started, "%zu looks at sockets, %zu speak TLS", n, tls);
}

/* Listeners were added first, so they stand first. */
static void mark_served(Clm__TaskResult *result)
{
    for (size_t i = 0; i < result->n_certificates; i++) {
        Clm__FoundCertificate *found = result->certificates[i];
        found->has_served = true;
        for (size_t k = 0; k < result->n_certificates && !found->served; k++) {
            const Clm__FoundCertificate *other = result->certificates[k];
            if (other->source != CLM__FOUND_CERTIFICATE__SOURCE__LISTENER)
                break;
            found->served =
                strcmp(other->certificate->fingerprint_sha256, found->certificate->fingerprint_sha256) == 0;
        }
    }
}

enum code discover_run(struct task_run *run, Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    const Clm__DiscoverSpec *spec = run->spec->discover;
    if (!spec)
        return status_set(st, CODE_INVALID_ARGUMENT, "the task has no discover specification");
    struct discovery *d = arena_alloc(run->arena, sizeof(*d));
    bool listening = !spec->has_listening || spec->listening;
    d->run = run;
    d->max = spec->has_max_certificates && spec->max_certificates > 0 && spec->max_certificates < DEFAULT_MAX
                 ? spec->max_certificates
                 : DEFAULT_MAX;
    if (!spec->has_configurations || spec->configurations)
        presets_look(run->policy, run->arena, on_configuration, d);
    /* What is served comes first: it is what must not fall under the limit. */
    if (listening)
        look_at_sockets(d);
    add_configured(d);
    enum code code = scan_roots(d, st);
    flush(d);
    TRY(code);
    if (listening)
        mark_served(run->result);
    run->result->has_truncated = run->result->has_files_scanned = run->result->has_files_unreadable = true;
    run->result->truncated = d->full;
    run->result->files_scanned = d->scanned;
    run->result->files_unreadable = d->unreadable;
    task_message(run, "%zu certificates%s", run->result->n_certificates, d->full ? " (there are more)" : "");
    *ret_outcome = d->cancelled ? CLM__RECEIPT__OUTCOME__CANCELLED : CLM__RECEIPT__OUTCOME__SUCCEEDED;
    return CODE_OK;
}
