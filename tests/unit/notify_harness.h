/* notify_harness: what the tests of notifications do with a harness: make, list and acknowledge them, let days go by,
 * and look over the shoulder of the store. */
#ifndef CARILLON_TESTS_UNIT_NOTIFY_HARNESS_H
#define CARILLON_TESTS_UNIT_NOTIFY_HARNESS_H

#include "harness.h"

#include "../../src/chat/ids.h"
#include "../../src/notify/inbox.h"
#include "../../src/notify/outbox.h"

#define MINUTE 60000ull
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

struct made {
    char id[ID_TEXT_LEN + 1];
};

/* notified makes a notification for one user over REST and returns its id; number_of: the number in it. notify_bob
 * makes one for bob with these headers, and returns the status of the answer. */
struct made notified(struct harness *h, const char *user_id, const char *payload);
uint64_t number_of(struct made made);
unsigned notify_bob(struct client *c, const char *headers);
/* listed returns a user's list; it lives until the next call. */
const char *listed(struct harness *h, const char *user_id);
void acknowledge(struct harness *h, const char *user_id, struct made made, unsigned status);
/* notify_many: an op that notifies `num` users, who all have the id of who sends it. */
struct op *notify_many(struct harness *h, const struct person *who, uint32_t num);
/* notify_go sends a notification to `num` users with numbers from `first` on, or to who sends it; nothing is turned. */
struct answer *notify_go(struct harness *h, const struct person *who, struct slice payload, uint64_t first,
                         uint32_t num);
/* payload_of: a string of so many bytes; it lives until the next call. */
struct slice payload_of(uint32_t len);

/* inboxes: how many are in memory; inbox_of: this user's, NULL when it is not. */
uint32_t inboxes(struct harness *h);
struct inbox *inbox_of(struct harness *h, const struct person *who);
/* tenant_of: the outbox of the harness's tenant. */
struct outbox_tenant *tenant_of(struct harness *h);
/* pass lets time go by in steps in which timers run. */
void pass(struct harness *h, uint64_t ms, uint64_t step_ms);

/* watched: what was walked through in the store between watch_store and unwatch_store. */
extern struct watched {
    struct kv_ops ops, real;
    unsigned walks, rows, most_rows; /* rows: of this walk */
    struct key lower;                /* of the last walk through the outbox */
    bool in_outbox, failing;         /* the walk under way; walks through the outbox meet an error */
} watched;
void watch_store(struct harness *h);
void unwatch_store(struct harness *h);

#endif
