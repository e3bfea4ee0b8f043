#define _GNU_SOURCE /* memfd_create */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../src/base/buf.h"
#include "../../src/base/clock.h"
#include "../../src/base/json.h"
#include "../../src/base/log.h"

/* What the code under test writes to stderr goes into a file in memory, between capture_begin and capture_end. */
static struct capture {
    int stderr_was, fd;
} capture;

static struct json_parser *parser;

static int suite_open(void **state)
{
    parser = json_parser_new(1 << 20);
    return 0;
}

static int suite_close(void **state)
{
    json_parser_free(parser);
    return 0;
}

static int level_reset(void **state)
{
    log_set_level(LOG_INFO);
    return 0;
}

static void capture_begin(void)
{
    capture.fd = memfd_create("stderr", MFD_CLOEXEC);
    fcntl(capture.fd, F_SETFL, O_APPEND); /* as a log file is opened: each write at the end, whole */
    capture.stderr_was = dup(STDERR_FILENO);
    dup2(capture.fd, STDERR_FILENO);
}

static struct buf capture_end(void)
{
    dup2(capture.stderr_was, STDERR_FILENO);
    close(capture.stderr_was);
    struct buf text = {0};
    char part[4096];
    lseek(capture.fd, 0, SEEK_SET);
    for (ssize_t n; (n = read(capture.fd, part, sizeof part)) > 0;) buf_append(&text, part, (size_t)n);
    close(capture.fd);
    return text;
}

/* line_next takes a line off the front and parses it; false when there is none. */
static bool line_next(struct slice *rest, struct json_node *line)
{
    if (rest->len == 0) return false;
    const char *newline = memchr(rest->data, '\n', rest->len);
    assert_non_null(newline);
    struct slice text = slice_of(rest->data, (size_t)(newline - rest->data));
    assert_true(text.len < LOG_LINE_BYTES_MAX);
    assert_int_equal(json_parse_copy(parser, line, text), JSON_OK);
    *rest = slice_from(*rest, text.len + 1);
    return true;
}

static bool has(struct json_node line, const char *name)
{
    struct json_node value;
    return json_get(line, name, &value);
}

static struct slice text_of(struct json_node line, const char *name)
{
    struct json_node value = {0};
    assert_true(json_get(line, name, &value));
    return json_string(value);
}

static uint64_t number_of(struct json_node line, const char *name)
{
    struct json_node value = {0};
    uint64_t v = 0;
    assert_true(json_get(line, name, &value));
    assert_true(json_u64(value, &v));
    return v;
}

static void a_line_is_one_object_with_time_level_scope_event_and_fields(void **state)
{
    uint64_t before = clock_wall_ms(clock_real());
    capture_begin();
    LOG(LOG_WARN, "net", "accept_failed", LOG_STR("a", "x\"y\n"), LOG_SLICE("b", SLICE("zz")), LOG_U64("c", UINT64_MAX),
        LOG_I64("d", INT64_MIN), LOG_I64("e", 5), LOG_FLAG("f", 3), LOG_FLAG("g", false), LOG_US("took_ms", 1234567),
        LOG_US("short_ms", 42), LOG_ERRNO(ENOENT));
    struct buf text = capture_end();
    uint64_t after = clock_wall_ms(clock_real());
    struct json_node line;
    struct slice rest = buf_slice(&text);
    assert_true(line_next(&rest, &line));
    assert_int_equal(rest.len, 0);
    struct slice ts = text_of(line, "ts");
    char low[TIME_TEXT_LEN], high[TIME_TEXT_LEN];
    time_text(low, before);
    time_text(high, after);
    assert_int_equal(ts.len, TIME_TEXT_LEN);
    assert_true(memcmp(low, ts.data, ts.len) <= 0 && memcmp(ts.data, high, ts.len) <= 0);
    const char *expected =
        ",\"level\":\"warn\",\"scope\":\"net\",\"event\":\"accept_failed\",\"a\":\"x\\\"y\\n\",\"b\":\"zz\","
        "\"c\":18446744073709551615,\"d\":-9223372036854775808,\"e\":5,\"f\":true,\"g\":false,"
        "\"took_ms\":1234.567,\"short_ms\":0.042,\"error\":\"ENOENT\"}\n";
    const char *tail = memchr(text.data, ',', text.len);
    assert_int_equal((size_t)(text.data + text.len - tail), strlen(expected));
    assert_memory_equal(tail, expected, strlen(expected));
    buf_free(&text);
}

