/* rest_system: health, readiness, metrics, statistics, and the page at the root. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../storage/backup.h"
#include "../base/assert.h"
#include "api.h"

static bool db_writable(const struct core *core)
{
    const struct gateway *g = core->gateway;
    return !commit_poisoned(g->commit) && atomic_load_explicit(&g->disk, memory_order_relaxed) == DISK_OK;
}

static uint64_t uptime_s(const struct core *core) { return (core->now_ns - core->gateway->started_ns) / 1000000000u; }

/* backup_health does not make the gateway unhealthy: it serves. Whoever watches backups looks here or at metrics. */
static const char *backup_health(const struct gateway *g)
{
    struct backup_look look;
    if (!g->backup) return "off";
    backup_look(g->backup, &look);
    return look.failed ? "failed" : "ok";
}

void rest_health(struct call *call)
{
    struct core *core = call->core;
    struct gateway *g = core->gateway;
    bool store_ok = !commit_poisoned(g->commit);
    bool disk_ok = atomic_load_explicit(&g->disk, memory_order_relaxed) == DISK_OK;
    bool good = store_ok && disk_ok;
    char out[448];
    int len = snprintf(out, sizeof out,
                       "{\"status\":\"%s\",\"service\":\"carillon\",\"version\":\"" CARILLON_VERSION
                       "\",\"uptime_s\":%llu,\"db_writable\":%s,\"epoch\":%llu,\"checks\":{\"store\":\"%s\",\"disk\":\"%s\","
                       "\"cores\":\"ok\",\"backup\":\"%s\"}}",
                       good ? "ok" : "unavailable", (unsigned long long)uptime_s(core), good ? "true" : "false",
                       (unsigned long long)g->epoch, store_ok ? "ok" : "read_only", disk_ok ? "ok" : "reserve_reached",
                       backup_health(g));
    call_reply(call, good ? 200 : 503, slice_of(out, (size_t)len));
}

void rest_ready(struct call *call)
{
    bool ready = db_writable(call->core) && !atomic_load_explicit(&call->core->gateway->draining, memory_order_relaxed);
    call_reply(call, ready ? 200 : 503, ready ? SLICE("{\"ready\":true}") : SLICE("{\"ready\":false}"));
}

void rest_index(struct call *call)
{
    static const char page[] =
        "<!doctype html><meta charset=\"utf-8\"><title>Carillon</title><h1>Carillon</h1>"
        "<p>A chat and notification gateway. REST is under <code>/v1</code>, WebSocket at <code>/ws</code>, "
        "health at <a href=\"/health\">/health</a>, metrics at <a href=\"/metrics\">/metrics</a>.</p>\n";
    rest_reply(call->core, call->conn, call->route, call->core->now_ns, 200, "text/html; charset=utf-8", (struct slice){0},
               SLICE(page));
}

/* --- what is counted where: sums over cores ---------------------------------------------------------------------------- */

static uint64_t metric_sum(const struct gateway *g, enum metric_id id)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < g->num_cores; i++) sum += atomic_load_explicit(&g->cores[i]->metrics.value[id], memory_order_relaxed);
    return sum;
}

static void metric_one(struct buf *out, enum metric_id id, uint64_t v)
{
    metrics_head(out, id);
    metrics_value(out, id, "", v);
}

