/* inbox: what waits for one user, at the user's home, while that user can be reached or something is under way.
 *
 * It is loaded from the outbox when a socket opens; what is made after that comes with NOTICE_NOTIFIED. When the user
 * is gone it is dropped, because everything is on disk, and when nothing waits; past.h then knows that there is nothing
 * to load. Each waiting notification has its next attempt; the inbox's timer is the earliest of them. One push is under
 * way at a time.
 *
 * A notification leaves the inbox when its end is pushed to the pipeline. While ends are on their way nothing is loaded
 * or looked up, because the store could still show them as waiting. */
#ifndef CARILLON_NOTIFY_INBOX_H
#define CARILLON_NOTIFY_INBOX_H

#include "notify.h"
#include "provider.h"
#include "rows.h"

struct waiting {
    uint64_t number, created_ms, expires_ms, last_attempt_ms;
    uint64_t due_ns;   /* the next attempt */
    uint32_t attempts;
    uint8_t priority;
    bool attempt;      /* it is due, and in the push that is under way */
};

/* opening: a socket that has just opened gets everything, whether due or not; what its queue has no room for follows
 * when it has drained. */
struct opening {
    struct list of_inbox;
    struct push_socket socket;
    bool waits;       /* until the socket has drained */
    bool crowded;     /* until struct inbox.crowd_ns */
    struct push_progress progress;
};

struct inbox {
    uint32_t tenant;
    uint64_t user, hash;
    bool held, again;  /* inbox_next is running; and goes round once more */
    bool loaded, loading;
    bool stale;        /* something is in the store that is not here yet */
    uint32_t failures; /* of loading, one after the other */
    uint64_t again_ns; /* before then it is not loaded again, unless somebody asks for something */
    uint64_t seen;     /* the highest number that the store has shown (past.h) */
    bool pushing;
    bool looking;      /* letters.c */
    uint32_t ending;   /* ends and returns on their way to the disk */
    struct waiting *list; /* most urgent first, then by number */
    uint32_t num, cap;
    struct queue ops;      /* until it is loaded */
    struct queue looks;    /* ops that need a look into the store, one at a time */
    struct list openings;  /* struct opening */
    uint32_t num_openings;
    uint64_t crowd_ns;     /* when openings that found too many frames are tried again; 0: there are none */
    uint64_t full_ns;      /* before then nothing falls due: what found no room is not overtaken; 0: it found some */
    struct timer timer;
    uint8_t id_len;
    char id[];
};

static inline struct slice inbox_user_id(const struct inbox *in) { return slice_of(in->id, in->id_len); }

/* inbox_next goes on with whatever can be done now, and frees the inbox when that is nothing: the last call of every
 * handler. */
void inbox_next(struct core *core, struct inbox *in);
void inbox_answer(struct core *core, struct inbox *in, struct op *op);
struct waiting *inbox_find(struct inbox *in, uint64_t number);
void inbox_add(struct inbox *in, const struct waiting *w);
void inbox_remove(struct inbox *in, struct waiting *w);

/* inbox_write pushes rows by which the notifications `left` leave the outbox; `op` (may be NULL) is answered when they
 * are in the store: its class says how surely. The rows are taken over in any case. STATUS_FULL, READ_ONLY: nothing was
 * taken, and the op is still the caller's. `returned` comes back to the inbox then (may be NULL). */
MUST_USE enum status inbox_write(struct core *core, struct inbox *in, struct rows *rows, enum commit_class class,
                                 struct op *op, const uint64_t *left, uint32_t num_left,
                                 const struct waiting *returned);
/* inbox_end_rows makes the rows by which a notification leaves the outbox. */
void inbox_end_rows(struct rows *rows, const struct inbox *in, uint64_t number,
                    const struct notification_end_record *end);

void inboxes_run(struct core *core); /* what is due: once a turn */
uint64_t inboxes_wake_ns(const struct core *core);

/* opening_of finds a socket's opening, or NULL. */
struct opening *opening_of(struct inbox *in, struct push_socket socket);
/* waiting_before: does it go before another one of that priority and number? */
bool waiting_before(const struct waiting *w, uint8_t priority, uint64_t number);
/* waiting_dead: why it is to be given up now, or DEAD_NOT. */
enum dead_reason waiting_dead(const struct core *core, const struct waiting *w);
/* push.c: starts the next push, when there is something to send. */
void inbox_push(struct core *core, struct inbox *in);

/* letters.c: starts the next look, when there is one */
void letters_next(struct core *core, struct inbox *in);

#endif
