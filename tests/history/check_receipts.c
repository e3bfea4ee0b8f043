/* What readers were shown: against the log, and in what order; who was shown it; and whether devices have all of it. */
#include <inttypes.h>

#include "check.h"

#define ABOUT "room %s: seq %" PRIu64 " on connection %s of %s"
#define NAME(c, e) TEXT(c, (e)->room), (e)->seq, TEXT(c, (e)->connection), TEXT(c, (e)->user)

/* --- against the log --------------------------------------------------------------------------------------------- */

static void check_shown(struct checker *c, const struct room *r, const struct entry *e)
{
    const struct row *row = row_find(r, e->seq);
    if (lost_with_power(c, r, e)) return; /* check_epochs knows what may be lost so */
    if (!row && e->t < c->options.up_to)
        violation(c, HISTORY_RECEIVE_LOST, PLACES(e), ABOUT " is not in the log", NAME(c, e));
    if (row && event_differs(c, e, row->entry))
        violation(c, HISTORY_RECEIVE_DIFFERS, PLACES(e, row->entry), ABOUT " differs from the log", NAME(c, e));
}

/* --- in order ---------------------------------------------------------------------------------------------------- */

/* leaves_out: whether something that this path shows lies between a seq and the event. What was no message there may be
 * one by now, if a fast room has lost it with the power. */
static bool leaves_out(const struct checker *c, const struct room *r, uint64_t before, const struct entry *e)
{
    if (e->path != HISTORY_MESSAGES) return e->seq != before + 1;
    if (lost_with_power(c, r, e)) return false;
    const struct row *from = row_find(r, before), *to = row_find(r, e->seq);
    return from && to && to->messages_before > from->messages_before + 1;
}

static void check_connection(struct checker *c, const struct keyed *items, size_t num)
{
    const struct room *r = items[0].of;
    const struct entry *before = NULL;
    for (size_t i = 0; i < num; i++) {
        const struct entry *e = items[i].entry;
        uint64_t seq_before = !before ? 0 : before->kind == ENTRY_RESUMED ? before->from - 1 : before->seq;
        if (e->kind == ENTRY_RECEIVE && before && e->seq <= seq_before)
            violation(c, HISTORY_RECEIVE_ORDER, PLACES(before, e), ABOUT " came after seq %" PRIu64, NAME(c, e),
                      seq_before);
        else if (e->kind == ENTRY_RECEIVE && before && leaves_out(c, r, seq_before, e))
            violation(c, HISTORY_RECEIVE_HOLE, PLACES(before, e), ABOUT " came right after seq %" PRIu64, NAME(c, e),
                      seq_before);
        before = e;
    }
}

void check_receipts(struct checker *c)
{
    struct list arrivals = {0};
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++) {
        if (e->kind != ENTRY_RECEIVE && e->kind != ENTRY_RESUMED) continue;
        struct room *r = room_with_id(c, e->room);
        if (e->kind == ENTRY_RECEIVE) check_shown(c, r, e);
        list_add(&arrivals, e, r, e->room, e->connection, 0, 0);
    }
    list_sort(&arrivals);
    for (size_t i = 0, end; i < arrivals.len; i = end) {
        end = list_group(&arrivals, i, 2);
        check_connection(c, &arrivals.items[i], end - i);
    }
    list_free(&arrivals);
}

/* --- members ----------------------------------------------------------------------------------------------------- */

/* stay_at returns the last stay that had begun at `t`, NULL when there is none. */
static const struct stay *stay_at(const struct stay *stays, size_t num, uint64_t t)
{
    size_t low = 0, high = num;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (stays[middle].since->t <= t)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &stays[low - 1] : NULL;
}

/* allowed: somebody is shown an event during a stay, or later on what was meant for them in one. A page is read between
 * its being asked for and its arrival, and has what the room has by then, but for a bound of the member's own. */
static bool allowed(const struct stay *s, const struct entry *e)
{
    if (!s) return false;
    bool page = e->path != HISTORY_PUSH && e->asked;
    if (page && s->left && e->asked > s->left->t) return false;
    return (page && e->seq <= s->until_seq) || e->seq <= s->last_seq_so_far;
}

void check_members(struct checker *c)
{
    for (size_t i = 0; i < c->receipts.len; i++) {
        const struct entry *e = c->receipts.items[i].entry;
        size_t num;
        const struct stay *stays = stays_of(c, &num, e->room, e->user);
        const struct stay *s = stay_at(stays, num, e->t);
        if (!allowed(s, e))
            violation(c, HISTORY_RECEIVE_STRANGER, PLACES(e, s ? s->since : NULL, s ? s->left : NULL),
                      ABOUT ": not a member", NAME(c, e));
    }
}

