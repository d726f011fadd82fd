/*
 * How this host is doing: processors, memory, load, disk, uptime, from /proc and statvfs(3). Sampled by net
 * with a check-in that it sends anyway, and only while the local policy says `metrics = on`. What cannot be
 * read is left out: a metric is never a reason to fail.
 */
#ifndef CLM_AGENT_METRICS_H
#define CLM_AGENT_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/common.pb-c.h"

#define METRICS_PERIOD_MS 50000 /* at most one sample in this time */

struct cpu_times {
    uint64_t busy, total; /* ticks of all processors since the boot */
};

/* Zeroed before the first use. */
struct metrics {
    struct cpu_times before;
    bool has_before;
    int64_t next_ms; /* monotonic */
};

/* False if the text is not what the kernel writes; *ret is then as it was. */
bool metrics_parse_stat(const char *text, struct cpu_times *ret);
bool metrics_parse_meminfo(const char *text, uint64_t *ret_total_bytes, uint64_t *ret_used_bytes);
bool metrics_parse_loadavg(const char *text, uint32_t ret_milli[3]);
bool metrics_parse_uptime(const char *text, uint64_t *ret_sec);
/* Busy share between two readings, in thousandths; 0 if the clock of one stood still or went back. */
uint32_t metrics_cpu_permille(const struct cpu_times *before, const struct cpu_times *now);

/* True when a sample is due, and then it is in *ret. */
bool metrics_sample(struct metrics *metrics, int64_t now_mono_ms, Clm__HostMetrics *ret);

#endif
