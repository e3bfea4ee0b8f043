/* rest_system: health, readiness, metrics, statistics. */
#include <stdio.h>
#include <stdlib.h>

#include "../../storage/backup.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "../base/log_writer.h"
#include "access.h"
#include "../notify/notify.h"
#include "../notify/provider.h"
#include "api.h"

bool db_writable(const struct core *core)
{
    const struct gateway *g = core->gateway;
    return !commit_poisoned(g->commit) && atomic_load_explicit(&g->disk, memory_order_relaxed) == DISK_OK;
}

uint64_t uptime_s(const struct core *core) { return (core->now_ns - core->gateway->started_ns) / 1000000000u; }

/* state_reply: 503 says when to look again (RFC 9110 section 10.2.3). */
static void state_reply(struct call *call, bool good, struct slice json)
{
    rest_reply(call->core, call->conn, call->route, call->core->now_ns, good ? 200 : 503, "application/json",
               good ? SLICE_NONE : SLICE("Retry-After: 1\r\n"), json);
}

/* backup_health does not make the gateway unhealthy: it serves. Whoever watches backups looks here or at metrics. */
static const char *backup_health(const struct gateway *g)
{
    struct backup_look look;
    if (!g->backup) return "off";
    backup_look(g->backup, &look);
    return look.failed ? "failed" : "ok";
}

static void put_check(struct buf *out, const char *opening, const char *state)
{
    buf_append(out, opening, strlen(opening));
    buf_append(out, state, strlen(state));
}

void rest_health(struct call *call)
{
    struct core *core = call->core;
    struct gateway *g = core->gateway;
    bool store_ok = !commit_poisoned(g->commit);
    bool disk_ok = atomic_load_explicit(&g->disk, memory_order_relaxed) == DISK_OK;
    unsigned stuck;
    bool cores_ok = gateway_cores_alive(g, &stuck, core->now_ns);
    bool good = store_ok && disk_ok && cores_ok;
    struct buf out = {0}; /* probes come often: printf would take as long as all else of an answer outside the kernel */
    buf_reserve(&out, 448);
    put_check(&out, "{\"status\":\"", good ? "ok" : "unavailable");
    BUF_LIT(&out, "\",\"service\":\"carillon\",\"version\":\"" CARILLON_VERSION "\",\"uptime_s\":");
    buf_u64(&out, uptime_s(core));
    put_check(&out, ",\"db_writable\":", store_ok && disk_ok ? "true" : "false");
    BUF_LIT(&out, ",\"epoch\":");
    buf_u64(&out, g->epoch);
    put_check(&out, ",\"checks\":{\"store\":\"", store_ok ? "ok" : "read_only");
    put_check(&out, "\",\"disk\":\"", disk_ok ? "ok" : "reserve_reached");
    put_check(&out, "\",\"cores\":\"", cores_ok ? "ok" : "stuck");
    put_check(&out, "\",\"providers\":\"", provider_websocket.status(core));
    put_check(&out, "\",\"backup\":\"", backup_health(g));
    BUF_LIT(&out, "\"}}");
    state_reply(call, good, buf_slice(&out));
    buf_free(&out);
}

void rest_ready(struct call *call)
{
    bool ready = db_writable(call->core) &&
                 atomic_load_explicit(&call->core->gateway->memory, memory_order_relaxed) == MEMORY_OK &&
                 !atomic_load_explicit(&call->core->gateway->draining, memory_order_relaxed);
    state_reply(call, ready, ready ? SLICE("{\"ready\":true}") : SLICE("{\"ready\":false}"));
}

/* --- what is counted where: sums over cores ---------------------------------------------------------------------- */

/* CORES_SUM(g, counter): of an _Atomic uint64_t in struct core. */
#define CORES_SUM(g, counter) \
    ({ \
        uint64_t _sum = 0; \
        for (unsigned _core = 0; _core < (g)->num_cores; _core++) \
            _sum += atomic_load_explicit(&(g)->cores[_core]->counter, memory_order_relaxed); \
        _sum; \
    })

