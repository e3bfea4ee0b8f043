#include "connections.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/base/assert.h"
#include "plain.h"
#include "process.h"
#include "session.h"
#include "stop.h"

#define CONNECT_USERS 1000u /* `connect` comes back as the same users: the directory is not what it measures */
#define HANDSHAKES_MAX 256u /* closed loop: handshakes under way; below the listener's backlog */
#define OPEN_LOOP_HANDSHAKES_MAX 4096u
#define HELD_NS_MAX 5000000000ull /* well before the gateway misses the hello that `connect` never sends */
#define TICK_NS 10000000ull
#define LEAVE_NS 3000000000ull /* for the goodbyes: above the gateway's CLOSE_TIMEOUT_MS */
#define SETTLE_NS 500000000ull /* before memory is read: frees and late replies are done */

struct visitor {
    struct session session; /* first */
    uint64_t number;        /* of the connection: chooses the user */
    uint64_t due_ns;        /* when the connection was to begin */
    enum { VISITOR_AWAY, VISITOR_COMING, VISITOR_THERE, VISITOR_LEAVING } state;
};

struct visit {
    const struct options *options;
    struct setup setup;
    struct session_hub hub;
    struct visitor *visitors;
    uint64_t num_visitors, num_coming, num_there, num_upgraded, num_failed;
    bool idle; /* hello and stay; else an upgrade is all */
    struct histogram upgrade;
};

static struct visit visit; /* one run a process; the report borrows its histogram */

static bool visit_open(struct visit *v, const struct options *o, uint64_t num_visitors,
                       uint64_t (*members_of)(const struct options *o, uint64_t room));
static bool begin(struct visit *v, struct visitor *one, uint64_t number, uint64_t due_ns);
static bool upgrade_all(struct visit *v);
static bool leave_oldest(struct visit *v, struct visitor *one, uint64_t now_ns);
static bool settle(struct visit *v, uint64_t wait_ns);
static void leave(struct visit *v);
static uint64_t idle_members(const struct options *o, uint64_t room);
static void on_upgraded(void *context, struct session *s, uint64_t now_ns);
static void on_text(void *context, struct session *s, struct slice text, uint64_t now_ns);
static void on_lost(void *context, struct session *s, uint64_t now_ns);

int connections_connect(const struct options *o, struct report *report)
{
    struct visit *v = &visit;
    uint64_t hold = o->hold < o->connections ? o->hold : o->connections, cpu_ns[2] = {0};
    uint64_t slots =
        hold + (o->rate > 0 ? OPEN_LOOP_HANDSHAKES_MAX : HANDSHAKES_MAX); /* those that come and go on top */
    if (slots > o->connections + 1) slots = o->connections + 1;
    if (slots > ENGINE_PEERS_MAX) slots = ENGINE_PEERS_MAX;
    if (!engine_descriptors(slots) || !visit_open(v, o, slots, NULL)) return 2;
    if (o->pid) process_cpu_ns(&cpu_ns[0], (pid_t)o->pid);
    uint64_t began_ns = engine_now_ns();
    bool done = upgrade_all(v);
    double seconds = (double)(engine_now_ns() - began_ns) / 1e9;
    if (o->pid) process_cpu_ns(&cpu_ns[1], (pid_t)o->pid);
    leave(v);

    report_text(report, "scenario", "connect");
    report_count(report, "connections", "asked for", o->connections);
    report_count(report, "held", "at once", hold);
    if (o->rate > 0) report_real(report, "rate", "upgrades/s, open loop", o->rate);
    report_real(report, "seconds", "", seconds);
    report_count(report, "upgraded", "", v->num_upgraded);
    report_real(report, "upgrades_per_second", "upgrades/s", seconds > 0 ? (double)v->num_upgraded / seconds : 0);
    report_latency(report, "latency_upgrade", &v->upgrade);
    report_count(report, "failed", "", v->num_failed);
    if (o->pid && v->num_upgraded) {
        report_real(report, "server_cpu_seconds", "", (double)(cpu_ns[1] - cpu_ns[0]) / 1e9);
        report_real(report, "server_cpu_us_per_upgrade", "us",
                    (double)(cpu_ns[1] - cpu_ns[0]) / 1e3 / (double)v->num_upgraded);
    }
    return done && v->num_failed == 0 ? 0 : 1;
}

