#include "traffic.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/base/assert.h"
#include "../../src/base/random.h"
#include "arrival.h"
#include "crowd.h"
#include "plain.h"
#include "process.h"
#include "publish.h"
#include "stop.h"

#define FRAME_BYTES_MAX (4u << 20) /* a frame that is parsed: welcome with many rooms */
#define GREETINGS_MAX 256u         /* connections being made at once: less than the listener's backlog */
#define TICK_NS 10000000ull        /* refused publishers try again, records are flushed */
#define SPIN_NS 60000ull           /* before an open loop's due time: a sleep ends tens of microseconds late */
#define LEAVE_NS 2000000000ull     /* for the goodbyes */

struct measurement {
    bool began, ended;
    uint64_t server_cpu_ns[2], own_cpu_ns[2], at_ns[2]; /* at its begin and end */
};

static bool crowd_make(struct crowd *c);
static void room_make(struct crowd *c, uint64_t number);
static uint64_t people_of(const struct options *o, uint64_t room);
static uint64_t publishers_of(const struct options *o, uint64_t room);
static bool greet(struct crowd *c);
static void talk(struct crowd *c, struct measurement *m);
static void measure(struct crowd *c, struct measurement *m, uint64_t now_ns);
static bool complete(const struct crowd *c);
static void drain(struct crowd *c);
static void leave(struct crowd *c);
static void fill_report(const struct crowd *c, const struct measurement *m, struct report *report);
static int verdict(const struct crowd *c, bool greeted);

static struct crowd crowd; /* one run a process; the report borrows its histograms */

int traffic_run(const struct options *o, struct report *report)
{
    struct crowd *c = &crowd;
    c->options = o;
    c->run = (uint32_t)random_u64(random_real());
    c->ends_at_ok = o->scenario == SCENARIO_DURABLE;
    c->subscribe = !c->ends_at_ok || o->record_path != NULL;
    c->with_ids = c->ends_at_ok || o->client_ids;
    for (uint64_t r = 0; r < o->rooms; r++) {
        c->num_participants += people_of(o, r);
        c->num_publishers += publishers_of(o, r);
    }
    if (!engine_descriptors(c->num_participants)) return 2;
    enum status status = setup_make(&c->setup, o, people_of);
    if (status != STATUS_OK) return status == STATUS_IO && o->tolerate_disconnect ? 0 : 1;
    if (o->record_path && record_open(&c->record, o->record_path) != STATUS_OK) return 1;
    const struct session_handlers handlers = {arrival_upgraded, arrival_text, arrival_lost, c};
    if (session_hub_open(&c->hub, &handlers, &c->setup, o) != STATUS_OK || !crowd_make(c)) return 1;

    struct measurement m = {0};
    bool greeted = greet(c);
    if (greeted) {
        talk(c, &m);
        drain(c);
        if (c->num_lost == 0 && !complete(c)) {
            fprintf(stderr, "carillon-load: VIOLATION: not everything that was sent arrived everywhere\n");
            c->violations++;
        }
    }
    leave(c);
    record_close(&c->record);
    fill_report(c, &m, report);
    return verdict(c, greeted);
}

/* people_of and publishers_of give the shape: publishers come first among a room's members, spread evenly. */
static uint64_t publishers_of(const struct options *o, uint64_t room)
{
    if (o->scenario == SCENARIO_CHAT) return o->members;
    return o->publishers / o->rooms + (room < o->publishers % o->rooms ? 1 : 0);
}

static uint64_t people_of(const struct options *o, uint64_t room)
{
    return publishers_of(o, room) + (o->scenario == SCENARIO_FANOUT ? o->subscribers : 0);
}