uint64_t metric_sum(const struct gateway *g, enum metric_id id) { return CORES_SUM(g, metrics.value[id]); }

static void metric_one(struct buf *out, enum metric_id id, uint64_t v)
{
    metrics_head(out, id);
    metrics_value(out, id, "", v);
}

#ifdef __clang__
#define COMPILER __VERSION__ /* "Debian Clang 14.0.6" */
#else
#define COMPILER "gcc " __VERSION__
#endif

uint64_t vital(const struct gateway *g, enum metric_id id)
{
    return atomic_load_explicit(&g->vitals.metrics.value[id], memory_order_relaxed);
}

static void write_process(struct buf *out, struct core *core)
{
    static const enum metric_id of_process[] = {
        METRIC_VIRTUAL_MEMORY_BYTES, METRIC_RESIDENT_MEMORY_BYTES, METRIC_OPEN_FDS, METRIC_MAX_FDS,
        METRIC_STORE_WRITE_STOPPED, METRIC_STORE_DELAYED_WRITE_RATE, METRIC_STORE_COMPACTION_PENDING_BYTES,
        METRIC_STORE_FLUSHES_RUNNING, METRIC_STORE_COMPACTIONS_RUNNING, METRIC_STORE_FILES_BYTES,
        METRIC_STORE_BACKGROUND_ERRORS};
    const struct gateway *g = core->gateway;
    char labels[160];
    snprintf(labels, sizeof labels, "version=\"" CARILLON_VERSION "\",store_format=\"%u\",compiler=\"%s\"",
             STORE_FORMAT, COMPILER);
    metrics_head(out, METRIC_INFO);
    metrics_value(out, METRIC_INFO, labels, 1);
    metric_one(out, METRIC_UPTIME_SECONDS, uptime_s(core));
    metrics_head(out, METRIC_START_TIME);
    metrics_seconds(out, METRIC_START_TIME, "", g->started_ms * 1000000u);
    metrics_head(out, METRIC_CPU_SECONDS);
    metrics_seconds(out, METRIC_CPU_SECONDS, "", atomic_load_explicit(&g->vitals.cpu_ns, memory_order_relaxed));
    for (unsigned i = 0; i < sizeof of_process / sizeof *of_process; i++)
        metric_one(out, of_process[i], vital(g, of_process[i]));
    metric_one(out, METRIC_EPOCH, g->epoch);
    metric_one(out, METRIC_STORE_WRITABLE, db_writable(core));
    metric_one(out, METRIC_STORE_FREE_BYTES, atomic_load_explicit(&g->disk_free, memory_order_relaxed));
    notify_metrics(out, g);
}

static uint64_t queue_sum(const struct gateway *g, enum core_queue queue)
{
    return CORES_SUM(g, queue_depth[queue]);
}

static void write_memory(struct buf *out, const struct gateway *g)
{
    static const char *const parts[MEMORY_PARTS] = {"heap_allocated", "heap_active",   "heap_resident",
                                                    "block_cache",    "write_buffers", "table_readers"};
    static const char *const core_parts[CORE_MEMORY_PARTS] = {"connections", "answers", "frames", "tails", "assembly",
                                                             "pending"};
    char labels[64];
    metric_one(out, METRIC_MEMORY_USED_BYTES, atomic_load_explicit(&g->memory_used, memory_order_relaxed));
    metric_one(out, METRIC_MEMORY_LIMIT_BYTES, atomic_load_explicit(&g->memory_max, memory_order_relaxed));
    metrics_head(out, METRIC_MEMORY);
    for (unsigned i = 0; i < MEMORY_PARTS; i++) {
        snprintf(labels, sizeof labels, "part=\"%s\"", parts[i]);
        metrics_value(out, METRIC_MEMORY, labels, atomic_load_explicit(&g->vitals.memory[i], memory_order_relaxed));
    }
    for (unsigned i = 0; i < CORE_MEMORY_PARTS; i++) {
        snprintf(labels, sizeof labels, "part=\"%s\"", core_parts[i]);
        metrics_value(out, METRIC_MEMORY, labels, CORES_SUM(g, memory[i]));
    }
    metrics_value(out, METRIC_MEMORY, "part=\"commits\"", queue_sum(g, QUEUE_COMMIT_BYTES));
    metrics_value(out, METRIC_MEMORY, "part=\"receive_buffers\"",
                  (uint64_t)g->num_cores * RECV_BUFFERS * RECV_BUFFER_BYTES);
}

