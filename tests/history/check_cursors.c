/* Cursors: only acks move them, and only forwards. What takes them back all the same: a power loss; joining again,
 * which begins a cursor anew; and a killed process, but not what it had acknowledged. Between two such moments, an age,
 * a cursor only rises. */
#include <inttypes.h>
#include <stdlib.h>

#include "check.h"

/* ages_of returns how many moments that take cursors back had passed before `t`. */
static size_t ages_of(const struct list *breaks, const struct entry *e, uint64_t t)
{
    size_t crashes = list_lower(breaks, (uint64_t[]){0, 0, t}, 3);
    size_t moves = list_lower(breaks, (uint64_t[]){e->room, e->user, t}, 3);
    size_t first = list_lower(breaks, (uint64_t[]){e->room, e->user, 0}, 3);
    return crashes + (moves - first);
}

/* breaks: the moments that take back what was acknowledged, and those that take back what was shown, in the end of an
 * age. */
struct breaks {
    struct list acked, shown;
};

static void breaks_make(const struct checker *c, struct breaks *b)
{
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++) {
        bool moves = e->kind == ENTRY_MEMBER || e->kind == ENTRY_LEFT;
        if (!moves && e->kind != ENTRY_CRASH) continue;
        if (moves || e->power) list_add(&b->acked, e, NULL, e->room, e->user, e->t, 0);
        list_add(&b->shown, e, NULL, e->room, e->user, e->t, 0);
    }
    list_sort(&b->acked);
    list_sort(&b->shown);
}

static uint64_t asked_at(const struct entry *e)
{
    return e->asked ? e->asked : e->t;
}

/* --- back -------------------------------------------------------------------------------------------------------- */

/* known: the highest that a cursor surely stood at, and in which age. */
struct known {
    const struct entry *floor;
    size_t age;
    bool acked; /* in this age the device has a cursor of its own, since an ack of its was answered */
};

/* A device without an ack is shown the user's own cursor, and its first ack may be behind that: it says what the device
 * has. So what is shown before is nothing that its own cursor could move back from. */
static void known_rise(struct known *k, const struct list *breaks, const struct entry *e)
{
    size_t age = ages_of(breaks, e, e->t + 1); /* what happened at the same moment may have come first */
    if (ages_of(breaks, e, asked_at(e)) != age) return;
    if (!k->floor || k->age != age) *k = (struct known){.age = age};
    k->acked |= e->kind == ENTRY_ACKED || !e->device;
    if (k->acked && (!k->floor || e->seq > k->floor->seq)) k->floor = e;
}

static bool is_back(const struct known *k, const struct list *breaks, const struct entry *shown)
{
    return k->floor && k->age == ages_of(breaks, shown, shown->t + 1) && shown->seq < k->floor->seq;
}

/* check_back goes over one cursor of a device in time: floors by the time at which they were known, shown cursors by
 * the time at which they were asked for. */
static void check_back(struct checker *c, const struct breaks *b, const struct keyed *items, size_t num)
{
    struct known acked = {0}, shown = {0};
    for (size_t i = 0; i < num; i++) {
        const struct entry *e = items[i].entry;
        if (items[i].of == NULL) {
            if (e->kind == ENTRY_ACKED) known_rise(&acked, &b->acked, e);
            known_rise(&shown, &b->shown, e);
        } else if (is_back(&acked, &b->acked, e) || is_back(&shown, &b->shown, e)) {
            const struct entry *floor = is_back(&acked, &b->acked, e) ? acked.floor : shown.floor;
            violation(c, HISTORY_CURSOR_BACK, PLACES(floor, e),
                      "room %s: the cursor of %s is at %" PRIu64 " and was at %" PRIu64, TEXT(c, e->room),
                      TEXT(c, e->user), e->seq, floor->seq);
        }
    }
}

/* An ack moves its device's cursor and the user's own. What was asked for at the moment at which something became known
 * may have been read before it. */
static void cursors_list(const struct checker *c, struct list *cursors)
{
    static char shown;
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++) {
        uint64_t who = (uint64_t)e->room << 32 | e->user;
        if (e->kind == ENTRY_CURSOR) {
            list_add(cursors, e, NULL, who, e->device, e->t, 1);
            list_add(cursors, e, &shown, who, e->device, asked_at(e), 0);
        }
        if (e->kind != ENTRY_ACKED) continue;
        list_add(cursors, e, NULL, who, e->device, e->t, 1);
        if (e->device) list_add(cursors, e, NULL, who, 0, e->t, 1);
    }
    list_sort(cursors);
}

/* --- unasked ----------------------------------------------------------------------------------------------------- */

/* joined_at returns the newest event that let the user in: their cursors may begin there. */
static uint64_t joined_at(const struct checker *c, uint32_t room, uint32_t user)
{
    for (size_t i = list_lower(&c->passages, (uint64_t[]){room, user, HISTORY_NEVER}, 3); i-- > 0;) {
        const struct keyed *k = &c->passages.items[i];
        if (k->key[0] != room || k->key[1] != user) break;
        if (!k->key[3]) return k->key[2];
    }
    return 0;
}

static void check_unasked(struct checker *c, const struct keyed *items, size_t num)
{
    uint64_t highest = joined_at(c, items[0].entry->room, items[0].entry->user);
    for (size_t i = 0; i < num; i++) {
        const struct entry *e = items[i].entry;
        if (e->kind == ENTRY_ACK && e->seq > highest) highest = e->seq;
        if (e->kind == ENTRY_CURSOR && e->seq > highest)
            violation(c, HISTORY_CURSOR_UNASKED, PLACES(e),
                      "room %s: the cursor of %s is at %" PRIu64 " and was asked to be at %" PRIu64 " at most",
                      TEXT(c, e->room), TEXT(c, e->user), e->seq, highest);
    }
}

void check_cursors(struct checker *c)
{
    struct list cursors = {0}, asked = {0};
    struct breaks breaks = {0};
    breaks_make(c, &breaks);
    cursors_list(c, &cursors);
    for (size_t i = 0, end; i < cursors.len; i = end) {
        end = list_group(&cursors, i, 2);
        check_back(c, &breaks, &cursors.items[i], end - i);
    }
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++)
        if (e->kind == ENTRY_ACK || e->kind == ENTRY_CURSOR)
            list_add(&asked, e, NULL, e->room, e->user, e->t, e->kind == ENTRY_CURSOR);
    list_sort(&asked);
    for (size_t i = 0, end; i < asked.len; i = end) {
        end = list_group(&asked, i, 2);
        check_unasked(c, &asked.items[i], end - i);
    }
    list_free(&breaks.acked);
    list_free(&breaks.shown);
    list_free(&cursors);
    list_free(&asked);
}
