#include "outbox.h"

#include <stdlib.h>

#include "../base/assert.h"
#include "../base/log.h"
#include "../base/planted.h"

struct outbox_user {
    uint64_t user;
    uint64_t *numbers; /* of what waits, rising */
    uint32_t num, cap;
};

/* outbox_row: one that a page has. */
struct outbox_row {
    uint64_t user, number;
};

/* change: what a user's home told while the page was read on which the user may stand. */
struct change {
    uint64_t user, number;
    bool back; /* it waits again; else it has left */
};

/* outbox_count walks through the tenant's rows. A page ends between two users, so that each user is either counted or
 * still to come. */
struct outbox_count {
    struct read_job job;
    struct outbox_tenant *tenant;
    uint32_t rows_max;      /* of a page, and the rest of the last user's */
    uint64_t from;          /* the user with whom the page begins */
    /* what the reader found */
    uint64_t next;          /* the user with whom the next page begins */
    bool at_end;
    enum status status;
    struct outbox_row *rows; /* of the page */
    uint32_t num, cap;
    struct buf changes;     /* struct change */
};

static void count_start(struct core *core, struct outbox_tenant *t);
static void outbox_next(struct core *core, struct outbox_tenant *t);
static void outboxes_forget(struct core *core, const struct outbox_tenant *keep);

/* --- tenants and users ------------------------------------------------------------------------------------------- */

static bool tenant_eq(const void *value, const void *key)
{
    return ((const struct outbox_tenant *)value)->tenant == *(const uint32_t *)key;
}

static struct outbox_tenant *tenant_find(const struct core *core, uint32_t number)
{
    return map_find(&core->notify->tenants, hash_u64(number), tenant_eq, &number);
}

struct outbox_tenant *outbox_tenant(struct core *core, uint32_t number)
{
    struct outbox_tenant *t = tenant_find(core, number);
    if (t) return t;
    t = calloc(1, sizeof *t);
    ASSERT(t != NULL);
    t->tenant = number;
    map_insert(&core->notify->tenants, hash_u64(number), t);
    return t;
}

static bool user_eq(const void *value, const void *key)
{
    return ((const struct outbox_user *)value)->user == *(const uint64_t *)key;
}

static struct outbox_user *user_get(struct core *core, struct outbox_tenant *t, uint64_t user)
{
    struct outbox_user *u = map_find(&t->users, hash_u64(user), user_eq, &user);
    if (u) return u;
    u = malloc(sizeof *u);
    ASSERT(u != NULL);
    *u = (struct outbox_user){.user = user};
    map_insert(&t->users, hash_u64(user), u);
    core->notify->num_outbox_users++;
    return u;
}

static struct outbox_user *user_find(const struct outbox_tenant *t, uint64_t user)
{
    return map_find(&t->users, hash_u64(user), user_eq, &user);
}

/* place_of returns where the number stands, or would; what comes and goes is mostly new. */
static uint32_t place_of(const struct outbox_user *u, uint64_t number)
{
    uint32_t at = u->num;
    while (at > 0 && u->numbers[at - 1] >= number) at--;
    return at;
}

static bool number_add(struct core *core, struct outbox_user *u, uint64_t number)
{
    uint32_t at = place_of(u, number);
    if (at < u->num && u->numbers[at] == number) return false;
    if (u->num == u->cap) {
        u->cap = u->cap ? u->cap * 2 : 1;
        u->numbers = realloc(u->numbers, u->cap * sizeof *u->numbers);
        ASSERT(u->numbers != NULL);
    }
    memmove(&u->numbers[at + 1], &u->numbers[at], (u->num - at) * sizeof *u->numbers);
    u->numbers[at] = number;
    u->num++;
    core->notify->num_outbox_numbers++;
    return true;
}

static void user_free(struct outbox_user *u)
{
    free(u->numbers);
    free(u);
}

uint64_t outbox_waiting(const struct outbox_tenant *t, uint64_t user)
{
    const struct outbox_user *u = user_find(t, user);
    return u ? u->num : 0;
}

bool outbox_reserve(struct core *core, struct outbox_tenant *t, uint64_t user, uint64_t number)
{
    if (outbox_waiting(t, user) >= core->notify->bounds.pending_user) return false;
    ASSERT(number_add(core, user_get(core, t, user), number));
    return true;
}

bool outbox_release(struct core *core, struct outbox_tenant *t, uint64_t user, uint64_t number)
{
    struct outbox_user *u = user_find(t, user);
    uint32_t at = u ? place_of(u, number) : 0;
    if (!u || at == u->num || u->numbers[at] != number) return false;
    memmove(&u->numbers[at], &u->numbers[at + 1], (u->num - at - 1) * sizeof *u->numbers);
    u->num--;
    core->notify->num_outbox_numbers--;
    if (u->num) return true;
    ASSERT(map_remove(&t->users, hash_u64(user), u));
    core->notify->num_outbox_users--;
    user_free(u);
    return true;
}

