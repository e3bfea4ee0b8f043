/* rest_process: the process as its operator sees it: status in one object, draining, reloading. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "../../storage/backup.h"
#include "api.h"

/* --- drain and reload: the main thread's (control.h) ------------------------------------------------------------ */

void rest_drain(struct call *call) { control_ask(call->core, call_op(call, OP_DRAIN, 0)); }

void rest_reload(struct call *call) { control_ask(call->core, call_op(call, OP_RELOAD, 0)); }

/* --- status ----------------------------------------------------------------------------------------------------- */

/* writing: an object under way. Every figure is a whole number below 2^53. */
struct writing {
    struct buf *out;
    struct core *core;
    const struct gateway *g;
};

static void write_process(const struct writing *w);
static void write_cores(const struct writing *w);
static void write_traffic(const struct writing *w);
static void write_commit(const struct writing *w);
static void write_store(const struct writing *w);
static void write_memory(const struct writing *w);
static void write_warnings(const struct writing *w);

void rest_status(struct call *call)
{
    struct buf out = {0};
    const struct writing w = {&out, call->core, call->core->gateway};
    BUF_LIT(&out, "{");
    write_process(&w);
    write_cores(&w);
    write_traffic(&w);
    write_commit(&w);
    write_store(&w);
    write_memory(&w);
    write_warnings(&w);
    BUF_LIT(&out, "}");
    call_reply(call, 200, buf_slice(&out));
    buf_free(&out);
}

static void member(const struct writing *w, const char *name, uint64_t v)
{
    char last = w->out->data[w->out->len - 1];
    buf_printf(w->out, "%s\"%s\":%llu", last == '{' ? "" : ",", name, (unsigned long long)v);
}

static void sum_member(const struct writing *w, const char *name, enum metric_id id)
{
    member(w, name, metric_sum(w->g, id));
}

static uint64_t core_metric(const struct core *core, enum metric_id id)
{
    return atomic_load_explicit(&core->metrics.value[id], memory_order_relaxed);
}

static bool draining(const struct gateway *g) { return atomic_load_explicit(&g->draining, memory_order_relaxed); }

static void write_process(const struct writing *w)
{
    char time[TIME_TEXT_LEN];
    time_text(time, w->g->started_ms);
    const char *state = draining(w->g) ? "draining" : db_writable(w->core) ? "serving" : "read_only";
    buf_printf(w->out,
               "\"version\":\"" CARILLON_VERSION "\",\"state\":\"%s\",\"started_at\":\"%.*s\",\"durability\":\"%s\"",
               state, (int)TIME_TEXT_LEN, time, w->g->config->durability ? "fast" : "fsync");
    member(w, "pid", (uint64_t)getpid());
    member(w, "uptime_s", uptime_s(w->core));
    member(w, "epoch", w->g->epoch);
    uint64_t tenants = 0;
    uint32_t at = 0;
    for (struct tenant *t; (t = map_next(&w->core->directory.tenants, &at));) tenants += t->state != TENANT_DELETED;
    member(w, "tenants", tenants);
    sum_member(w, "rooms_loaded", METRIC_ROOMS_LOADED);
    sum_member(w, "users_loaded", METRIC_USERS_LOADED);
    sum_member(w, "sessions", METRIC_SESSIONS);
    sum_member(w, "subscriptions", METRIC_SUBSCRIPTIONS);
}

