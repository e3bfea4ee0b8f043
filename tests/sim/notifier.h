/* notifier: who makes notifications in a run, and what else is done with them: several notifiers, each with a REST
 * connection, create them (to named users, a room's members, a topic's subscribers), repeat what was not answered,
 * acknowledge and list for any user, change subscriptions meanwhile, and do the operator's work with dead letters. The
 * clients' own sockets take the pushes, and acknowledge some of them.
 *
 * notifier.c asks; notifier_answers.c holds what is told, by an answer or a push, against the store (notices.h).
 * Bounds, attempts, waits and the time to expire are so small in such a run that each of them is reached. */
#ifndef CARILLON_TESTS_SIM_NOTIFIER_H
#define CARILLON_TESTS_SIM_NOTIFIER_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/slice.h"
#include "../../src/config.h"
#include "notices.h"

struct client;
struct core;

#define NOTIFIERS_MAX 3u

/* notice_look: how a notification stood when something was asked about it. */
struct notice_look {
    unsigned user; /* place: creations.h */
    uint64_t number;
    enum notice_state state; /* NOTICE_NONE: there was none */
    unsigned changes;
    unsigned gateway; /* that was asked */
};

/* notifiers_open chooses the run's bounds and writes its settings; notifier_bound gives a core of a new gateway its
 * own. */
void notifiers_open(struct config *config);
void notifiers_close(void);
void notifier_bound(struct core *core);
const struct config *notifier_config(void);
uint64_t notifier_dead_keep_ms(void);
/* notifier_writes_refused: the gateway that runs may have refused to take an entry, as being too late or too full. */
bool notifier_writes_refused(void);

bool notifier_can_step(unsigned notifier);
void notifier_step(unsigned notifier);
uint64_t notifier_wake_ns(unsigned notifier);
void notifiers_heal(void);
void notifiers_check_stall(void);
void notifiers_leave(void);
/* notifiers_unsettled is NULL when every creation is answered and nothing waits for a user who is there; else it says
 * what is missing. */
const char *notifiers_unsettled(void);

/* --- the clients' sockets ---------------------------------------------------------------------------------------- */

void notifier_connected(const struct client *c);
/* notifier_pushed takes a push that left the gateway at `version` of the store. */
void notifier_pushed(const struct client *c, struct slice text, uint64_t version);
/* notifier_wants_ack: a push was not acknowledged yet, and it is time to. */
bool notifier_wants_ack(const struct client *c);
/* notifier_choose_ack chooses the number to be acknowledged by the client: of a push, of one acknowledged before, of
 * another user's, of none; and notes that it is asked for. False: it knows none. */
bool notifier_choose_ack(const struct client *c, struct notice_look *look);
void notifier_acked(const struct notice_look *look);
/* notifier_ack_refused: whether the code is one that this may be answered; any other is for the caller. */
bool notifier_ack_refused(const struct notice_look *look, struct slice code);

#endif
