#include "net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../src/base/assert.h"
#include "../src/base/log.h"
#include "../src/base/park.h"
#include "../src/base/planted.h"
#include "connection.h"

#define SLOT_NONE UINT32_MAX
#define WS_CONTEXTS_KEPT 64u /* lent contexts kept for the next connection that is inside a frame */
#define TICK_NS (TIMER_TICK_MS * 1000000ull)

static void net_clock(struct net *n);
static void complete(struct net *n, const struct ring_completion *done);
static void account_sends(struct net *n);
static void resume_all(struct net *n);
static void arm_accepts(struct net *n);
static uint64_t next_due_ns(const struct net *n);
static struct conn *slot_take(struct net *n);
static void list_add(struct conn_list *list, struct conn *c);
static void list_shift(struct conn_list *list, uint32_t done);

/* --- open and close ----------------------------------------------------------------------------------------- */

static uint32_t ticks_of(uint64_t ns)
{
    return (uint32_t)((ns + TICK_NS - 1) / TICK_NS);
}

enum status net_open(struct net **out, const struct net_handlers *handlers, const struct net_limits *limits,
                     const struct clock *clock, struct park *park, unsigned core, char *why, size_t why_len)
{
    ASSERT(limits->connections_max > 0 && limits->requests_in_flight_max > 0);
    struct net *n = calloc(1, sizeof *n);
    ASSERT(n != NULL);
    n->handlers = *handlers;
    n->limits = *limits;
    if (!n->limits.assembly_bytes_max) n->limits.assembly_bytes_max = ASSEMBLY_BYTES_MAX;
    n->ticks = (struct net_ticks){.header = ticks_of(limits->header_timeout_ns),
                                  .body = ticks_of(limits->body_timeout_ns),
                                  .idle = ticks_of(limits->idle_timeout_ns),
                                  .ping = ticks_of(limits->ping_interval_ns),
                                  .close = ticks_of(limits->close_timeout_ns),
                                  .stall = ticks_of(limits->stall_timeout_ns)};
    n->clock = clock;
    n->park = park;
    n->core = core;
    n->free_slot = SLOT_NONE;
    n->started_ns = clock_mono_ns(clock);
    net_clock(n);
    timer_wheel_init(&n->timers, n->now_tick);
    send_pool_init(&n->send_pool);
    zero_copy_open(n);
    n->chunks = calloc((limits->connections_max + CONN_CHUNK - 1) / CONN_CHUNK, sizeof *n->chunks);
    n->scratch = aligned_alloc(64, SEND_SCRATCH_BYTES);
    ASSERT(n->chunks != NULL && n->scratch != NULL);

    const struct ring_config config = {.sq_entries = RING_SQ_ENTRIES,
                                       .cq_entries = RING_CQ_ENTRIES,
                                       .descriptors = limits->connections_max,
                                       .buffers = RECV_BUFFERS,
                                       .buffer_bytes = RECV_BUFFER_BYTES};
    enum status s = ws_pool_open(&n->ws_pool, WS_CONTEXTS_KEPT);
    if (s != STATUS_OK)
        snprintf(why, why_len, "not enough memory for WebSocket contexts");
    else
        s = ring_open(&n->ring, &config, why, why_len);
    if (s != STATUS_OK) {
        net_close(n);
        n = NULL;
    }
    *out = n;
    return s;
}

enum status net_start(struct net *n, const struct net_listener *listeners, unsigned num_listeners)
{
    ASSERT(num_listeners <= LISTENERS_MAX && n->num_listeners == 0);
    enum status s = ring_enable_here(n->ring);
    if (s != STATUS_OK) return s;
    zero_copy_start(n);
    for (unsigned i = 0; i < num_listeners; i++) n->listeners[i] = listeners[i];
    n->num_listeners = num_listeners;
    n->accepts = calloc((size_t)num_listeners * ACCEPTS_ARMED_MAX + 1, sizeof *n->accepts);
    ASSERT(n->accepts != NULL);
    n->accepting = true;
    net_clock(n);
    ring_watch(n->ring, n->park, tag_make(RING_OP_WAKE, 0, 0));
    arm_accepts(n);
    return STATUS_OK;
}

