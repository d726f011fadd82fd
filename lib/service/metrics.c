/*
 * Metrics in the Prometheus text format. A metric has a few series, told apart by one label or two; a series
 * is found by scanning a short array and made with one compare-and-swap, so updating takes no lock. Beyond
 * SERIES_MAX label values the rest is counted under "other": what a peer says never grows our memory. Metrics
 * live as long as the process.
 */
#include <stdatomic.h>
#include <string.h>

#include "service/service.h"

#define METRICS_MAX 128
#define SERIES_MAX  256
#define LABELS_MAX  2

static const double bounds_ms[] = {0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000};
#define BUCKETS ARRAY_LEN(bounds_ms)

enum kind { COUNTER, GAUGE, HISTOGRAM };
static const char *const kind_name[] = {[COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram"};

struct label {
    const char *name, *value;
};

struct series {
    char name[LABELS_MAX][32], value[LABELS_MAX][96]; /* "": no such label */
    _Atomic double sum;                               /* or the value itself */
    _Atomic uint64_t bucket[BUCKETS + 1];
};

struct metric {
    enum kind kind;
    const char *name, *help;
    _Atomic(struct series *) series[SERIES_MAX];
};

static _Atomic(struct metric *) metrics[METRICS_MAX];

static struct metric *metric_new(enum kind kind, const char *name, const char *help)
{
    struct metric *metric = calloc(1, sizeof(*metric));
    if (!metric)
        abort();
    metric->kind = kind;
    metric->name = name;
    metric->help = help;
    for (size_t i = 0; i < METRICS_MAX; i++) {
        struct metric *expected = NULL;
        if (atomic_compare_exchange_strong(&metrics[i], &expected, metric))
            return metric;
        if (strcmp(expected->name, name) == 0) {
            free(metric);
            return expected;
        }
    }
    abort(); /* more metrics than the program was written with */
}

struct metric *metric_counter(const char *name, const char *help)
{
    return metric_new(COUNTER, name, help);
}

struct metric *metric_gauge(const char *name, const char *help)
{
    return metric_new(GAUGE, name, help);
}

struct metric *metric_histogram_ms(const char *name, const char *help)
{
    return metric_new(HISTOGRAM, name, help);
}

static bool is_of(const struct series *s, const struct label label[LABELS_MAX])
{
    for (size_t i = 0; i < LABELS_MAX; i++)
        if (strncmp(s->value[i], label[i].value, sizeof(s->value[i]) - 1) != 0 ||
            strcmp(s->name[i], label[i].name) != 0)
            return false;
    return true;
}

static struct series *series_new(const struct label label[LABELS_MAX], bool other)
{
    struct series *made = calloc(1, sizeof(*made));
    if (!made)
        abort();
    for (size_t i = 0; i < LABELS_MAX; i++) {
        (void)snprintf(made->name[i], sizeof(made->name[i]), "%s", label[i].name);
        (void)snprintf(made->value[i], sizeof(made->value[i]), "%s",
                       other && *label[i].name ? "other" : label[i].value);
    }
    return made;
}

static struct series *find(struct metric *metric, const struct label label[LABELS_MAX])
{
    for (size_t i = 0; i < SERIES_MAX; i++) {
        struct series *s = atomic_load_explicit(&metric->series[i], memory_order_acquire);
        if (!s) {
            struct series *made = series_new(label, i == SERIES_MAX - 1);
            if (atomic_compare_exchange_strong(&metric->series[i], &s, made))
                return made;
            free(made);
        }
        if (is_of(s, label) || i == SERIES_MAX - 1)
            return s;
    }
    abort();
}

static void add(_Atomic double *to, double n)
{
    double old = atomic_load_explicit(to, memory_order_relaxed);
    while (
        !atomic_compare_exchange_weak_explicit(to, &old, old + n, memory_order_relaxed, memory_order_relaxed))
        ;
}

static struct series *find_one(struct metric *metric, const char *name, const char *value)
{
    const struct label label[LABELS_MAX] = {{name ? name : "", name ? value : ""}, {"", ""}};
    return find(metric, label);
}

void metric_add(struct metric *metric, const char *label_name, const char *label_value, double n)
{
    add(&find_one(metric, label_name, label_value)->sum, n);
}

void metric_add_by(struct metric *metric, const char *name1, const char *value1, const char *name2,
                   const char *value2, double n)
{
    const struct label label[LABELS_MAX] = {{name1, value1}, {name2, value2}};
    add(&find(metric, label)->sum, n);
}

void metric_set(struct metric *metric, const char *label_name, const char *label_value, double n)
{
    atomic_store_explicit(&find_one(metric, label_name, label_value)->sum, n, memory_order_relaxed);
}

void metric_observe_ms(struct metric *metric, const char *label_name, const char *label_value, double ms)
{
    struct series *s = find_one(metric, label_name, label_value);
    size_t i = 0;
    while (i < BUCKETS && ms > bounds_ms[i])
        i++;
    atomic_fetch_add_explicit(&s->bucket[i], 1, memory_order_relaxed);
    add(&s->sum, ms);
}

/* ---- text
 * ---------------------------------------------------------------------------------------------------- */

static bool write_value(struct buf *out, const char *value)
{
    bool ok = true;
    for (const char *c = value; *c; c++) {
        if (*c == '\\' || *c == '"')
            ok = ok && buf_printf(out, "\\%c", *c);
        else if (*c == '\n')
            ok = ok && buf_puts(out, "\\n");
        else
            ok = ok && buf_append(out, c, 1);
    }
    return ok;
}

static bool write_sample(struct buf *out, const char *name, const char *suffix, const struct series *s,
                         const char *le, double n)
{
    bool ok = buf_printf(out, "%s%s", name, suffix);
    char before = '{';
    for (size_t i = 0; i < LABELS_MAX && *s->name[i]; i++) {
        ok = ok && buf_printf(out, "%c%s=\"", before, s->name[i]) && write_value(out, s->value[i]) &&
             buf_puts(out, "\"");
        before = ',';
    }
    if (le) {
        ok = ok && buf_printf(out, "%cle=\"%s\"", before, le);
        before = ',';
    }
    if (before == ',')
        ok = ok && buf_puts(out, "}");
    return ok && buf_printf(out, " %.17g\n", n);
}

static bool write_histogram(struct buf *out, const struct metric *metric, struct series *s)
{
    double total = 0;
    bool ok = true;
    for (size_t i = 0; i <= BUCKETS; i++) {
        total += (double)atomic_load_explicit(&s->bucket[i], memory_order_relaxed);
        char le[32] = "+Inf";
        if (i < BUCKETS)
            (void)snprintf(le, sizeof(le), "%g", bounds_ms[i]);
        ok = ok && write_sample(out, metric->name, "_bucket", s, le, total);
    }
    ok = ok && write_sample(out, metric->name, "_sum", s, NULL,
                            atomic_load_explicit(&s->sum, memory_order_relaxed));
    return ok && write_sample(out, metric->name, "_count", s, NULL, total);
}

enum code metrics_write(struct buf *out, struct status *st)
{
    bool ok = true;
    for (size_t m = 0; m < METRICS_MAX; m++) {
        struct metric *metric = atomic_load(&metrics[m]);
        if (!metric)
            break;
        ok = ok && buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name,
                              kind_name[metric->kind]);
        for (size_t i = 0; i < SERIES_MAX; i++) {
            struct series *s = atomic_load_explicit(&metric->series[i], memory_order_acquire);
            if (!s)
                break;
            if (metric->kind == HISTOGRAM)
                ok = ok && write_histogram(out, metric, s);
            else
                ok = ok && write_sample(out, metric->name, "", s, NULL,
                                        atomic_load_explicit(&s->sum, memory_order_relaxed));
        }
    }
    return ok ? CODE_OK : status_set(st, CODE_RESOURCE_EXHAUSTED, "metrics: they do not fit the answer");
}
