/* backup: makes backups of the open store, on a thread of its own: when asked, and by a schedule.
 *
 * Call order: backup_open, backup_start_thread, then backup_request and the readers from any thread, backup_stop at the
 * end. One backup is made at a time; what a lock guards is copied in and out and never held over the disk, so a core
 * may call backup_request, backup_list_items and backup_look (for operators: none is on the data path).
 *
 * A backup that failed is remembered until the next one begins: in the list, in backup_look, in the log. */
#ifndef CARILLON_STORAGE_BACKUP_H
#define CARILLON_STORAGE_BACKUP_H

#include <stdbool.h>

#include "../src/base/clock.h"
#include "../src/base/limits.h"
#include "backup_engine.h"

struct backup;

enum backup_state { BACKUP_RUNNING, BACKUP_COMPLETE, BACKUP_FAILED, BACKUP_DAMAGED };

struct backup_item {
    struct backup_row row; /* of one that is running: id and created_ms alone */
    enum backup_state state;
    char error[BACKUP_ERROR_BYTES_MAX]; /* of a failed one */
};

struct backup_look {
    bool running, failed;    /* failed: the last attempt */
    char why[BACKUP_ERROR_BYTES_MAX]; /* … what was wrong with it; empty while not `failed` */
    uint64_t last_success_s; /* since 1970; 0: none */
    uint64_t last_bytes, last_duration_ms, successes, failures; /* of this run of the gateway, but for last_bytes */
};

#define BACKUP_AT_NEVER UINT32_MAX

struct backup_options {
    struct backup_target target; /* borrowed */
    struct kv *kv;
    const struct backup_engine *engine;
    const struct clock *clock;
    uint64_t interval_ms; /* 0: none */
    uint32_t at_minutes;  /* local time of day, or BACKUP_AT_NEVER */
    unsigned keep;        /* 1 to BACKUPS_MAX */
};

/* backup_open tries the directory and looks at what is in it; one that cannot be used is a failure like that of an
 * attempt, and no reason not to serve. */
struct backup *backup_open(const struct backup_options *options);
MUST_USE enum status backup_start_thread(struct backup *b);
/* backup_stop waits BACKUP_STOP_MS for a backup under way, which cannot be broken off. False: it goes on, `b` is still
 * in use and the store must not be closed; the process ends without it. True: all is freed. NULL is fine. */
MUST_USE bool backup_stop(struct backup *b);

/* backup_request asks for a backup now. STATUS_EXISTS: one is being made. *out is the one that runs. */
MUST_USE enum status backup_request(struct backup *b, struct backup_item *out);
/* backup_list_items copies what there is, newest first, into `items` (BACKUPS_MAX + 1); returns how many. */
unsigned backup_list_items(struct backup *b, struct backup_item *items);
void backup_look(struct backup *b, struct backup_look *out);
const char *backup_state_name(enum backup_state state);

/* backup_rests tells whether the schedule waits at now_ms because a backup failed at failed_ms: BACKUP_RETRY_MS, or the
 * interval if that is shorter. Pure. */
bool backup_rests(uint64_t interval_ms, uint64_t failed_ms, uint64_t now_ms);
/* backup_due tells whether the schedule asks for a backup at now_ms, the last one being of last_ms (0: none). Pure but
 * for the time zone. */
bool backup_due(uint64_t interval_ms, uint32_t at_minutes, uint64_t last_ms, uint64_t now_ms);

#endif
