/* Positions and epochs: what a `resumed` answers, and what a room may lose, and say so, when the power fails. */
#include <inttypes.h>
#include <string.h>

#include "check.h"

/* --- one event an epoch and seq ---------------------------------------------------------------------------------- */

static bool same_event(const struct entry *a, const struct entry *b)
{
    return a->type == b->type && a->message_id == b->message_id && a->sender == b->sender &&
           a->client_id == b->client_id && a->created_at == b->created_at;
}

static void check_reuse(struct checker *c, const struct keyed *items, size_t num)
{
    for (size_t i = 1; i < num; i++)
        if (!same_event(items[i].entry, items[0].entry)) {
            violation(c, HISTORY_EPOCH_REUSED, PLACES(items[0].entry, items[i].entry),
                      "room %s: two events at seq %" PRIu64 " of epoch %" PRIu64, TEXT(c, items[0].entry->room),
                      items[0].entry->seq, items[0].entry->epoch);
            return;
        }
}

/* --- a fast room's tail ------------------------------------------------------------------------------------------ */

/* What was in the log of one epoch together was there in the order of seq: of it, a power loss takes the end. Messages
 * alone prove that something was kept: somebody may leave again under the same seq, and in the same millisecond while
 * the clock stands behind the log. */
static void check_tail(struct checker *c, const struct keyed *items, size_t num)
{
    const struct entry *lost = NULL, *kept = NULL;
    for (size_t i = 0; i < num; i++) {
        const struct entry *e = items[i].entry;
        if (!is_kept(c, e))
            lost = lost ? lost : e;
        else if (e->message_id && is_surely_kept(c, e))
            kept = e;
    }
    if (lost && kept && lost->seq < kept->seq)
        violation(c, HISTORY_FAST_TAIL, PLACES(lost, kept),
                  "room %s: seq %" PRIu64 " of epoch %" PRIu64 " is lost, and seq %" PRIu64 " is kept",
                  TEXT(c, lost->room), lost->seq, lost->epoch, kept->seq);
}

/* --- resumed ----------------------------------------------------------------------------------------------------- */

/* held: what this user was shown at the position that they named; NULL: nothing that is recorded. */
static const struct entry *held(const struct list *shown, const struct entry *resumed)
{
    uint64_t key[] = {resumed->room, resumed->asked_epoch, resumed->asked_seq, resumed->user};
    size_t at = list_lower(shown, key, 4);
    bool there = at < shown->len && memcmp(shown->items[at].key, key, sizeof key) == 0;
    return there ? shown->items[at].entry : NULL;
}

/* may_have_lost: the power has failed between the position's being true and its answer. Each start behind a power loss
 * is in a new epoch, so of the epoch that runs nothing is lost yet. */
static bool may_have_lost(const struct checker *c, const struct room *r, const struct entry *resumed)
{
    return r->fast && resumed->t >= c->first_power && resumed->asked_epoch != resumed->epoch;
}

static void check_resumed(struct checker *c, const struct list *shown, const struct entry *e)
{
    const struct room *r = room_with_id(c, e->room);
    const char *wrong = NULL;
    if (e->head + 1 < e->from)
        wrong = "begins behind its head";
    else if (e->recovered && e->asked_epoch && e->from != e->asked_seq + 1)
        wrong = "does not go on where it was asked to";
    else if (!e->recovered && e->asked_epoch && !may_have_lost(c, r, e))
        wrong = "is not recovered, and nothing was lost";
    else if (!e->recovered && e->asked_epoch && e->from > e->asked_seq + 1)
        wrong = "leaves out what nobody has lost";
    const struct entry *before = r->fast && e->recovered && e->t > c->last_power ? held(shown, e) : NULL;
    if (!wrong && before && !is_kept(c, before)) wrong = "is recovered, and what it stands on is lost";
    if (wrong)
        violation(c, HISTORY_RESUME_POSITION, PLACES(e, before),
                  "room %s: the position [%" PRIu64 ", %" PRIu64 "] of %s %s", TEXT(c, e->room), e->asked_epoch,
                  e->asked_seq, TEXT(c, e->user), wrong);
}

void check_epochs(struct checker *c)
{
    struct list shown = {0}; /* by room, epoch, seq; receipts by user, then oks */
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++)
        if ((e->kind == ENTRY_RECEIVE || e->kind == ENTRY_OK) && e->epoch)
            list_add(&shown, e, NULL, e->room, e->epoch, e->seq, e->kind == ENTRY_OK ? UINT64_MAX : e->user);
    list_sort(&shown);
    for (size_t i = 0, end; i < shown.len; i = end) {
        end = list_group(&shown, i, 3);
        size_t receipts = 0;
        while (i + receipts < end && shown.items[i + receipts].entry->kind == ENTRY_RECEIVE) receipts++;
        check_reuse(c, &shown.items[i], receipts);
    }
    for (size_t i = 0, end; i < shown.len; i = end) {
        end = list_group(&shown, i, 2);
        if (room_with_id(c, shown.items[i].entry->room)->fast) check_tail(c, &shown.items[i], end - i);
    }
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++)
        if (e->kind == ENTRY_RESUMED) check_resumed(c, &shown, e);
    list_free(&shown);
}
