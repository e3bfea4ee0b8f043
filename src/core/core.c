#include "core.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../net/ring.h"
#include "../api/access.h"
#include "../api/admission.h"
#include "../api/api.h"
#include "../api/connections.h"
#include "../api/pages.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "../base/planted.h"
#include "../base/probe.h"
#include "../chat/fanout.h"
#include "../chat/far_walk.h"
#include "../chat/idempotency_sweep.h"
#include "../chat/presence.h"
#include "../chat/replay.h"
#include "../chat/room.h"
#include "../chat/session.h"
#include "../chat/tail.h"
#include "../chat/typing.h"
#include "../chat/user.h"
#include "../notify/notify.h"
#include "control.h"
#include "notice.h"

static bool mailboxes_drain(struct core *core);
static bool mailboxes_pending(struct core *core);
static bool outboxes_movable(struct core *core);
static void outboxes_publish(struct core *core);
static bool durable_waits_push(struct core *core);
static void timers_run(struct core *core);
static uint64_t wake_at(const struct core *core);
static size_t body_bytes_max(const struct config *c);

/* --- the loop ------------------------------------------------------------------------------------------------ */

/* turn_begin takes the time, which ends a busy turn as well: nothing was waited for since. */
static void turn_begin(struct core *core)
{
    uint64_t before_ns = core->now_ns;
    core->now_ns = clock_mono_ns(core->gateway->clock);
    atomic_store_explicit(&core->turned_ns, core->now_ns, memory_order_relaxed);
    if (core->turn_busy) histogram_record(&core->turn_seconds, core->now_ns - before_ns);
    probe_turn(core->id);
}

/* slice_of_turn: with much to receive a turn is long; sending has its part of it. */
static uint32_t slice_of_turn(const struct core *core, uint32_t arrived)
{
    uint32_t part = arrived / FANOUT_SLICE_PART;
    return part > core->fanout_slice ? part : core->fanout_slice;
}

bool core_turn(struct core *core, bool may_wait)
{
    turn_begin(core);
    core->now_ms = clock_wall_ms(core->gateway->clock);
    uint32_t arrived = net_poll(core->net);  /* what arrived: requests, messages, ends of connections */
    bool busy = arrived > 0;
    busy |= mailboxes_drain(core);           /* what other cores want, or answer */
    if (fanout_takes_news(core)) busy |= commit_poll(core->commit) > 0; /* what became durable … */
    busy |= durable_waits_push(core);
    busy |= fanout_publish_dirty(core);      /* … goes to its readers, … */
    busy |= fanout_walk(core, slice_of_turn(core, arrived)); /* … to so many in a turn */
    busy |= read_poll(core->reader) > 0;     /* pages of history */
    core->metrics_stale |= busy;
    timers_run(core);
    commit_publish(core->commit);
    read_publish(core->reader);
    outboxes_publish(core);
    net_flush(core->net);                    /* one send for every connection with news */
    core->turn_busy = busy;
    if (busy || !may_wait) {
        net_wait(core->net, 0);
        return busy;
    }
    park_prepare(&core->park);
    bool work = !list_empty(&core->replays_ready) || fanout_walking(core) || !list_empty(&core->rooms_dirty) ||
                mailboxes_pending(core) || outboxes_movable(core) ||
                (fanout_takes_news(core) && commit_pollable(core->commit)) ||
                read_pollable(core->reader) || control_pollable(core);
    net_wait(core->net, work ? 0 : wake_at(core));
    park_done(&core->park);
    return work;
}

bool core_should_yield(const struct core *core) { return fanout_walking(core) && commit_pending(core->commit) > 0; }

static void drain_step(struct core *core);
static void metrics_update(struct core *core);
static void memory_update(struct core *core);

/* queues_fit: readers that take nothing hold frames, and at FRAMES_BYTES_MAX all sends of this core are refused. Well
 * before that each reader may hold less: a push that does not fit makes it catch up from the log instead. */
static void queues_fit(struct core *core)
{
    int64_t used = atomic_load_explicit(&core->frames_bytes, memory_order_relaxed),
            most = (int64_t)core->frames_bytes_max;
    size_t bytes = CONFIG_NOW(core->gateway->config, limits_send_queue);
    if (UNLIKELY(used > most / 2)) {
        int64_t left = most - used;
        size_t share = left > 0 ? (size_t)left / (core->num_sessions + 1) : 0;
        if (share < SEND_QUEUE_BYTES_MIN) share = SEND_QUEUE_BYTES_MIN;
        if (share < bytes) bytes = share;
    }
    if (bytes == core->queue_bytes_max) return;
    core->queue_bytes_max = bytes;
    net_limit_queues(core->net, bytes);
}

/* --- queues that are watched ------------------------------------------------------------------------------------ */

const char *const core_queue_names[CORE_QUEUES] = {"connections", "commit_entries", "commit_bytes",   "mailbox",
                                                   "reads",       "frames_bytes",   "assembly_bytes", "pages_bytes",
                                                   "tail_bytes",  "rooms",          "users"};