static void pools_free(struct net *n)
{
    while (n->inputs) {
        struct conn_input *input = n->inputs;
        n->inputs = input->next;
        buf_free(&input->bytes);
        free(input);
    }
    while (n->exchanges) {
        struct conn_exchange *exchange = n->exchanges;
        n->exchanges = exchange->next;
        buf_free(&exchange->head);
        buf_free(&exchange->body);
        free(exchange);
    }
}

void net_close(struct net *n)
{
    if (!n) return;
    ring_close_all(n->ring); /* first: after it the kernel touches none of the memory below */
    for (uint32_t slot = 0; slot < n->num_slots; slot++) {
        struct conn *c = net_slot(n, slot);
        if (c->state != CONN_FREE) conn_discard(n, c);
    }
    for (uint32_t chunk = 0; chunk * CONN_CHUNK < n->num_slots; chunk++) free(n->chunks[chunk]);
    zero_copy_close(n);
    pools_free(n);
    send_pool_close(&n->send_pool);
    ws_pool_close(n->ws_pool);
    free(n->dirty.items);
    free(n->sending.items);
    free(n->resuming.items);
    free(n->accepts);
    free(n->scratch);
    free(n->chunks);
    free(n);
}

/* --- the turn ----------------------------------------------------------------------------------------------- */

unsigned net_poll(struct net *n)
{
    struct ring_completion done;
    unsigned handled = 0;
    if (ring_pending(n->ring) || !ring_ready(n->ring)) ring_enter(n->ring, false, 0);
    ASSERT(!ring_pending(n->ring)); /* so every send of the last flush is in the kernel */
    net_clock(n);
    for (; ring_next(n->ring, &done); handled++) complete(n, &done);
    account_sends(n);
    resume_all(n);
    arm_accepts(n);
    n->stats.connections = n->open;
    n->stats.assembly_bytes = n->assembly_bytes;
    n->stats.slot_bytes = n->num_slots * sizeof(struct conn);
    n->stats.queue_nodes = n->send_pool.in_use;
    return handled;
}

/* account_sends: every completion of this turn's sends has been handled, so a send that is still marked has no
 * completion, which means that the kernel took it whole (ring.h). */
static void account_sends(struct net *n)
{
    for (uint32_t i = 0; i < n->sending.len; i++) {
        struct conn *c = n->sending.items[i];
        if (c->sending) conn_sent_whole(n, c);
    }
    n->sending.len = 0;
    n->scratch_len = 0;
    n->follow_up = false;
}

/* resume_all takes only those that were listed when it began: one that lists itself again waits for the next turn, so
 * that no connection can keep the core from the others. */
static void resume_all(struct net *n)
{
    uint32_t listed = n->resuming.len;
    for (uint32_t i = 0; i < listed; i++) {
        struct conn *c = n->resuming.items[i];
        if (!c->resuming) continue;
        c->resuming = false;
        conn_resume(n, c);
    }
    list_shift(&n->resuming, listed);
}

void net_flush(struct net *n)
{
    uint32_t at = 0;
    for (; at < n->dirty.len; at++) {
        struct conn *c = n->dirty.items[at];
        if (!c->dirty) continue;
        if (!conn_flush(n, c)) break; /* the scratch is full: the others are sent in the next turn */
        c->dirty = false;
        if (!c->sending || c->told) continue;
        list_add(&n->sending, c);
        if (conn_has_follow_up(n, c)) n->follow_up = true;
    }
    list_shift(&n->dirty, at);
}

void net_wait(struct net *n, uint64_t until_ns)
{
    if (n->dirty.len > 0 || n->resuming.len > 0 || n->follow_up) return;
    uint64_t due_ns = next_due_ns(n), now_ns = clock_mono_ns(n->clock);
    if (until_ns < due_ns) due_ns = until_ns;
    if (due_ns == UINT64_MAX)
        ring_enter(n->ring, true, UINT64_MAX);
    else if (due_ns > now_ns)
        ring_enter(n->ring, true, due_ns - now_ns);
}

/* accept_due_ns: when arm_accepts has to be called again, whatever completes. It may have become due since the last
 * call. */
static uint64_t accept_due_ns(const struct net *n)
{
    if (!n->accepting) return UINT64_MAX;
    if (n->accept_after_ns) return n->accept_after_ns;
    return n->accept_look_ns ? n->accept_look_ns : UINT64_MAX;
}

static uint64_t next_due_ns(const struct net *n)
{
    uint32_t tick = timer_wheel_next(&n->timers);
    uint64_t due_ns = tick == TIMER_NEVER ? UINT64_MAX : n->started_ns + (tick - 1) * TICK_NS;
    uint64_t accept_ns = accept_due_ns(n);
    return accept_ns < due_ns ? accept_ns : due_ns;
}