static void write_log(struct buf *out)
{
    struct log_counts c = log_writer_counts();
    metrics_head(out, METRIC_LOG_LINES);
    metrics_value(out, METRIC_LOG_LINES, "outcome=\"written\"", c.written);
    metrics_value(out, METRIC_LOG_LINES, "outcome=\"suppressed\"", log_suppressed());
    metrics_value(out, METRIC_LOG_LINES, "outcome=\"queue_full\"", c.lost_full);
    metrics_value(out, METRIC_LOG_LINES, "outcome=\"write_failed\"", c.lost_write);
}

/* counters that each core keeps up to date itself, once a turn (core_metrics) or as things happen */
static const enum metric_id summed[] = {
    METRIC_WEBSOCKET_CONNECTIONS_ACTIVE, METRIC_CONNECTIONS_ACCEPTED, METRIC_ACCEPT_ERRORS,
    METRIC_CONNECTIONS_REFUSED, METRIC_WEBSOCKETS_OPENED, METRIC_WEBSOCKET_MESSAGES, METRIC_FRAMES_SENT,
    METRIC_BYTES_RECEIVED, METRIC_BYTES_SENT, METRIC_SEND_QUEUE_BYTES, METRIC_SLOW_READERS_CLOSED,
    METRIC_ROOMS_LOADED, METRIC_USERS_LOADED, METRIC_SESSIONS, METRIC_SUBSCRIPTIONS, METRIC_MESSAGES,
    METRIC_EVENTS_DURABLE, METRIC_DELIVERIES, METRIC_CROSS_CORE_DELIVERIES, METRIC_FRAMES_BYTES, METRIC_ACKS,
    METRIC_REPLAYS, METRIC_REPLAY_READS, METRIC_REPLAY_PARTS, METRIC_IDEMPOTENCY_LOOKUPS, METRIC_USERS_ONLINE,
    METRIC_PRESENCE_UPDATES, METRIC_TYPING, METRIC_EPHEMERALS_DROPPED, METRIC_IDEMPOTENCY_SWEPT,
    METRIC_IDEMPOTENT_HITS, METRIC_SENDS, METRIC_SHORT_SENDS, METRIC_RING_ENTERS, METRIC_RING_COMPLETIONS,
    METRIC_RING_OVERFLOWS, METRIC_RECEIVE_BUFFERS_EMPTY, METRIC_MAILBOX_PARKED,
};

static void write_connections(struct buf *out, const struct gateway *g)
{
    uint64_t websockets = metric_sum(g, METRIC_WEBSOCKET_CONNECTIONS_ACTIVE), all = metric_sum(g, METRIC_CONNECTIONS);
    metrics_head(out, METRIC_CONNECTIONS);
    metrics_value(out, METRIC_CONNECTIONS, "kind=\"http\"", all > websockets ? all - websockets : 0);
    metrics_value(out, METRIC_CONNECTIONS, "kind=\"websocket\"", websockets);
    char labels[48];
    metrics_head(out, METRIC_CONNECTIONS_CLOSED);
    for (unsigned cause = 0; cause < CONN_CAUSES; cause++) {
        snprintf(labels, sizeof labels, "reason=\"%s\"", conn_cause_name((enum conn_cause)cause));
        metrics_value(out, METRIC_CONNECTIONS_CLOSED, labels, CORES_SUM(g, closed_by[cause]));
    }
    metrics_head(out, METRIC_WEBSOCKETS_CLOSED);
    for (unsigned place = 0; place < NET_CLOSE_CODES; place++) {
        snprintf(labels, sizeof labels, "code=\"%s\"", net_close_code_name(place));
        uint64_t sum = CORES_SUM(g, ws_closed_by[place]);
        if (sum) metrics_value(out, METRIC_WEBSOCKETS_CLOSED, labels, sum);
    }
}