size_t core_bytes_max(const struct gateway *g, size_t most)
{
    uint64_t memory = g->config->limits_memory; /* 0: nobody has said, as in tests */
    uint64_t share = memory / MEMORY_SHARES / g->num_cores;
    if (share < MEMORY_SHARE_MIN) share = MEMORY_SHARE_MIN;
    return memory && share < most ? (size_t)share : most;
}

/* assembly_bytes_max: a body of the longest length that is taken fits when there is no other one, however small the
 * share: its buffer has up to twice its length, and a client may hold half of all (net/connection_receive.c). */
static size_t assembly_bytes_max(const struct gateway *g)
{
    size_t share = core_bytes_max(g, ASSEMBLY_BYTES_MAX), one = 4 * (body_bytes_max(g->config) + HTTP_HEAD_BYTES_MAX);
    return share > one ? share : one;
}

uint64_t core_queue_bound(const struct gateway *g, enum core_queue queue)
{
    switch (queue) {
    case QUEUE_CONNECTIONS: return g->config->limits_connections;
    case QUEUE_COMMIT_ENTRIES: return COMMIT_PENDING_MAX;
    case QUEUE_COMMIT_BYTES: return core_bytes_max(g, COMMIT_PENDING_BYTES_MAX);
    case QUEUE_MAILBOX: return MAILBOX_CELLS;
    case QUEUE_READS: return READ_RING_CELLS;
    case QUEUE_FRAMES_BYTES: return core_bytes_max(g, FRAMES_BYTES_MAX);
    case QUEUE_ASSEMBLY_BYTES: return assembly_bytes_max(g);
    case QUEUE_PAGES_BYTES: return core_bytes_max(g, PAGES_BYTES_MAX);
    case QUEUE_TAIL_BYTES: return tail_bytes_max(g);
    case QUEUE_ROOMS: return ROOMS_LOADED_MAX;
    case QUEUE_USERS: return USERS_LOADED_MAX;
    case CORE_QUEUES: break;
    }
    UNREACHABLE();
}

static void queue_is(struct core *core, enum core_queue queue, uint64_t depth)
{
    atomic_store_explicit(&core->queue_depth[queue], depth, memory_order_relaxed);
    if (depth > atomic_load_explicit(&core->queue_high[queue], memory_order_relaxed))
        atomic_store_explicit(&core->queue_high[queue], depth, memory_order_relaxed);
}

/* queues_watch looks each turn at those that rise and fall within moments. */
static void queues_watch(struct core *core)
{
    int64_t frames = atomic_load_explicit(&core->frames_bytes, memory_order_relaxed);
    queue_is(core, QUEUE_COMMIT_ENTRIES, commit_pending(core->commit));
    queue_is(core, QUEUE_COMMIT_BYTES, core->pending_bytes);
    queue_is(core, QUEUE_FRAMES_BYTES, frames > 0 ? (uint64_t)frames : 0);
    queue_is(core, QUEUE_ASSEMBLY_BYTES, net_stats(core->net)->assembly_bytes);
    queue_is(core, QUEUE_PAGES_BYTES, core->pages_bytes[PAGES_ASKED] + core->pages_bytes[PAGES_REPLAYED]);
    queue_is(core, QUEUE_TAIL_BYTES, tails_bytes(core));
    queue_is(core, QUEUE_READS, read_waiting(core->reader));
}

/* queues_look looks at the others, now and then. */
static void queues_look(struct core *core)
{
    uint64_t most = 0;
    for (unsigned target = 0; target < core->num_cores; target++) {
        if (target == core->id) continue;
        uint64_t waits = spsc_depth(core->out[target].ring) + core->out[target].parked.len;
        if (waits > most) most = waits;
    }
    queue_is(core, QUEUE_MAILBOX, most);
    queue_is(core, QUEUE_CONNECTIONS, atomic_load_explicit(&core->gateway->open_connections, memory_order_relaxed));
    queue_is(core, QUEUE_ROOMS, core->rooms.len);
    queue_is(core, QUEUE_USERS, core->users_by_id.len);
}

static void timers_run(struct core *core)
{
    net_timers(core->net);
    if (UNLIKELY(core->pages_waiting.len)) pages_poll(core);
    session_timers(core);
    replays_run(core);
    user_cursors_flush(core);
    user_presence_timers(core);
    typing_timers(core);
    presence_flush(core);
    user_full_again(core);
    idempotency_evict(&core->idempotency);
    notify_timers(core);
    if (core->id == 0) idempotency_sweep_run(core);
    queues_fit(core);
    rooms_fit(core);
    queues_watch(core);
    admission_update(core);
    uint64_t oldest_ns = commit_oldest_ns(core->commit);
    core->commit_late = oldest_ns && core->now_ns > oldest_ns + COMMIT_AGE_MAX_MS * 1000000ull;
    control_poll(core);
    if (UNLIKELY(atomic_load_explicit(&core->gateway->draining, memory_order_relaxed))) drain_step(core);
    if (core->now_ns >= core->metrics_due_ns) metrics_update(core);
}

