/* notices: every notification of a run as the store has it: the rows of notifications, outbox and dead_letters are
 * followed from their write over their sync to the crash that may take them back. What clients, senders and the
 * operator are told of notifications is held against this (notifier.h).
 *
 * Held here, at every write: a notification waits, was delivered, or is a dead letter, with the rows of that state and
 * no others, and goes from one to the next only as docs/PROTOCOL.md says, and only when somebody has asked for it: an
 * acknowledgement of its user, the operator, a clock. All users of one creation come into being in one write, those and
 * no others whom it names, with what it says. */
#ifndef CARILLON_TESTS_SIM_NOTICES_H
#define CARILLON_TESTS_SIM_NOTICES_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/buf.h"
#include "../../src/base/slice.h"
#include "../../storage/kv.h"
#include "../../storage/records.h"

#define NOTICES_MAX 2048u /* of one run: notifications times their users */

enum notice_state {
    NOTICE_NONE, /* its write was taken back */
    NOTICE_PENDING,
    NOTICE_DELIVERED,
    NOTICE_DEAD,
    NOTICE_GONE
};

/* watched_notice: one user's notification. */
struct watched_notice {
    uint32_t tenant;
    uint64_t user, number;
    char user_id[24];
    unsigned creation;        /* that made it: creations.h */
    uint64_t durable_version; /* store_version when it was durable; 0: not yet */
    enum notice_state state;
    unsigned changes;           /* of the state, so that two looks tell whether there was one between them */
    enum notice_state at_start; /* as the gateway that runs now found it */
    uint32_t start_attempts;
    bool body, outbox, end, letter; /* the rows that there are; their contents are valid when there */
    uint8_t priority;
    uint64_t created_ms;
    struct outbox_record waits; /* without its text */
    struct notification_end_record ended;
    struct dead_letter_record dead; /* without its text */
    struct buf topic, payload;
    /* what was asked for, ever */
    bool ack_asked, retry_asked, delete_asked;
    bool was_dead;
    bool deleted;           /* the operator was told so: it never comes back */
    unsigned acked_gateway; /* that answered an acknowledgement; 0: none did */
    uint64_t acked_ns;      /* when that was read */
};

void notices_open(void);
void notices_close(void);

/* what store_watch sees, in this order: the rows of a batch, its end, a sync, a crash. */
void notices_put(enum kv_cf cf, struct slice key, struct slice value);
void notices_delete(enum kv_cf cf, struct slice key);
void notices_clear(void);
void notices_written(void);
void notices_durable(uint64_t version);
/* notices_crash looks at what is left. */
void notices_crash(struct kv *kv);
/* notices_start: a gateway begins with what there is. */
void notices_start(void);

unsigned notices_len(void);
struct watched_notice *notice_at(unsigned index);
struct watched_notice *notice_of(struct slice user_id, uint64_t number); /* NULL: there was none */
/* notices_pending counts what waits now, of a user (0: of all); notices_pending_most is the most that has waited for
 * all since it was asked last. */
unsigned notices_pending(uint64_t user);
unsigned notices_pending_most(void);
const char *notice_state_name(enum notice_state state);

#endif
