#define _GNU_SOURCE /* pthread_setname_np, gettid */
#include "backup.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "../src/base/assert.h"
#include "../src/base/log.h"

#define LOOK_INTERVAL_MS 1000u /* between two looks at the schedule */
#define NICE 10                /* of the thread and of those that the engine starts: cores come first */

struct backup {
    struct backup_options options;
    pthread_t thread;
    bool thread_started;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t wake;
    bool stop, ended, wanted;
    unsigned num_rows;
    struct backup_row rows[BACKUPS_MAX]; /* as the directory was last seen */
    struct backup_item attempt;          /* the running one, or the last one if it failed; id 0: none */
    uint64_t attempt_ended_ms;
    struct backup_look look;
};

static void *backup_thread(void *context);
static bool wait_for_end(struct backup *b);
static bool wait_for_work(struct backup *b);
static void attempt_begin(struct backup *b);
static enum status make(struct backup *b, char *why, size_t why_len);
static bool purge(struct backup *b);
static void look_failed(struct backup *b, const char *why);
static enum status rows_read(struct backup *b, char *why, size_t why_len);
static void attempt_end(struct backup *b, enum status status, const char *why, uint64_t took_ms, bool purged);
static bool scheduled(const struct backup *b, uint64_t now_ms);

struct backup *backup_open(const struct backup_options *options)
{
    ASSERT(options->keep >= 1 && options->keep <= BACKUPS_MAX);
    struct backup *b = calloc(1, sizeof *b);
    ASSERT(b);
    b->options = *options;
    pthread_condattr_t monotonic;
    ASSERT(pthread_condattr_init(&monotonic) == 0 && pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_mutex_init(&b->lock, NULL) == 0 && pthread_cond_init(&b->wake, &monotonic) == 0);
    pthread_condattr_destroy(&monotonic);
    char why[BACKUP_ERROR_BYTES_MAX] = "";
    enum status status = options->engine->prepare(&b->options.target, why, sizeof why);
    if (status == STATUS_OK) status = rows_read(b, why, sizeof why);
    if (status != STATUS_OK) {
        look_failed(b, why);
        LOG(LOG_ERROR, "backup", "directory_unusable", LOG_STR("why", why));
    }
    return b;
}

enum status backup_start_thread(struct backup *b)
{
    b->thread_started = pthread_create(&b->thread, NULL, backup_thread, b) == 0;
    if (b->thread_started) pthread_setname_np(b->thread, "backup");
    return b->thread_started ? STATUS_OK : STATUS_NO_MEMORY;
}

bool backup_stop(struct backup *b)
{
    if (!b) return true;
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
    if (b->thread_started) {
        if (!wait_for_end(b)) {
            LOG(LOG_WARN, "backup", "broken_off", LOG_STR("hint", "what was copied is removed by the next backup"));
            return false;
        }
        pthread_join(b->thread, NULL);
    }
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->lock);
    free(b);
    return true;
}

/* wait_for_end returns whether the thread ended in time. By the monotonic clock: pthread_timedjoin_np(3) takes the wall
 * clock, and one that is stepped back meanwhile would make a stopping gateway wait for hours. */
static bool wait_for_end(struct backup *b)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += BACKUP_STOP_MS / 1000;
    pthread_mutex_lock(&b->lock);
    while (!b->ended && pthread_cond_timedwait(&b->wake, &b->lock, &until) == 0) {}
    bool ended = b->ended;
    pthread_mutex_unlock(&b->lock);
    return ended;
}

/* --- for other threads ------------------------------------------------------------------------------------------- */

enum status backup_request(struct backup *b, struct backup_item *out)
{
    pthread_mutex_lock(&b->lock);
    bool running = b->look.running;
    if (!running) {
        attempt_begin(b);
        b->wanted = true;
        pthread_cond_signal(&b->wake);
    }
    *out = b->attempt;
    pthread_mutex_unlock(&b->lock);
    return running ? STATUS_EXISTS : STATUS_OK;
}