/* drain_step: everybody is told at once, and whoever waits for nothing is closed at once. The others are closed when
 * they have their answers, so that nobody has to ask again whether a message was kept. */
static void drain_step(struct core *core)
{
    if (!core->drain_told) session_drain_tell(core);
    core->drain_told = true;
    if (core->now_ns >= core->drain_due_ns) {
        session_drain_close(core);
        core->drain_answers = net_answering(core->net);
        core->drain_due_ns = core->now_ns + DRAIN_POLL_MS * 1000000ull;
    }
    uint64_t left = net_stats(core->net)->websockets + commit_pending(core->commit) + core->drain_answers;
    atomic_store_explicit(&core->connections, (uint32_t)left, memory_order_release);
}

#define METRICS_INTERVAL_NS 100000000u /* gauges are copied this often; counters that happen here are always current */

/* metrics_update copies what net and the tables count into the core's metrics, where any thread may read them. */
static void metrics_update(struct core *core)
{
    const struct net_stats *n = net_stats(core->net);
    const struct ring_stats *r = net_ring_stats(core->net);
    struct metrics *m = &core->metrics;
    core->metrics_due_ns = core->now_ns + METRICS_INTERVAL_NS;
    core->metrics_stale = false;
    atomic_store_explicit(&core->commit_oldest_ns, commit_oldest_ns(core->commit), memory_order_relaxed);
    metric_set(m, METRIC_CONNECTIONS, n->connections);
    metric_set(m, METRIC_WEBSOCKET_CONNECTIONS_ACTIVE, n->websockets);
    metric_set(m, METRIC_CONNECTIONS_ACCEPTED, n->accepted);
    metric_set(m, METRIC_ACCEPT_ERRORS, n->accept_errors);
    metric_set(m, METRIC_WEBSOCKETS_OPENED, n->websockets_opened);
    metric_set(m, METRIC_WEBSOCKET_MESSAGES, n->ws_messages_in);
    metric_set(m, METRIC_FRAMES_SENT, n->frames_out);
    for (unsigned i = 0; i < CONN_CAUSES; i++)
        atomic_store_explicit(&core->closed_by[i], n->closed_by[i], memory_order_relaxed);
    for (unsigned i = 0; i < NET_CLOSE_CODES; i++)
        atomic_store_explicit(&core->ws_closed_by[i], n->ws_closed_by[i], memory_order_relaxed);
    for (unsigned i = 0; i < NET_ZERO_COPY_RESULTS; i++)
        atomic_store_explicit(&core->zero_copy[i], n->zero_copy[i], memory_order_relaxed);
    metric_set(m, METRIC_BYTES_RECEIVED, n->bytes_in);
    metric_set(m, METRIC_BYTES_SENT, n->bytes_out);
    metric_set(m, METRIC_SEND_QUEUE_BYTES, n->queued_bytes);
    metric_set(m, METRIC_SLOW_READERS_CLOSED, n->slow_closed);
    metric_set(m, METRIC_EPHEMERALS_DROPPED, n->ephemerals_dropped + core->presence_dropped);
    metric_set(m, METRIC_SENDS, n->sends);
    metric_set(m, METRIC_SHORT_SENDS, n->short_sends);
    metric_set(m, METRIC_RING_ENTERS, r->enters);
    metric_set(m, METRIC_RING_COMPLETIONS, r->completed);
    metric_set(m, METRIC_RING_OVERFLOWS, r->cq_overflows);
    metric_set(m, METRIC_RECEIVE_BUFFERS_EMPTY, n->recv_enobufs);
    metric_set(m, METRIC_ROOMS_LOADED, core->rooms.len);
    metric_set(m, METRIC_USERS_LOADED, core->users_by_id.len);
    metric_set(m, METRIC_SESSIONS, core->num_sessions);
    metric_set(m, METRIC_SUBSCRIPTIONS, core->num_subscriptions);
    metric_set(m, METRIC_USERS_ONLINE, core->num_online);
    metric_set(m, METRIC_IDEMPOTENT_HITS, core->idempotency.hits);
    metric_set(m, METRIC_IDEMPOTENCY_LOOKUPS, core->idempotency.lookups);
    metric_set(m, METRIC_COMMIT_PENDING, commit_pending(core->commit));
    memory_update(core);
    metric_set(m, METRIC_CONNECTIONS_REFUSED, n->refused);
    metric_set(m, METRIC_FRAMES_BYTES, (uint64_t)atomic_load_explicit(&core->frames_bytes, memory_order_relaxed));
    queues_look(core);
}

