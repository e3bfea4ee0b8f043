/* metrics: counters, gauges and histograms in Prometheus text format 0.0.4.
 *
 * Each thread that counts has its own `struct metrics`; it alone writes there (relaxed, no atomic read-modify-write),
 * anyone may read. One row per metric in metrics.def; docs and tests are held against that table. */
#ifndef CARILLON_BASE_METRICS_H
#define CARILLON_BASE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "buf.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* METRIC(id, name, kind, labels, help): `labels` documents the label names, comma separated, "" for none. */
enum metric_id {
#define METRIC(id, name, kind, labels, help) METRIC_##id,
#include "metrics.def"
#undef METRIC
    METRICS
};

struct metric_row {
    const char *name;
    enum metric_kind kind;
    const char *labels, *help; /* help is one line of text */
};
extern const struct metric_row metric_rows[METRICS];

struct metrics {
    _Atomic uint64_t value[METRICS]; /* counters and gauges without labels */
};

static inline void metric_add(struct metrics *m, enum metric_id id, uint64_t n)
{
    uint64_t now = atomic_load_explicit(&m->value[id], memory_order_relaxed);
    atomic_store_explicit(&m->value[id], now + n, memory_order_relaxed);
}

static inline void metric_set(struct metrics *m, enum metric_id id, uint64_t v)
{
    atomic_store_explicit(&m->value[id], v, memory_order_relaxed);
}

/* histogram: powers of two of microseconds: bucket b counts values < 2^b µs and ≥ 2^(b-1) µs, the last one also
 * everything above. Single writer, any reader. */
#define HISTOGRAM_BUCKETS 28u
struct histogram {
    _Atomic uint64_t bucket[HISTOGRAM_BUCKETS], count, sum_ns;
};
void histogram_record(struct histogram *h, uint64_t ns);
/* histogram_add adds `from` (which its writer may go on writing) to `into`: one series out of several threads'. */
void histogram_add(struct histogram *into, const struct histogram *from);

/* Writers: metrics_head once a metric, then its values. `labels` is the inside of the braces, "" for none; a label
 * value that is not the program's own text goes through metrics_label. */
void metrics_head(struct buf *out, enum metric_id id);
void metrics_value(struct buf *out, enum metric_id id, const char *labels, uint64_t v);
/* metrics_seconds writes a value in seconds, given in nanoseconds. */
void metrics_seconds(struct buf *out, enum metric_id id, const char *labels, uint64_t ns);
/* metrics_label appends `name="value"` (after a comma when something stands before) to a list of labels. */
void metrics_label(struct buf *labels, const char *name, struct slice value);
/* metrics_histogram writes cumulative buckets in seconds; `bucket` holds `buckets` counts, [b] for values < 2^b µs
 * (and not in an earlier one), the last one also everything above: it is shown in le="+Inf" only. */
void metrics_histogram(struct buf *out, enum metric_id id, const char *labels, const _Atomic uint64_t *bucket,
                       unsigned buckets, uint64_t sum_ns);
/* metrics_histogram_plain: the same for counts without a unit ([b]: values < 2^b, shown as le="2^b - 1"). */
void metrics_histogram_plain(struct buf *out, enum metric_id id, const char *labels, const _Atomic uint64_t *bucket,
                             unsigned buckets, uint64_t sum);

#endif