unsigned backup_list_items(struct backup *b, struct backup_item *items)
{
    unsigned num = 0;
    pthread_mutex_lock(&b->lock);
    if (b->attempt.row.id) items[num++] = b->attempt;
    for (unsigned i = b->num_rows; i-- > 0;) {
        struct backup_item *item = &items[num++];
        item->row = b->rows[i];
        item->state = b->rows[i].damaged ? BACKUP_DAMAGED : BACKUP_COMPLETE;
        item->error[0] = '\0';
    }
    pthread_mutex_unlock(&b->lock);
    return num;
}

void backup_look(struct backup *b, struct backup_look *out)
{
    pthread_mutex_lock(&b->lock);
    *out = b->look;
    pthread_mutex_unlock(&b->lock);
}

const char *backup_state_name(enum backup_state state)
{
    switch (state) {
    case BACKUP_RUNNING: return "running";
    case BACKUP_COMPLETE: return "complete";
    case BACKUP_FAILED: return "failed";
    case BACKUP_DAMAGED: return "damaged";
    }
    UNREACHABLE();
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

static void *backup_thread(void *context)
{
    struct backup *b = context;
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* of this thread alone (NOTES of setpriority(2)) */
    while (wait_for_work(b)) {
        char why[BACKUP_ERROR_BYTES_MAX] = "";
        LOG(LOG_INFO, "backup", "started", LOG_U64("backup_id", b->attempt.row.id),
            LOG_STR("dir", b->options.target.dir));
        uint64_t began_ns = clock_mono_ns(b->options.clock);
        enum status status = make(b, why, sizeof why);
        uint64_t took_ms = (clock_mono_ns(b->options.clock) - began_ns) / 1000000;
        bool purged = status != STATUS_OK || purge(b);
        attempt_end(b, status, why, took_ms, purged);
    }
    pthread_mutex_lock(&b->lock);
    b->ended = true;
    pthread_cond_signal(&b->wake); /* only who stops can be waiting by now */
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

/* wait_for_work returns true with the attempt begun, or false at the end. */
static bool wait_for_work(struct backup *b)
{
    pthread_mutex_lock(&b->lock);
    while (!b->stop && !b->wanted) {
        if (scheduled(b, clock_wall_ms(b->options.clock))) {
            attempt_begin(b);
            b->wanted = true;
            break;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += LOOK_INTERVAL_MS / 1000;
        pthread_cond_timedwait(&b->wake, &b->lock, &until);
    }
    bool work = !b->stop;
    b->wanted = false;
    pthread_mutex_unlock(&b->lock);
    return work;
}

/* attempt_begin runs under the lock. An attempt that failed left no backup, so the next one has its id. */
static void attempt_begin(struct backup *b)
{
    uint32_t last = b->num_rows ? b->rows[b->num_rows - 1].id : 0;
    b->attempt = (struct backup_item){.row = {.id = last + 1, .created_ms = clock_wall_ms(b->options.clock)},
                                      .state = BACKUP_RUNNING};
    b->look.running = true;
}

static enum status make(struct backup *b, char *why, size_t why_len)
{
    const struct backup_options *o = &b->options;
    enum status status = o->engine->create(o->kv, &o->target, why, why_len);
    if (status == STATUS_OK) status = rows_read(b, why, why_len);
    return status;
}

/* purge comes behind a success alone: a run of failures must not eat up the good ones. The backup stands whether it
 * works or not. */
static bool purge(struct backup *b)
{
    const struct backup_options *o = &b->options;
    char why[BACKUP_ERROR_BYTES_MAX] = "";
    if (b->num_rows <= o->keep) return true;
    enum status status = o->engine->purge(&o->target, o->keep, why, sizeof why);
    if (status == STATUS_OK) status = rows_read(b, why, sizeof why);
    if (status == STATUS_OK) return true;
    LOG(LOG_ERROR, "backup", "purge_failed", LOG_STR("why", why));
    pthread_mutex_lock(&b->lock);
    look_failed(b, why);
    pthread_mutex_unlock(&b->lock);
    return false;
}

static void look_failed(struct backup *b, const char *why)
{
    b->look.failed = true;
    snprintf(b->look.why, sizeof b->look.why, "%s", why);
}

/* rows_read is called without the lock: it reads the disk. Nobody else writes the rows. */
static enum status rows_read(struct backup *b, char *why, size_t why_len)
{
    struct backup_row *rows = calloc(BACKUPS_MAX, sizeof *rows);
    ASSERT(rows);
    unsigned num = 0;
    enum status status = b->options.engine->list(b->options.target.dir, rows, BACKUPS_MAX, &num, why, why_len);
    if (status == STATUS_OK) {
        pthread_mutex_lock(&b->lock);
        memcpy(b->rows, rows, num * sizeof *rows);
        b->num_rows = num;
        b->look.last_success_s = b->look.last_bytes = 0;
        for (unsigned i = 0; i < num; i++) {
            if (rows[i].damaged) continue;
            b->look.last_success_s = rows[i].created_ms / 1000;
            b->look.last_bytes = rows[i].bytes;
        }
        pthread_mutex_unlock(&b->lock);
    }
    free(rows);
    return status;
}

/* The log is first: whoever sees that the attempt has ended may look there for its reason. */
static void attempt_end(struct backup *b, enum status status, const char *why, uint64_t took_ms, bool purged)
{
    struct backup_item *attempt = &b->attempt; /* only this thread changes it while the attempt runs */
    if (status == STATUS_OK)
        LOG(LOG_INFO, "backup", "complete", LOG_U64("backup_id", attempt->row.id), LOG_U64("bytes", b->look.last_bytes),
            LOG_U64("took_ms", took_ms));
    else
        LOG(LOG_ERROR, "backup", "failed", LOG_U64("backup_id", attempt->row.id),
            LOG_STR("status", status_name(status)), LOG_STR("why", why), LOG_U64("took_ms", took_ms));
    log_flush();
    pthread_mutex_lock(&b->lock);
    b->look.running = false;
    b->look.failed = status != STATUS_OK || !purged;
    b->look.failures += b->look.failed;
    b->attempt_ended_ms = clock_wall_ms(b->options.clock);
    if (status == STATUS_OK) {
        b->look.successes++;
        b->look.last_duration_ms = took_ms;
        if (purged) b->look.why[0] = '\0';
        *attempt = (struct backup_item){0};
    } else {
        attempt->state = BACKUP_FAILED;
        look_failed(b, why);
        snprintf(attempt->error, sizeof attempt->error, "%s", why);
    }
    pthread_mutex_unlock(&b->lock);
}

/* --- the schedule ------------------------------------------------------------------------------------------------ */

static bool scheduled(const struct backup *b, uint64_t now_ms)
{
    const struct backup_options *o = &b->options;
    if (b->look.failed && backup_rests(o->interval_ms, b->attempt_ended_ms, now_ms)) return false;
    return backup_due(o->interval_ms, o->at_minutes, b->look.last_success_s * 1000, now_ms);
}

bool backup_rests(uint64_t interval_ms, uint64_t failed_ms, uint64_t now_ms)
{
    uint64_t rest_ms = interval_ms && interval_ms < BACKUP_RETRY_MS ? interval_ms : BACKUP_RETRY_MS;
    return now_ms >= failed_ms && now_ms - failed_ms < rest_ms; /* not when the clock went back */
}

bool backup_due(uint64_t interval_ms, uint32_t at_minutes, uint64_t last_ms, uint64_t now_ms)
{
    if (interval_ms) return last_ms == 0 || now_ms < last_ms || now_ms - last_ms >= interval_ms;
    if (at_minutes == BACKUP_AT_NEVER) return false;
    time_t now = (time_t)(now_ms / 1000);
    struct tm at;
    if (!localtime_r(&now, &at)) return false;
    at.tm_hour = (int)(at_minutes / 60);
    at.tm_min = (int)(at_minutes % 60);
    at.tm_sec = 0;
    at.tm_isdst = -1; /* mktime finds out; a time that summer time leaves out becomes the one next to it */
    time_t today = mktime(&at);
    if (today > now) { /* not yet today: yesterday's is the last one that was due */
        at.tm_mday--;
        at.tm_hour = (int)(at_minutes / 60);
        at.tm_min = (int)(at_minutes % 60);
        at.tm_isdst = -1;
        today = mktime(&at);
    }
    return last_ms < (uint64_t)today * 1000;
}