static void memory_update(struct core *core)
{
    const struct net_stats *n = net_stats(core->net);
    int64_t frames = atomic_load_explicit(&core->frames_bytes, memory_order_relaxed);
    const uint64_t now[CORE_MEMORY_PARTS] = {
        [CORE_MEMORY_CONNECTIONS] = n->slot_bytes + core->num_sessions * sizeof(struct session) +
                               core->num_subscriptions * (sizeof(struct sub) + sizeof(struct local_sub)),
        [CORE_MEMORY_ANSWERS] = net_reply_bytes(core->net),
        [CORE_MEMORY_FRAMES] = frames > 0 ? (uint64_t)frames : 0,
        [CORE_MEMORY_TAILS] = tails_bytes(core),
        [CORE_MEMORY_ASSEMBLY] = n->assembly_bytes,
        [CORE_MEMORY_PENDING] = core->pending_bytes};
    for (unsigned part = 0; part < CORE_MEMORY_PARTS; part++)
        atomic_store_explicit(&core->memory[part], now[part], memory_order_relaxed);
}

static uint64_t wake_at(const struct core *core)
{
    uint64_t at = core->now_ns + 1000000000u; /* once a second at the latest: coarse timers need no more */
    /* while a write of cursors is under way, or the pipeline is full, the end of what is there wakes this core; the
     * next one being due would keep it from sleeping */
    bool can_flush = !core->cursor_flush_open && !commit_full(core->commit);
    if (!list_empty(&core->users_dirty) && can_flush && core->cursor_flush_due_ns < at) at = core->cursor_flush_due_ns;
    if (UNLIKELY(core->full_again.len) && user_full_again_ns(core) < at) at = user_full_again_ns(core);
    if (UNLIKELY(!list_empty(&core->replays_waiting)) && core->replays_due_ns < at) at = core->replays_due_ns;
    const uint64_t due[] = {user_presence_wake_at(core), typing_wake_at(core), presence_wake_at(core),
                            notify_wake_ns(core)};
    for (unsigned i = 0; i < sizeof due / sizeof due[0]; i++)
        if (due[i] < at) at = due[i];
    if (core->metrics_stale && core->metrics_due_ns < at) at = core->metrics_due_ns; /* whoever looks sees what is */
    if (UNLIKELY(core->drain_told) && core->drain_due_ns < at) at = core->drain_due_ns;
    return at;
}

/* --- opening and closing --------------------------------------------------------------------------------------- */

static const struct net_handlers *core_handlers(struct core *core, struct net_handlers *h)
{
    *h = (struct net_handlers){.on_request = api_on_request,
                               .on_message = api_on_message,
                               .on_drain = session_on_drain,
                               .on_closed = api_on_closed,
                               .on_refused = api_on_refused,
                               .on_open = admission_on_open,
                               .on_head = api_on_head,
                               .on_ping = api_on_ping,
                               .context = core};
    return h;
}

/* core_message_bytes_max: the longest message a client may send: its content with every character escaped as a pair of
 * surrogates (12 bytes), its meta, and the rest. */
size_t core_message_bytes_max(const struct config *c)
{
    size_t bytes = c->limits_content_chars * 12 + META_BYTES_MAX + 8192;
    return bytes > WS_MESSAGE_BYTES_MAX ? bytes : WS_MESSAGE_BYTES_MAX;
}

static size_t body_bytes_max(const struct config *c)
{
    size_t bytes = core_message_bytes_max(c);
    return bytes > HTTP_BODY_BYTES_MAX ? bytes : HTTP_BODY_BYTES_MAX;
}

/* core_places: how many connections this core may let in. The bound holds for the server, and the kernel spreads new
 * connections without looking at it, so each core has places for all of them, as far as its descriptors go; never fewer
 * than an even share. */
static uint64_t core_places(const struct core *core)
{
    uint64_t all = core->gateway->config->limits_connections, descriptors = core->gateway->descriptors;
    uint64_t share = (all + core->num_cores - 1) / core->num_cores;
    if (descriptors <= 2ull * DESCRIPTORS_KEPT || all <= share) return share;
    uint64_t most = descriptors - DESCRIPTORS_KEPT;
    if (most > CONNECTIONS_DERIVED_MAX) most = CONNECTIONS_DERIVED_MAX;
    if (most < share) most = share;
    return all < most ? all : most;
}

/* places_beyond: of the descriptors that are left beside those in use, and the operator's one, at most `max`. */
static unsigned places_beyond(const struct core *core, uint64_t used, unsigned max)
{
    uint64_t descriptors = core->gateway->descriptors, left = descriptors > used ? descriptors - used - 1 : 0;
    return descriptors && left < max ? (unsigned)left : max;
}

static enum net_zero_copy zero_copy_of(const struct config *c)
{
    switch (c->net_zero_copy) {
    case CONFIG_ZERO_COPY_AUTO: return NET_ZERO_COPY_AUTO;
    case CONFIG_ZERO_COPY_ON: return NET_ZERO_COPY_ON;
    case CONFIG_ZERO_COPY_OFF: return NET_ZERO_COPY_OFF;
    }
    UNREACHABLE();
}