void net_timers(struct net *n)
{
    struct timer *timer;
    net_clock(n);
    timer_wheel_advance(&n->timers, n->now_tick);
    zero_copy_expire(n);
    while ((timer = timer_pop(&n->timers))) conn_expire(n, CONTAINER_OF(timer, struct conn, timer));
}

/* net_clock: ticks begin with 1, so that 0 can mean "never" in a connection. */
static void net_clock(struct net *n)
{
    n->now_ns = clock_mono_ns(n->clock);
    n->now_tick = (uint32_t)((n->now_ns - n->started_ns) / TICK_NS) + 1;
}

/* --- completions -------------------------------------------------------------------------------------------- */

static void complete_accept(struct net *n, uint32_t at, int32_t result);

static void complete(struct net *n, const struct ring_completion *done)
{
    switch (tag_op(done->tag)) {
    case RING_OP_ACCEPT: complete_accept(n, tag_slot(done->tag), done->result); return;
    case RING_OP_WAKE:
        park_drain(n->park);
        if (!(done->flags & RING_MORE)) ring_watch(n->ring, n->park, done->tag);
        return;
    case RING_OP_CANCEL:
        if (tag_generation(done->tag) == 0) return; /* of an accept, which completes on its own */
        conn_complete(n, net_slot(n, tag_slot(done->tag)), done);
        return;
    case RING_OP_RECV:
    case RING_OP_POLL_IN:
    case RING_OP_SEND:
    case RING_OP_POLL_OUT:
    case RING_OP_SHUTDOWN:
    case RING_OP_BOUND:
    case RING_OP_CLOSE: conn_complete(n, net_slot(n, tag_slot(done->tag)), done); return;
    case RING_OP_SEND_ZC: zero_copy_complete(n, done); return;
    case RING_OP_NONE: break;
    }
    UNREACHABLE();
}

static void complete_accept(struct net *n, uint32_t at, int32_t result)
{
    struct accept_slot *accept = &n->accepts[at];
    struct backlog *b = &n->waiting[at / ACCEPTS_ARMED_MAX];
    ASSERT(accept->armed && b->armed > 0);
    accept->armed = false;
    n->accepts_armed--;
    b->armed--;
    b->asked = true;
    if (result >= 0) {
        struct conn *c = slot_take(n);
        n->accept_next = at / ACCEPTS_ARMED_MAX + 1;
        conn_open(n, c, (uint32_t)result, &accept->peer, n->listeners[at / ACCEPTS_ARMED_MAX].trusted);
        return;
    }
    /* The peer gave up while it waited: the next one may be fine. */
    if (result == -ECONNABORTED || result == -EPROTO || result == -ECANCELED || result == -EINTR) return;
    n->stats.accept_errors++;
    bool first = n->accept_after_ns <= n->now_ns; /* of all that were armed and fail alike */
    n->accept_after_ns = n->now_ns + ACCEPT_BACKOFF_MS * 1000000ull;
    if (first) LOG(LOG_WARN, "net", "accept_failed", LOG_ERRNO(-result), LOG_U64("core", n->core));
}

static bool accept_has_room(const struct net *n)
{
    return n->open + n->accepts_armed < n->limits.connections_max;
}

static void accept_arm(struct net *n, unsigned listener, bool there)
{
    uint32_t at = listener * ACCEPTS_ARMED_MAX;
    while (n->accepts[at].armed) at++;
    struct accept_slot *accept = &n->accepts[at];
    accept->armed = true;
    n->accepts_armed++;
    n->waiting[listener].armed++;
    ring_accept(n->ring, n->listeners[listener].fd, &accept->peer, &accept->peer_len, there,
                tag_make(RING_OP_ACCEPT, 0, at));
}

/* arm_first has one accept armed at least. The operator's listener has no more: it needs no bursts, and every armed one
 * holds a slot back. */
static void arm_first(struct net *n, unsigned listener)
{
    struct backlog *b = &n->waiting[listener];
    if (b->asked) b->there = n->listeners[listener].trusted ? 0 : ring_backlog(n->listeners[listener].fd);
    b->asked = false;
    if (b->armed > 0 || !accept_has_room(n)) return;
    accept_arm(n, listener, b->there > 0);
    if (b->there) b->there--;
}