static bool crowd_make(struct crowd *c)
{
    const struct options *o = c->options;
    c->num_rooms = o->rooms;
    c->rooms = calloc(c->num_rooms, sizeof *c->rooms);
    c->participants = calloc(c->num_participants, sizeof *c->participants);
    c->publishers = calloc(c->num_publishers, sizeof *c->publishers);
    c->speakers = calloc(c->num_publishers, sizeof(struct participant *));
    c->content = malloc(o->size);
    c->parser = json_parser_new(FRAME_BYTES_MAX);
    if (!c->rooms || !c->participants || !c->publishers || !c->speakers || !c->content || !c->parser) return false;
    for (uint64_t i = 0; i < o->size; i++) c->content[i] = (char)('a' + i % 26);

    uint64_t at = 0, publisher = 0;
    for (uint64_t r = 0; r < c->num_rooms; r++) {
        room_make(c, r);
        for (uint64_t member = 0; member < people_of(o, r); member++, at++) {
            struct participant *p = &c->participants[at];
            *p = (struct participant){.number = (uint32_t)at, .room_number = r, .member = member, .room = &c->rooms[r]};
            char user[SETUP_USER_BYTES_MAX];
            size_t len = setup_user(user, r, member);
            record_member(&c->record, engine_now_ns(), slice_str(p->room->id), slice_of(user, len));
            if (o->dialect) p->next_of = calloc(p->room->num_publishers, sizeof *p->next_of);
            ASSERT(!o->dialect || p->next_of != NULL);
            if (member >= publishers_of(o, r)) continue;
            p->publisher = &c->publishers[publisher];
            p->publisher->number = (uint32_t)publisher;
            p->publisher->index = (uint32_t)member;
            p->publisher->window = (struct window){.first = 1, .next = 1}; /* id 0 is hello's */
            c->speakers[publisher++] = p;
        }
    }
    ASSERT(at == c->num_participants && publisher == c->num_publishers);
    return true;
}

static void room_make(struct crowd *c, uint64_t number)
{
    const struct options *o = c->options;
    struct room *room = &c->rooms[number];
    room->id = c->setup.rooms[number].id;
    BUF_LIT(&room->needle, "\"room_id\":");
    buf_json_string(&room->needle, slice_str(room->id));
    buf_slice_append(&room->send_head,
                     o->dialect ? SLICE("{\"type\":\"message\",") : SLICE("{\"type\":\"send_message\","));
    buf_slice_append(&room->send_head, buf_slice(&room->needle));
    buf_slice_append(&room->send_head, o->dialect ? SLICE(",\"seq\":") : SLICE(",\"content\":\""));
    room->num_publishers = (uint32_t)publishers_of(o, number);

    /* enough for what a closed loop can have between first and last receipt, within a bound for all rooms together */
    uint64_t wanted = o->rate > 0 ? TIMINGS_PER_ROOM_MAX : 4 * o->in_flight * publishers_of(o, number), num = 64;
    while (num < wanted && num < TIMINGS_PER_ROOM_MAX && num * 2 * c->num_rooms <= TIMINGS_MAX) num *= 2;
    room->timings = calloc(num, sizeof *room->timings);
    ASSERT(room->timings != NULL);
    room->timings_mask = (uint32_t)(num - 1);
}

/* greet connects everybody, GREETINGS_MAX at a time; false when somebody was lost on the way or time ran out. */
static bool greet(struct crowd *c)
{
    uint64_t next = 0, until_ns = engine_now_ns() + (uint64_t)(c->options->timeout * 1e9), now_ns;
    while (c->num_ready < c->num_participants && c->num_lost == 0 && !stop_asked()) {
        if ((now_ns = engine_now_ns()) >= until_ns) break;
        while (next < c->num_participants && c->num_greeting < GREETINGS_MAX) {
            struct participant *p = &c->participants[next++];
            char user[SETUP_USER_BYTES_MAX];
            size_t len = setup_user(user, p->room_number, p->member);
            if (session_open(&c->hub, &p->session, p->room_number, slice_of(user, len)) != STATUS_OK) return false;
            p->state = PARTICIPANT_GREETING;
            c->num_greeting++;
        }
        engine_turn(c->hub.engine, now_ns + TICK_NS);
        for (uint64_t i = 0; i < next && c->num_greeting; i++)
            if (c->participants[i].state == PARTICIPANT_WELCOME && now_ns >= c->participants[i].ready_due_ns)
                arrival_ready(c, &c->participants[i]);
    }
    if (c->num_ready == c->num_participants) {
        fprintf(stderr, "carillon-load: %" PRIu64 " connections are ready\n", c->num_ready);
        return true;
    }
    if (c->num_lost == 0)
        fprintf(stderr, "carillon-load: %" PRIu64 " of %" PRIu64 " connections were ready in time\n", c->num_ready,
                c->num_participants);
    return false;
}

