#include "status.h"

#include "../../src/base/assert.h"
#include "exchange.h"
#include "style.h"
#include "table.h"

#define BUCKETS_MAX 64u

/* view: one look, perhaps beside an earlier one. */
struct view {
    FILE *out;
    struct json_node now, before;
    bool compared;
    uint64_t elapsed_ms;
};

static void print_process(const struct view *v);
static void print_traffic(const struct view *v);
static void print_commit(const struct view *v);
static void print_store(const struct view *v);
static void print_cores(const struct view *v);
static void print_warnings(const struct view *v);

int status_run(const struct ctl *c, const struct ctl_command *command)
{
    struct exchange x;
    exchange_open(&x, c, CTL_OPERATOR);
    bool good = exchange_call(&x, command->method, command->target, (struct slice){0}) && x.parsed;
    if (!good) exchange_complain(&x);
    else if (c->json) printf("%.*s\n", SLICE_FMT(x.answer.body));
    else status_print(stdout, x.root, NULL, 0);
    if (fflush(stdout) != 0) good = false;
    exchange_close(&x);
    return good ? CTL_DONE : CTL_FAILED;
}

void status_print(FILE *out, struct json_node now, const struct json_node *before, uint64_t elapsed_ms)
{
    struct view v = {.out = out, .now = now, .compared = before != NULL, .elapsed_ms = elapsed_ms ? elapsed_ms : 1};
    if (before) v.before = *before;
    print_process(&v);
    print_traffic(&v);
    print_commit(&v);
    print_store(&v);
    print_cores(&v);
    print_warnings(&v);
}

/* --- figures ---------------------------------------------------------------------------------------------------- */

static uint64_t figure(const struct view *v, const char *path) { return exchange_number(v->now, path); }

/* counted: since the earlier look, or since the start. A gateway that was restarted between begins at 0 again. */
static uint64_t counted(const struct view *v, const char *path)
{
    uint64_t now = exchange_number(v->now, path), before = v->compared ? exchange_number(v->before, path) : 0;
    return now >= before ? now - before : now;
}

static uint64_t by_second(const struct view *v, uint64_t count)
{
    return v->compared ? count * 1000 / v->elapsed_ms : count;
}

/* amount writes a figure with thousands apart: "1,234,567". */
static const char *amount(char out[32], uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), at = 0;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

