/* check: the rules, and what they share: the entries of a history by room, by message, by member. Each check_* goes
 * over sorted lists once, so that a history of any size is judged in O(n log n). Only the files of this folder see it.
 */
#ifndef CARILLON_TESTS_HISTORY_CHECK_H
#define CARILLON_TESTS_HISTORY_CHECK_H

#include "entry.h"

/* keyed: an entry under a sort key; equal keys stay in the order in which their entries were added. */
struct keyed {
    uint64_t key[4];
    const struct entry *entry;
    void *of; /* whatever the rule needs with it */
};

struct list {
    struct keyed *items;
    size_t len, cap;
};

void list_add(struct list *l, const struct entry *e, void *of, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
void list_sort(struct list *l);
void list_free(struct list *l);
/* list_group returns the end of the run of items that begins at `from` and has its first `num_keys` keys. */
size_t list_group(const struct list *l, size_t from, unsigned num_keys);
/* list_lower returns the first item whose first `num_keys` keys are not below `key`. */
size_t list_lower(const struct list *l, const uint64_t *key, unsigned num_keys);

/* row: an event of the log, and when it was first known to be there: acknowledged or shown to anybody. */
struct row {
    const struct entry *entry;
    struct message *message;      /* NULL: none, or without a client id */
    const struct entry *known;    /* NULL: never */
    const struct entry *answered; /* the earliest ok that tells of this very row; NULL: none */
    uint32_t messages_before;  /* rows of messages with a smaller seq */
};

struct room {
    uint32_t id;
    bool fast;
    bool recorded;    /* messages of clients are recorded */
    struct row *rows; /* by seq, each seq once */
    size_t num_rows;
    uint64_t head;
    uint64_t newest_epoch;
};

/* message: every attempt to send it, and what was said about it. */
struct message {
    struct room *room;
    const struct keyed *entries; /* invokes, oks, fails, unknowns, rows: sorted by kind, then as they were added */
    size_t num_entries;
    const struct entry *invoked;  /* the earliest; NULL: by nobody */
    uint64_t last_invoked_t;
    const struct entry *answered; /* the earliest ok */
    const struct entry *kept;     /* the first row */
    unsigned num_invoked, num_ok, num_failed, num_kept;
    unsigned kept_max; /* rows that it may have: 1, and one for each time it was forgotten and sent again */
};

/* stay: a time during which a user was, or may have been, a member. */
struct stay {
    uint32_t room, user;
    const struct entry *since, *left; /* left NULL: they stayed */
    uint64_t until_seq;               /* they may see no event behind it; HISTORY_NEVER: no such bound */
    uint64_t last_seq;                /* the newest event that may have been meant for them … */
    uint64_t last_seq_so_far;         /* … in this stay or an earlier one */
};

struct checker {
    const struct history *h;
    struct history_options options;
    struct history_report *report;
    struct room *rooms; /* by id */
    size_t num_rooms;
    struct message *messages; /* by room, sender, client id */
    size_t num_messages;
    struct list named;    /* what messages.entries points into */
    struct list receipts; /* in the order of arrival */
    struct stay *stays;   /* by room, user, time */
    size_t num_stays;
    struct list passages;       /* rows of joins and leaves: room, user, seq; of: the newest leave so far, or NULL */
    uint64_t first_power;       /* time of the first power loss; HISTORY_NEVER: none */
    uint64_t last_power;        /* time of the last one; 0: none */
    const struct entry *healed; /* the last one; NULL: none */
    struct list forgotten;      /* by time */
};

struct room *room_with_id(const struct checker *c, uint32_t id);
/* row_find returns NULL for a seq that the log does not have. */
struct row *row_find(const struct room *r, uint64_t seq);
/* row_from returns the place of the first row with this seq or a later one. */
size_t row_from(const struct room *r, uint64_t seq);
/* row_is_message: the row is of type "message". */
bool row_is_message(const struct checker *c, const struct entry *row);
/* event_differs: whether a reader was shown something else than the row. */
bool event_differs(const struct checker *c, const struct entry *receipt, const struct entry *row);
/* is_kept: the log has what the receipt or the ok tells of, or something that looks like it. */
bool is_kept(const struct checker *c, const struct entry *e);
/* is_surely_kept: and it is the very event. A message that a fast room has lost and that is sent again may get its old
 * seq, and then all of its old name; so what was told of it before the power loss says nothing of the new one. No more
 * does what was told of a join, a leave or a role: somebody may join again under the same seq, and in the same
 * millisecond while the clock stands behind the log. */
bool is_surely_kept(const struct checker *c, const struct entry *e);
/* lost_with_power: the room may have lost what was known at e, because the power failed after it. */
bool lost_with_power(const struct checker *c, const struct room *r, const struct entry *e);
/* times_forgotten counts how often the ids of what was sent at `t` were forgotten later. */
size_t times_forgotten(const struct checker *c, uint64_t t);
/* stays_of returns the stays of a user in a room, in the order of time; *num may be 0. */
const struct stay *stays_of(const struct checker *c, size_t *num, uint32_t room, uint32_t user);
/* owed_range: which events a member's device is owed that has followed the room from `first` on; false: none. */
bool owed_range(const struct checker *c, uint64_t *from, uint64_t *to, uint32_t room, uint32_t user, uint64_t first);

/* violation counts, and keeps the first ones. `places` end with NULL. */
void violation(struct checker *c, enum history_rule rule, const struct entry *const *places, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#define PLACES(...) ((const struct entry *const[]){__VA_ARGS__, NULL})
/* TEXT is a text as printf's %s takes it. */
#define TEXT(c, number) entry_text((c)->h, (number)).data

void check_log(struct checker *c);
void check_messages(struct checker *c);
void check_order(struct checker *c);
void check_receipts(struct checker *c);
void check_members(struct checker *c);
void check_devices(struct checker *c);
void check_epochs(struct checker *c);
void check_cursors(struct checker *c);
void check_notifications(struct checker *c);

#endif