static void talk(struct crowd *c, struct measurement *m)
{
    const struct options *o = c->options;
    uint64_t now_ns = engine_now_ns(), interval_ns = o->rate > 0 ? (uint64_t)(1e9 / o->rate) : 0;
    uint64_t due_ns = now_ns, tick_ns = now_ns;
    if (o->rate > 0 && interval_ns == 0) interval_ns = 1;
    c->measure_from_ns = now_ns + (uint64_t)(o->warmup * 1e9);
    c->measure_until_ns = c->measure_from_ns + (uint64_t)(o->seconds * 1e9);
    for (;;) {
        measure(c, m, now_ns);
        bool all_sent = o->messages && c->num_sent >= o->messages && c->num_settled >= c->num_sent;
        bool lost = c->num_lost && (!o->tolerate_disconnect || c->num_ready == 0);
        if (now_ns >= c->measure_until_ns || all_sent || lost || stop_asked()) break;
        if (o->rate > 0) publish_due(c, &due_ns, interval_ns, now_ns);
        if (now_ns >= tick_ns) {
            publish_fill_all(c, now_ns);
            record_flush(&c->record, now_ns);
            tick_ns = now_ns + TICK_NS;
        }
        uint64_t wake_ns = tick_ns < c->measure_until_ns ? tick_ns : c->measure_until_ns;
        if (o->rate > 0 && due_ns - SPIN_NS < wake_ns) wake_ns = due_ns - SPIN_NS;
        engine_turn(c->hub.engine, wake_ns);
        now_ns = engine_now_ns();
    }
    c->stopping = true;
    if (now_ns < c->measure_until_ns) c->measure_until_ns = now_ns;
    measure(c, m, now_ns);
}

static void measure(struct crowd *c, struct measurement *m, uint64_t now_ns)
{
    bool begins = !m->began && now_ns >= c->measure_from_ns;
    bool ends = !m->ended && now_ns >= c->measure_until_ns && m->began;
    if (!begins && !ends) return;
    unsigned which = ends ? 1 : 0;
    m->at_ns[which] = now_ns;
    process_cpu_ns(&m->own_cpu_ns[which], 0);
    if (c->options->pid) process_cpu_ns(&m->server_cpu_ns[which], (pid_t)c->options->pid);
    if (ends)
        m->ended = true;
    else
        m->began = true;
}

/* complete: every message met its end, and every subscriber has seen all that anybody has seen. */
static bool complete(const struct crowd *c)
{
    if (c->num_settled < c->num_sent) return false;
    for (uint64_t i = 0; c->with_ids && i < c->num_publishers; i++)
        if (c->publishers[i].window.first != c->publishers[i].window.next) return false;
    for (uint64_t i = 0; c->subscribe && i < c->num_participants; i++) {
        const struct participant *p = &c->participants[i];
        if (p->room->newest_seq && p->next_seq != p->room->newest_seq + 1) return false;
    }
    return true;
}

static void drain(struct crowd *c)
{
    uint64_t until_ns = engine_now_ns() + (uint64_t)(c->options->timeout * 1e9), now_ns;
    while (!complete(c) && c->num_lost == 0 && (now_ns = engine_now_ns()) < until_ns) {
        engine_turn(c->hub.engine, now_ns + TICK_NS);
        record_flush(&c->record, now_ns);
    }
}

