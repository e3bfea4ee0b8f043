/* log_writer: the thread that writes what all others log, so that nobody waits for whoever reads stderr, or for a disk.
 *
 * Call order: log_writer_start; log_writer_open any number of times; log_writer_stop. Before
 * and after, lines are written by who logs them. Between, a line goes into a queue of LOG_QUEUE_BYTES (log_queue.h);
 * when that is full, or a write fails, lines are dropped and counted, and a line "lines_lost" says how many when there
 * is room again. Lines of one thread stay in order. */
#ifndef CARILLON_BASE_LOG_WRITER_H
#define CARILLON_BASE_LOG_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* log_writer_start begins with stderr. */
MUST_USE enum status log_writer_start(void);
/* log_writer_open writes to a file from now on, made (0600, as the umask allows) and appended to; an empty path is
 * stderr. On failure `why` says what happened, and lines go where they went. */
MUST_USE enum status log_writer_open(const char *path, char *why, size_t why_len);
/* log_writer_stop writes what is queued and ends the thread. A reader of stderr that has stopped reading holds it up
 * for LOG_STOP_MS at most; then what is left is dropped, and so is everything that is logged after it. */
void log_writer_stop(void);

/* What happened to lines, from any thread. */
struct log_counts {
    uint64_t written, lost_full, lost_write; /* lines */
    uint64_t queued_bytes, queued_bytes_high;
};
struct log_counts log_writer_counts(void);

#endif
