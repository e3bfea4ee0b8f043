#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../../src/base/metrics.h"

static void assert_text(struct buf *b, const char *expected)
{
    buf_char(b, '\0');
    assert_string_equal(b->data, expected);
    buf_free(b);
}

static bool name_legal(const char *name)
{
    if (!isalpha((unsigned char)*name) && *name != '_') return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && *name != '_') return false;
    return true;
}

static void every_row_has_a_legal_unique_name_and_help(void **state)
{
    for (unsigned i = 0; i < METRICS; i++) {
        const struct metric_row *row = &metric_rows[i];
        assert_true(name_legal(row->name));
        size_t len = strlen(row->name);
        bool total = len > 6 && strcmp(row->name + len - 6, "_total") == 0;
        assert_true(total == (row->kind == METRIC_COUNTER));
        assert_true(row->help[0] && row->help[strlen(row->help) - 1] == '.');
        assert_null(strpbrk(row->help, "\n\\"));
        for (unsigned j = 0; j < i; j++) assert_string_not_equal(row->name, metric_rows[j].name);
    }
}

static void every_row_writes_its_head(void **state)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    for (unsigned i = 0; i < METRICS; i++) {
        struct buf out = {0}, expected = {0};
        metrics_head(&out, (enum metric_id)i);
        buf_printf(&expected, "# HELP %s %s\n# TYPE %s %s\n", metric_rows[i].name, metric_rows[i].help,
                   metric_rows[i].name, kinds[metric_rows[i].kind]);
        buf_char(&expected, '\0');
        assert_text(&out, expected.data);
        buf_free(&expected);
    }
}

static void values_are_written_with_and_without_labels(void **state)
{
    struct buf out = {0};
    metrics_value(&out, METRIC_MESSAGES, "", 0);
    metrics_value(&out, METRIC_CONNECTIONS, "kind=\"http\"", UINT64_MAX);
    assert_text(&out, "carillon_messages_total 0\ncarillon_connections{kind=\"http\"} 18446744073709551615\n");
}

static void label_values_are_escaped(void **state)
{
    struct buf labels = {0};
    metrics_label(&labels, "type", SLICE("e-mail"));
    metrics_label(&labels, "provider", SLICE("a\\b\"c\nd"));
    metrics_label(&labels, "status", SLICE(""));
    assert_text(&labels, "type=\"e-mail\",provider=\"a\\\\b\\\"c\\nd\",status=\"\"");
}

static void counters_add_and_gauges_replace(void **state)
{
    static struct metrics m;
    metric_add(&m, METRIC_ACKS, 3);
    metric_add(&m, METRIC_ACKS, 4);
    metric_set(&m, METRIC_SESSIONS, 9);
    metric_set(&m, METRIC_SESSIONS, 2);
    assert_int_equal(atomic_load(&m.value[METRIC_ACKS]), 7);
    assert_int_equal(atomic_load(&m.value[METRIC_SESSIONS]), 2);
    assert_int_equal(atomic_load(&m.value[METRIC_MESSAGES]), 0);
}

static void a_value_falls_into_the_bucket_of_its_power_of_two(void **state)
{
    static const struct {
        uint64_t ns;
        unsigned bucket;
    } cases[] = {{0, 0},
                 {999, 0},
                 {1000, 1},
                 {1999, 1},
                 {2000, 2},
                 {3999, 2},
                 {4000, 3},
                 {1023999, 10},
                 {1024000, 11},
                 {1000000000, 20},
                 {(1ull << 26) * 1000 - 1, 26},
                 {(1ull << 26) * 1000, 27},
                 {(1ull << 27) * 1000, 27},
                 {UINT64_MAX, 27}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct histogram h = {0};
        histogram_record(&h, cases[i].ns);
        for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
            assert_int_equal(atomic_load(&h.bucket[b]), b == cases[i].bucket);
        assert_int_equal(atomic_load(&h.count), 1);
        assert_true(atomic_load(&h.sum_ns) == cases[i].ns);
    }
}

