#include "histogram.h"

#include "../../src/base/assert.h"

/* bucket_of: values below 64 have a bucket each; above, the six bits behind the leading one choose the step. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns < HISTOGRAM_STEPS) return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - 6u;
    return (shift + 1) * HISTOGRAM_STEPS + (unsigned)((ns >> shift) & (HISTOGRAM_STEPS - 1));
}

static uint64_t bucket_highest(unsigned bucket)
{
    if (bucket < HISTOGRAM_STEPS) return bucket;
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t step = HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS;
    return ((step + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    unsigned bucket = bucket_of(ns);
    ASSERT(bucket < HISTOGRAM_BUCKETS);
    h->buckets[bucket]++;
    h->count++;
    h->sum_ns += ns;
    if (ns > h->max_ns) h->max_ns = ns;
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
    uint64_t rank = (uint64_t)((double)h->count * percent / 100.0 + 0.999999), seen = 0;
    if (rank == 0) rank = 1;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && h->count; i++) {
        seen += h->buckets[i];
        if (seen >= rank) return bucket_highest(i) < h->max_ns ? bucket_highest(i) : h->max_ns;
    }
    return h->max_ns;
}
