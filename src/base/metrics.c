#include "metrics.h"

#include "assert.h"

const struct metric_row metric_rows[METRICS] = {
#define METRIC(id, name, kind, labels, help) [METRIC_##id] = {(name), METRIC_##kind, (labels), (help)},
#include "metrics.def"
#undef METRIC
};

static void histogram_series(struct buf *out, enum metric_id id, const char *labels, const _Atomic uint64_t *bucket,
                             unsigned buckets, bool seconds);

void histogram_record(struct histogram *h, uint64_t ns)
{
    uint64_t us = ns / 1000;
    unsigned b = us ? 64 - (unsigned)__builtin_clzll(us) : 0;
    if (b >= HISTOGRAM_BUCKETS) b = HISTOGRAM_BUCKETS - 1;
    /* one writer, so a load and a store are enough */
    atomic_store_explicit(&h->bucket[b], atomic_load_explicit(&h->bucket[b], memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&h->count, atomic_load_explicit(&h->count, memory_order_relaxed) + 1, memory_order_relaxed);
    atomic_store_explicit(&h->sum_ns, atomic_load_explicit(&h->sum_ns, memory_order_relaxed) + ns,
                          memory_order_relaxed);
}

static void cell_add(_Atomic uint64_t *into, const _Atomic uint64_t *from)
{
    uint64_t sum = atomic_load_explicit(into, memory_order_relaxed) + atomic_load_explicit(from, memory_order_relaxed);
    atomic_store_explicit(into, sum, memory_order_relaxed);
}

void histogram_add(struct histogram *into, const struct histogram *from)
{
    for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) cell_add(&into->bucket[b], &from->bucket[b]);
    cell_add(&into->count, &from->count);
    cell_add(&into->sum_ns, &from->sum_ns);
}

void metrics_head(struct buf *out, enum metric_id id)
{
    static const char *const kinds[] = {
        [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};
    const struct metric_row *row = &metric_rows[id];
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name, kinds[row->kind]);
}

void metrics_value(struct buf *out, enum metric_id id, const char *labels, uint64_t v)
{
    const struct metric_row *row = &metric_rows[id];
    ASSERT(row->kind != METRIC_HISTOGRAM);
    if (labels[0])
        buf_printf(out, "%s{%s} ", row->name, labels);
    else
        buf_printf(out, "%s ", row->name);
    buf_u64(out, v);
    buf_char(out, '\n');
}

void metrics_seconds(struct buf *out, enum metric_id id, const char *labels, uint64_t ns)
{
    const struct metric_row *row = &metric_rows[id];
    ASSERT(row->kind != METRIC_HISTOGRAM);
    buf_printf(out, labels[0] ? "%s{%s} " : "%s%s ", row->name, labels);
    buf_printf(out, "%llu.%09llu\n", (unsigned long long)(ns / 1000000000u), (unsigned long long)(ns % 1000000000u));
}

/* A label's value escapes backslash, quote and newline (text format 0.0.4). */
void metrics_label(struct buf *labels, const char *name, struct slice value)
{
    buf_printf(labels, "%s%s=\"", labels->len ? "," : "", name);
    for (size_t i = 0; i < value.len; i++) {
        char c = value.data[i];
        if (c == '\\' || c == '"' || c == '\n') buf_char(labels, '\\');
        buf_char(labels, c == '\n' ? 'n' : c);
    }
    buf_char(labels, '"');
}

void metrics_histogram(struct buf *out, enum metric_id id, const char *labels, const _Atomic uint64_t *bucket,
                       unsigned buckets, uint64_t sum_ns)
{
    histogram_series(out, id, labels, bucket, buckets, true);
    const char *name = metric_rows[id].name;
    buf_printf(out, labels[0] ? "%s_sum{%s} " : "%s_sum%s ", name, labels);
    buf_printf(out, "%llu.%09llu\n", (unsigned long long)(sum_ns / 1000000000u),
               (unsigned long long)(sum_ns % 1000000000u));
}

void metrics_histogram_plain(struct buf *out, enum metric_id id, const char *labels, const _Atomic uint64_t *bucket,
                             unsigned buckets, uint64_t sum)
{
    histogram_series(out, id, labels, bucket, buckets, false);
    buf_printf(out, labels[0] ? "%s_sum{%s} " : "%s_sum%s ", metric_rows[id].name, labels);
    buf_u64(out, sum);
    buf_char(out, '\n');
}

/* bound_text writes bucket b's upper bound: 2^b µs in seconds, by integers because printf's %f follows the locale; or,
 * for whole numbers, the largest one below 2^b. */
static void bound_text(struct buf *out, unsigned b, bool seconds)
{
    if (!seconds) {
        buf_u64(out, ((uint64_t)1 << b) - 1);
        return;
    }
    uint64_t us = (uint64_t)1 << b;
    buf_printf(out, "%llu.%06llu", (unsigned long long)(us / 1000000), (unsigned long long)(us % 1000000));
}

/* histogram_series writes the cumulative buckets and the count. Each cell is read once and the count is their sum, so
 * a scrape is consistent in itself while the writer goes on. */
static void histogram_series(struct buf *out, enum metric_id id, const char *labels, const _Atomic uint64_t *bucket,
                             unsigned buckets, bool seconds)
{
    const struct metric_row *row = &metric_rows[id];
    ASSERT(row->kind == METRIC_HISTOGRAM && buckets >= 1 && buckets <= 64);
    const char *comma = labels[0] ? "," : "";
    uint64_t count = 0;
    for (unsigned b = 0; b + 1 < buckets; b++) {
        count += atomic_load_explicit(&bucket[b], memory_order_relaxed);
        buf_printf(out, "%s_bucket{%s%sle=\"", row->name, labels, comma);
        bound_text(out, b, seconds);
        buf_printf(out, "\"} %llu\n", (unsigned long long)count);
    }
    count += atomic_load_explicit(&bucket[buckets - 1], memory_order_relaxed);
    buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", row->name, labels, comma, (unsigned long long)count);
    buf_printf(out, labels[0] ? "%s_count{%s} " : "%s_count%s ", row->name, labels);
    buf_u64(out, count);
    buf_char(out, '\n');
}