static void users_free(struct core *core, struct outbox_tenant *t)
{
    uint32_t at = 0;
    for (struct outbox_user *u; (u = map_next(&t->users, &at));) {
        core->notify->num_outbox_numbers -= u->num;
        user_free(u);
    }
    core->notify->num_outbox_users -= t->users.len;
    map_free(&t->users);
    t->waiting = 0;
    t->state = OUTBOX_UNKNOWN;
}

static void count_free(struct outbox_count *c)
{
    if (!c) return;
    free(c->rows);
    buf_free(&c->changes);
    free(c);
}

void outboxes_free(struct core *core)
{
    uint32_t at = 0;
    for (struct outbox_tenant *t; (t = map_next(&core->notify->tenants, &at));) {
        count_free(t->count);
        users_free(core, t);
        free(t);
    }
    map_free(&core->notify->tenants);
}

/* outboxes_forget keeps memory within its bound: who makes nothing at the moment is counted again when it does. */
static void outboxes_forget(struct core *core, const struct outbox_tenant *keep)
{
    uint32_t at = 0;
    const struct notify *n = core->notify;
    if (n->num_outbox_users <= n->bounds.outbox_users && n->num_outbox_numbers <= OUTBOX_NUMBERS_MAX) return;
    for (struct outbox_tenant *t; (t = map_next(&core->notify->tenants, &at));)
        if (t != keep && t->state == OUTBOX_COUNTED && t->under_way == 0) users_free(core, t);
}

/* --- what the users' homes tell ---------------------------------------------------------------------------------- */

void outbox_tell(struct core *core, uint32_t tenant, uint64_t user, uint64_t back, const uint64_t *left,
                 uint32_t num_left)
{
    if (back == 0 && (num_left == 0 || PLANTED(place_kept))) return;
    notice_post(core, gateway_tenant_home(core->gateway, tenant),
                notice_new(core, NOTICE_OUTBOX, tenant, user, (struct slice){0}, 0, back,
                           slice_of((const char *)left, num_left * sizeof *left)));
}

static void change_apply(struct core *core, struct outbox_tenant *t, const struct change *c)
{
    if (c->back) t->waiting += number_add(core, user_get(core, t, c->user), c->number);
    else t->waiting -= outbox_release(core, t, c->user, c->number);
}

static void change_take(struct core *core, struct outbox_tenant *t, const struct change *c)
{
    bool counted = t->state == OUTBOX_COUNTED || c->user < t->count->from;
    if (counted) change_apply(core, t, c);
    else buf_append(&t->count->changes, c, sizeof *c);
}

/* While a page is read, nobody knows yet whether a user stands on it. What happens to users of a later page is in the
 * store before that is read. */
void outbox_on_notice(struct core *core, const struct notice *n)
{
    struct outbox_tenant *t = tenant_find(core, n->tenant);
    if (!t || t->state == OUTBOX_UNKNOWN) return;
    for (struct slice at = notice_body(n); at.len; at = slice_from(at, 8)) {
        struct change left = {.user = n->user};
        memcpy(&left.number, at.data, 8);
        change_take(core, t, &left);
    }
    if (n->seq) change_take(core, t, &(struct change){.user = n->user, .number = n->seq, .back = true});
}

/* --- counting ---------------------------------------------------------------------------------------------------- */

static void page_add(struct outbox_count *c, uint64_t user, uint64_t number)
{
    if (c->num == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 64;
        c->rows = realloc(c->rows, c->cap * sizeof *c->rows);
        ASSERT(c->rows != NULL);
    }
    c->rows[c->num++] = (struct outbox_row){user, number};
}

static void count_run(struct read_job *job, struct kv *kv)
{
    struct outbox_count *c = CONTAINER_OF(job, struct outbox_count, job);
    struct key from, prefix, end;
    key_tenant(&prefix, c->tenant->tenant);
    key_prefix_end(&end, key_slice(&prefix));
    key_user(&from, c->tenant->tenant, c->from);
    struct kv_iter *i = kv_iter_open(kv, KV_OUTBOX, key_slice(&from), key_slice(&end));
    bool on = kv_iter_first(kv, i);
    for (; on; on = kv_iter_next(kv, i)) {
        struct slice rest = slice_from(kv_iter_key(kv, i), prefix.len);
        uint64_t user, number;
        if (!key_parse_u64(&rest, &user) || !key_parse_u64(&rest, &number)) {
            c->status = STATUS_CORRUPT;
            break;
        }
        bool same = c->num && c->rows[c->num - 1].user == user;
        if (c->num >= c->rows_max && !same) {
            c->next = user;
            break;
        }
        page_add(c, user, number);
    }
    c->at_end = !on;
    enum status closed = kv_iter_close(kv, i);
    if (c->status == STATUS_OK) c->status = closed;
}