static struct net_limits core_limits(const struct core *core)
{
    const struct config *c = core->gateway->config;
    uint64_t places = core_places(core);
    unsigned refused = places_beyond(core, places, CONNECTIONS_REFUSED_MAX);
    unsigned lingering = places_beyond(core, places + refused, CONNECTIONS_LINGERING_MAX);
    return (struct net_limits){
        /* core 0 has one more, which the operator's listener keeps for itself */
        .connections_max = (unsigned)places + refused + lingering + (core->id == 0),
        .refused_max = refused,
        .lingering_max = lingering,
        .open_shared = &core->gateway->open_connections,
        .open_shared_max = (uint32_t)c->limits_connections,
        .http = {.head_bytes_max = HTTP_HEAD_BYTES_MAX,
                 .target_bytes_max = HTTP_TARGET_BYTES_MAX,
                 .body_bytes_max = c->debug_echo ? ECHO_MESSAGE_BYTES_MAX : body_bytes_max(c)},
        .ws_message_bytes_max = core_message_bytes_max(c),
        .assembly_bytes_max = assembly_bytes_max(core->gateway),
        .send_queue_bytes_max = c->limits_send_queue,
        .zero_copy = zero_copy_of(c),
        .zero_copy_bytes_min = core->gateway->cells.zero_copy_bytes_min,
        .zero_copy_account_max = (int64_t)(core->frames_bytes_max / ZERO_COPY_ACCOUNT_PART),
        .requests_in_flight_max = REQUESTS_IN_FLIGHT_MAX,
        .header_timeout_ns = HEADER_TIMEOUT_MS * 1000000ull,
        .body_timeout_ns = BODY_TIMEOUT_MS * 1000000ull,
        .idle_timeout_ns = c->net_idle_timeout * 1000000ull,
        .ping_interval_ns = c->net_ping_interval * 1000000ull,
        .close_timeout_ns = CLOSE_TIMEOUT_MS * 1000000ull,
        .stall_timeout_ns = STALL_TIMEOUT_MS * 1000000ull};
}

static void core_init(struct core *core, struct gateway *g, unsigned id)
{
    core->id = id;
    core->num_cores = g->num_cores;
    core->gateway = g;
    list_init(&core->known_idle);
    list_init(&core->rooms_walking);
    core->fanout_slice = FANOUT_SLICE;
    core->fanout_runs_max = FANOUT_RUNS_MAX;
    list_init(&core->hello_waiting);
    list_init(&core->users_dirty);
    list_init(&core->users_idle);
    list_init(&core->users_leaving);
    list_init(&core->last_seen_oldest);
    list_init(&core->presence_changes);
    list_init(&core->typings_expiring);
    list_init(&core->typings_closed);
    list_init(&core->rooms_dirty);
    list_init(&core->rooms_held);
    list_init(&core->rooms_idle);
    used_tickets_init(&core->used_tickets);
    core->next_request_id = random_u64(g->random);
    core->replies_bytes_max = core_bytes_max(g, REPLIES_BYTES_MAX);
    core->frames_bytes_max = core_bytes_max(g, FRAMES_BYTES_MAX);
    core->pending_bytes_max = core_bytes_max(g, COMMIT_PENDING_BYTES_MAX);
    core->pages_bytes_max = core_bytes_max(g, PAGES_BYTES_MAX) / PAGES_KINDS;
    core->pages_waiting_max = (uint32_t)(core->pages_bytes_max / PAGES_WAITING_PART / PAGES_WAITING_BYTES);
    core->users_loaded_max = USERS_LOADED_MAX;
    core->user_waiting_max = USER_WAITING_MAX;
    core->presence_sends_max = PRESENCE_SENDS;
    core->presence_room_members = g->config->limits_presence_room_members;
    core->anyone.assembly_max = assembly_bytes_max(g) / 2;
    core->rates = g->ip_requests || g->ip_handshakes || g->config->limits_tenant_rate;
    list_init(&core->replays_waiting);
    list_init(&core->replays_ready);
    list_init(&core->page_reads);
    core->tails = tails_new();
    core->tail_bytes_max = tail_bytes_max(g);
    for (unsigned other = 0; other < g->num_cores; other++) {
        core->out[other].ring = &g->mailboxes[id * g->num_cores + other];
        core->out[other].wait = &g->mailbox_waits[id * g->num_cores + other];
        core->in[other] = &g->mailboxes[other * g->num_cores + id];
        core->in_wait[other] = &g->mailbox_waits[other * g->num_cores + id];
    }
}