static void a_histogram_in_seconds_is_cumulative(void **state)
{
    _Atomic uint64_t bucket[5] = {1, 0, 2, 4, 8};
    struct buf out = {0};
    metrics_histogram(&out, METRIC_API_REQUEST_DURATION, "method=\"GET\"", bucket, 5, 12000000345u);
    assert_text(&out, "api_request_duration_seconds_bucket{method=\"GET\",le=\"0.000001\"} 1\n"
                      "api_request_duration_seconds_bucket{method=\"GET\",le=\"0.000002\"} 1\n"
                      "api_request_duration_seconds_bucket{method=\"GET\",le=\"0.000004\"} 3\n"
                      "api_request_duration_seconds_bucket{method=\"GET\",le=\"0.000008\"} 7\n"
                      "api_request_duration_seconds_bucket{method=\"GET\",le=\"+Inf\"} 15\n"
                      "api_request_duration_seconds_count{method=\"GET\"} 15\n"
                      "api_request_duration_seconds_sum{method=\"GET\"} 12.000000345\n");
}

static void a_histogram_of_counts_has_whole_bounds(void **state)
{
    _Atomic uint64_t bucket[4] = {0, 5, 0, 1};
    struct buf out = {0};
    metrics_histogram_plain(&out, METRIC_COMMIT_BATCH_ENTRIES, "", bucket, 4, 77);
    assert_text(&out, "carillon_commit_batch_entries_bucket{le=\"0\"} 0\n"
                      "carillon_commit_batch_entries_bucket{le=\"1\"} 5\n"
                      "carillon_commit_batch_entries_bucket{le=\"3\"} 5\n"
                      "carillon_commit_batch_entries_bucket{le=\"+Inf\"} 6\n"
                      "carillon_commit_batch_entries_count 6\n"
                      "carillon_commit_batch_entries_sum 77\n");
}

/* Bounds are compared as numbers: they must rise, and a recorded value must lie under its bucket's. */
static void bucket_bounds_rise_and_hold_their_values(void **state)
{
    for (unsigned b = 0; b + 1 < HISTOGRAM_BUCKETS; b++) {
        struct histogram h = {0};
        uint64_t ns = ((uint64_t)1 << b) * 1000 - 1;
        histogram_record(&h, ns);
        struct buf out = {0};
        metrics_histogram(&out, METRIC_FSYNC, "", h.bucket, HISTOGRAM_BUCKETS, 0);
        buf_char(&out, '\0');
        double below = 0, last = 0;
        for (char *line = out.data; (line = strstr(line, "le=\"")) && line[4] != '+'; line++) {
            char *end;
            double bound = strtod(line + 4, &end);
            assert_true(bound > last);
            last = bound;
            if (strncmp(end, "\"} 0\n", 5) == 0)
                below = bound;
            else
                assert_true(bound * 1e9 >= (double)ns);
        }
        assert_true(below * 1e9 <= (double)ns);
        buf_free(&out);
    }
}

static void histograms_of_several_threads_add_up(void **state)
{
    struct histogram a = {0}, b = {0}, sum = {0};
    histogram_record(&a, 1500);
    histogram_record(&a, 1);
    histogram_record(&b, 1600);
    histogram_add(&sum, &a);
    histogram_add(&sum, &b);
    assert_int_equal(atomic_load(&sum.bucket[1]), 2);
    assert_int_equal(atomic_load(&sum.bucket[0]), 1);
    assert_int_equal(atomic_load(&sum.count), 3);
    assert_int_equal(atomic_load(&sum.sum_ns), 3101);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_a_legal_unique_name_and_help),
        cmocka_unit_test(every_row_writes_its_head),
        cmocka_unit_test(values_are_written_with_and_without_labels),
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(counters_add_and_gauges_replace),
        cmocka_unit_test(a_value_falls_into_the_bucket_of_its_power_of_two),
        cmocka_unit_test(a_histogram_in_seconds_is_cumulative),
        cmocka_unit_test(a_histogram_of_counts_has_whole_bounds),
        cmocka_unit_test(bucket_bounds_rise_and_hold_their_values),
        cmocka_unit_test(histograms_of_several_threads_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