/* cpu_us: how long the core's thread has run; the difference of two looks says how busy it is. */
static uint64_t cpu_us(const struct core *core)
{
    struct timespec t;
    bool known = atomic_load_explicit(&core->cpu_clock_known, memory_order_acquire);
    if (!known || clock_gettime(core->cpu_clock, &t) != 0) return 0;
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void write_cores(const struct writing *w)
{
    BUF_LIT(w->out, ",\"cores\":[");
    for (unsigned i = 0; i < w->g->num_cores; i++) {
        const struct core *core = w->g->cores[i];
        buf_printf(w->out, "%s{", i ? "," : "");
        member(w, "core", i);
        member(w, "cpu_us", cpu_us(core));
        member(w, "ring_enters", core_metric(core, METRIC_RING_ENTERS));
        member(w, "connections", core_metric(core, METRIC_CONNECTIONS));
        member(w, "websockets", core_metric(core, METRIC_WEBSOCKET_CONNECTIONS_ACTIVE));
        member(w, "rooms_loaded", core_metric(core, METRIC_ROOMS_LOADED));
        member(w, "deliveries", core_metric(core, METRIC_DELIVERIES));
        member(w, "commit_pending", core_metric(core, METRIC_COMMIT_PENDING));
        BUF_LIT(w->out, "}");
    }
    BUF_LIT(w->out, "]");
}

static void write_traffic(const struct writing *w)
{
    BUF_LIT(w->out, ",\"connections\":{");
    sum_member(w, "open", METRIC_CONNECTIONS);
    sum_member(w, "websockets", METRIC_WEBSOCKET_CONNECTIONS_ACTIVE);
    member(w, "max", w->g->config->limits_connections);
    sum_member(w, "accepted", METRIC_CONNECTIONS_ACCEPTED);
    sum_member(w, "closed", METRIC_CONNECTIONS_CLOSED);
    sum_member(w, "slow_closed", METRIC_SLOW_READERS_CLOSED);
    BUF_LIT(w->out, "},\"traffic\":{");
    sum_member(w, "messages", METRIC_MESSAGES);
    sum_member(w, "events_durable", METRIC_EVENTS_DURABLE);
    sum_member(w, "deliveries", METRIC_DELIVERIES);
    sum_member(w, "replays", METRIC_REPLAYS);
    sum_member(w, "acks", METRIC_ACKS);
    sum_member(w, "bytes_received", METRIC_BYTES_RECEIVED);
    sum_member(w, "bytes_sent", METRIC_BYTES_SENT);
    uint64_t errors = 0;
    for (unsigned i = 0; i < w->g->num_cores; i++)
        for (unsigned code = 1; code < ERRORS; code++)
            errors += atomic_load_explicit(&w->g->cores[i]->error_count[code], memory_order_relaxed);
    member(w, "errors", errors);
    BUF_LIT(w->out, "}");
}

/* bucket_percentile: the upper end of the bucket in which that share of all counts is reached; 0 when nothing was
 * counted. */
static uint64_t bucket_percentile(const _Atomic uint64_t *bucket, unsigned percent)
{
    uint64_t total = 0, seen = 0;
    for (unsigned b = 0; b < COMMIT_BUCKETS; b++) total += atomic_load_explicit(&bucket[b], memory_order_relaxed);
    for (unsigned b = 0; total && b < COMMIT_BUCKETS; b++) {
        seen += atomic_load_explicit(&bucket[b], memory_order_relaxed);
        if (seen * 100 >= total * percent) return 1ull << b;
    }
    return 0;
}

static void write_buckets(const struct writing *w, const char *name, const _Atomic uint64_t *bucket)
{
    buf_printf(w->out, ",\"%s\":[", name);
    for (unsigned b = 0; b < COMMIT_BUCKETS; b++)
        buf_printf(w->out, "%s%llu", b ? "," : "",
                   (unsigned long long)atomic_load_explicit(&bucket[b], memory_order_relaxed));
    BUF_LIT(w->out, "]");
}

/* oldest_ms: how long the oldest of all entries has waited to become durable, to within METRICS_INTERVAL_NS. */
static uint64_t oldest_ms(const struct writing *w)
{
    uint64_t oldest_ns = w->core->now_ns;
    for (unsigned i = 0; i < w->g->num_cores; i++) {
        uint64_t ns = atomic_load_explicit(&w->g->cores[i]->commit_oldest_ns, memory_order_relaxed);
        if (ns && ns < oldest_ns) oldest_ns = ns;
    }
    return (w->core->now_ns - oldest_ns) / 1000000u;
}

static void write_commit(const struct writing *w)
{
    const struct commit_stats *c = commit_stats(w->g->commit);
    BUF_LIT(w->out, ",\"commit\":{");
    sum_member(w, "pending", METRIC_COMMIT_PENDING);
    member(w, "oldest_ms", oldest_ms(w));
    member(w, "batches", c->batches);
    member(w, "entries", c->entries);
    member(w, "bytes", c->bytes);
    member(w, "syncs", c->syncs);
    member(w, "errors", c->write_errors + c->sync_errors);
    member(w, "fsync_p50_us", bucket_percentile(c->sync_ns_bucket, 50));
    member(w, "fsync_p99_us", bucket_percentile(c->sync_ns_bucket, 99));
    member(w, "latency_p50_us", bucket_percentile(c->latency_bucket, 50));
    member(w, "latency_p99_us", bucket_percentile(c->latency_bucket, 99));
    write_buckets(w, "fsync_buckets", c->sync_ns_bucket);
    write_buckets(w, "latency_buckets", c->latency_bucket);
    BUF_LIT(w->out, "}");
}

/* The store is asked by the main thread, once a second (core/vitals.h): asking takes RocksDB's lock. */
static uint64_t part(const struct writing *w, enum memory_part part)
{
    return atomic_load_explicit(&w->g->vitals.memory[part], memory_order_relaxed);
}

static void write_store(const struct writing *w)
{
    BUF_LIT(w->out, ",\"store\":{");
    buf_printf(w->out, "\"writable\":%s", db_writable(w->core) ? "true" : "false");
    buf_printf(w->out, ",\"write_stopped\":%s", vital(w->g, METRIC_STORE_WRITE_STOPPED) ? "true" : "false");
    member(w, "delayed_write_bytes_s", vital(w->g, METRIC_STORE_DELAYED_WRITE_RATE));
    member(w, "table_bytes", vital(w->g, METRIC_STORE_FILES_BYTES));
    member(w, "buffer_bytes", part(w, MEMORY_MEMTABLES));
    member(w, "pending_compaction_bytes", vital(w->g, METRIC_STORE_COMPACTION_PENDING_BYTES));
    member(w, "free_bytes", atomic_load_explicit(&w->g->disk_free, memory_order_relaxed));
    member(w, "reserve_bytes", w->g->config->store_reserve);
    BUF_LIT(w->out, "}");
}

static void write_memory(const struct writing *w)
{
    BUF_LIT(w->out, ",\"memory\":{");
    member(w, "resident_bytes", vital(w->g, METRIC_RESIDENT_MEMORY_BYTES));
    sum_member(w, "frames_bytes", METRIC_FRAMES_BYTES);
    sum_member(w, "send_queue_bytes", METRIC_SEND_QUEUE_BYTES);
    member(w, "store_buffer_bytes", part(w, MEMORY_MEMTABLES));
    member(w, "store_cache_bytes", part(w, MEMORY_BLOCK_CACHE));
    BUF_LIT(w->out, "}");
}

/* --- warnings: what is wrong, and what to do next --------------------------------------------------------------- */

#define OLDEST_WARN_MS 1000u

static void warn(const struct writing *w, const char *text)
{
    if (w->out->data[w->out->len - 1] != '[') BUF_LIT(w->out, ",");
    buf_json_string(w->out, slice_str(text));
}

static void warn_of_disk(const struct writing *w)
{
    uint64_t free_bytes = atomic_load_explicit(&w->g->disk_free, memory_order_relaxed);
    if (atomic_load_explicit(&w->g->disk, memory_order_relaxed) != DISK_OK)
        warn(w, "The disk's reserve is reached and sends are answered 507: make room on the file system of store.dir; "
                "they are taken again by themselves");
    else if (w->g->config->store_reserve && free_bytes < 2 * w->g->config->store_reserve)
        warn(w, "The disk has less than twice store.reserve left: make room before sends are refused");
}

static void warn_of_backups(const struct writing *w)
{
    struct backup_look look;
    char text[BACKUP_ERROR_BYTES_MAX + 64];
    if (!w->g->backup) return;
    backup_look(w->g->backup, &look);
    if (!look.failed) return;
    snprintf(text, sizeof text, "The last backup failed: %s", look.why);
    warn(w, text);
}

static void write_warnings(const struct writing *w)
{
    BUF_LIT(w->out, ",\"warnings\":[");
    if (commit_poisoned(w->g->commit))
        warn(w, "The store failed and serves reads only: look for errors of the disk in the log, then restart the "
                "gateway; clients repeat what was not answered");
    warn_of_disk(w);
    warn_of_backups(w);
    if (vital(w->g, METRIC_STORE_WRITE_STOPPED) || vital(w->g, METRIC_STORE_DELAYED_WRITE_RATE))
        warn(w, "The store holds writes back until its compaction has caught up: spread the load, or give it a "
                "faster disk");
    if (oldest_ms(w) >= OLDEST_WARN_MS)
        warn(w, "A write has waited more than a second to become durable: the disk is slow or shared (see "
                "fsync_p99_us)");
    uint64_t open = metric_sum(w->g, METRIC_CONNECTIONS), max = w->g->config->limits_connections;
    if (max && open >= max - max / 10)
        warn(w, "Nine tenths of the connections are in use: raise limits.connections and the limit on open files, or "
                "add a gateway");
    if (draining(w->g))
        warn(w, "The gateway is stopping: it ends when its clients have left, or after drain.timeout_s");
    BUF_LIT(w->out, "]");
}