int connections_idle(const struct options *o, struct report *report)
{
    struct visit *v = &visit;
    uint64_t resident[3] = {0}, cpu_ns[2] = {0};
    v->idle = true;
    if (!engine_descriptors(o->connections)) return 2;
    if (!visit_open(v, o, o->connections, idle_members)) return 1;
    if (o->pid) process_resident_bytes(&resident[0], (pid_t)o->pid);
    bool held = upgrade_all(v) && settle(v, SETTLE_NS);
    if (o->pid) process_resident_bytes(&resident[1], (pid_t)o->pid);
    if (o->pid) process_cpu_ns(&cpu_ns[0], (pid_t)o->pid);
    held = held && settle(v, (uint64_t)(o->seconds * 1e9));
    if (o->pid) process_resident_bytes(&resident[2], (pid_t)o->pid);
    if (o->pid) process_cpu_ns(&cpu_ns[1], (pid_t)o->pid);
    uint64_t held_to_the_end = v->num_there;
    leave(v);

    report_text(report, "scenario", "idle");
    report_count(report, "connections", "asked for", o->connections);
    report_count(report, "held", "to the end", held_to_the_end);
    report_count(report, "rooms", "", o->rooms);
    report_real(report, "seconds", "", o->seconds);
    report_latency(report, "latency_upgrade", &v->upgrade);
    report_count(report, "failed", "", v->num_failed);
    if (o->pid) {
        double grown = (double)resident[1] - (double)resident[0];
        report_count(report, "server_rss_before", "bytes", resident[0]);
        report_count(report, "server_rss_connected", "bytes", resident[1]);
        report_count(report, "server_rss_at_end", "bytes", resident[2]);
        report_real(report, "server_rss_per_connection", "bytes", grown / (double)o->connections);
        report_real(report, "server_cpu_seconds", "while idle", (double)(cpu_ns[1] - cpu_ns[0]) / 1e9);
    }
    return held || (o->tolerate_disconnect && v->num_failed) ? 0 : 1;
}

static uint64_t idle_members(const struct options *o, uint64_t room)
{
    return o->users / o->rooms + (room < o->users % o->rooms ? 1 : 0);
}

static bool visit_open(struct visit *v, const struct options *o, uint64_t num_visitors,
                       uint64_t (*members_of)(const struct options *o, uint64_t room))
{
    const struct session_handlers handlers = {on_upgraded, on_text, on_lost, v};
    v->options = o;
    v->num_visitors = num_visitors;
    v->visitors = calloc(num_visitors, sizeof *v->visitors);
    ASSERT(v->visitors != NULL);
    return setup_make(&v->setup, o, members_of) == STATUS_OK &&
           session_hub_open(&v->hub, &handlers, &v->setup, o) == STATUS_OK;
}

static bool begin(struct visit *v, struct visitor *one, uint64_t number, uint64_t due_ns)
{
    char user[SETUP_USER_BYTES_MAX];
    uint64_t rooms = v->idle ? v->options->rooms : 1, who = number % (v->idle ? v->options->users : CONNECT_USERS);
    size_t len = setup_user(user, who % rooms, who / rooms);
    one->number = number;
    one->due_ns = due_ns;
    if (session_open(&v->hub, &one->session, who % rooms, slice_of(user, len)) != STATUS_OK) return false;
    one->state = VISITOR_COMING;
    v->num_coming++;
    return true;
}

/* upgrade_all opens --connections connections, on schedule or so many at a time. Visitors are a ring of slots: the
 * oldest leaves when more than --hold are there. False when it failed, was stopped or timed out. */
static bool upgrade_all(struct visit *v)
{
    const struct options *o = v->options;
    uint64_t started = 0, oldest = 0, now_ns = engine_now_ns(), due_ns = now_ns;
    uint64_t interval_ns = o->rate > 0 ? (uint64_t)(1e9 / o->rate) : 0;
    uint64_t handshakes_max = o->rate > 0 ? OPEN_LOOP_HANDSHAKES_MAX : HANDSHAKES_MAX, progress_ns = now_ns, seen = 0;
    while (v->num_upgraded + v->num_failed < o->connections && !stop_asked()) {
        while (started < o->connections && v->num_coming < handshakes_max && due_ns <= now_ns) {
            struct visitor *slot = &v->visitors[started % v->num_visitors];
            if (slot->state != VISITOR_AWAY) break; /* it is still leaving: the schedule waits and is not forgotten */
            if (!begin(v, slot, started, o->rate > 0 ? due_ns : now_ns)) return false;
            started++;
            due_ns = o->rate > 0 ? due_ns + interval_ns : now_ns;
        }
        engine_turn(v->hub.engine,
                    o->rate > 0 && due_ns > now_ns && due_ns < now_ns + TICK_NS ? due_ns : now_ns + TICK_NS);
        now_ns = engine_now_ns();
        while (!v->idle && oldest < started && leave_oldest(v, &v->visitors[oldest % v->num_visitors], now_ns))
            oldest++;
        if (v->num_upgraded != seen) progress_ns = now_ns;
        seen = v->num_upgraded;
        if (now_ns - progress_ns > (uint64_t)(o->timeout * 1e9) || v->num_failed > 100) {
            fprintf(stderr, "carillon-load: gave up after %" PRIu64 " upgrades and %" PRIu64 " failures\n",
                    v->num_upgraded, v->num_failed);
            return false;
        }
    }
    return v->num_failed == 0 && !stop_asked();
}