static const char *bytes(char out[32], uint64_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    double value = (double)n;
    for (; value >= 1024 && unit < 6; unit++) value /= 1024;
    snprintf(out, 32, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

static const char *duration_us(char out[32], uint64_t us)
{
    if (us < 1000) snprintf(out, 32, "%llu µs", (unsigned long long)us);
    else if (us < 1000000) snprintf(out, 32, "%.1f ms", (double)us / 1e3);
    else snprintf(out, 32, "%.1f s", (double)us / 1e6);
    return out;
}

/* count_text writes a figure, and a rate as one. */
static const char *count_text(const struct view *v, char out[40], const char *path)
{
    char number[32];
    snprintf(out, 40, "%s%s", amount(number, by_second(v, counted(v, path))), v->compared ? "/s" : "");
    return out;
}

static const char *bytes_text(const struct view *v, char out[40], const char *path)
{
    char number[32];
    snprintf(out, 40, "%s%s", bytes(number, by_second(v, counted(v, path))), v->compared ? "/s" : "");
    return out;
}

static unsigned buckets_of(struct json_node root, const char *name, uint64_t bucket[BUCKETS_MAX])
{
    struct json_node commit, array, n;
    unsigned num = 0;
    if (!json_get(root, "commit", &commit) || !json_get(commit, name, &array) || json_type_of(array) != JSON_ARRAY)
        return 0;
    for (struct json_iter i = json_array(array); num < BUCKETS_MAX && json_array_next(&i, &n); num++)
        if (!json_u64(n, &bucket[num])) bucket[num] = 0;
    return num;
}

/* percentile_us: of what fell into the buckets since the earlier look: the end of the bucket that reaches it. */
static uint64_t percentile_us(const struct view *v, const char *name, unsigned percent)
{
    uint64_t now[BUCKETS_MAX] = {0}, before[BUCKETS_MAX] = {0}, total = 0, seen = 0;
    unsigned num = buckets_of(v->now, name, now);
    if (v->compared) buckets_of(v->before, name, before);
    for (unsigned b = 0; b < num; b++) {
        now[b] = now[b] >= before[b] ? now[b] - before[b] : now[b];
        total += now[b];
    }
    for (unsigned b = 0; total && b < num; b++) {
        seen += now[b];
        if (seen * 100 >= total * percent) return 1ull << b;
    }
    return 0;
}

/* --- parts ------------------------------------------------------------------------------------------------------ */

static void print_process(const struct view *v)
{
    uint64_t up = figure(v, "uptime_s");
    struct slice state = exchange_text(v->now, "state");
    enum style colour = slice_is(state, "serving")    ? STYLE_GOOD
                        : slice_is(state, "draining") ? STYLE_WARNING
                                                      : STYLE_BAD;
    char sessions[32], rooms[32], users[32], subscriptions[32];
    struct buf version = {0}, state_text = {0}, durability = {0};
    text_shown(&version, exchange_text(v->now, "version"));
    text_shown(&state_text, state);
    text_shown(&durability, exchange_text(v->now, "durability"));
    fprintf(v->out, "%scarillon %.*s%s  %s%.*s%s  up %llud %02llu:%02llu:%02llu  epoch %llu  pid %llu  %.*s\n",
            style(v->out, STYLE_HEAD), SLICE_FMT(buf_slice(&version)), style(v->out, STYLE_END), style(v->out, colour),
            SLICE_FMT(buf_slice(&state_text)), style(v->out, STYLE_END), (unsigned long long)(up / 86400),
            (unsigned long long)(up / 3600 % 24), (unsigned long long)(up / 60 % 60), (unsigned long long)(up % 60),
            (unsigned long long)figure(v, "epoch"), (unsigned long long)figure(v, "pid"),
            SLICE_FMT(buf_slice(&durability)));
    buf_free(&version);
    buf_free(&state_text);
    buf_free(&durability);
    fprintf(v->out, "  in memory    tenants %llu   rooms %s   users %s   sessions %s   subscriptions %s\n",
            (unsigned long long)figure(v, "tenants"), amount(rooms, figure(v, "rooms_loaded")),
            amount(users, figure(v, "users_loaded")), amount(sessions, figure(v, "sessions")),
            amount(subscriptions, figure(v, "subscriptions")));
}

static void print_traffic(const struct view *v)
{
    char a[40], b[40], c[40], d[40];
    fprintf(v->out, "  connections  open %s of %s   websockets %s   accepted %s",
            amount(a, figure(v, "connections.open")), amount(b, figure(v, "connections.max")),
            amount(c, figure(v, "connections.websockets")), count_text(v, d, "connections.accepted"));
    fprintf(v->out, "   slow and closed %s\n", amount(a, counted(v, "connections.slow_closed")));
    fprintf(v->out, "  traffic      messages %s   deliveries %s   replays %s   errors %s\n",
            count_text(v, a, "traffic.messages"), count_text(v, b, "traffic.deliveries"),
            count_text(v, c, "traffic.replays"), count_text(v, d, "traffic.errors"));
    fprintf(v->out, "               in %s   out %s   queued %s\n", bytes_text(v, a, "traffic.bytes_received"),
            bytes_text(v, b, "traffic.bytes_sent"), bytes(c, figure(v, "memory.send_queue_bytes")));
}

static void print_commit(const struct view *v)
{
    char a[40], b[40], c[40], d[40];
    fprintf(v->out, "  commit       entries %s   syncs %s   pending %s   oldest %s\n",
            count_text(v, a, "commit.entries"), count_text(v, b, "commit.syncs"),
            amount(c, figure(v, "commit.pending")), duration_us(d, figure(v, "commit.oldest_ms") * 1000));
    fprintf(v->out, "               fsync p50 %s  p99 %s   latency p50 %s  p99 %s\n",
            duration_us(a, percentile_us(v, "fsync_buckets", 50)),
            duration_us(b, percentile_us(v, "fsync_buckets", 99)),
            duration_us(c, percentile_us(v, "latency_buckets", 50)),
            duration_us(d, percentile_us(v, "latency_buckets", 99)));
}

static void print_store(const struct view *v)
{
    char a[32], b[32], c[32], d[32];
    fprintf(v->out, "  store        tables %s   buffers %s   disk free %s (reserve %s)\n",
            bytes(a, figure(v, "store.table_bytes")), bytes(b, figure(v, "store.buffer_bytes")),
            bytes(c, figure(v, "store.free_bytes")), bytes(d, figure(v, "store.reserve_bytes")));
    fprintf(v->out, "  memory       resident %s   frames %s   store's cache %s\n",
            bytes(a, figure(v, "memory.resident_bytes")), bytes(b, figure(v, "memory.frames_bytes")),
            bytes(c, figure(v, "memory.store_cache_bytes")));
}

/* core_before finds the same core in the earlier look. */
static bool core_before(const struct view *v, uint64_t id, struct json_node *out)
{
    struct json_node cores;
    if (!v->compared || !json_get(v->before, "cores", &cores) || json_type_of(cores) != JSON_ARRAY) return false;
    for (struct json_iter i = json_array(cores); json_array_next(&i, out);)
        if (exchange_number(*out, "core") == id) return true;
    return false;
}

static void print_cores(const struct view *v)
{
    struct json_node cores, core, before;
    if (!json_get(v->now, "cores", &cores) || json_type_of(cores) != JSON_ARRAY) return;
    fprintf(v->out, "\n%s  core  %8s  connections  websockets  rooms  %12s  pending%s\n", style(v->out, STYLE_HEAD),
            v->compared ? "busy" : "cpu", v->compared ? "deliveries/s" : "deliveries", style(v->out, STYLE_END));
    for (struct json_iter i = json_array(cores); json_array_next(&i, &core);) {
        char busy[40], rate[32];
        uint64_t id = exchange_number(core, "core"), cpu_us = exchange_number(core, "cpu_us");
        uint64_t deliveries = exchange_number(core, "deliveries");
        bool known = core_before(v, id, &before);
        uint64_t cpu_before = known ? exchange_number(before, "cpu_us") : 0,
                 sent_before = known ? exchange_number(before, "deliveries") : 0;
        uint64_t spent_us = cpu_us >= cpu_before ? cpu_us - cpu_before : cpu_us;
        if (known) snprintf(busy, sizeof busy, "%.0f %%", (double)spent_us / 10.0 / (double)v->elapsed_ms);
        else snprintf(busy, sizeof busy, "%.1f s", (double)cpu_us / 1e6);
        deliveries = deliveries >= sent_before ? deliveries - sent_before : deliveries;
        fprintf(v->out, "  %4llu  %8s  %11llu  %10llu  %5llu  %12s  %7llu\n", (unsigned long long)id, busy,
                (unsigned long long)exchange_number(core, "connections"),
                (unsigned long long)exchange_number(core, "websockets"),
                (unsigned long long)exchange_number(core, "rooms_loaded"), amount(rate, by_second(v, deliveries)),
                (unsigned long long)exchange_number(core, "commit_pending"));
    }
}

static void print_warnings(const struct view *v)
{
    struct json_node warnings, text;
    bool any = false;
    if (!json_get(v->now, "warnings", &warnings) || json_type_of(warnings) != JSON_ARRAY) return;
    for (struct json_iter i = json_array(warnings); json_array_next(&i, &text); any = true) {
        struct buf shown = {0};
        if (json_type_of(text) == JSON_STRING) text_shown(&shown, json_string(text));
        fprintf(v->out, "%s%s! %.*s%s\n", any ? "" : "\n", style(v->out, STYLE_WARNING), SLICE_FMT(buf_slice(&shown)),
                style(v->out, STYLE_END));
        buf_free(&shown);
    }
}
