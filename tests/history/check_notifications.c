/* Notifications: what was acknowledged is delivered at least once to each whom it is for, or is a dead letter; a key
 * stands for one; and nothing is delivered that nobody asked for. */
#include "check.h"

/* notice: a notification for one user, as it was asked for. */
struct notice {
    struct list asked;     /* NOTIFY by key, user */
    struct list ids;       /* NOTIFY_OK by id */
    struct list answered;  /* NOTIFY_OK by key, id, time */
    struct list open;      /* NOTIFY without an ok, by user, content */
    struct list delivered; /* DEAD_LETTER, then NOTIFIED by time: by id, user */
};

static bool starts_with(const struct list *l, size_t at, uint64_t a, uint64_t b, unsigned num)
{
    return at < l->len && l->items[at].key[0] == a && (num < 2 || l->items[at].key[1] == b);
}

static const struct entry *find(const struct list *l, uint64_t a, uint64_t b, unsigned num)
{
    size_t at = list_lower(l, (uint64_t[]){a, b}, num);
    return starts_with(l, at, a, b, num) ? l->items[at].entry : NULL;
}

static void notices_make(const struct checker *c, struct notice *n)
{
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++) {
        if (e->kind == ENTRY_NOTIFY) list_add(&n->asked, e, NULL, e->key, e->user, 0, 0);
        if (e->kind == ENTRY_NOTIFY_OK) {
            list_add(&n->ids, e, NULL, e->notification_id, 0, 0, 0);
            list_add(&n->answered, e, NULL, e->key, e->notification_id, e->t, 0);
        }
        if (e->kind == ENTRY_NOTIFIED || (e->kind == ENTRY_DEAD_LETTER && e->notification_id))
            list_add(&n->delivered, e, NULL, e->notification_id, e->user, e->kind == ENTRY_NOTIFIED, e->t);
    }
    list_sort(&n->asked);
    list_sort(&n->ids);
    list_sort(&n->answered);
    list_sort(&n->delivered);
    for (size_t i = 0; i < n->asked.len; i++) {
        const struct entry *e = n->asked.items[i].entry;
        if (!find(&n->answered, e->key, 0, 1)) list_add(&n->open, e, NULL, e->user, e->content, 0, 0);
    }
    list_sort(&n->open);
}

/* --- lost -------------------------------------------------------------------------------------------------------- */

/* arrived: delivered to the user by `until`, or a dead letter, of theirs or of all. */
static bool arrived(const struct notice *n, uint32_t id, uint32_t user, uint64_t until)
{
    const struct entry *theirs = find(&n->delivered, id, user, 2), *of_all = find(&n->delivered, id, 0, 2);
    if (theirs && (theirs->kind == ENTRY_DEAD_LETTER || theirs->t <= until)) return true;
    return of_all && of_all->kind == ENTRY_DEAD_LETTER;
}

static void check_answer_lost(struct checker *c, const struct notice *n, const struct entry *asked,
                              const struct entry *answer)
{
    if (answer->t >= c->healed->t) return;
    if (!arrived(n, answer->notification_id, asked->user, c->healed->t + c->healed->within_ns))
        violation(c, HISTORY_NOTIFY_LOST, PLACES(asked, answer, c->healed),
                  "notification %s was acknowledged and never reached %s", TEXT(c, answer->notification_id),
                  TEXT(c, asked->user));
}

/* check_lost: each id that the key was acknowledged with, by its first answer with it. */
static void check_lost(struct checker *c, const struct notice *n, const struct entry *asked)
{
    size_t at = list_lower(&n->answered, (uint64_t[]){asked->key}, 1);
    for (; starts_with(&n->answered, at, asked->key, 0, 1); at = list_group(&n->answered, at, 2))
        check_answer_lost(c, n, asked, n->answered.items[at].entry);
}

/* --- answered ---------------------------------------------------------------------------------------------------- */

/* ids_max: how many ids a key may be acknowledged with: one, and one for each time that the key was forgotten. */
static size_t ids_max(const struct checker *c, const struct notice *n, uint32_t key)
{
    uint64_t first = HISTORY_NEVER;
    size_t at = list_lower(&n->asked, (uint64_t[]){key}, 1);
    for (; starts_with(&n->asked, at, key, 0, 1); at++)
        if (n->asked.items[at].entry->t < first) first = n->asked.items[at].entry->t;
    return 1 + times_forgotten(c, first);
}

static void check_twice(struct checker *c, const struct notice *n, size_t from, size_t to)
{
    const struct entry *first = n->answered.items[from].entry, *second = n->answered.items[to - 1].entry;
    size_t ids = 0;
    for (size_t i = from; i < to; i = list_group(&n->answered, i, 2)) ids++;
    if (ids > 1 && ids > ids_max(c, n, first->key))
        violation(c, HISTORY_NOTIFY_TWICE, PLACES(first, second), "key %s was acknowledged as notifications %s and %s",
                  TEXT(c, first->key), TEXT(c, first->notification_id), TEXT(c, second->notification_id));
}

/* --- delivered --------------------------------------------------------------------------------------------------- */

static void check_delivered(struct checker *c, const struct notice *n, const struct entry *e)
{
    const struct entry *answer = find(&n->ids, e->notification_id, 0, 1);
    if (!answer) { /* its creation may have been applied without an answer */
        if (!find(&n->open, e->user, e->content, 2))
            violation(c, HISTORY_NOTIFY_DIFFERS, PLACES(e), "%s was given notification %s, which nobody asked for",
                      TEXT(c, e->user), TEXT(c, e->notification_id));
        return;
    }
    const struct entry *asked = find(&n->asked, answer->key, e->user, 2);
    if (!asked)
        violation(c, HISTORY_NOTIFY_STRANGER, PLACES(e, answer), "%s was given notification %s, which is not for them",
                  TEXT(c, e->user), TEXT(c, e->notification_id));
    else if (asked->content != e->content)
        violation(c, HISTORY_NOTIFY_DIFFERS, PLACES(asked, e), "notification %s reached %s with another content",
                  TEXT(c, e->notification_id), TEXT(c, e->user));
}

void check_notifications(struct checker *c)
{
    struct notice n = {0};
    notices_make(c, &n);
    for (size_t i = 0; i < n.asked.len && c->healed; i = list_group(&n.asked, i, 2))
        check_lost(c, &n, n.asked.items[i].entry);
    for (size_t i = 0, end; i < n.answered.len; i = end) {
        end = list_group(&n.answered, i, 1);
        check_twice(c, &n, i, end);
    }
    for (size_t i = 0; i < n.delivered.len && n.asked.len; i++)
        if (n.delivered.items[i].entry->kind == ENTRY_NOTIFIED) check_delivered(c, &n, n.delivered.items[i].entry);
    list_free(&n.asked);
    list_free(&n.ids);
    list_free(&n.answered);
    list_free(&n.open);
    list_free(&n.delivered);
}