static uint64_t resident_bytes(void)
{
    unsigned long pages_total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return 0;
    if (fscanf(f, "%lu %lu", &pages_total, &pages) != 2) pages = 0;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void write_process(struct buf *out, struct core *core)
{
    metrics_head(out, METRIC_INFO);
    metrics_value(out, METRIC_INFO, "version=\"" CARILLON_VERSION "\"", 1);
    metric_one(out, METRIC_UPTIME_SECONDS, uptime_s(core));
    metric_one(out, METRIC_EPOCH, core->gateway->epoch);
    metric_one(out, METRIC_RESIDENT_MEMORY_BYTES, resident_bytes());
    metric_one(out, METRIC_STORE_WRITABLE, db_writable(core));
    metric_one(out, METRIC_STORE_FREE_BYTES, atomic_load_explicit(&core->gateway->disk_free, memory_order_relaxed));
    uint64_t (*property)(struct kv *, const char *) = core->gateway->store_property;
    metric_one(out, METRIC_STORE_WRITE_STOPPED, property ? property(core->gateway->store->kv, "rocksdb.is-write-stopped") : 0);
    struct rusage used;
    if (getrusage(RUSAGE_SELF, &used) == 0)
        metric_one(out, METRIC_CPU_SECONDS, (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec));
    metrics_head(out, METRIC_NOTIFICATIONS_SENT); /* no provider is served yet: a name without samples */
}

/* counters that each core keeps up to date itself, once a turn (core_metrics) or as things happen */
static const enum metric_id summed[] = {
    METRIC_WEBSOCKET_CONNECTIONS_ACTIVE, METRIC_CONNECTIONS_ACCEPTED, METRIC_CONNECTIONS_CLOSED, METRIC_BYTES_RECEIVED,
    METRIC_BYTES_SENT, METRIC_SEND_QUEUE_BYTES, METRIC_SLOW_READERS_CLOSED, METRIC_ROOMS_LOADED, METRIC_USERS_LOADED,
    METRIC_SESSIONS, METRIC_SUBSCRIPTIONS, METRIC_MESSAGES, METRIC_EVENTS_DURABLE, METRIC_DELIVERIES,
    METRIC_CROSS_CORE_DELIVERIES, METRIC_FRAMES_BYTES, METRIC_ACKS, METRIC_REPLAYS, METRIC_IDEMPOTENCY_LOOKUPS,
    METRIC_IDEMPOTENT_HITS, METRIC_SENDS, METRIC_SHORT_SENDS, METRIC_RING_ENTERS, METRIC_RING_COMPLETIONS,
    METRIC_RING_OVERFLOWS, METRIC_RECEIVE_BUFFERS_EMPTY, METRIC_MAILBOX_PARKED,
};

static void write_connections(struct buf *out, const struct gateway *g)
{
    uint64_t websockets = metric_sum(g, METRIC_WEBSOCKET_CONNECTIONS_ACTIVE), all = metric_sum(g, METRIC_CONNECTIONS);
    metrics_head(out, METRIC_CONNECTIONS);
    metrics_value(out, METRIC_CONNECTIONS, "kind=\"http\"", all > websockets ? all - websockets : 0);
    metrics_value(out, METRIC_CONNECTIONS, "kind=\"websocket\"", websockets);
}

static void write_errors(struct buf *out, const struct gateway *g)
{
    metrics_head(out, METRIC_ERRORS);
    for (unsigned code = 1; code < ERRORS; code++) {
        uint64_t sum = 0;
        for (unsigned i = 0; i < g->num_cores; i++) sum += atomic_load_explicit(&g->cores[i]->error_count[code], memory_order_relaxed);
        char labels[96];
        snprintf(labels, sizeof labels, "code=\"%s\"", error_rows[code].code);
        if (sum) metrics_value(out, METRIC_ERRORS, labels, sum);
    }
}

static const char *route_method(unsigned r) { return r < ROUTES ? http_method_name(routes[r].method) : "ANY"; }

/* route_label writes a pattern as a label: "/rooms/:room" rather than "/rooms/{room}", which breaks simple readers of the
 * text format. */
static const char *route_label(unsigned r, char out[96])
{
    const char *from = r < ROUTES ? routes[r].pattern : "none";
    size_t len = 0;
    for (; *from; from++) {
        ASSERT(len < 95);
        if (*from != '}') out[len++] = *from == '{' ? ':' : *from;
    }
    out[len] = 0;
    return out;
}

static void write_requests(struct buf *out, const struct gateway *g)
{
    char labels[192], label[96];
    metrics_head(out, METRIC_HTTP_REQUESTS);
    for (unsigned r = 0; r <= ROUTES; r++) {
        for (unsigned status = 1; status < 6; status++) {
            uint64_t sum = 0;
            for (unsigned i = 0; i < g->num_cores; i++)
                sum += atomic_load_explicit(&g->cores[i]->route_status[r * 6 + status], memory_order_relaxed);
            if (!sum) continue;
            snprintf(labels, sizeof labels, "method=\"%s\",endpoint=\"%s\",status=\"%uxx\"", route_method(r), route_label(r, label), status);
            metrics_value(out, METRIC_HTTP_REQUESTS, labels, sum);
        }
    }
}

static void write_durations(struct buf *out, const struct gateway *g)
{
    char labels[192], label[96];
    metrics_head(out, METRIC_API_REQUEST_DURATION);
    for (unsigned r = 0; r <= ROUTES; r++) {
        _Atomic uint64_t bucket[HISTOGRAM_BUCKETS] = {0};
        uint64_t sum_ns = 0, count = 0;
        for (unsigned i = 0; i < g->num_cores; i++) {
            const struct histogram *h = &g->cores[i]->route_seconds[r];
            count += atomic_load_explicit(&h->count, memory_order_relaxed);
            sum_ns += atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
            for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) bucket[b] += atomic_load_explicit(&h->bucket[b], memory_order_relaxed);
        }
        if (!count) continue;
        snprintf(labels, sizeof labels, "method=\"%s\",endpoint=\"%s\"", route_method(r), route_label(r, label));
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
    write_connections(&out, g);
    for (unsigned i = 0; i < sizeof summed / sizeof summed[0]; i++) metric_one(&out, summed[i], metric_sum(g, summed[i]));
    write_errors(&out, g);
    write_requests(&out, g);
    write_durations(&out, g);
    write_commit(&out, g);
    write_mailboxes(&out, g);
    write_backups(&out, g);
    rest_reply(call->core, call->conn, call->route, call->core->now_ns, 200, "text/plain; version=0.0.4; charset=utf-8",
               (struct slice){0}, buf_slice(&out));
    buf_free(&out);
}

void rest_stats(struct call *call)
{
    const struct gateway *g = call->core->gateway;
    struct buf out = {0};
    buf_printf(&out, "{\"uptime_s\":%llu,\"epoch\":%llu,\"cores\":%u,\"tenants\":%u,\"db_writable\":%s,\"resident_bytes\":%llu",
               (unsigned long long)uptime_s(call->core), (unsigned long long)g->epoch, g->num_cores,
               call->core->directory.tenants.len, db_writable(call->core) ? "true" : "false",
               (unsigned long long)resident_bytes());
    static const struct {
        const char *name;
        enum metric_id id;
    } shown[] = {
        {"connections", METRIC_CONNECTIONS}, {"websockets", METRIC_WEBSOCKET_CONNECTIONS_ACTIVE},
        {"sessions", METRIC_SESSIONS}, {"subscriptions", METRIC_SUBSCRIPTIONS}, {"rooms_loaded", METRIC_ROOMS_LOADED},
        {"users_loaded", METRIC_USERS_LOADED}, {"messages", METRIC_MESSAGES}, {"deliveries", METRIC_DELIVERIES},
        {"cross_core_deliveries", METRIC_CROSS_CORE_DELIVERIES}, {"slow_readers_closed", METRIC_SLOW_READERS_CLOSED},
        {"send_queue_bytes", METRIC_SEND_QUEUE_BYTES}, {"commit_pending", METRIC_COMMIT_PENDING},
    };
    for (unsigned i = 0; i < sizeof shown / sizeof shown[0]; i++)
        buf_printf(&out, ",\"%s\":%llu", shown[i].name, (unsigned long long)metric_sum(g, shown[i].id));
    BUF_LIT(&out, "}");
    call_reply(call, 200, buf_slice(&out));
    buf_free(&out);
}
