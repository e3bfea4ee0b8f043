#define _GNU_SOURCE /* F_SETPIPE_SZ */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../src/base/buf.h"
#include "../../src/base/clock.h"
#include "../../src/base/limits.h"
#include "../../src/base/log.h"
#include "../../src/base/log_writer.h"

static char directory[] = "/tmp/carillon-log-XXXXXX";

static int suite_open(void **state)
{
    return mkdtemp(directory) ? 0 : -1;
}

static int suite_close(void **state)
{
    return rmdir(directory);
}

static struct buf file_text(const char *path)
{
    struct buf text = {0};
    char part[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (ssize_t n; (n = read(fd, part, sizeof part)) > 0;) buf_append(&text, part, (size_t)n);
    close(fd);
    buf_char(&text, '\0');
    return text;
}

static unsigned count_in(const char *text, const char *what)
{
    unsigned count = 0;
    for (; (text = strstr(text, what)); text++) count++;
    return count;
}

static void line(unsigned number)
{
    LOG_ALWAYS(LOG_INFO, "process", "numbered", LOG_U64("number", number));
}

static void lines_go_to_the_file_that_was_opened_last(void **state)
{
    char first[64], second[64], why[256];
    snprintf(first, sizeof first, "%s/first", directory);
    snprintf(second, sizeof second, "%s/second", directory);
    assert_int_equal(log_writer_start(), STATUS_OK);
    assert_int_equal(log_writer_open(first, why, sizeof why), STATUS_OK);
    for (unsigned i = 0; i < 100; i++) line(i);
    log_flush();
    /* as logrotate does it: the file is moved away, and opened again under its name */
    assert_int_equal(rename(first, second), 0);
    line(100);
    log_flush();
    assert_int_equal(log_writer_open(first, why, sizeof why), STATUS_OK);
    line(101);
    log_writer_stop();
    struct buf old = file_text(second), new = file_text(first);
    assert_int_equal(count_in(old.data, "\"event\":\"numbered\""), 101);
    assert_non_null(strstr(old.data, "\"number\":100}\n"));
    assert_null(strstr(old.data, "\"number\":101}"));
    assert_non_null(strstr(new.data, "\"number\":101}\n"));
    assert_int_equal(count_in(new.data, "\n"), 1);
    buf_free(&old);
    buf_free(&new);
    assert_int_equal(unlink(first) | unlink(second), 0);
}

static void a_file_that_cannot_be_opened_is_named_and_changes_nothing(void **state)
{
    char path[64], missing[64], why[256] = "";
    snprintf(path, sizeof path, "%s/kept", directory);
    snprintf(missing, sizeof missing, "%s/no/such", directory);
    assert_int_equal(log_writer_start(), STATUS_OK);
    assert_int_equal(log_writer_open(path, why, sizeof why), STATUS_OK);
    assert_int_equal(log_writer_open(missing, why, sizeof why), STATUS_IO);
    assert_non_null(strstr(why, missing));
    assert_non_null(strstr(why, "ENOENT"));
    line(1);
    log_writer_stop();
    struct buf text = file_text(path);
    assert_int_equal(count_in(text.data, "\"number\":1}\n"), 1);
    buf_free(&text);
    assert_int_equal(unlink(path), 0);
}

/* A pipe as stderr whose reader does nothing. */
static void a_reader_that_stops_reading_holds_nobody_up(void **state)
{
    int ends[2], stderr_was = dup(STDERR_FILENO);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(fcntl(ends[1], F_SETPIPE_SZ, 4096) >= 4096);
    dup2(ends[1], STDERR_FILENO);
    struct log_counts before = log_writer_counts();
    assert_int_equal(log_writer_start(), STATUS_OK);
    char padding[2001];
    memset(padding, 'p', sizeof padding - 1);
    padding[sizeof padding - 1] = '\0';
    uint64_t started_ns = clock_mono_ns(clock_real());
    unsigned lines = 2 * LOG_QUEUE_BYTES / 2000;
    for (unsigned i = 0; i < lines; i++) LOG_ALWAYS(LOG_INFO, "process", "padded", LOG_STR("padding", padding));
    struct log_counts counts = log_writer_counts();
    uint64_t flushed_ns = clock_mono_ns(clock_real());
    log_flush();
    uint64_t stopped_ns = clock_mono_ns(clock_real());
    log_writer_stop();
    uint64_t now_ns = clock_mono_ns(clock_real());
    LOG_ALWAYS(LOG_INFO, "process", "after_the_end"); /* returns, though nobody reads */
    dup2(stderr_was, STDERR_FILENO);
    close(stderr_was);
    close(ends[0]);
    close(ends[1]);
    log_set_sink(NULL);
    assert_in_range((flushed_ns - started_ns) / 1000000, 0, 10000);
    assert_in_range((stopped_ns - flushed_ns) / 1000000, LOG_FLUSH_MS, LOG_FLUSH_MS + 10000);
    assert_in_range((now_ns - stopped_ns) / 1000000, LOG_STOP_MS - 100, LOG_STOP_MS + 10000);
    assert_true(counts.lost_full > before.lost_full);
    assert_true(counts.queued_bytes > LOG_QUEUE_BYTES / 2);
    counts = log_writer_counts();
    uint64_t all =
        counts.written - before.written + counts.lost_full - before.lost_full + counts.lost_write - before.lost_write;
    assert_in_range(all, lines + 1, lines + 4); /* and what was said of those that are lost */
}

static void a_file_takes_over_from_a_reader_that_has_stopped(void **state)
{
    int ends[2], stderr_was = dup(STDERR_FILENO);
    char path[64], why[256], padding[2001];
    snprintf(path, sizeof path, "%s/instead", directory);
    memset(padding, 'p', sizeof padding - 1);
    padding[sizeof padding - 1] = '\0';
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(fcntl(ends[1], F_SETPIPE_SZ, 4096) >= 4096);
    dup2(ends[1], STDERR_FILENO);
    assert_int_equal(log_writer_start(), STATUS_OK);
    for (unsigned i = 0; i < 20; i++) LOG_ALWAYS(LOG_INFO, "process", "padded", LOG_STR("padding", padding));
    const struct timespec pause = {.tv_nsec = 50000000};
    nanosleep(&pause, NULL); /* by now the pipe is full and the thread waits for it */
    assert_int_equal(log_writer_open(path, why, sizeof why), STATUS_OK);
    line(1);
    uint64_t give_up_ns = clock_mono_ns(clock_real()) + 10000000000ull;
    bool written = false;
    while (!written && clock_mono_ns(clock_real()) < give_up_ns) {
        nanosleep(&pause, NULL);
        struct buf text = file_text(path);
        written = strstr(text.data, "\"number\":1}\n") != NULL;
        buf_free(&text);
    }
    log_writer_stop();
    dup2(stderr_was, STDERR_FILENO);
    close(stderr_was);
    close(ends[0]);
    close(ends[1]);
    assert_true(written);
    assert_int_equal(unlink(path), 0);
}

static void a_fifo_that_nobody_reads_is_refused_at_once(void **state)
{
    char path[64], why[256] = "";
    snprintf(path, sizeof path, "%s/fifo", directory);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(log_writer_start(), STATUS_OK);
    assert_int_equal(log_writer_open(path, why, sizeof why), STATUS_IO);
    assert_non_null(strstr(why, "nobody reads it"));
    log_writer_stop();
    assert_int_equal(unlink(path), 0);
}

static void what_was_lost_is_said_when_there_is_room_again(void **state)
{
    int ends[2], stderr_was = dup(STDERR_FILENO);
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    dup2(ends[1], STDERR_FILENO);
    assert_int_equal(log_writer_start(), STATUS_OK);
    struct log_counts counts = log_writer_counts();
    uint64_t lost = counts.lost_full, give_up_ns = clock_mono_ns(clock_real()) + 20000000000ull;
    for (unsigned i = 0; counts.lost_full == lost; i++) {
        line(i);
        counts = log_writer_counts();
    }
    bool said = false;
    while (!said && clock_mono_ns(clock_real()) < give_up_ns) {
        char text[65537];
        ssize_t n = read(ends[0], text, sizeof text - 1);
        text[n > 0 ? n : 0] = '\0';
        said = strstr(text, "\"event\":\"lines_lost\",\"lines\":") != NULL;
    }
    dup2(stderr_was, STDERR_FILENO);
    close(stderr_was);
    log_writer_stop();
    log_set_sink(NULL);
    close(ends[0]);
    close(ends[1]);
    assert_true(said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_go_to_the_file_that_was_opened_last),
        cmocka_unit_test(a_file_that_cannot_be_opened_is_named_and_changes_nothing),
        cmocka_unit_test(a_reader_that_stops_reading_holds_nobody_up),
        cmocka_unit_test(a_file_takes_over_from_a_reader_that_has_stopped),
        cmocka_unit_test(a_fifo_that_nobody_reads_is_refused_at_once),
        cmocka_unit_test(what_was_lost_is_said_when_there_is_room_again),
    };
    return cmocka_run_group_tests(tests, suite_open, suite_close);
}