static void levels_below_the_threshold_are_not_even_built(void **state)
{
    int built = 0;
    capture_begin();
    log_set_level(LOG_WARN);
    LOG(LOG_INFO, "test", "quiet", LOG_U64("n", ++built));
    LOG(LOG_DEBUG, "test", "quiet", LOG_U64("n", ++built));
    LOG(LOG_WARN, "test", "loud", LOG_U64("n", ++built));
    LOG(LOG_ERROR, "test", "loud");
    log_set_level(LOG_DEBUG);
    LOG(LOG_DEBUG, "test", "loud");
    struct buf text = capture_end();
    struct slice rest = buf_slice(&text);
    static const char *const levels[] = {"warn", "error", "debug"};
    struct json_node line;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(line_next(&rest, &line));
        assert_true(slice_is(text_of(line, "level"), levels[i]));
    }
    assert_false(line_next(&rest, &line));
    assert_int_equal(built, 1);
    buf_free(&text);
}

static void a_text_that_is_not_there_is_left_out(void **state)
{
    capture_begin();
    LOG_ALWAYS(LOG_INFO, "net", "partly", LOG_SLICE("absent", (struct slice){0}), LOG_STR("empty", ""),
               LOG_U64("n", 1));
    struct buf text = capture_end();
    struct slice rest = buf_slice(&text);
    struct json_node line;
    assert_true(line_next(&rest, &line));
    assert_false(has(line, "absent"));
    assert_true(has(line, "empty") && has(line, "n"));
    buf_free(&text);
}

static void a_scope_has_its_own_level(void **state)
{
    log_set_levels(LOG_WARN, SLICE("net=debug, store=error"));
    capture_begin();
    LOG(LOG_DEBUG, "net", "below", LOG_U64("n", 1));
    LOG(LOG_DEBUG, "room", "below", LOG_U64("n", 2));
    LOG(LOG_WARN, "room", "at", LOG_U64("n", 3));
    LOG(LOG_WARN, "store", "below", LOG_U64("n", 4));
    LOG(LOG_ERROR, "store", "at", LOG_U64("n", 5));
    LOG(LOG_INFO, "no such scope", "below", LOG_U64("n", 6));
    LOG_ALWAYS(LOG_DEBUG, "store", "asked for", LOG_U64("n", 7));
    log_set_level(LOG_WARN);
    LOG(LOG_DEBUG, "net", "below again", LOG_U64("n", 8));
    struct buf text = capture_end();
    struct slice rest = buf_slice(&text);
    struct json_node line;
    static const uint64_t expected[] = {1, 3, 5, 7};
    for (unsigned i = 0; i < 4; i++) {
        assert_true(line_next(&rest, &line));
        assert_int_equal(number_of(line, "n"), expected[i]);
    }
    assert_int_equal(rest.len, 0);
    buf_free(&text);
}

static void lists_of_levels_are_checked(void **state)
{
    struct slice bad;
    assert_true(log_levels_valid(SLICE(""), &bad));
    assert_true(log_levels_valid(SLICE("net=debug,store=warn, room=error"), &bad));
    static const char *const lists[] = {"net", "net=", "=debug", "nett=debug", "net=loud", "room=info,net:debug"};
    for (unsigned i = 0; i < sizeof lists / sizeof *lists; i++)
        assert_false(log_levels_valid(slice_str(lists[i]), &bad));
    assert_true(slice_is(bad, "net:debug"));
}

static void level_names_are_read_exactly(void **state)
{
    enum log_level level = LOG_DEBUG;
    assert_true(log_level_parse(SLICE("error"), &level) && level == LOG_ERROR);
    assert_true(log_level_parse(SLICE("debug"), &level) && level == LOG_DEBUG);
    assert_true(log_level_parse(SLICE("warn"), &level) && level == LOG_WARN);
    assert_true(log_level_parse(SLICE("info"), &level) && level == LOG_INFO);
    assert_false(log_level_parse(SLICE("INFO"), &level));
    assert_false(log_level_parse(SLICE(""), &level));
    assert_false(log_level_parse(SLICE("infos"), &level));
}

static void hot_site(unsigned i)
{
    LOG(LOG_INFO, "test", "hot", LOG_U64("i", i));
}

