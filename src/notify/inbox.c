#include "inbox.h"

#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "../base/planted.h"
#include "backoff.h"
#include "outbox.h"

#define TICK_NS 100000000ull /* of the wheel: attempts are seconds apart */

static void inbox_load(struct core *core, struct inbox *in);
static void inbox_op(struct core *core, struct inbox *in, struct op *op);
static void inbox_bury(struct core *core, struct inbox *in);
static void inbox_arm(struct core *core, struct inbox *in);
static uint32_t tick_of(const struct core *core, uint64_t ns);
static void inbox_free(struct core *core, struct inbox *in);

/* --- finding ----------------------------------------------------------------------------------------------------- */

struct inbox_key {
    uint32_t tenant;
    struct slice id;
};

static bool inbox_eq(const void *value, const void *key)
{
    const struct inbox *in = value;
    const struct inbox_key *k = key;
    return in->tenant == k->tenant && slice_eq(inbox_user_id(in), k->id);
}

static uint64_t inbox_hash(const struct core *core, uint32_t tenant, struct slice id)
{
    return hash_bytes(&core->gateway->hash_key, id) ^ tenant;
}

static struct inbox *inbox_lookup(const struct core *core, uint32_t tenant, struct slice id)
{
    struct inbox_key k = {tenant, id};
    return map_find(&core->notify->inboxes, inbox_hash(core, tenant, id), inbox_eq, &k);
}

static struct inbox *inbox_get(struct core *core, uint32_t tenant, uint64_t user, struct slice id)
{
    ASSERT(gateway_user_home(core->gateway, tenant, id) == core->id && user != 0);
    uint64_t hash = inbox_hash(core, tenant, id);
    struct inbox *in = inbox_lookup(core, tenant, id);
    if (in) return in;
    in = calloc(1, sizeof *in + id.len);
    ASSERT(in != NULL);
    in->tenant = tenant;
    in->user = user;
    in->hash = hash;
    in->id_len = (uint8_t)id.len;
    list_init(&in->openings);
    const struct past *past = past_find(&core->notify->past, tenant, user);
    in->seen = past ? past->seen : 0;
    in->loaded = past ? past->from == PAST_NOTHING_WAITS : PLANTED(inbox_not_loaded);
    in->stale = !in->loaded;
    memcpy(in->id, id.data, id.len);
    map_insert(&core->notify->inboxes, hash, in);
    return in;
}

static void openings_free(struct inbox *in)
{
    for (struct list *at; (at = list_pop(&in->openings));) free(CONTAINER_OF(at, struct opening, of_inbox));
    in->num_openings = 0;
}

/* past_note: all that waits is in the list; what is still on its way will be heard of. */
static void past_note(struct core *core, const struct inbox *in)
{
    uint64_t from = PAST_NOTHING_WAITS;
    for (uint32_t i = 0; i < in->num; i++)
        if (in->list[i].number < from) from = in->list[i].number;
    past_set(&core->notify->past,
             &(struct past){.tenant = in->tenant, .user = in->user, .from = from, .seen = in->seen});
}

static void inbox_free(struct core *core, struct inbox *in)
{
    if (in->loaded && !in->stale) past_note(core, in);
    ASSERT(map_remove(&core->notify->inboxes, in->hash, in));
    timer_cancel(&core->notify->due, &in->timer);
    openings_free(in);
    free(in->list);
    free(in);
}

void inboxes_free(struct core *core)
{
    uint32_t at = 0;
    for (struct inbox *in; (in = map_next(&core->notify->inboxes, &at));) {
        openings_free(in);
        free(in->list);
        free(in);
    }
    map_free(&core->notify->inboxes);
}

/* --- the list ---------------------------------------------------------------------------------------------------- */

bool waiting_before(const struct waiting *w, uint8_t priority, uint64_t number)
{
    return w->priority != priority && !PLANTED(least_urgent_first) ? w->priority > priority : w->number < number;
}

struct waiting *inbox_find(struct inbox *in, uint64_t number)
{
    for (uint32_t i = 0; i < in->num; i++)
        if (in->list[i].number == number) return &in->list[i];
    return NULL;
}