/* --- devices ----------------------------------------------------------------------------------------------------- */

/* follower: a device, and what it has of a room by seq. */
struct follower {
    const struct entry *any;
    const struct keyed *items; /* by seq: receipts, dead letters */
    size_t num;
    uint64_t first; /* the first seq it is owed; HISTORY_NEVER: none */
};

/* has: the device was shown the event by `until`, or it was given up for it in the open. `at` goes along with seq. */
static bool has(const struct follower *f, size_t *at, uint64_t seq, uint64_t until)
{
    while (*at < f->num && f->items[*at].key[3] < seq) ++*at;
    for (size_t i = *at; i < f->num && f->items[i].key[3] == seq; i++) {
        const struct entry *e = f->items[i].entry;
        if (e->kind == ENTRY_DEAD_LETTER || (e->kind == ENTRY_RECEIVE && e->t <= until)) return true;
    }
    return false;
}

static void check_hole(struct checker *c, const struct follower *f, const struct row *rows, size_t num)
{
    size_t at = 0, missing = 0;
    const struct row *first = NULL;
    for (size_t i = 0; i < num; i++) {
        if (has(f, &at, rows[i].entry->seq, HISTORY_NEVER)) continue;
        if (missing++ == 0) first = &rows[i];
    }
    if (missing)
        violation(c, HISTORY_DEVICE_HOLE, PLACES(first->entry),
                  "room %s: device %s of %s never received seq %" PRIu64 " and %zu more", TEXT(c, f->any->room),
                  TEXT(c, f->any->device), TEXT(c, f->any->user), first->entry->seq, missing - 1);
}

static void check_healed(struct checker *c, const struct follower *f, const struct row *rows, size_t num)
{
    uint64_t until = c->healed->t + c->healed->within_ns;
    size_t at = 0, missing = 0;
    const struct row *first = NULL;
    for (size_t i = 0; i < num; i++) {
        const struct entry *answered = rows[i].answered;
        if (!answered || answered->t >= c->healed->t || has(f, &at, rows[i].entry->seq, until)) continue;
        if (missing++ == 0) first = &rows[i];
    }
    if (missing)
        violation(c, HISTORY_HEALED_MISSING, PLACES(c->healed, first->answered, first->entry),
                  "room %s: device %s of %s did not have seq %" PRIu64 " and %zu more in time after healing",
                  TEXT(c, f->any->room), TEXT(c, f->any->device), TEXT(c, f->any->user), first->entry->seq,
                  missing - 1);
}

/* follower_first: what a device follows it says, or it shows by its first push; a page tells of no wish for the rest.
 */
static uint64_t follower_first(const struct follower *f)
{
    uint64_t first = HISTORY_NEVER;
    for (size_t i = 0; i < f->num; i++) {
        const struct entry *e = f->items[i].entry;
        if (e->kind == ENTRY_DEVICE) return e->seq + 1;
        if (e->kind == ENTRY_RECEIVE && e->path == HISTORY_PUSH && e->seq < first) first = e->seq;
    }
    return first;
}

static void check_follower(struct checker *c, const struct keyed *items, size_t num)
{
    struct follower f = {.any = items[0].entry, .items = items, .num = num};
    const struct room *r = room_with_id(c, f.any->room);
    uint64_t from, to;
    f.first = follower_first(&f);
    if (f.first == HISTORY_NEVER || !owed_range(c, &from, &to, f.any->room, f.any->user, f.first)) return;
    size_t begin = row_from(r, from), end = to == HISTORY_NEVER ? r->num_rows : row_from(r, to + 1);
    if (end <= begin) return;
    check_hole(c, &f, &r->rows[begin], end - begin);
    if (c->healed) check_healed(c, &f, &r->rows[begin], end - begin);
}

void check_devices(struct checker *c)
{
    struct list items = {0};
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++) {
        bool follows = e->kind == ENTRY_RECEIVE || e->kind == ENTRY_DEVICE || (e->kind == ENTRY_DEAD_LETTER && e->seq);
        if (!follows || !e->device ||
            (e->kind == ENTRY_RECEIVE && lost_with_power(c, room_with_id(c, e->room), e) && !is_kept(c, e)))
            continue;
        list_add(&items, e, NULL, e->room, e->user, e->device, e->kind == ENTRY_DEVICE ? 0 : e->seq);
    }
    list_sort(&items);
    for (size_t i = 0, end; i < items.len; i = end) {
        end = list_group(&items, i, 3);
        check_follower(c, &items.items[i], end - i);
    }
    list_free(&items);
}