static void write_zero_copy(struct buf *out, const struct gateway *g)
{
    char labels[48];
    metrics_head(out, METRIC_SEND_ZC);
    for (unsigned result = 0; result < NET_ZERO_COPY_RESULTS; result++) {
        snprintf(labels, sizeof labels, "result=\"%s\"", net_zero_copy_result_name((enum net_zero_copy_result)result));
        metrics_value(out, METRIC_SEND_ZC, labels, CORES_SUM(g, zero_copy[result]));
    }
}

static void write_errors(struct buf *out, const struct gateway *g)
{
    metrics_head(out, METRIC_ERRORS);
    for (unsigned code = 1; code < ERRORS; code++) {
        uint64_t sum = CORES_SUM(g, error_count[code]);
        char labels[96];
        snprintf(labels, sizeof labels, "code=\"%s\"", error_rows[code].code);
        if (sum) metrics_value(out, METRIC_ERRORS, labels, sum);
    }
    for (unsigned error = 1; error < HTTP_ERRORS; error++) { /* what was refused before it was a request */
        uint64_t sum = CORES_SUM(g, refused_count[error]);
        char labels[96];
        snprintf(labels, sizeof labels, "code=\"%s\"", http_error_code((enum http_error)error));
        if (sum) metrics_value(out, METRIC_ERRORS, labels, sum);
    }
}

static const char *route_method(unsigned r) { return r < ROUTES ? http_method_name(routes[r].method) : "ANY"; }

static void write_requests(struct buf *out, const struct gateway *g)
{
    char labels[192], label[ROUTE_TEXT_MAX];
    metrics_head(out, METRIC_HTTP_REQUESTS);
    for (unsigned r = 0; r <= ROUTES; r++) {
        for (unsigned status = 1; status < 6; status++) {
            uint64_t sum = CORES_SUM(g, route_status[r * 6 + status]);
            if (!sum) continue;
            snprintf(labels, sizeof labels, "method=\"%s\",endpoint=\"%s\",status=\"%uxx\"", route_method(r),
                     access_route(r, label), status);
            metrics_value(out, METRIC_HTTP_REQUESTS, labels, sum);
        }
    }
}

static void write_durations(struct buf *out, const struct gateway *g)
{
    char labels[192], label[ROUTE_TEXT_MAX];
    metrics_head(out, METRIC_API_REQUEST_DURATION);
    for (unsigned r = 0; r <= ROUTES; r++) {
        _Atomic uint64_t bucket[HISTOGRAM_BUCKETS] = {0};
        uint64_t sum_ns = 0, count = 0;
        for (unsigned i = 0; i < g->num_cores; i++) {
            const struct histogram *h = &g->cores[i]->route_seconds[r];
            count += atomic_load_explicit(&h->count, memory_order_relaxed);
            sum_ns += atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
            for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
                bucket[b] += atomic_load_explicit(&h->bucket[b], memory_order_relaxed);
        }
        if (!count) continue;
        snprintf(labels, sizeof labels, "method=\"%s\",endpoint=\"%s\"", route_method(r), access_route(r, label));
        metrics_histogram(out, METRIC_API_REQUEST_DURATION, labels, bucket, HISTOGRAM_BUCKETS, sum_ns);
    }
}