void inbox_add(struct inbox *in, const struct waiting *w)
{
    if (inbox_find(in, w->number)) return;
    if (in->num == in->cap) {
        in->cap = in->cap ? in->cap * 2 : 4;
        in->list = realloc(in->list, in->cap * sizeof *in->list);
        ASSERT(in->list != NULL);
    }
    uint32_t at = in->num;
    while (at > 0 && !waiting_before(&in->list[at - 1], w->priority, w->number)) at--;
    memmove(&in->list[at + 1], &in->list[at], (in->num - at) * sizeof *in->list);
    in->list[at] = *w;
    in->num++;
}

void inbox_remove(struct inbox *in, struct waiting *w)
{
    size_t behind = (size_t)(in->list + in->num - (w + 1));
    memmove(w, w + 1, behind * sizeof *w);
    in->num--;
}

/* --- what comes in ----------------------------------------------------------------------------------------------- */

static void session_tell(struct core *core, const struct session *s, enum notice_kind kind)
{
    struct conn_ref ref = net_ref(s->conn);
    struct slice id = known_user_id(s->user);
    notice_post(core, gateway_user_home(core->gateway, s->user->tenant, id),
                notice_new(core, kind, s->user->tenant, s->user->number, id, (uint64_t)ref.slot << 32 | ref.generation,
                           0, (struct slice){0}));
}

void notify_session_opened(struct core *core, struct session *s)
{
    if (atomic_load_explicit(&core->gateway->notifications, memory_order_relaxed))
        session_tell(core, s, NOTICE_SOCKET_OPENED);
}

void notify_session_drained(struct core *core, struct session *s)
{
    s->pushes_wait = false;
    session_tell(core, s, NOTICE_SOCKET_DRAINED);
}

static struct push_socket socket_told(const struct notice *n)
{
    return (struct push_socket){.conn = {(uint32_t)(n->room >> 32), (uint32_t)n->room}, .core = n->from_core};
}

static void opening_add(struct inbox *in, const struct notice *n)
{
    if (in->num_openings >= USER_WAITING_MAX) return; /* a socket beyond gets things as they fall due */
    struct opening *o = calloc(1, sizeof *o);
    ASSERT(o != NULL);
    o->socket = socket_told(n);
    list_push(&in->openings, &o->of_inbox);
    in->num_openings++;
}

struct opening *opening_of(struct inbox *in, struct push_socket socket)
{
    for (struct list *at = in->openings.next; at != &in->openings; at = at->next) {
        struct opening *o = CONTAINER_OF(at, struct opening, of_inbox);
        if (o->socket.core == socket.core && o->socket.conn.slot == socket.conn.slot &&
            o->socket.conn.generation == socket.conn.generation)
            return o;
    }
    return NULL;
}

static void opening_drained(struct inbox *in, const struct notice *n)
{
    struct opening *o = opening_of(in, socket_told(n));
    if (o) o->waits = false;
}

/* inbox_hears of a new notification. One that the store may have shown already may have ended since: the store knows.
 * While it is loaded nothing ends. */
static void inbox_hears(struct core *core, struct inbox *in, const struct notice *n)
{
    bool new_here = (in->loaded || in->loading) && n->seq > in->seen;
    if (!new_here) {
        in->stale |= !in->loaded || !inbox_find(in, n->seq);
        return;
    }
    struct notified new;
    ASSERT(n->body_len == sizeof new);
    memcpy(&new, notice_body(n).data, sizeof new);
    inbox_add(in, &(struct waiting){.number = n->seq,
                                    .created_ms = new.created_ms,
                                    .expires_ms = new.expires_ms,
                                    .due_ns = core->now_ns,
                                    .priority = new.priority});
}

void notify_on_notice(struct core *core, struct notice *n)
{
    if (n->kind == NOTICE_OUTBOX) {
        outbox_on_notice(core, n);
        return;
    }
    struct slice id = notice_user_id(n);
    bool opened = n->kind == NOTICE_SOCKET_OPENED, drained = n->kind == NOTICE_SOCKET_DRAINED;
    if (drained || n->kind == NOTICE_SOCKET_CLOSED) {
        struct inbox *in = inbox_lookup(core, n->tenant, id);
        if (in && drained) opening_drained(in, n);
        if (in) inbox_next(core, in); /* it goes with the last socket */
        return;
    }
    /* Nobody there: what is on disk waits for the next socket. */
    bool here = opened || inbox_lookup(core, n->tenant, id) || provider_websocket.reachable(core, n->tenant, id);
    struct inbox *in = here ? inbox_get(core, n->tenant, n->user, id) : NULL; /* as things were before the notice */
    if (!opened) past_heard(&core->notify->past, n->tenant, n->user, n->seq);
    if (!here) return;
    if (opened) opening_add(in, n);
    else inbox_hears(core, in, n);
    inbox_next(core, in);
}

