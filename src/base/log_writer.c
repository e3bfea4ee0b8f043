#define _GNU_SOURCE /* pthread_setname_np */
#include "log_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "assert.h"
#include "clock.h"
#include "limits.h"
#include "log.h"
#include "log_queue.h"
#include "park.h"

#define PAUSE_NS 2000000l /* after a write: lines that come meanwhile are written together, and wake nobody */
#define TELL_INTERVAL_NS 1000000000ull

static struct {
    struct log_queue queue;
    struct park park;
    pthread_t thread;
    bool running;             /* private to who starts and stops */
    _Atomic bool ended;       /* the thread touches nothing any more */
    _Atomic int fd;           /* being written to */
    _Atomic int next_fd;      /* to be written to from the next line on; -1: none */
    _Atomic uint64_t stop_ns; /* mono: when to give up at last; 0: go on */
    _Atomic uint64_t written, lost_full, lost_write, queued_high;
    uint64_t lost_told, tell_after_ns; /* private to the thread */
} writer = {.fd = STDERR_FILENO, .next_fd = -1};

static void *writer_main(void *argument);
static void take_line(struct slice line);
static void discard_line(struct slice line);
static void wait_until_written(void);
static unsigned write_lines(void);
static bool write_all(struct slice all);
static bool tell_lost(void);
static bool switch_file(void);
static void count(_Atomic uint64_t *counter, uint64_t n);

static const struct log_sink to_queue = {take_line, wait_until_written};
/* Who reads stderr has stopped: writing to it at the end would hang the process in its last moments. */
static const struct log_sink to_nowhere = {discard_line, NULL};

/* --- any thread ------------------------------------------------------------------------------------------------- */

enum status log_writer_start(void)
{
    ASSERT(!writer.running);
    if (!writer.queue._bytes) {
        enum status s = log_queue_init(&writer.queue, LOG_QUEUE_BYTES);
        if (s == STATUS_OK) s = park_init(&writer.park, NULL, NULL);
        if (s != STATUS_OK) return s;
    }
    int before = atomic_exchange(&writer.fd, STDERR_FILENO);
    if (before != STDERR_FILENO) close(before);
    atomic_store(&writer.stop_ns, 0);
    atomic_store(&writer.ended, false);
    if (pthread_create(&writer.thread, NULL, writer_main, NULL) != 0) return STATUS_NO_MEMORY;
    pthread_setname_np(writer.thread, "log");
    writer.running = true;
    log_set_sink(&to_queue);
    return STATUS_OK;
}

enum status log_writer_open(const char *path, char *why, size_t why_len)
{
    /* Not to wait for a reader when it is a FIFO (open(2), ENXIO): whoever reloads waits for nobody. */
    int fd = path[0] ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600)
                     : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        snprintf(why, why_len, "log.file: %s cannot be opened for appending (%s)%s", path[0] ? path : "stderr",
                 log_errno_text(errno), errno == ENXIO ? ": it is a FIFO or a device, and nobody reads it" : "");
        return STATUS_IO;
    }
    int replaced = atomic_exchange(&writer.next_fd, fd);
    if (replaced >= 0) close(replaced); /* it was not even looked at */
    park_wake(&writer.park);
    return STATUS_OK;
}

void log_writer_stop(void)
{
    if (!writer.running) return;
    uint64_t end_ns = clock_mono_ns(clock_real()) + LOG_STOP_MS * 1000000ull;
    atomic_store(&writer.stop_ns, end_ns);
    park_wake(&writer.park);
    /* Not pthread_timedjoin_np(3), which takes the wall clock: a step back would make it wait for hours. One second
     * more: the thread itself gives up first. */
    const struct timespec pause = {.tv_nsec = 1000000};
    while (!atomic_load(&writer.ended) && clock_mono_ns(clock_real()) < end_ns + 1000000000ull) nanosleep(&pause, NULL);
    bool ended = atomic_load(&writer.ended) && pthread_join(writer.thread, NULL) == 0;
    writer.running = false;
    log_set_sink(ended && log_queue_bytes(&writer.queue) == 0 ? NULL : &to_nowhere);
    if (!ended) pthread_detach(writer.thread);
    for (struct slice line; ended && log_queue_peek(&writer.queue, &line); log_queue_pop(&writer.queue))
        discard_line(line);
}

struct log_counts log_writer_counts(void)
{
    return (struct log_counts){.written = atomic_load_explicit(&writer.written, memory_order_relaxed),
                               .lost_full = atomic_load_explicit(&writer.lost_full, memory_order_relaxed),
                               .lost_write = atomic_load_explicit(&writer.lost_write, memory_order_relaxed),
                               .queued_bytes = writer.queue._bytes ? log_queue_bytes(&writer.queue) : 0,
                               .queued_bytes_high = atomic_load_explicit(&writer.queued_high, memory_order_relaxed)};
}

/* take_line is the sink of every thread that logs. */
static void take_line(struct slice line)
{
    if (!log_queue_push(&writer.queue, line)) {
        atomic_fetch_add_explicit(&writer.lost_full, 1, memory_order_relaxed);
        return;
    }
    park_wake(&writer.park);
}

