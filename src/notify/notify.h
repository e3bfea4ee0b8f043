/* notify: notifications: made durable first, pushed to their users' live sockets until they acknowledge, tried again
 * with growing waits, and dead letters after the last attempt or when they expire.
 *
 *   create.c          tenant home   POST /notify: one entry with all users' rows
 *   outbox.c          tenant home   how many wait for each user; whose turn it is to make one
 *   inbox.c           user home     what waits for a user who is there: loading, acknowledgements, ends
 *   past.c            user home     where an outbox begins, so that nobody walks through a user's past
 *   push.c            user home     handing it over: which, to whom, and when again
 *   letters.c         user home     what needs a look into the store first: late acknowledgements, dead letters
 *   sweep.c           core 0        what has ended while nobody was there; what is old enough to go
 *   lists.c           any core      a user's notifications and subscriptions, the operator's dead letters
 *   provider.h        the seam to what carries them; websocket_provider.c is the first
 *
 * Everything that happens to one user's notification after its making is ordered by the user's home. In memory is only
 * what waits for users who have a live socket; the rest is on disk and is read when its user comes back. */
#ifndef CARILLON_NOTIFY_NOTIFY_H
#define CARILLON_NOTIFY_NOTIFY_H

#include "../../net/timer.h"
#include "../chat/session.h"
#include "../core/core.h"
#include "../core/notice.h"
#include "past.h"

enum sent_status {
    SENT_SENT,      /* handed to the provider: an attempt */
    SENT_DELIVERED, /* acknowledged */
    SENT_DEAD,      /* given up */
    SENT_STATUSES
};

/* notified: what NOTICE_NOTIFIED carries beside the number: all that an inbox keeps of a new notification. */
struct notified {
    uint64_t created_ms, expires_ms;
    uint8_t priority;
};

struct sweep;

/* notify_bounds: what limits.h says, as this core keeps to it; a test that is to reach a bound has less. */
struct notify_bounds {
    uint32_t pending_user, pending_tenant; /* PENDING_USER_MAX, PENDING_TENANT_MAX */
    uint32_t creations;                    /* of a tenant: CREATIONS_TENANT_MAX */
    uint32_t outbox_users;                 /* OUTBOX_USERS_MAX */
    uint32_t count_rows, sweep_rows;       /* OUTBOX_COUNT_ROWS, NOTIFY_SWEEP_ROWS; ≥ 1 */
    uint32_t push_batch;                   /* 1 ≤ n ≤ PUSH_BATCH */
    uint64_t dead_keep_ms;                 /* DEAD_KEEP_MS */
};

/* notify: one core's share. */
struct notify {
    struct notify_bounds bounds; /* constant once the core runs */
    struct map inboxes;      /* struct inbox */
    struct timer_wheel due;  /* inboxes, by what is due next */
    struct past_table past;  /* of users who are at home here */
    struct map creations;    /* struct creation: those with an Idempotency-Key */
    struct map tenants;      /* struct outbox_tenant, at the tenants' homes */
    uint32_t creations_read; /* of all tenants, that have their turn: at most CREATIONS_READ_MAX */
    bool turns_held;         /* some tenant's turn waits for that */
    uint32_t turns_at;       /* place in `tenants` of the next one to be looked at then */
    uint64_t num_outbox_users, num_outbox_numbers; /* users that these have, and what waits for them */
    struct sweep *sweep;     /* core 0's */
    _Atomic uint64_t sent[SENT_STATUSES];
    _Atomic uint64_t waiting; /* core 0: in the outbox, as the last sweep counted */
};

void inboxes_free(struct core *core);   /* inbox.c */
void creations_free(struct core *core); /* create.c */
struct sweep *sweep_new(void);          /* sweep.c */
void sweep_run(struct core *core);
uint64_t sweep_wake_ns(const struct core *core);
void sweep_free(struct sweep *s);

struct notify *notify_new(struct core *core);
void notify_free(struct core *core);
/* notify_opened looks, before any core runs, whether the store holds a notification: in a gateway that never sees one
 * no session asks for any. STATUS_IO, CORRUPT: the store cannot be read. */
MUST_USE enum status notify_opened(struct gateway *g);

/* once a turn, and when to wake for it */
void notify_timers(struct core *core);
uint64_t notify_wake_ns(const struct core *core);

void notify_on_op(struct core *core, struct op *op);
void notify_on_create(struct core *core, struct op *op); /* OP_NOTIFY */
void notify_on_push(struct core *core, struct op *op);   /* OP_NOTIFICATION_PUSH */
void notify_on_notice(struct core *core, struct notice *n);
/* notify_session_opened asks the user's home for what waits, now that the socket can take pushes. */
void notify_session_opened(struct core *core, struct session *s);
/* notify_session_drained tells it that a socket for which something waits (session.pushes_wait) has room, or is
 * gone. */
void notify_session_drained(struct core *core, struct session *s);

void notify_count(struct core *core, enum sent_status status, uint64_t n);
/* notify_metrics appends notifications_sent_total and the gauges. */
void notify_metrics(struct buf *out, const struct gateway *g);

const char *priority_name(uint8_t priority);
bool priority_parse(struct slice name, uint8_t *priority);
const char *dead_reason_name(uint8_t reason);

/* --- lists.c: each brings the op back to its origin with op->out ------------------------------------------------- */

/* notify_list reads a page of op->user's notifications, newest first, below the number in.notification (0: from the
 * newest); notify_list_dead one of dead letters, of op->tenant or, when that is 0, of all. `limit` items at most; the
 * page of dead letters begins below the key of (tenant, number, user) when the number is not 0. */
void notify_list(struct core *core, struct op *op, uint32_t limit);
void notify_list_dead(struct core *core, struct op *op, uint32_t tenant, uint32_t limit);
/* notify_find_dead finds out whose letter it is (op->user_id) and sends the op on to that user's home. */
void notify_find_dead(struct core *core, struct op *op);
/* subscriptions of op->user; the topic is in.notify.topic */
void notify_subscribe(struct core *core, struct op *op);
void notify_unsubscribe(struct core *core, struct op *op);
void notify_subscriptions(struct core *core, struct op *op);

#endif