void notify_on_op(struct core *core, struct op *op)
{
    struct inbox *in = inbox_get(core, op->tenant, op->user, op->user_id);
    if (in->ops.len + in->looks.len >= USER_WAITING_MAX) {
        op_fail(op, ERR_SERVER_OVERLOADED, "Too many requests wait for this user", NULL);
        op_return(core, op);
        return;
    }
    queue_push(&in->ops, &op->mail.node);
    inbox_next(core, in);
}

/* inbox_step does what can be done now. An op that is answered may come round to this inbox at once, so it is held. */
static void inbox_step(struct core *core, struct inbox *in)
{
    if (in->loading) return;
    if (!in->loaded && (in->ops.len || !list_empty(&in->openings))) in->stale = true;
    bool may_load = in->ops.len || core->now_ns >= in->again_ns;
    if (in->stale && may_load && in->ending == 0 && !in->looking) {
        inbox_load(core, in);
        return;
    }
    while (in->loaded && !in->stale && in->ops.len)
        inbox_op(core, in, CONTAINER_OF(queue_pop(&in->ops), struct op, mail.node));
    letters_next(core, in);
    if (in->loaded) inbox_bury(core, in);
    if (in->loaded && !in->pushing) inbox_push(core, in);
}

void inbox_next(struct core *core, struct inbox *in)
{
    in->again = true;
    if (in->held) return;
    for (in->held = true; in->again;) {
        in->again = false;
        inbox_step(core, in);
    }
    in->held = false;
    bool busy = in->loading || in->pushing || in->ending || in->looking || in->ops.len || in->looks.len;
    if (busy) return;
    if (in->stale) {
        timer_arm(&core->notify->due, &in->timer, tick_of(core, in->again_ns) + 1);
        return;
    }
    if (in->num && provider_websocket.reachable(core, in->tenant, inbox_user_id(in))) inbox_arm(core, in);
    else inbox_free(core, in);
}

/* inbox_answer brings an op back while the inbox stays what it is: inbox_next follows. */
void inbox_answer(struct core *core, struct inbox *in, struct op *op)
{
    bool held = in->held;
    in->held = true;
    op_return(core, op);
    in->held = held;
}

/* --- loading ----------------------------------------------------------------------------------------------------- */

struct inbox_load {
    struct read_job job;
    struct durable_wait wait;
    struct inbox *inbox;
    uint64_t from, seen;
    enum status status;
    struct waiting *list;
    uint32_t num, cap;
};

static void load_row(struct inbox_load *l, uint64_t number, const struct outbox_record *r)
{
    if (l->num == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 8;
        l->list = realloc(l->list, l->cap * sizeof *l->list);
        ASSERT(l->list != NULL);
    }
    l->list[l->num++] = (struct waiting){.number = number,
                                         .created_ms = r->created_ms,
                                         .expires_ms = r->expires_ms,
                                         .last_attempt_ms = r->last_attempt_ms,
                                         .attempts = r->attempts,
                                         .priority = r->priority};
}

static void load_run(struct read_job *job, struct kv *kv)
{
    struct inbox_load *l = CONTAINER_OF(job, struct inbox_load, job);
    struct key from, prefix, end;
    key_user(&prefix, l->inbox->tenant, l->inbox->user);
    key_outbox(&from, l->inbox->tenant, l->inbox->user, l->from);
    key_prefix_end(&end, key_slice(&prefix));
    struct kv_iter *i = kv_iter_open(kv, KV_OUTBOX, key_slice(&from), key_slice(&end));
    for (bool on = kv_iter_first(kv, i); on && l->status == STATUS_OK; on = kv_iter_next(kv, i)) {
        struct slice rest = slice_from(kv_iter_key(kv, i), prefix.len);
        struct outbox_record r;
        uint64_t number;
        l->status = key_parse_u64(&rest, &number) ? outbox_record_decode(&r, kv_iter_value(kv, i)) : STATUS_CORRUPT;
        if (l->status != STATUS_OK) break;
        load_row(l, number, &r);
        if (number > l->seen) l->seen = number;
    }
    enum status closed = kv_iter_close(kv, i);
    if (l->status == STATUS_OK) l->status = closed;
}