static void discard_line(struct slice line)
{
    atomic_fetch_add_explicit(&writer.lost_write, 1, memory_order_relaxed);
}

/* wait_until_written is for who is about to abort: the lines before the end tell the most. */
static void wait_until_written(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    for (unsigned ms = 0; ms < LOG_FLUSH_MS && log_queue_bytes(&writer.queue); ms++) nanosleep(&pause, NULL);
}

/* --- the thread ------------------------------------------------------------------------------------------------- */

static bool stopping(void)
{
    return atomic_load_explicit(&writer.stop_ns, memory_order_acquire) != 0;
}

static bool too_late(void)
{
    uint64_t stop_ns = atomic_load_explicit(&writer.stop_ns, memory_order_acquire);
    return stop_ns != 0 && clock_mono_ns(clock_real()) >= stop_ns;
}

static void *writer_main(void *argument)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    for (;;) {
        switch_file();
        unsigned lines = write_lines();
        bool untold = tell_lost();
        if (too_late()) break;
        if (lines) {
            if (!stopping()) nanosleep(&pause, NULL);
            continue;
        }
        if (stopping() && log_queue_bytes(&writer.queue) == 0) break;
        park_prepare(&writer.park);
        bool work = log_queue_bytes(&writer.queue) || atomic_load(&writer.next_fd) >= 0 || stopping();
        if (!work) park_block(&writer.park, untold ? TELL_INTERVAL_NS : UINT64_MAX);
        park_done(&writer.park);
    }
    atomic_store(&writer.ended, true);
    return NULL;
}

/* switch_file goes over to what log_writer_open has opened; false when there is nothing. What was queued before may end
 * up in the new file. */
static bool switch_file(void)
{
    if (atomic_load_explicit(&writer.next_fd, memory_order_relaxed) < 0) return false;
    int next = atomic_exchange(&writer.next_fd, -1);
    if (next < 0) return false;
    int old = atomic_exchange(&writer.fd, next);
    if (old != STDERR_FILENO) close(old);
    return true;
}

/* write_lines writes everything that is queued now, several lines a write(2) but never part of one, and never more than
 * a pipe takes in one piece (PIPE_BUF, pipe(7)): others may write into the same pipe. Returns how many it took. */
static unsigned write_lines(void)
{
    char bytes[LOG_LINE_BYTES_MAX];
    size_t len = 0;
    unsigned taken = 0, lines = 0;
    uint64_t queued = log_queue_bytes(&writer.queue);
    if (queued > atomic_load_explicit(&writer.queued_high, memory_order_relaxed))
        atomic_store_explicit(&writer.queued_high, queued, memory_order_relaxed);
    struct slice line;
    bool more = log_queue_peek(&writer.queue, &line);
    while (more) {
        memcpy(bytes + len, line.data, line.len);
        len += line.len;
        lines++;
        taken++;
        log_queue_pop(&writer.queue);
        more = log_queue_peek(&writer.queue, &line);
        if (more && len + line.len <= sizeof bytes) continue;
        count(write_all(slice_of(bytes, len)) ? &writer.written : &writer.lost_write, lines);
        if (too_late()) break;
        len = lines = 0;
    }
    return taken;
}

/* write_all waits for room before it writes: at the end somebody must be able to say that it has been long enough. A
 * file that is to take over is not kept waiting by one that nobody reads: all goes there, what is half written once
 * more. */
static bool write_all(struct slice all)
{
    struct slice bytes = all;
    while (bytes.len) {
        if (switch_file()) bytes = all;
        int fd = atomic_load_explicit(&writer.fd, memory_order_relaxed);
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        int polled = poll(&ready, 1, 100);
        if (polled == 0 || (polled < 0 && errno == EINTR)) {
            if (too_late()) return false;
            continue;
        }
        ssize_t wrote = write(fd, bytes.data, bytes.len);
        if (wrote < 0 && errno != EINTR && errno != EAGAIN) return false;
        if (wrote > 0) bytes = slice_from(bytes, (size_t)wrote);
    }
    return true;
}

/* tell_lost says in the log itself what it does not hold; not all the time, since this line may be lost like the
 * others. Returns whether there is something that is to be said later. */
static bool tell_lost(void)
{
    uint64_t full = atomic_load_explicit(&writer.lost_full, memory_order_relaxed);
    uint64_t failed = atomic_load_explicit(&writer.lost_write, memory_order_relaxed);
    uint64_t now_ns = clock_mono_ns(clock_real());
    if (full + failed == writer.lost_told) return false;
    if (now_ns < writer.tell_after_ns) return true;
    LOG(LOG_WARN, "log", "lines_lost", LOG_U64("lines", full + failed - writer.lost_told), LOG_U64("queue_full", full),
        LOG_U64("write_failed", failed));
    writer.lost_told = full + failed;
    writer.tell_after_ns = now_ns + TELL_INTERVAL_NS;
    return false;
}

/* count: the thread alone adds to what it counts. */
static void count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}
