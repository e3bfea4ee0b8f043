/* histogram: counts of durations by size, with a relative error of at most 1/64, in constant memory.
 *
 * Buckets are linear inside each power of two (as in HdrHistogram). Zeroed is empty. One thread. */
#ifndef CARILLON_TOOLS_LOAD_HISTOGRAM_H
#define CARILLON_TOOLS_LOAD_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 64u /* buckets a power of two */
#define HISTOGRAM_BUCKETS (HISTOGRAM_STEPS * 59u)

struct histogram {
    uint64_t count, max_ns, sum_ns;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);
/* histogram_percentile returns the duration (ns) that `percent` of the counts do not exceed, 0 when empty. The highest
 * value of the bucket, never above the true maximum: a percentile is not flattered. */
uint64_t histogram_percentile(const struct histogram *h, double percent);

#endif