static void load_settled(struct core *core, struct durable_wait *w, bool durable);

static void load_done(void *context, struct read_job *job)
{
    core_when_durable(context, &CONTAINER_OF(job, struct inbox_load, job)->wait, load_settled);
}

/* load_due: what was tried before waits for the rest of its time, by the wall clock; a clock that jumped makes it wait
 * no longer than a whole one. */
static void load_due(struct core *core, struct waiting *w)
{
    w->due_ns = core->now_ns;
    if (w->attempts == 0) return;
    uint64_t wait_ms =
        backoff_ms(core->gateway->config->notify_retry_base, w->attempts, random_u64(core->gateway->random));
    uint64_t since_ms = core->now_ms > w->last_attempt_ms ? core->now_ms - w->last_attempt_ms : 0;
    if (since_ms < wait_ms) w->due_ns += (wait_ms - since_ms) * 1000000;
}

/* load_failed answers whoever waits. For a user who can be reached it is tried again, with growing waits; what waits
 * for another, or in a store that takes no writes until a restart, is on disk. */
static void load_failed(struct core *core, struct inbox *in, enum status s)
{
    LOG(LOG_ERROR, "notify", "inbox_load_failed", LOG_U64("user", in->user), LOG_STR("status", status_name(s)));
    struct queue ops = in->ops, looks = in->looks;
    in->ops = in->looks = (struct queue){0};
    while (ops.len || looks.len) {
        struct op *op = CONTAINER_OF(queue_pop(ops.len ? &ops : &looks), struct op, mail.node);
        op_fail(op, s == STATUS_READ_ONLY ? ERR_STORE_READ_ONLY : ERR_STORE_READ_FAILED, NULL, NULL);
        inbox_answer(core, in, op);
    }
    in->num = 0;
    in->loaded = false;
    in->stale = s != STATUS_READ_ONLY && provider_websocket.reachable(core, in->tenant, inbox_user_id(in));
    if (!in->stale) openings_free(in);
    uint64_t wait_ms = INBOX_AGAIN_MS;
    for (uint32_t i = 0; i < in->failures && wait_ms < INBOX_AGAIN_MAX_MS; i++) wait_ms *= 2;
    in->again_ns = core->now_ns + (wait_ms < INBOX_AGAIN_MAX_MS ? wait_ms : INBOX_AGAIN_MAX_MS) * 1000000;
    in->failures++;
}

static void load_settled(struct core *core, struct durable_wait *w, bool durable)
{
    struct inbox_load *l = CONTAINER_OF(w, struct inbox_load, wait);
    struct inbox *in = l->inbox;
    if (!durable) l->status = STATUS_READ_ONLY;
    in->loading = false;
    if (l->status == STATUS_OK) {
        for (uint32_t i = 0; i < l->num; i++) {
            load_due(core, &l->list[i]);
            inbox_add(in, &l->list[i]); /* one that is here already knows more */
        }
        in->loaded = true;
        in->failures = 0;
        in->again_ns = 0;
        in->seen = l->seen;
        if (!in->stale) past_note(core, in);
    } else {
        load_failed(core, in, l->status);
    }
    free(l->list);
    free(l);
    inbox_next(core, in);
}