/* arm_more arms one for each that waits beside it: they complete at once. */
static void arm_more(struct net *n, unsigned listener)
{
    struct backlog *b = &n->waiting[listener];
    for (; b->there > 0 && b->armed < ACCEPTS_ARMED_MAX && accept_has_room(n); b->there--)
        accept_arm(n, listener, true);
    b->there = 0; /* who is left is asked for when these have completed */
}

/* accepts_scarce: not every listener that has no accept can have one. */
static bool accepts_scarce(const struct net *n)
{
    unsigned without = 0;
    for (unsigned i = 0; i < n->num_listeners; i++) without += n->waiting[i].armed == 0;
    return n->open + n->accepts_armed + without > n->limits.connections_max;
}

/* accept_take_back cancels an accept that nobody comes to. Its completion has the slot given to another listener. */
static void accept_take_back(struct net *n)
{
    for (unsigned i = 0; i < n->num_listeners; i++) {
        if (n->listeners[i].trusted || n->waiting[i].armed == 0 || ring_backlog(n->listeners[i].fd) > 0) continue;
        uint32_t at = i * ACCEPTS_ARMED_MAX;
        while (!n->accepts[at].armed) at++;
        ring_cancel_tag(n->ring, tag_make(RING_OP_ACCEPT, 0, at), tag_make(RING_OP_CANCEL, 0, 0));
        return;
    }
}

/* accepts_share gives the last slots to listeners at which somebody waits, in turns, and what is left to others.
 * Nothing tells when somebody comes to a listener without an accept while another one's holds the slot and waits for
 * nobody: so there is a look each ACCEPT_LOOK_MS. */
static void accepts_share(struct net *n)
{
    bool held = false, wanted = false;
    for (unsigned i = 0; i < n->num_listeners; i++) held |= !n->listeners[i].trusted && n->waiting[i].armed > 0;
    if (!held) n->accept_look_ns = 0; /* whoever gives a slot back wakes this core */
    bool look = held && n->now_ns >= n->accept_look_ns;
    if (!look && !accept_has_room(n)) return;
    for (unsigned i = 0; i < n->num_listeners; i++) {
        unsigned listener = (n->accept_next + i) % n->num_listeners;
        struct backlog *b = &n->waiting[listener];
        if (n->listeners[listener].trusted || b->armed > 0) continue;
        b->asked = true;
        if (ring_backlog(n->listeners[listener].fd) == 0) continue;
        wanted |= !accept_has_room(n);
        arm_first(n, listener);
    }
    for (unsigned i = 0; i < n->num_listeners; i++) arm_first(n, (n->accept_next + i) % n->num_listeners);
    if (!look) return;
    n->accept_look_ns = n->now_ns + ACCEPT_LOOK_MS * 1000000ull;
    if (wanted) accept_take_back(n);
}

/* arm_accepts never arms more accepts than there are free slots: io_uring accepts first and looks for a free
 * descriptor afterwards, so a client too many would be accepted and dropped instead of waiting in the backlog. */
static void arm_accepts(struct net *n)
{
    if (!n->accepting || n->now_ns < n->accept_after_ns) return;
    n->accept_after_ns = 0;
    for (unsigned i = 0; i < n->num_listeners; i++)
        if (n->listeners[i].trusted) arm_first(n, i); /* the operator gets in before everybody else does */
    if (UNLIKELY(accepts_scarce(n))) {
        accepts_share(n);
        return;
    }
    n->accept_look_ns = 0;
    for (unsigned i = 0; i < n->num_listeners; i++) arm_first(n, i);
    for (unsigned i = 0; i < n->num_listeners; i++) arm_more(n, i);
}

void net_stop_accepting(struct net *n)
{
    n->accepting = false;
    for (uint32_t at = 0; at < n->num_listeners * ACCEPTS_ARMED_MAX; at++)
        if (n->accepts[at].armed)
            ring_cancel_tag(n->ring, tag_make(RING_OP_ACCEPT, 0, at), tag_make(RING_OP_CANCEL, 0, 0));
}

/* --- slots and lists ---------------------------------------------------------------------------------------- */

struct conn *net_slot(const struct net *n, uint32_t slot)
{
    ASSERT(slot < n->num_slots);
    return &n->chunks[slot / CONN_CHUNK][slot % CONN_CHUNK];
}