/* leave says goodbye to all. What still waits for an answer is recorded as unknown when its connection ends. */
static void leave(struct crowd *c)
{
    uint64_t until_ns = engine_now_ns() + LEAVE_NS, now_ns;
    c->stopping = true;
    for (uint64_t i = 0; i < c->num_participants; i++) {
        struct participant *p = &c->participants[i];
        if (p->publisher && p->publisher->window.first != p->publisher->window.next)
            session_fail(&c->hub, &p->session, "messages were left without an answer");
        else
            session_leave(&c->hub, &p->session);
    }
    while (engine_peers(c->hub.engine) > 0 && (now_ns = engine_now_ns()) < until_ns)
        engine_turn(c->hub.engine, now_ns + TICK_NS);
    session_hub_close(&c->hub);
    for (uint64_t i = 0; i < c->num_participants; i++) {
        session_free(&c->participants[i].session);
        free(c->participants[i].next_of);
    }
    for (uint64_t i = 0; i < c->num_publishers; i++) window_free(&c->publishers[i].window);
    for (uint64_t i = 0; i < c->num_rooms; i++) {
        buf_free(&c->rooms[i].needle);
        buf_free(&c->rooms[i].send_head);
        free(c->rooms[i].timings);
    }
    free(c->rooms);
    free(c->participants);
    free(c->publishers);
    free(c->speakers);
    free(c->content);
    buf_free(&c->text);
    json_parser_free(c->parser);
    setup_free(&c->setup);
}

static void report_load(const struct crowd *c, struct report *report)
{
    const struct options *o = c->options;
    report_text(report, "scenario", scenario_name(o->scenario));
    report_count(report, "rooms", "", o->rooms);
    if (o->subscribers) report_count(report, "subscribers", "a room", o->subscribers);
    if (o->members) report_count(report, "members", "a room", o->members);
    report_count(report, "publishers", "", c->num_publishers);
    report_count(report, "connections", "", c->num_participants);
    report_count(report, "content_bytes", "", o->size);
    if (o->rate > 0)
        report_real(report, "rate", "messages/s, open loop", o->rate);
    else
        report_count(report, "in_flight", "a publisher", o->in_flight);
}

static void fill_report(const struct crowd *c, const struct measurement *m, struct report *report)
{
    double seconds = m->ended ? (double)(m->at_ns[1] - m->at_ns[0]) / 1e9 : 0;
    double per_second = seconds > 0 ? 1 / seconds : 0;
    report_load(c, report);
    report_real(report, "seconds", "measured", seconds);
    report_count(report, "sent", "messages, warm-up included", c->num_sent);
    if (c->with_ids) {
        report_count(report, "acked", "messages", c->acked);
        report_real(report, "acked_per_second", "messages/s", (double)c->acked * per_second);
        report_latency(report, "latency_ok", &c->answer);
    }
    if (c->subscribe) {
        report_count(report, "messages", "seen", c->messages);
        report_real(report, "messages_per_second", "messages/s", (double)c->messages * per_second);
        if (c->messages)
            report_real(report, "push_bytes", "payload of a message's frame",
                        (double)c->push_bytes / (double)c->messages);
        report_count(report, "deliveries", "", c->deliveries);
        report_real(report, "deliveries_per_second", "deliveries/s", (double)c->deliveries * per_second);
        report_latency(report, "latency_delivery", &c->any);
        report_latency(report, "latency_last_delivery", &c->last);
    }
    report_count(report, "refused", "messages", c->refused);
    for (unsigned i = 0; i < CROWD_CODES_MAX && c->codes[i].count; i++)
        report_count(report, c->codes[i].text, "", c->codes[i].count);
    report_count(report, "lost_connections", "", c->num_lost);
    report_count(report, "violations", "of order, room or completeness", c->violations);
    double own_cpu = (double)(m->own_cpu_ns[1] - m->own_cpu_ns[0]) / 1e9;
    if (m->ended)
        report_real(report, "generator_cpu_percent", "(near 100: the generator is the limit)",
                    100 * own_cpu * per_second);
    if (!m->ended || !c->options->pid) return;
    uint64_t cpu_ns = m->server_cpu_ns[1] - m->server_cpu_ns[0], work = c->subscribe ? c->deliveries : c->acked;
    report_real(report, "server_cpu_seconds", "", (double)cpu_ns / 1e9);
    if (work)
        report_real(report, c->subscribe ? "server_cpu_ns_per_delivery" : "server_cpu_ns_per_message", "ns",
                    (double)cpu_ns / (double)work);
}

static int verdict(const struct crowd *c, bool greeted)
{
    if (c->violations || c->refused_for_good) return 1;
    if (c->num_lost) return c->options->tolerate_disconnect ? 0 : 1;
    return greeted ? 0 : 1;
}
