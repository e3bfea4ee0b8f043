/* outbox: which notifications wait for a tenant, and for each of its users, known at the tenant's home.
 *
 * They are counted once, before the tenant's first notification is made, a page at a time; from then on the changes
 * keep them: who makes a notification reserves its places, and the users' homes tell (NOTICE_OUTBOX) what has left the
 * outbox or come back. So whether there is room is known before any work is done for a notification.
 *
 * A change may be told long after the count has seen its row, or its row's end. So the numbers are kept and not only
 * how many they are: what is told twice changes nothing, and a user's changes are told in the order in which they
 * happened, so the last one of a number is right whatever the count has seen.
 *
 * Here a tenant's creations take turns as well: a few are at work, some wait, the others are refused. */
#ifndef CARILLON_NOTIFY_OUTBOX_H
#define CARILLON_NOTIFY_OUTBOX_H

#include "../../storage/keys.h"
#include "notify.h"

enum outbox_state {
    OUTBOX_UNKNOWN,  /* nobody has asked, or nobody for so long that it was forgotten */
    OUTBOX_COUNTING,
    OUTBOX_COUNTED,
};

/* outbox_tenant: one tenant's share. Bound: OUTBOX_USERS_MAX users and OUTBOX_NUMBERS_MAX notifications of all tenants
 * of a core; beyond, tenants that make nothing at the moment are forgotten. */
struct outbox_tenant {
    uint32_t tenant;
    enum outbox_state state;
    uint64_t waiting;    /* in all, reserved places included */
    struct map users;    /* struct outbox_user: those for whom something waits */
    struct queue turns;  /* struct turn */
    uint32_t under_way;  /* creations that have not ended; of those */
    uint32_t at_work;    /*   that have had their turn, and whose rows are not made yet */
    bool held;           /* outbox_next is running */
    struct outbox_count *count; /* while it is being counted */
};

/* turn: a creation that waits. `begin` is called with STATUS_OK when it is its turn, which outbox_worked ends; with the
 * reason when nothing could be counted. */
struct turn {
    struct queue_node node;
    void (*begin)(struct core *core, struct turn *turn, enum status status);
};

struct outbox_tenant *outbox_tenant(struct core *core, uint32_t tenant);
void outboxes_free(struct core *core);

/* outbox_turn queues a creation. STATUS_FULL: CREATIONS_TENANT_MAX are under way; it was not taken. */
MUST_USE enum status outbox_turn(struct core *core, struct outbox_tenant *t, struct turn *turn);
void outbox_worked(struct core *core, struct outbox_tenant *t);
void outbox_end(struct outbox_tenant *t); /* whatever became of it */

static inline bool outbox_has_room(const struct core *core, const struct outbox_tenant *t, uint64_t more)
{
    return t->waiting + more <= core->notify->bounds.pending_tenant;
}
uint64_t outbox_waiting(const struct outbox_tenant *t, uint64_t user);
/* outbox_reserve takes one of the user's places for this notification; false: PENDING_USER_MAX wait. outbox_release
 * gives it back; false: it had none. Both leave t->waiting to the caller. */
bool outbox_reserve(struct core *core, struct outbox_tenant *t, uint64_t user, uint64_t number);
bool outbox_release(struct core *core, struct outbox_tenant *t, uint64_t user, uint64_t number);

/* outbox_tell, from the user's home, when it is in the store: the number that has come back (0: none), and those that
 * have left. */
void outbox_tell(struct core *core, uint32_t tenant, uint64_t user, uint64_t back, const uint64_t *left,
                 uint32_t num_left);
void outbox_on_notice(struct core *core, const struct notice *n);

#endif
