/* oracle: whatever a client is told is held against the store (store_watch.h, truth.h) at once, and against what
 * the client was told before. */
#ifndef CARILLON_TESTS_SIM_ORACLE_H
#define CARILLON_TESTS_SIM_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/slice.h"
#include "client_state.h"

/* `version` is what store_version was when the bytes left the gateway; `a` is what is answered. */

void oracle_push(struct client *c, struct slice event, uint64_t version);
void oracle_resumed(struct client *c, struct slice text, uint64_t version);
void oracle_welcome(struct client *c, const struct ask *a, struct slice text, uint64_t version);
/* oracle_page checks a page of events, or of messages alone. */
void oracle_page(struct client *c, const struct ask *a, struct slice page, uint64_t version);
void oracle_sync(struct client *c, struct sync *s, struct slice text, uint64_t version, uint64_t epoch);
/* oracle_answered: a message has its seq. */
void oracle_answered(struct client *c, const struct ask *a, struct slice text, uint64_t version);
/* oracle_acked: the gateway has answered an ack. */
void oracle_acked(struct client *c, const struct ask *a, unsigned gateway);
/* oracle_subscribed: the gateway has answered a subscription, or the end of one. */
void oracle_subscribed(struct client *c, const struct ask *a, struct slice text);
/* oracle_served: who asked may have been served at all; with a revoked key, or out of the room, nobody is. */
void oracle_served(const struct client *c, const struct line *l, const struct ask *a, uint64_t version);
/* oracle_let_in: the same of any line of the tenant, for what was asked at `moment`. */
void oracle_let_in(const char *who, unsigned tenant, const struct line *l, uint64_t moment);
/* oracle_refused_for_now: the state of the gateway or the tenant gives a reason for the code; it may be otherwise
 * later. */
bool oracle_refused_for_now(unsigned tenant, const struct line *l, uint64_t moment, struct slice code);
/* oracle_refused: an error must have a reason that the scenario gave. True: asking again is of no use. */
bool oracle_refused(struct client *c, const struct line *l, const struct ask *a, struct slice code, uint64_t version);
/* oracle_online: whoever was greeted is online, and nobody stands in the list who is not. */
void oracle_online(const struct client *c, struct slice text);
/* oracle_ephemeral: nobody is told of what they do themselves. */
void oracle_ephemeral(const struct client *c, struct slice text);
/* oracle_is_member: the client's user is a member by what is durable now. */
bool oracle_is_member(const struct client *c, unsigned room);
/* oracle_holds: everything that the client holds of the room still stands in the store. */
bool oracle_holds(const struct client *c, unsigned room);

#endif