/* leave_oldest says goodbye to a visitor when more are there than are to be held, or when it was there for long enough.
 * True when its slot is done with and the next one is the oldest. */
static bool leave_oldest(struct visit *v, struct visitor *one, uint64_t now_ns)
{
    if (one->state == VISITOR_COMING) return false;
    if (one->state != VISITOR_THERE) return true;
    if (v->num_there <= v->options->hold && now_ns < one->due_ns + HELD_NS_MAX) return false;
    one->state = VISITOR_LEAVING;
    v->num_there--;
    session_leave(&v->hub, &one->session);
    return true;
}

/* settle keeps the connections for a while (pings are answered on the way); false when one was lost. */
static bool settle(struct visit *v, uint64_t wait_ns)
{
    uint64_t until_ns = engine_now_ns() + wait_ns, now_ns;
    while ((now_ns = engine_now_ns()) < until_ns && v->num_failed == 0 && !stop_asked())
        engine_turn(v->hub.engine, until_ns < now_ns + TICK_NS ? until_ns : now_ns + TICK_NS);
    return v->num_failed == 0 && !stop_asked();
}

static void leave(struct visit *v)
{
    uint64_t until_ns = engine_now_ns() + LEAVE_NS, now_ns;
    for (uint64_t i = 0; i < v->num_visitors; i++) session_leave(&v->hub, &v->visitors[i].session);
    while (engine_peers(v->hub.engine) > 0 && (now_ns = engine_now_ns()) < until_ns)
        engine_turn(v->hub.engine, now_ns + TICK_NS);
    session_hub_close(&v->hub);
    for (uint64_t i = 0; i < v->num_visitors; i++) session_free(&v->visitors[i].session);
    free(v->visitors);
    setup_free(&v->setup);
}

static void arrived(struct visit *v, struct visitor *one, uint64_t now_ns)
{
    if (one->state != VISITOR_COMING) return;
    one->state = VISITOR_THERE;
    v->num_coming--;
    v->num_there++;
    v->num_upgraded++;
    histogram_add(&v->upgrade, now_ns - one->due_ns);
}

static void on_upgraded(void *context, struct session *s, uint64_t now_ns)
{
    struct visit *v = context;
    if (v->idle && v->options->dialect) {
        if (plain_joins_at_upgrade(v->options->dialect)) arrived(v, (struct visitor *)s, now_ns);
    } else if (v->idle)
        session_send(&v->hub, s, SLICE("{\"type\":\"hello\",\"id\":0,\"rooms\":\"all\"}"));
    else
        arrived(v, (struct visitor *)s, now_ns);
}

static void on_text(void *context, struct session *s, struct slice text, uint64_t now_ns)
{
    struct visit *v = context;
    struct slice message;
    if (v->options->dialect) {
        if (plain_take(&message, &v->hub, s, text) == PLAIN_JOINED) arrived(v, (struct visitor *)s, now_ns);
    } else if (slice_starts(text, SLICE("{\"type\":\"welcome\"")))
        arrived(v, (struct visitor *)s, now_ns);
    else if (slice_starts(text, SLICE("{\"type\":\"error\"")))
        session_fail(&v->hub, s, "hello was refused");
}

static void on_lost(void *context, struct session *s, uint64_t now_ns)
{
    struct visit *v = context;
    struct visitor *one = (struct visitor *)s;
    if (one->state == VISITOR_COMING) v->num_coming--;
    if (one->state == VISITOR_THERE) v->num_there--;
    if (s->gone && one->state != VISITOR_LEAVING && v->num_failed++ < 3)
        fprintf(stderr, "carillon-load: connection %" PRIu64 ": %s\n", one->number, s->why);
    one->state = VISITOR_AWAY;
}