static void inbox_load(struct core *core, struct inbox *in)
{
    struct inbox_load *l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->job = (struct read_job){.return_core = (uint16_t)core->id, .run = load_run, .done = load_done};
    l->inbox = in;
    const struct past *past = past_find(&core->notify->past, in->tenant, in->user);
    l->from = past ? past->from : 0;
    /* Who is not known may have ended anything that has a number yet; who was loaded before is known. */
    uint64_t any = atomic_load_explicit(&core->gateway->next_number, memory_order_relaxed) - 1;
    l->seen = past || in->loaded ? in->seen : any;
    if (l->seen < in->seen) l->seen = in->seen;
    in->seen = l->seen;
    in->loading = true;
    in->stale = false; /* what comes from now on makes it so again */
    read_submit(core->reader, &l->job);
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

struct inbox_entry {
    struct commit_entry entry;
    struct rows rows;
    struct inbox *inbox;
    struct op *op;
    struct waiting returned; /* number 0: none */
    uint32_t num_left;
    uint64_t left[];
};

static void entry_done(void *context, struct commit_entry *entry, enum status result)
{
    struct core *core = context;
    struct inbox_entry *e = CONTAINER_OF(entry, struct inbox_entry, entry);
    struct inbox *in = e->inbox;
    struct op *op = e->op;
    if (result == STATUS_OK && e->returned.number) inbox_add(in, &e->returned);
    if (result == STATUS_OK) outbox_tell(core, in->tenant, in->user, e->returned.number, e->left, e->num_left);
    rows_free(&e->rows);
    free(e);
    in->ending--;
    if (op && result != STATUS_OK) op_fail(op, store_error(result), NULL, NULL);
    if (op) inbox_answer(core, in, op);
    inbox_next(core, in);
}

enum status inbox_write(struct core *core, struct inbox *in, struct rows *rows, enum commit_class class, struct op *op,
                        const uint64_t *left, uint32_t num_left, const struct waiting *returned)
{
    struct inbox_entry *e = calloc(1, sizeof *e + num_left * sizeof *left);
    ASSERT(e != NULL);
    rows_finish(rows);
    e->rows = *rows;
    *rows = (struct rows){0};
    e->inbox = in;
    e->op = op;
    e->num_left = num_left;
    if (num_left) memcpy(e->left, left, num_left * sizeof *left);
    if (returned) e->returned = *returned;
    e->entry = (struct commit_entry){
        .class = class, .rows = e->rows.rows, .num_rows = (uint16_t)e->rows.num, .done = entry_done};
    enum status s = commit_push(core->commit, &e->entry);
    if (s == STATUS_OK) {
        in->ending++;
        return STATUS_OK;
    }
    rows_free(&e->rows);
    free(e);
    return s;
}

void inbox_end_rows(struct rows *rows, const struct inbox *in, uint64_t number,
                    const struct notification_end_record *end)
{
    struct key key;
    key_outbox(&key, in->tenant, in->user, number);
    rows_delete(rows, KV_OUTBOX, &key);
    key_notification(&key, in->tenant, in->user, number, NOTIFICATION_END);
    notification_end_record_encode(rows_put(rows, KV_NOTIFICATIONS, &key), end);
}

/* --- acknowledgements -------------------------------------------------------------------------------------------- */

/* inbox_ack ends a notification. What is acknowledged while its push is under way has been handed over: that was an
 * attempt, though one of the cores has yet to say so. Class fast: an acknowledgement that a power loss takes back is
 * asked for again, as a cursor's is; a killed process loses none. */
static void inbox_ack(struct core *core, struct inbox *in, struct waiting *w, struct op *op)
{
    struct rows rows = {0};
    struct notification_end_record end = {.state = NOTIFICATION_DELIVERED,
                                          .attempts = w->attempts + w->attempt,
                                          .last_attempt_ms = w->attempt ? op->now_ms : w->last_attempt_ms,
                                          .ended_ms = op->now_ms};
    inbox_end_rows(&rows, in, w->number, &end);
    enum status s = inbox_write(core, in, &rows, COMMIT_FAST, op, &w->number, 1, NULL);
    if (s != STATUS_OK) {
        op_fail(op, s == STATUS_FULL ? ERR_STORE_OVERLOADED : ERR_STORE_READ_ONLY, NULL, NULL);
        inbox_answer(core, in, op);
        return;
    }
    if (!PLANTED(acked_waits_on)) inbox_remove(in, w);
    notify_count(core, SENT_DELIVERED, 1);
}

static void inbox_op(struct core *core, struct inbox *in, struct op *op)
{
    struct waiting *w = inbox_find(in, op->in.notification.number);
    if (op->kind == OP_NOTIFICATION_EXPIRE) {
        inbox_answer(core, in, op); /* being loaded is what it takes: inbox_bury is next */
    } else if (op->kind == OP_NOTIFICATION_ACK && w) {
        op->http_status = 200;
        inbox_ack(core, in, w, op);
    } else {
        queue_push(&in->looks, &op->mail.node);
    }
}

/* --- dead letters ------------------------------------------------------------------------------------------------ */

/* The last attempt is given its whole wait, but no longer than until the notification expires. */
enum dead_reason waiting_dead(const struct core *core, const struct waiting *w)
{
    if (core->now_ms >= w->expires_ms) return DEAD_EXPIRED;
    bool used_up = w->attempts >= core->gateway->config->notify_attempts;
    return used_up && core->now_ns >= w->due_ns ? DEAD_ATTEMPTS : DEAD_NOT;
}

static void bury_rows(const struct core *core, struct rows *rows, const struct inbox *in, const struct waiting *w,
                      enum dead_reason reason)
{
    struct notification_end_record end = {.state = NOTIFICATION_DEAD,
                                          .reason = (uint8_t)reason,
                                          .attempts = w->attempts,
                                          .last_attempt_ms = w->last_attempt_ms,
                                          .ended_ms = core->now_ms};
    struct dead_letter_record letter = {.priority = w->priority,
                                        .reason = (uint8_t)reason,
                                        .attempts = w->attempts,
                                        .created_ms = w->created_ms,
                                        .last_attempt_ms = w->last_attempt_ms,
                                        .ended_ms = core->now_ms,
                                        .user_id = inbox_user_id(in)};
    struct key key;
    inbox_end_rows(rows, in, w->number, &end);
    key_dead_letter(&key, in->tenant, w->number, in->user);
    if (!PLANTED(expired_to_nothing)) dead_letter_record_encode(rows_put(rows, KV_DEAD_LETTERS, &key), &letter);
}

/* inbox_bury takes out what has expired, and what was not acknowledged after the last attempt. Class fast: what a power
 * loss takes back is found again in the outbox, and buried again. */
static void inbox_bury(struct core *core, struct inbox *in)
{
    struct rows rows = {0};
    struct buf numbers = {0};
    uint32_t num = 0;
    for (uint32_t i = 0; i < in->num; i++) {
        enum dead_reason reason = waiting_dead(core, &in->list[i]);
        if (reason == DEAD_NOT) continue;
        bury_rows(core, &rows, in, &in->list[i], reason);
        buf_append(&numbers, &in->list[i].number, sizeof in->list[i].number);
        num++;
    }
    if (num == 0) return;
    const uint64_t *left = (const void *)numbers.data;
    enum status s = inbox_write(core, in, &rows, COMMIT_FAST, NULL, left, num, NULL);
    buf_free(&numbers);
    if (s != STATUS_OK) return; /* the timer comes again */
    for (uint32_t i = 0; i < in->num;)
        if (waiting_dead(core, &in->list[i]) != DEAD_NOT) inbox_remove(in, &in->list[i]);
        else i++;
    notify_count(core, SENT_DEAD, num);
}

/* --- time -------------------------------------------------------------------------------------------------------- */

static uint32_t tick_of(const struct core *core, uint64_t ns)
{
    return (uint32_t)((ns - core->gateway->started_ns) / TICK_NS);
}

static void inbox_arm(struct core *core, struct inbox *in)
{
    uint64_t due = in->crowd_ns ? in->crowd_ns : UINT64_MAX;
    for (uint32_t i = 0; i < in->num; i++) {
        const struct waiting *w = &in->list[i];
        uint64_t left_ms = w->expires_ms > core->now_ms ? w->expires_ms - core->now_ms : 0;
        uint64_t expires_ns = core->now_ns + left_ms * 1000000;
        uint64_t due_ns = w->due_ns < in->full_ns ? in->full_ns : w->due_ns;
        if (due_ns < due) due = due_ns;
        if (expires_ns < due) due = expires_ns;
    }
    timer_arm(&core->notify->due, &in->timer, tick_of(core, due) + 1); /* never before it is due */
}

void inboxes_run(struct core *core)
{
    struct notify *n = core->notify;
    timer_wheel_advance(&n->due, tick_of(core, core->now_ns));
    for (struct timer *t; (t = timer_pop(&n->due));) inbox_next(core, CONTAINER_OF(t, struct inbox, timer));
}

uint64_t inboxes_wake_ns(const struct core *core)
{
    uint32_t tick = timer_wheel_next(&core->notify->due);
    return tick == TIMER_NEVER ? UINT64_MAX : core->gateway->started_ns + (uint64_t)tick * TICK_NS;
}