static void write_commit(struct buf *out, const struct gateway *g)
{
    const struct commit_stats *c = commit_stats(g->commit);
    metrics_head(out, METRIC_COMMIT_LATENCY);
    metrics_histogram(out, METRIC_COMMIT_LATENCY, "", c->latency_bucket, COMMIT_BUCKETS, c->latency_ns_sum);
    metrics_head(out, METRIC_COMMIT_BATCH_ENTRIES);
    metrics_histogram_plain(out, METRIC_COMMIT_BATCH_ENTRIES, "", c->batch_bucket, COMMIT_BUCKETS, c->entries);
    metrics_head(out, METRIC_FSYNC);
    metrics_histogram(out, METRIC_FSYNC, "", c->sync_ns_bucket, COMMIT_BUCKETS, c->sync_ns_sum);
    metric_one(out, METRIC_COMMIT_BATCHES, c->batches);
    metric_one(out, METRIC_COMMIT_BYTES, c->bytes);
    metrics_head(out, METRIC_STORE_ERRORS);
    metrics_value(out, METRIC_STORE_ERRORS, "op=\"write\"", c->write_errors);
    metrics_value(out, METRIC_STORE_ERRORS, "op=\"sync\"", c->sync_errors);
    metrics_head(out, METRIC_COMMIT_PENDING);
    for (unsigned i = 0; i < g->num_cores; i++) {
        char labels[32];
        snprintf(labels, sizeof labels, "core=\"%u\"", i);
        metrics_value(out, METRIC_COMMIT_PENDING, labels,
                      atomic_load_explicit(&g->cores[i]->metrics.value[METRIC_COMMIT_PENDING], memory_order_relaxed));
    }
}

static void write_mailboxes(struct buf *out, const struct gateway *g)
{
    metrics_head(out, METRIC_MAILBOX_DEPTH);
    for (unsigned from = 0; from < g->num_cores; from++) {
        for (unsigned to = 0; to < g->num_cores; to++) {
            if (from == to) continue;
            char labels[48];
            snprintf(labels, sizeof labels, "from=\"%u\",to=\"%u\"", from, to);
            metrics_value(out, METRIC_MAILBOX_DEPTH, labels, spsc_depth(&g->mailboxes[from * g->num_cores + to]));
        }
    }
}

static void write_cores(struct buf *out, const struct gateway *g, uint64_t now_ns)
{
    char labels[32];
    metrics_head(out, METRIC_TURN);
    for (unsigned i = 0; i < g->num_cores; i++) {
        const struct histogram *h = &g->cores[i]->turn_seconds;
        snprintf(labels, sizeof labels, "core=\"%u\"", i);
        metrics_histogram(out, METRIC_TURN, labels, h->bucket, HISTOGRAM_BUCKETS,
                          atomic_load_explicit(&h->sum_ns, memory_order_relaxed));
    }
    metrics_head(out, METRIC_HEARTBEAT_AGE);
    for (unsigned i = 0; i < g->num_cores; i++) {
        snprintf(labels, sizeof labels, "core=\"%u\"", i);
        metrics_seconds(out, METRIC_HEARTBEAT_AGE, labels, gateway_heartbeat_age_ns(g, i, now_ns));
    }
}

/* queue_most is the fullest core's; a queue of the log's thread is the process' own. */
static uint64_t queue_most(const struct gateway *g, enum core_queue queue, bool high)
{
    uint64_t most = 0;
    for (unsigned i = 0; i < g->num_cores; i++) {
        const struct core *core = g->cores[i];
        uint64_t v =
            atomic_load_explicit(high ? &core->queue_high[queue] : &core->queue_depth[queue], memory_order_relaxed);
        if (v > most) most = v;
    }
    return most;
}

static void write_queues(struct buf *out, const struct gateway *g)
{
    static const enum metric_id families[] = {METRIC_QUEUE_DEPTH, METRIC_QUEUE_HIGH, METRIC_QUEUE_BOUND};
    struct log_counts log = log_writer_counts();
    const uint64_t of_log[] = {log.queued_bytes, log.queued_bytes_high, LOG_QUEUE_BYTES};
    for (unsigned f = 0; f < 3; f++) {
        metrics_head(out, families[f]);
        for (unsigned q = 0; q < CORE_QUEUES; q++) {
            char labels[48];
            snprintf(labels, sizeof labels, "queue=\"%s\"", core_queue_names[q]);
            uint64_t v = families[f] == METRIC_QUEUE_BOUND
                             ? core_queue_bound(g, (enum core_queue)q)
                             : queue_most(g, (enum core_queue)q, families[f] == METRIC_QUEUE_HIGH);
            metrics_value(out, families[f], labels, v);
        }
        metrics_value(out, families[f], "queue=\"log_bytes\"", of_log[f]);
    }
}

