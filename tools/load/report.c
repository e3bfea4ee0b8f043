#include "report.h"

#include <inttypes.h>

#include "../../src/base/assert.h"

static struct report_row *add(struct report *r, const char *name, const char *unit)
{
    ASSERT(r->num_rows < REPORT_ROWS_MAX);
    struct report_row *row = &r->rows[r->num_rows++];
    *row = (struct report_row){.name = name, .unit = unit};
    return row;
}

void report_count(struct report *r, const char *name, const char *unit, uint64_t count)
{
    add(r, name, unit)->count = count;
}

void report_real(struct report *r, const char *name, const char *unit, double real)
{
    struct report_row *row = add(r, name, unit);
    row->kind = REPORT_REAL;
    row->real = real;
}

void report_text(struct report *r, const char *name, const char *text)
{
    struct report_row *row = add(r, name, "");
    row->kind = REPORT_TEXT;
    row->text = text;
}

void report_latency(struct report *r, const char *name, const struct histogram *latency)
{
    struct report_row *row = add(r, name, "us");
    row->kind = REPORT_LATENCY;
    row->latency = latency;
}

static double microseconds(const struct histogram *h, double percent)
{
    return (double)histogram_percentile(h, percent) / 1000.0;
}

static double mean_us(const struct histogram *h)
{
    return h->count ? (double)h->sum_ns / (double)h->count / 1000.0 : 0;
}

static void row_json(struct buf *out, const struct report_row *row)
{
    const struct histogram *h = row->latency;
    switch (row->kind) {
    case REPORT_COUNT: buf_u64(out, row->count); break;
    case REPORT_REAL: buf_printf(out, "%.3f", row->real); break;
    case REPORT_TEXT: buf_json_string(out, slice_str(row->text)); break;
    case REPORT_LATENCY:
        buf_printf(out,
                   "{\"count\":%" PRIu64 ",\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,"
                   "\"max_us\":%.1f,\"mean_us\":%.1f}",
                   h->count, microseconds(h, 50), microseconds(h, 90), microseconds(h, 99), microseconds(h, 99.9),
                   (double)h->max_ns / 1000.0, mean_us(h));
        break;
    }
}

static void row_table(FILE *out, const struct report_row *row)
{
    const struct histogram *h = row->latency;
    switch (row->kind) {
    case REPORT_COUNT: fprintf(out, "%-28s %14" PRIu64 " %s\n", row->name, row->count, row->unit); break;
    case REPORT_REAL: fprintf(out, "%-28s %14.1f %s\n", row->name, row->real, row->unit); break;
    case REPORT_TEXT: fprintf(out, "%-28s %14s\n", row->name, row->text); break;
    case REPORT_LATENCY:
        fprintf(out, "%-28s p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f us  (%" PRIu64 " samples)\n", row->name,
                microseconds(h, 50), microseconds(h, 90), microseconds(h, 99), microseconds(h, 99.9),
                (double)h->max_ns / 1000.0, h->count);
        break;
    }
}

void report_print(const struct report *r, FILE *out, bool json)
{
    struct buf text = {0};
    for (unsigned i = 0; i < r->num_rows; i++) {
        if (!json) {
            row_table(out, &r->rows[i]);
            continue;
        }
        buf_char(&text, i ? ',' : '{');
        buf_json_string(&text, slice_str(r->rows[i].name));
        buf_char(&text, ':');
        row_json(&text, &r->rows[i]);
    }
    if (json) fprintf(out, "%.*s}\n", (int)text.len, text.data);
    fflush(out);
    buf_free(&text);
}