/* The window is a second of the real clock, so the test begins right after one has turned. */
static void a_hot_site_is_limited_and_says_what_it_dropped(void **state)
{
    uint64_t second = clock_mono_ns(clock_real()) / 1000000000u;
    while (clock_mono_ns(clock_real()) / 1000000000u == second) usleep(1000);
    capture_begin();
    for (unsigned i = 0; i < 100; i++) hot_site(i);
    LOG(LOG_INFO, "test", "other_site");
    second = clock_mono_ns(clock_real()) / 1000000000u;
    while (clock_mono_ns(clock_real()) / 1000000000u == second) usleep(1000);
    hot_site(100);
    hot_site(101);
    struct buf text = capture_end();
    struct slice rest = buf_slice(&text);
    struct json_node line;
    for (unsigned i = 0; i < LOG_SITE_PER_SECOND; i++) {
        assert_true(line_next(&rest, &line));
        assert_int_equal(number_of(line, "i"), i);
        assert_false(has(line, "dropped"));
    }
    assert_true(line_next(&rest, &line) && slice_is(text_of(line, "event"), "other_site"));
    assert_true(line_next(&rest, &line));
    assert_int_equal(number_of(line, "dropped"), 100 - LOG_SITE_PER_SECOND);
    assert_int_equal(number_of(line, "i"), 100);
    assert_true(line_next(&rest, &line) && !has(line, "dropped"));
    assert_false(line_next(&rest, &line));
    buf_free(&text);
}