static void write_backups(struct buf *out, const struct gateway *g)
{
    struct backup_look look = {0};
    if (g->backup) backup_look(g->backup, &look);
    metric_one(out, METRIC_BACKUPS, look.successes);
    metric_one(out, METRIC_BACKUP_FAILURES, look.failures);
    metric_one(out, METRIC_BACKUP_RUNNING, look.running);
    metric_one(out, METRIC_BACKUP_LAST_SUCCESS, look.last_success_s);
    metric_one(out, METRIC_BACKUP_LAST_BYTES, look.last_bytes);
    metric_one(out, METRIC_BACKUP_LAST_DURATION, look.last_duration_ms / 1000);
}

void rest_metrics(struct call *call)
{
    struct gateway *g = call->core->gateway;
    struct buf out = {0};
    write_process(&out, call->core);
    write_memory(&out, g);
    write_log(&out);
    write_connections(&out, g);
    for (unsigned i = 0; i < sizeof summed / sizeof summed[0]; i++)
        metric_one(&out, summed[i], metric_sum(g, summed[i]));
    write_zero_copy(&out, g);
    write_errors(&out, g);
    write_requests(&out, g);
    write_durations(&out, g);
    write_commit(&out, g);
    write_mailboxes(&out, g);
    write_cores(&out, g, call->core->now_ns);
    write_queues(&out, g);
    write_backups(&out, g);
    rest_reply(call->core, call->conn, call->route, call->core->now_ns, 200, "text/plain; version=0.0.4; charset=utf-8",
               (struct slice){0}, buf_slice(&out));
    buf_free(&out);
}

void rest_stats(struct call *call)
{
    const struct gateway *g = call->core->gateway;
    struct buf out = {0};
    buf_printf(
        &out,
        "{\"uptime_s\":%llu,\"epoch\":%llu,\"cores\":%u,\"tenants\":%u,\"db_writable\":%s,\"resident_bytes\":%llu",
        (unsigned long long)uptime_s(call->core), (unsigned long long)g->epoch, g->num_cores,
        call->core->directory.tenants.len, db_writable(call->core) ? "true" : "false",
        (unsigned long long)vital(g, METRIC_RESIDENT_MEMORY_BYTES));
    static const struct {
        const char *name;
        enum metric_id id;
    } shown[] = {
        {"connections", METRIC_CONNECTIONS}, {"websockets", METRIC_WEBSOCKET_CONNECTIONS_ACTIVE},
        {"sessions", METRIC_SESSIONS}, {"subscriptions", METRIC_SUBSCRIPTIONS}, {"rooms_loaded", METRIC_ROOMS_LOADED},
        {"users_loaded", METRIC_USERS_LOADED}, {"users_online", METRIC_USERS_ONLINE},
        {"messages", METRIC_MESSAGES}, {"deliveries", METRIC_DELIVERIES},
        {"cross_core_deliveries", METRIC_CROSS_CORE_DELIVERIES}, {"slow_readers_closed", METRIC_SLOW_READERS_CLOSED},
        {"send_queue_bytes", METRIC_SEND_QUEUE_BYTES}, {"commit_pending", METRIC_COMMIT_PENDING},
    };
    for (unsigned i = 0; i < sizeof shown / sizeof shown[0]; i++)
        buf_printf(&out, ",\"%s\":%llu", shown[i].name, (unsigned long long)metric_sum(g, shown[i].id));
    BUF_LIT(&out, "}");
    call_reply(call, 200, buf_slice(&out));
    buf_free(&out);
}
