/* Readers of /proc (proc(5)), each a pure function of its text, and the sampler that joins them. */
#include "agent/metrics.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/status.h"

#define HEAD_MAX    4096 /* what is read of a file: all that matters stands at its beginning */
#define STAT_FIELDS 8    /* user nice system idle iowait irq softirq steal; guests are part of user */
#define STAT_IDLE   3
#define STAT_IOWAIT 4
#define LOAD_MAX    1000000
#define DISK_ROOT   "/"
#define KIB         1024
#define FIELD_MAX   (UINT64_MAX / KIB / STAT_FIELDS) /* sums and products of such fit */

/* ---- text ------------------------------------------------------------------------------------------------
 */

/* An unsigned decimal at *at, moved behind it. */
static bool read_number(const char **at, uint64_t max, uint64_t *ret)
{
    const char *p = *at;
    uint64_t n = 0;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (n > (max - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *at = p;
    *ret = n;
    return true;
}

/* "0.42" as 420; further digits are cut. */
static bool read_milli(const char **at, uint64_t max, uint64_t *ret)
{
    const char *p = *at;
    uint64_t whole, part = 0;
    if (!read_number(&p, max, &whole))
        return false;
    if (*p == '.') {
        unsigned digits = 0;
        for (p++; *p >= '0' && *p <= '9'; p++) {
            if (digits++ < 3)
                part = part * 10 + (uint64_t)(*p - '0');
        }
        if (digits == 0)
            return false;
        for (; digits < 3; digits++)
            part *= 10;
    }
    *at = p;
    *ret = whole * 1000 + part;
    return true;
}

static void skip_blanks(const char **at)
{
    *at += strspn(*at, " \t");
}

bool metrics_parse_stat(const char *text, struct cpu_times *ret)
{
    struct cpu_times times = {0};
    if (strncmp(text, "cpu ", 4) != 0)
        return false;
    const char *at = text + 4;
    for (unsigned i = 0; i < STAT_FIELDS; i++) {
        uint64_t ticks;
        skip_blanks(&at);
        if (!read_number(&at, FIELD_MAX, &ticks))
            return false;
        times.total += ticks;
        if (i != STAT_IDLE && i != STAT_IOWAIT)
            times.busy += ticks;
    }
    *ret = times;
    return true;
}

/* "MemTotal:       16316412 kB" */
static bool meminfo_value(const char *text, const char *name, uint64_t *ret_bytes)
{
    size_t len = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) != 0 || line[len] != ':')
            continue;
        const char *at = line + len + 1;
        uint64_t kib;
        skip_blanks(&at);
        if (!read_number(&at, FIELD_MAX, &kib) || strncmp(at, " kB", 3) != 0)
            return false;
        *ret_bytes = kib * KIB;
        return true;
    }
    return false;
}

bool metrics_parse_meminfo(const char *text, uint64_t *ret_total_bytes, uint64_t *ret_used_bytes)
{
    uint64_t total, available;
    if (!meminfo_value(text, "MemTotal", &total) || !meminfo_value(text, "MemAvailable", &available) ||
        total == 0 || available > total)
        return false;
    *ret_total_bytes = total;
    *ret_used_bytes = total - available;
    return true;
}

bool metrics_parse_loadavg(const char *text, uint32_t ret_milli[3])
{
    uint64_t load[3];
    const char *at = text;
    for (unsigned i = 0; i < ARRAY_LEN(load); i++) {
        if (!read_milli(&at, LOAD_MAX, &load[i]) || *at != ' ')
            return false;
        skip_blanks(&at);
    }
    for (unsigned i = 0; i < ARRAY_LEN(load); i++)
        ret_milli[i] = (uint32_t)load[i];
    return true;
}

bool metrics_parse_uptime(const char *text, uint64_t *ret_sec)
{
    const char *at = text;
    uint64_t milli;
    if (!read_milli(&at, UINT32_MAX, &milli) || (*at && *at != ' ' && *at != '\n'))
        return false;
    *ret_sec = milli / 1000;
    return true;
}

uint32_t metrics_cpu_permille(const struct cpu_times *before, const struct cpu_times *now)
{
    if (now->total <= before->total || now->busy < before->busy)
        return 0;
    uint64_t total = now->total - before->total, busy = now->busy - before->busy;
    return busy >= total ? 1000 : (uint32_t)((double)busy * 1000 / (double)total);
}

/* ---- the host --------------------------------------------------------------------------------------------
 */

/* The beginning of a file of /proc, as text; "" if it cannot be read. */
static const char *read_head(const char *path, char out[HEAD_MAX])
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, HEAD_MAX - 1) : -1;
    out[n > 0 ? n : 0] = '\0';
    return out;
}

static void sample_cpu(struct metrics *metrics, char head[HEAD_MAX], Clm__HostMetrics *ret)
{
    struct cpu_times now;
    if (!metrics_parse_stat(read_head("/proc/stat", head), &now))
        return;
    if (metrics->has_before) {
        ret->has_cpu_permille = 1;
        ret->cpu_permille = metrics_cpu_permille(&metrics->before, &now);
    }
    metrics->before = now;
    metrics->has_before = true;
}

static void sample_disk(Clm__HostMetrics *ret)
{
    struct statvfs fs;
    if (statvfs(DISK_ROOT, &fs) != 0 || fs.f_blocks == 0)
        return;
    ret->has_disk_total_bytes = ret->has_disk_used_bytes = 1;
    ret->disk_total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    ret->disk_used_bytes = (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize;
}

bool metrics_sample(struct metrics *metrics, int64_t now_mono_ms, Clm__HostMetrics *ret)
{
    if (now_mono_ms < metrics->next_ms)
        return false;
    metrics->next_ms = now_mono_ms + METRICS_PERIOD_MS;
    char head[HEAD_MAX];
    uint32_t load[3];
    clm__host_metrics__init(ret);
    sample_cpu(metrics, head, ret);
    if (metrics_parse_meminfo(read_head("/proc/meminfo", head), &ret->memory_total_bytes,
                              &ret->memory_used_bytes))
        ret->has_memory_total_bytes = ret->has_memory_used_bytes = 1;
    if (metrics_parse_loadavg(read_head("/proc/loadavg", head), load)) {
        ret->has_load1_milli = ret->has_load5_milli = ret->has_load15_milli = 1;
        ret->load1_milli = load[0];
        ret->load5_milli = load[1];
        ret->load15_milli = load[2];
    }
    if (metrics_parse_uptime(read_head("/proc/uptime", head), &ret->uptime_sec))
        ret->has_uptime_sec = 1;
    sample_disk(ret);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    ret->has_processors = processors > 0;
    ret->processors = processors > 0 ? (uint32_t)processors : 0;
    return true;
}
