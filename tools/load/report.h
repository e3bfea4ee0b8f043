/* report: the figures of one run, printed as a table for people or as one JSON object for programs. */
#ifndef CARILLON_TOOLS_LOAD_REPORT_H
#define CARILLON_TOOLS_LOAD_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "../../src/base/buf.h"
#include "histogram.h"

#define REPORT_ROWS_MAX 64u /* rows of the longest scenario, with room */

struct report_row {
    const char *name, *unit; /* static text; the JSON member is the name */
    enum { REPORT_COUNT, REPORT_REAL, REPORT_TEXT, REPORT_LATENCY } kind;
    uint64_t count;
    double real;
    const char *text;
    const struct histogram *latency;
};

struct report {
    unsigned num_rows;
    struct report_row rows[REPORT_ROWS_MAX];
};

void report_count(struct report *r, const char *name, const char *unit, uint64_t count);
void report_real(struct report *r, const char *name, const char *unit, double real);
/* report_text and report_latency borrow what they are given until the report is printed. */
void report_text(struct report *r, const char *name, const char *text);
void report_latency(struct report *r, const char *name, const struct histogram *latency);

/* report_print writes to `out`. JSON: {"name":value,…}, a latency as {"count","p50_us","p90_us","p99_us","p999_us",
 * "max_us","mean_us"} in microseconds. */
void report_print(const struct report *r, FILE *out, bool json);

#endif