static void count_failed(struct core *core, struct outbox_tenant *t, enum status status)
{
    struct queue turns = t->turns;
    LOG(LOG_ERROR, "notify", "outbox_not_counted", LOG_U64("tenant", t->tenant),
        LOG_STR("status", status_name(status)));
    users_free(core, t);
    t->turns = (struct queue){0};
    while (turns.len) {
        struct turn *turn = CONTAINER_OF(queue_pop(&turns), struct turn, node);
        turn->begin(core, turn, status);
    }
}

static void page_take(struct core *core, struct outbox_tenant *t, struct outbox_count *c)
{
    for (uint32_t i = 0; i < c->num; i++)
        t->waiting += number_add(core, user_get(core, t, c->rows[i].user), c->rows[i].number);
    for (size_t at = 0; at < c->changes.len; at += sizeof(struct change)) {
        struct change change;
        memcpy(&change, c->changes.data + at, sizeof change);
        if (c->at_end || change.user < c->next) change_apply(core, t, &change);
    }
    c->num = 0;
    c->changes.len = 0;
    c->from = c->next;
}

static void count_done(void *context, struct read_job *job)
{
    struct core *core = context;
    struct outbox_count *c = CONTAINER_OF(job, struct outbox_count, job);
    struct outbox_tenant *t = c->tenant;
    enum status status = c->status;
    if (status == STATUS_OK) page_take(core, t, c);
    if (status == STATUS_OK && !c->at_end) {
        read_submit(core->reader, &c->job);
        return;
    }
    t->count = NULL;
    count_free(c);
    if (status != STATUS_OK) {
        count_failed(core, t, status);
        return;
    }
    t->state = OUTBOX_COUNTED;
    outboxes_forget(core, t);
    outbox_next(core, t);
}

static void count_start(struct core *core, struct outbox_tenant *t)
{
    struct outbox_count *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->job = (struct read_job){.return_core = (uint16_t)core->id, .run = count_run, .done = count_done};
    c->tenant = t;
    c->rows_max = core->notify->bounds.count_rows;
    t->count = c;
    t->state = OUTBOX_COUNTING;
    read_submit(core->reader, &c->job);
}

/* --- turns ------------------------------------------------------------------------------------------------------- */

/* outbox_next: a creation may end within its beginning, so this is held. */
static void outbox_next(struct core *core, struct outbox_tenant *t)
{
    if (t->held || t->state != OUTBOX_COUNTED) return;
    t->held = true;
    struct notify *n = core->notify;
    while (t->turns.len && t->at_work < CREATIONS_AT_WORK_MAX && n->creations_read < CREATIONS_READ_MAX) {
        struct turn *turn = CONTAINER_OF(queue_pop(&t->turns), struct turn, node);
        t->at_work++;
        n->creations_read++;
        turn->begin(core, turn, STATUS_OK);
    }
    n->turns_held |= t->turns.len > 0 && n->creations_read >= CREATIONS_READ_MAX;
    t->held = false;
}

/* others_next gives what has become free to the tenants in turn, so that two busy ones do not keep it among
 * themselves. */
static void others_next(struct core *core)
{
    struct notify *n = core->notify;
    if (!n->turns_held) return;
    n->turns_held = false;
    for (uint32_t looked = 0; looked <= n->tenants.len && n->creations_read < CREATIONS_READ_MAX; looked++) {
        struct outbox_tenant *t = map_next(&n->tenants, &n->turns_at);
        if (t) outbox_next(core, t);
        else n->turns_at = 0;
    }
    n->turns_held |= n->creations_read >= CREATIONS_READ_MAX;
}

enum status outbox_turn(struct core *core, struct outbox_tenant *t, struct turn *turn)
{
    if (t->under_way >= core->notify->bounds.creations) return STATUS_FULL;
    t->under_way++;
    queue_push(&t->turns, &turn->node);
    if (t->state == OUTBOX_UNKNOWN) count_start(core, t);
    outbox_next(core, t);
    return STATUS_OK;
}

void outbox_worked(struct core *core, struct outbox_tenant *t)
{
    ASSERT(t->at_work > 0);
    t->at_work--;
    core->notify->creations_read--;
    others_next(core);
    outbox_next(core, t);
}

void outbox_end(struct outbox_tenant *t)
{
    ASSERT(t->under_way > 0);
    t->under_way--;
}