static struct conn *slot_take(struct net *n)
{
    ASSERT(n->open < n->limits.connections_max); /* arm_accepts saw to it */
    struct conn *c;
    if (n->free_slot != SLOT_NONE) {
        c = net_slot(n, n->free_slot);
        n->free_slot = c->next_free;
    } else {
        uint32_t slot = n->num_slots++;
        if (slot % CONN_CHUNK == 0) {
            struct conn *chunk = aligned_alloc(64, CONN_CHUNK * sizeof *chunk);
            ASSERT(chunk != NULL);
            memset(chunk, 0, CONN_CHUNK * sizeof *chunk);
            n->chunks[slot / CONN_CHUNK] = chunk;
        }
        c = net_slot(n, slot);
        c->slot = slot;
        c->generation = 1;
    }
    n->open++;
    return c;
}

/* net_slot_free: generation 0 names no connection, so it is passed over when the 24 bits wrap. */
void net_slot_free(struct net *n, struct conn *c)
{
    uint32_t next = (c->generation + 1) & TAG_GENERATION_MASK;
    *c = (struct conn){.slot = c->slot, .generation = next ? next : 1, .next_free = n->free_slot};
    n->free_slot = c->slot;
    n->open--;
}

static void list_add(struct conn_list *list, struct conn *c)
{
    if (list->len == list->cap) {
        list->cap = list->cap ? list->cap * 2 : 64;
        list->items = realloc(list->items, list->cap * sizeof *list->items);
        ASSERT(list->items != NULL);
    }
    list->items[list->len++] = c;
}

/* list_shift takes the first `done` entries off. */
static void list_shift(struct conn_list *list, uint32_t done)
{
    list->len -= done;
    if (list->len) memmove(list->items, list->items + done, list->len * sizeof *list->items);
}

void net_dirty(struct net *n, struct conn *c)
{
    if (c->dirty || c->sending || c->blocked) return;
    c->dirty = true;
    list_add(&n->dirty, c);
}

void net_resume(struct net *n, struct conn *c)
{
    if (c->resuming) return;
    c->resuming = true;
    list_add(&n->resuming, c);
}

struct conn *net_conn(struct net *n, struct conn_ref ref)
{
    if (ref.generation == 0 || ref.slot >= n->num_slots) return NULL;
    struct conn *c = net_slot(n, ref.slot);
    bool open = c->state == CONN_HTTP || c->state == CONN_REQUEST || c->state == CONN_WEBSOCKET;
    return open && (c->generation == ref.generation || PLANTED(stale_connection_ref)) ? c : NULL;
}

unsigned net_answering(const struct net *n)
{
    unsigned num = 0;
    for (uint32_t slot = 0; slot < n->num_slots; slot++) num += conn_answering(net_slot(n, slot));
    return num;
}

struct conn *net_each(struct net *n, uint32_t *at)
{
    while (*at < n->num_slots) {
        struct conn *c = net_slot(n, (*at)++);
        if (net_conn(n, net_ref(c))) return c;
    }
    return NULL;
}

/* --- what callers may know ---------------------------------------------------------------------------------- */

const char *net_date(struct net *n)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    uint64_t now_s = clock_wall_ms(n->clock) / 1000;
    if (now_s == n->date_s && n->date[0]) return n->date;
    time_t time = (time_t)now_s;
    struct tm t;
    gmtime_r(&time, &t);
    n->date_s = now_s;
    snprintf(n->date, sizeof n->date, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[t.tm_wday], (unsigned)t.tm_mday % 100,
             months[t.tm_mon], (unsigned)(t.tm_year + 1900) % 10000, (unsigned)t.tm_hour % 100,
             (unsigned)t.tm_min % 100, (unsigned)t.tm_sec % 100);
    return n->date;
}

uint64_t net_now_ns(const struct net *n)
{
    return n->now_ns;
}
unsigned net_connections(const struct net *n)
{
    return n->open;
}

const char *net_zero_copy_result_name(enum net_zero_copy_result result)
{
    static const char *const names[NET_ZERO_COPY_RESULTS] = {"sent", "copied", "short", "failed"};
    ASSERT(result < NET_ZERO_COPY_RESULTS);
    return names[result];
}

const struct net_stats *net_stats(const struct net *n)
{
    return &n->stats;
}

const struct ring_stats *net_ring_stats(const struct net *n)
{
    return ring_stats(n->ring);
}
