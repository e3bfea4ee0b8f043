#include "typing.h"

#include <stdlib.h>

#include "../base/assert.h"
#include "../core/notice.h"
#include "room.h"

/* A record lives while its user types, and after a start was shown until TYPING_REPEAT_MS later, so that start, stop,
 * start, stop … is not shown faster than that: a start that comes in between is shown when the time is over. Both times
 * are the same for all, so the two lists are in order by themselves. */
struct typing {
    struct room *room;
    uint64_t user;
    uint64_t expires_ns;  /* while it is on */
    uint64_t closed_ns;   /* no start is shown before */
    struct list expiring; /* core->typings_expiring, while it is on */
    struct list closed;   /* core->typings_closed, until closed_ns */
    bool on;              /* what the user says */
    bool shown;           /* what the others were told */
    uint8_t id_len;
    char id[];
};

static void show(struct core *core, struct typing *t, bool on);
static void turn_off(struct core *core, struct typing *t);

/* --- finding ------------------------------------------------------------------------------------------------------ */

/* One hash for all records of a user, who types in few rooms: so they are found when the user goes. */
struct typing_key {
    uint64_t user;
    const struct room *room; /* NULL: any in which it is on */
};

static bool typing_eq(const void *value, const void *key)
{
    const struct typing *t = value;
    const struct typing_key *k = key;
    return t->user == k->user && (k->room ? t->room == k->room : t->on);
}

static struct typing *typing_find(const struct core *core, const struct room *r, uint64_t user)
{
    struct typing_key k = {user, r};
    return map_find(&core->typings, hash_u64(user), typing_eq, &k);
}

static struct typing *typing_new(struct core *core, struct room *r, uint64_t user, struct slice user_id)
{
    if (core->typings.len >= TYPING_MAX) return NULL;
    struct typing *t = malloc(sizeof *t + user_id.len);
    ASSERT(t != NULL && user_id.len <= USER_ID_BYTES_MAX);
    *t = (struct typing){.room = r, .user = user, .id_len = (uint8_t)user_id.len};
    memcpy(t->id, user_id.data, user_id.len);
    list_init(&t->expiring);
    list_init(&t->closed);
    map_insert(&core->typings, hash_u64(user), t);
    r->num_typing++;
    return t;
}

static void typing_forget(struct core *core, struct typing *t)
{
    ASSERT(!t->on && !t->shown);
    list_remove(&t->expiring);
    list_remove(&t->closed);
    t->room->num_typing--;
    ASSERT(map_remove(&core->typings, hash_u64(t->user), t));
    free(t);
}

/* --- what users say ----------------------------------------------------------------------------------------------- */

void typing_start(struct core *core, struct room *r, uint64_t user, struct slice user_id)
{
    struct typing *t = typing_find(core, r, user);
    if (!t) t = typing_new(core, r, user, user_id);
    if (!t) return;
    t->on = true;
    t->expires_ns = core->now_ns + TYPING_TIMEOUT_MS * 1000000ull;
    list_remove(&t->expiring);
    list_push(&core->typings_expiring, &t->expiring);
    if (core->now_ns >= t->closed_ns) show(core, t, true);
}

void typing_stop(struct core *core, struct room *r, uint64_t user)
{
    struct typing *t = typing_find(core, r, user);
    if (t && t->on) turn_off(core, t);
}

static void turn_off(struct core *core, struct typing *t)
{
    t->on = false;
    list_remove(&t->expiring);
    if (t->shown) show(core, t, false);
    if (core->now_ns >= t->closed_ns) typing_forget(core, t);
}

void typing_on_notice(struct core *core, struct notice *n)
{
    ASSERT(n->kind == NOTICE_TYPING_GONE);
    struct typing_key k = {n->user, NULL};
    for (struct typing *t; (t = map_find(&core->typings, hash_u64(n->user), typing_eq, &k));) turn_off(core, t);
}

/* --- what others are told ----------------------------------------------------------------------------------------- */

static void show(struct core *core, struct typing *t, bool on)
{
    struct room *r = t->room;
    if (on && !t->shown) {
        if (r->num_typing_shown >= TYPING_SHOWN_MAX) return;
        r->num_typing_shown++;
    } else if (!on) {
        r->num_typing_shown--;
    }
    t->shown = on;
    if (on) {
        t->closed_ns = core->now_ns + TYPING_REPEAT_MS * 1000000ull;
        list_remove(&t->closed);
        list_push(&core->typings_closed, &t->closed);
    }
    for (uint64_t cores = r->core_mask; cores; cores &= cores - 1)
        notice_post(core, (unsigned)__builtin_ctzll(cores),
                    notice_new(core, NOTICE_TYPING, r->tenant, t->user, slice_of(t->id, t->id_len), r->number, on,
                               (struct slice){0}));
}

void typing_timers(struct core *core)
{
    while (!list_empty(&core->typings_expiring)) {
        struct typing *t = CONTAINER_OF(core->typings_expiring.next, struct typing, expiring);
        if (t->expires_ns > core->now_ns) break;
        turn_off(core, t);
    }
    while (!list_empty(&core->typings_closed)) {
        struct typing *t = CONTAINER_OF(core->typings_closed.next, struct typing, closed);
        if (t->closed_ns > core->now_ns) break;
        list_remove(&t->closed);
        if (!t->on)
            typing_forget(core, t);
        else if (!t->shown)
            show(core, t, true);
    }
}

uint64_t typing_wake_at(const struct core *core)
{
    uint64_t at = UINT64_MAX;
    if (!list_empty(&core->typings_expiring))
        at = CONTAINER_OF(core->typings_expiring.next, struct typing, expiring)->expires_ns;
    if (!list_empty(&core->typings_closed)) {
        uint64_t closed_ns = CONTAINER_OF(core->typings_closed.next, struct typing, closed)->closed_ns;
        if (closed_ns < at) at = closed_ns;
    }
    return at;
}

void typing_free(struct core *core)
{
    uint32_t at = 0;
    for (struct typing *t; (t = map_next(&core->typings, &at));) free(t);
    map_free(&core->typings);
}