enum status core_open(struct core **out, struct gateway *g, unsigned id, char *why, size_t why_len)
{
    struct core *core = aligned_alloc(CACHE_LINE, (sizeof *core + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
    if (!core) return STATUS_NO_MEMORY;
    memset(core, 0, sizeof *core);
    *out = core;
    core_init(core, g, id);
    core->json = json_parser_new(body_bytes_max(g->config));
    core->route_seconds = calloc(api_num_routes(), sizeof *core->route_seconds);
    core->route_status = calloc((size_t)api_num_routes() * 6, sizeof *core->route_status);
    if (!core->json || !core->route_seconds || !core->route_status) return STATUS_NO_MEMORY;
    idempotency_init(&core->idempotency, &g->hash_key);
    if (park_init(&core->park, g->park_ops, g->park_context) != STATUS_OK) {
        snprintf(why, why_len, "eventfd: %s", "no descriptor left: raise the open files limit");
        return STATUS_IO;
    }
    struct net_handlers handlers;
    struct net_limits limits = core_limits(core);
    enum status s =
        net_open(&core->net, core_handlers(core, &handlers), &limits, g->clock, &core->park, id, why, why_len);
    if (s != STATUS_OK) return s;
    core->commit = commit_core_open(g->commit, id, &core->park, core);
    core->queue_bytes_max = limits.send_queue_bytes_max;
    core->reader = reader_core_open(g->readers, id, &core->park, core);
    core->notify = notify_new(core);
    return STATUS_OK;
}

enum status core_start(struct core *core, const struct net_listener *listeners, unsigned num_listeners)
{
    core->now_ns = clock_mono_ns(core->gateway->clock);
    core->now_ms = clock_wall_ms(core->gateway->clock);
    atomic_store_explicit(&core->turned_ns, core->now_ns, memory_order_relaxed);
    bool known = pthread_getcpuclockid(pthread_self(), &core->cpu_clock) == 0;
    atomic_store_explicit(&core->cpu_clock_known, known, memory_order_release);
    return net_start(core->net, listeners, num_listeners);
}

void core_disconnect(struct core *core)
{
    if (core->net) pages_end(core);
    fanout_end(core);
    if (core->net) net_close(core->net);
    core->net = NULL;
}

void core_close(struct core *core)
{
    ASSERT(core->net == NULL);
    access_free(core);
    sessions_free(core);
    tails_free(core);
    presence_free(core);
    typing_free(core);
    rooms_free(core);
    users_free(core);
    notify_free(core);
    directory_free(core);
    used_tickets_free(&core->used_tickets);
    idempotency_free(&core->idempotency);
    idempotency_sweep_free(core->sweep);
    json_parser_free(core->json);
    park_close(&core->park);
    free(core->route_seconds);
    free(core->route_status);
    free(core);
}

/* --- what is read is shown when it is durable -------------------------------------------------------------------- */

static void wait_done(void *context, struct commit_entry *entry, enum status result)
{
    struct durable_wait *w = CONTAINER_OF(entry, struct durable_wait, entry);
    w->go(context, w, result == STATUS_OK);
}

void core_when_durable(struct core *core, struct durable_wait *w,
                       void (*go)(struct core *core, struct durable_wait *w, bool durable))
{
    if (commit_all_durable(core->gateway->commit) || PLANTED(undurable_load)) {
        go(core, w, true);
        return;
    }
    w->go = go;
    queue_push(&core->durable_waits, &w->node);
    durable_waits_push(core);
}

/* durable_waits_push hands on those for which there is room. While there is none, what is in the pipeline wakes this
 * core when it is done. Answers whether it handed on any. */
static bool durable_waits_push(struct core *core)
{
    bool moved = false;
    while (core->durable_waits.len && (!commit_full(core->commit) || commit_poisoned(core->gateway->commit))) {
        struct durable_wait *w = CONTAINER_OF(queue_pop(&core->durable_waits), struct durable_wait, node);
        w->entry = (struct commit_entry){.class = COMMIT_FSYNC, .done = wait_done};
        if (commit_push(core->commit, &w->entry) != STATUS_OK) w->go(core, w, false);
        moved = true;
    }
    return moved;
}

/* --- mailboxes --------------------------------------------------------------------------------------------------- */

static enum status outbox_push(struct outbox *o, uint32_t kind, void *pointer)
{
    struct spsc_cell cell = {{kind, (uint64_t)(uintptr_t)pointer}};
    return spsc_push(o->ring, &cell);
}

/* What is parked keeps its place in the order: nothing overtakes it. */
static void outbox_post(struct core *core, unsigned target, uint32_t kind, struct queue_node *node, void *pointer)
{
    struct outbox *o = &core->out[target];
    ASSERT(target != core->id);
    if (o->parked.len == 0 && outbox_push(o, kind, pointer) == STATUS_OK) return;
    core_count(core, METRIC_MAILBOX_PARKED, 1);
    queue_push(&o->parked, node);
}

void core_post(struct core *core, unsigned target, struct mail *mail)
{
    outbox_post(core, target, mail->kind, &mail->node, mail);
}

void core_post_run(struct core *core, unsigned target, struct frame *f)
{
    struct frame_core *fc = frame_core_of(f, target);
    fc->parked_kind = MAIL_RUN;
    outbox_post(core, target, MAIL_RUN, &fc->parked, f);
}

/* parked_pointer finds what a parked node is part of: mails say so behind the node, and frames do in the same place. */
static void *parked_pointer(struct queue_node *node, unsigned target, uint32_t *kind)
{
    struct mail *mail = CONTAINER_OF(node, struct mail, node);
    *kind = mail->kind;
    if (mail->kind != MAIL_RUN) return mail;
    struct frame_core *fc = CONTAINER_OF(node, struct frame_core, parked);
    return (char *)(fc - target) - offsetof(struct frame, cores);
}

static void outboxes_publish(struct core *core)
{
    for (unsigned target = 0; target < core->num_cores; target++) {
        if (target == core->id) continue;
        struct outbox *o = &core->out[target];
        while (o->parked.len && !PLANTED(mail_left_at_full_ring)) {
            uint32_t kind;
            void *pointer = parked_pointer(o->parked.head, target, &kind);
            if (outbox_push(o, kind, pointer) != STATUS_OK) break;
            queue_pop(&o->parked);
        }
        if (spsc_publish(o->ring) && !PLANTED(core_not_woken)) park_wake(&core->gateway->cores[target]->park);
    }
}

static bool outbox_movable(const struct outbox *o) { return o->parked.len && spsc_depth(o->ring) <= o->ring->mask; }

/* outboxes_movable: there is room again for what is parked; if there is not, the receiver is asked for a wake-up. None
 * is lost: the sender asks behind park_prepare and looks once more behind a full fence, the receiver looks at `blocked`
 * behind the one in mailbox_release. So either the sender sees the room, or the receiver the flag, and then the
 * sleeper. */
static bool outboxes_movable(struct core *core)
{
    bool movable = false;
    for (unsigned target = 0; target < core->num_cores; target++) {
        struct outbox *o = &core->out[target];
        if (LIKELY(o->parked.len == 0)) continue;
        atomic_store_explicit(&o->wait->blocked, true, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        movable |= outbox_movable(o);
    }
    return movable;
}

/* mailbox_release gives the taken cells back, and wakes a sender that waits for them. */
static void mailbox_release(struct core *core, unsigned from)
{
    struct mailbox_wait *wait = core->in_wait[from];
    spsc_release(core->in[from]);
    atomic_thread_fence(memory_order_seq_cst);
    if (LIKELY(!atomic_load_explicit(&wait->blocked, memory_order_relaxed))) return;
    if (atomic_exchange_explicit(&wait->blocked, false, memory_order_relaxed))
        park_wake(&core->gateway->cores[from]->park);
}

static void notice_handle(struct core *core, struct notice *n);
static void op_execute(struct core *core, struct op *op);

static void mail_handle(struct core *core, uint32_t kind, void *pointer)
{
    switch ((enum mail_kind)kind) {
    case MAIL_OP: op_execute(core, pointer); return;
    case MAIL_OP_BACK: {
        struct op *op = pointer;
        op->then(core, op);
        return;
    }
    case MAIL_RUN: fanout_local(core, pointer); return;
    case MAIL_NOTICE: notice_handle(core, pointer); return;
    }
    UNREACHABLE();
}

static bool mailboxes_drain(struct core *core)
{
    bool any = false;
    for (unsigned from = 0; from < core->num_cores; from++) {
        if (from == core->id) continue;
        struct spsc *ring = core->in[from];
        unsigned num = 0;
        /* at most one ring's worth a turn, so that a talkative core cannot keep this one from its sockets */
        for (; num < MAILBOX_CELLS; num++) {
            struct spsc_cell *cell = spsc_peek(ring);
            if (!cell) break;
            uint32_t kind = (uint32_t)cell->word[0];
            void *pointer = (void *)(uintptr_t)cell->word[1];
            spsc_pop(ring);
            mail_handle(core, kind, pointer);
        }
        if (num == 0) continue;
        mailbox_release(core, from);
        any = true;
    }
    return any;
}

static bool mailboxes_pending(struct core *core)
{
    for (unsigned from = 0; from < core->num_cores; from++)
        if (from != core->id && !spsc_empty(core->in[from])) return true;
    return false;
}

/* --- ops and notices --------------------------------------------------------------------------------------------- */

unsigned op_home(const struct core *core, const struct op *op)
{
    const struct gateway *g = core->gateway;
    switch ((enum op_kind)op->kind) {
    case OP_USER_RESOLVE:
    case OP_USER_GET:
    case OP_USER_ROOMS:
    case OP_USER_CURSOR:
    case OP_NOTIFICATION_ACK:
    case OP_NOTIFICATION_EXPIRE:
    case OP_DEAD_LETTER_RETRY:
    case OP_DEAD_LETTER_DELETE:
    case OP_USER_PRESENCE: return gateway_user_home(g, op->tenant, op->user_id);
    case OP_NOTIFY:
    case OP_ROOM_CREATE: return gateway_tenant_home(g, op->tenant);
    case OP_ROOM_GET:
    case OP_ROOM_JOIN:
    case OP_ROOM_LEAVE:
    case OP_ROOM_ADD:
    case OP_ROOM_REMOVE:
    case OP_ROOM_ROLE:
    case OP_ROOM_MEMBERS:
    case OP_ROOM_SEND:
    case OP_ROOM_POSITION:
    case OP_ROOM_HISTORY:
    case OP_ROOM_TARGETS:
    case OP_ROOM_ACK:
    case OP_ROOM_PRESENCE:
    case OP_ROOM_TYPING: return gateway_room_home(g, op->tenant, op->room);
    case OP_TENANT_CREATE:
    case OP_TENANT_UPDATE:
    case OP_KEY_CREATE:
    case OP_KEY_REVOKE: return 0;
    case OP_TICKET_USE: return gateway_user_home(g, op->tenant, op->user_id);
    case OP_NOTIFICATION_PUSH:
    case OP_DIRECTORY_APPLY:
    case OP_CONNECTION_LIST:
    case OP_CONNECTION_KICK: /* these go from core to core */
    case OP_DRAIN:
    case OP_RELOAD: /* and these to the main thread */
    case OP_KINDS: break;
    }
    UNREACHABLE();
}

static void op_execute(struct core *core, struct op *op)
{
    switch ((enum op_kind)op->kind) {
    case OP_USER_RESOLVE:
    case OP_USER_GET:
    case OP_USER_ROOMS:
    case OP_USER_CURSOR:
    case OP_USER_PRESENCE: user_on_op(core, op); return;
    case OP_ROOM_CREATE: room_on_create(core, op); return;
    case OP_ROOM_GET:
    case OP_ROOM_JOIN:
    case OP_ROOM_LEAVE:
    case OP_ROOM_ADD:
    case OP_ROOM_REMOVE:
    case OP_ROOM_ROLE:
    case OP_ROOM_MEMBERS:
    case OP_ROOM_SEND:
    case OP_ROOM_POSITION:
    case OP_ROOM_HISTORY:
    case OP_ROOM_TARGETS:
    case OP_ROOM_ACK:
    case OP_ROOM_PRESENCE:
    case OP_ROOM_TYPING: room_on_op(core, op); return;
    case OP_TENANT_CREATE:
    case OP_TENANT_UPDATE:
    case OP_KEY_CREATE:
    case OP_KEY_REVOKE:
    case OP_DIRECTORY_APPLY: directory_on_op(core, op); return;
    case OP_TICKET_USE: used_tickets_on_op(core, op); return;
    case OP_NOTIFY: notify_on_create(core, op); return;
    case OP_NOTIFICATION_ACK:
    case OP_NOTIFICATION_EXPIRE:
    case OP_DEAD_LETTER_RETRY:
    case OP_DEAD_LETTER_DELETE: notify_on_op(core, op); return;
    case OP_NOTIFICATION_PUSH: notify_on_push(core, op); return;
    case OP_CONNECTION_LIST:
    case OP_CONNECTION_KICK: connections_on_op(core, op); return;
    case OP_DRAIN:
    case OP_RELOAD:
    case OP_KINDS: break;
    }
    UNREACHABLE();
}

void op_send(struct core *core, struct op *op, unsigned target)
{
    if (target == core->id) {
        op_execute(core, op);
        return;
    }
    op->mail.kind = MAIL_OP;
    core_post(core, target, &op->mail);
}

void op_return(struct core *core, struct op *op)
{
    if (op->origin == core->id) {
        op->then(core, op);
        return;
    }
    op->mail.kind = MAIL_OP_BACK;
    core_post(core, op->origin, &op->mail);
}

void op_dispatch(struct core *core, struct op *op) { op_send(core, op, op_home(core, op)); }

void notice_post(struct core *core, unsigned target, struct notice *n)
{
    if (target == core->id) notice_handle(core, n);
    else core_post(core, target, &n->mail);
}

static void notice_handle(struct core *core, struct notice *n)
{
    switch ((enum notice_kind)n->kind) {
    case NOTICE_JOINED:
    case NOTICE_LEFT: user_on_notice(core, n); break;
    case NOTICE_SOCKET_CLOSED:
        user_on_notice(core, n);
        notify_on_notice(core, n);
        break;
    case NOTICE_JOINED_SOCKETS:
    case NOTICE_REMOVED: session_on_notice(core, n); break;
    case NOTICE_NOTIFIED:
    case NOTICE_OUTBOX:
    case NOTICE_SOCKET_OPENED:
    case NOTICE_SOCKET_DRAINED: notify_on_notice(core, n); break;
    case NOTICE_ROOM_UNUSED: room_on_notice(core, n); break;
    case NOTICE_ROOM_WALKED: far_walk_on_notice(core, n); break;
    case NOTICE_ROOM_SIZE: fanout_on_notice(core, n); break;
    case NOTICE_PRESENCE:
    case NOTICE_TYPING: presence_on_notice(core, n); break;
    case NOTICE_TYPING_GONE: typing_on_notice(core, n); break;
    }
    free(n);
}