/* Every length around the bound, with characters of every width: the line stays JSON, UTF-8 and in its bound. */
static void a_line_too_long_is_cut_and_stays_valid(void **state)
{
    static const char *const characters[] = {"x", "\"", "\x01", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xff"};
    bool cut_seen = false, whole_seen = false;
    for (unsigned c = 0; c < sizeof characters / sizeof *characters; c++) {
        struct slice one = slice_str(characters[c]);
        size_t shown = json_escaped_len(one) + (one.data[0] == '\xff' ? 2 : 0); /* U+FFFD has three bytes */
        for (size_t n = 3900 / shown; n < 4200 / shown; n++) {
            struct buf value = {0};
            for (size_t i = 0; i < n; i++) buf_slice_append(&value, one);
            struct log_site site = {0};
            capture_begin();
            const struct log_field fields[] = {LOG_U64("n", n), LOG_SLICE("v", buf_slice(&value)), LOG_U64("last", n),
                                               LOG_END};
            log_write(&site, LOG_INFO, "test", "long", fields);
            struct buf text = capture_end();
            struct slice rest = buf_slice(&text);
            struct json_node line;
            assert_true(line_next(&rest, &line) && rest.len == 0);
            bool cut = has(line, "cut");
            assert_true(cut == !has(line, "last"));
            assert_true(!cut || text.len > LOG_LINE_BYTES_MAX - 64);
            *(cut ? &cut_seen : &whole_seen) = true;
            buf_free(&text);
            buf_free(&value);
        }
    }
    assert_true(cut_seen && whole_seen);
}

static void many_fields_are_cut_between_fields(void **state)
{
    struct log_field fields[301];
    for (unsigned i = 0; i < 300; i++) {
        fields[i] = i % 2 ? LOG_U64("number_field", UINT64_MAX) : LOG_I64("signed_field", INT64_MIN);
        if (i % 5 == 0) fields[i] = LOG_FLAG("flag_field", false);
        if (i % 7 == 0) fields[i] = LOG_US("time_ms", UINT64_MAX);
    }
    fields[300] = LOG_END;
    struct log_site site = {0};
    capture_begin();
    log_write(&site, LOG_INFO, "test", "many", fields);
    struct buf text = capture_end();
    struct slice rest = buf_slice(&text);
    struct json_node line;
    assert_true(line_next(&rest, &line) && rest.len == 0 && has(line, "cut"));
    buf_free(&text);
}

static void bytes_that_are_not_utf8_are_replaced(void **state)
{
    static const struct {
        const char *bytes, *shown;
    } cases[] = {
        {"a\xff"
         "b",
         "a\xef\xbf\xbd"
         "b"},
        {"\xc3", "\xef\xbf\xbd"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf0\x8f\xbf\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x8f\xbf\xbf\xe0\xa0\x80\xed\x9f\xbf\xc2\x80", "\xf4\x8f\xbf\xbf\xe0\xa0\x80\xed\x9f\xbf\xc2\x80"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct log_site site = {0};
        const struct log_field fields[] = {LOG_STR("v", cases[i].bytes), LOG_END};
        capture_begin();
        log_write(&site, LOG_INFO, "test", "bytes", fields);
        struct buf text = capture_end();
        struct slice rest = buf_slice(&text);
        struct json_node line;
        assert_true(line_next(&rest, &line));
        assert_true(slice_is(text_of(line, "v"), cases[i].shown));
        buf_free(&text);
    }
}

static void a_terminal_that_shows_the_log_is_told_nothing(void **state)
{
    struct log_site site = {0};
    const struct log_field fields[] = {LOG_STR("v", "a\x1b[31m\x7f\xc2\x80\xc2\x9b" "2J\xc2\xa0\xc3\xa9"), LOG_END};
    capture_begin();
    log_write(&site, LOG_INFO, "test", "controls", fields);
    struct buf text = capture_end();
    buf_char(&text, '\0');
    assert_non_null(strstr(text.data, "a\\u001b[31m\\u007f\\u0080\\u009b2J\xc2\xa0\xc3\xa9\""));
    buf_free(&text);
}

static void errno_survives_and_is_named(void **state)
{
    capture_begin();
    close(STDERR_FILENO); /* so the write fails */
    errno = EXDEV;
    LOG(LOG_ERROR, "test", "lost");
    int error = errno;
    struct buf text = capture_end();
    assert_int_equal(error, EXDEV);
    assert_int_equal(text.len, 0);
    assert_string_equal(log_errno_text(EAGAIN), "EAGAIN");
    assert_string_equal(log_errno_text(-ECONNRESET), "ECONNRESET");
    assert_string_equal(log_errno_text(99999), "unknown");
    buf_free(&text);
}

#define WRITERS 4
#define LINES_EACH 15 /* below the limit of one site a second, all writers have their own */

static void *write_lines(void *argument)
{
    struct log_site sites[LINES_EACH] = {0};
    for (unsigned i = 0; i < LINES_EACH; i++) {
        const struct log_field fields[] = {LOG_STR("who", argument), LOG_U64("i", i), LOG_END};
        log_write(&sites[i], LOG_INFO, "test", "thread", fields);
    }
    return NULL;
}

static void lines_of_several_threads_never_mix(void **state)
{
    static char names[WRITERS][2001];
    pthread_t threads[WRITERS];
    capture_begin();
    for (unsigned t = 0; t < WRITERS; t++) {
        memset(names[t], 'a' + (int)t, 2000);
        pthread_create(&threads[t], NULL, write_lines, names[t]);
    }
    for (unsigned t = 0; t < WRITERS; t++) pthread_join(threads[t], NULL);
    struct buf text = capture_end();
    struct slice rest = buf_slice(&text);
    struct json_node line;
    unsigned lines = 0, next[WRITERS] = {0};
    for (; line_next(&rest, &line); lines++) {
        struct slice who = text_of(line, "who");
        unsigned t = (unsigned)(who.data[0] - 'a');
        assert_true(t < WRITERS && slice_is(who, names[t]));
        assert_int_equal(number_of(line, "i"), next[t]++);
    }
    assert_int_equal(lines, WRITERS * LINES_EACH);
    buf_free(&text);
}

static struct log_site shared_site;

static void *write_to_the_shared_site(void *argument)
{
    const struct log_field none[] = {LOG_END};
    for (unsigned i = 0; i < 1000; i++) log_write(&shared_site, LOG_INFO, "test", "shared", none);
    return NULL;
}

static void every_line_of_a_shared_site_is_written_or_counted(void **state)
{
    pthread_t threads[WRITERS];
    capture_begin();
    for (unsigned t = 0; t < WRITERS; t++) pthread_create(&threads[t], NULL, write_to_the_shared_site, NULL);
    for (unsigned t = 0; t < WRITERS; t++) pthread_join(threads[t], NULL);
    struct buf text = capture_end();
    struct slice rest = buf_slice(&text);
    struct json_node line;
    uint64_t lines = 0, dropped = atomic_load(&shared_site.dropped);
    for (; line_next(&rest, &line); lines++)
        if (has(line, "dropped")) dropped += number_of(line, "dropped");
    assert_int_equal(lines + dropped, WRITERS * 1000);
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_one_object_with_time_level_scope_event_and_fields),
        cmocka_unit_test_teardown(levels_below_the_threshold_are_not_even_built, level_reset),
        cmocka_unit_test(a_text_that_is_not_there_is_left_out),
        cmocka_unit_test_teardown(a_scope_has_its_own_level, level_reset),
        cmocka_unit_test(lists_of_levels_are_checked),
        cmocka_unit_test(level_names_are_read_exactly),
        cmocka_unit_test(a_hot_site_is_limited_and_says_what_it_dropped),
        cmocka_unit_test(a_line_too_long_is_cut_and_stays_valid),
        cmocka_unit_test(many_fields_are_cut_between_fields),
        cmocka_unit_test(bytes_that_are_not_utf8_are_replaced),
        cmocka_unit_test(a_terminal_that_shows_the_log_is_told_nothing),
        cmocka_unit_test(errno_survives_and_is_named),
        cmocka_unit_test(lines_of_several_threads_never_mix),
        cmocka_unit_test(every_line_of_a_shared_site_is_written_or_counted),
    };
    return cmocka_run_group_tests(tests, suite_open, suite_close);
}
