/* oracle: whatever a client is told is held against the store (store_watch.h) at once, and against what the client was
 * told before. */
#ifndef CARILLON_TESTS_SIM_ORACLE_H
#define CARILLON_TESTS_SIM_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/slice.h"
#include "client_state.h"

/* `version` is what store_version was when the bytes left the gateway. */

void oracle_push(struct client *c, struct slice event, uint64_t version);
void oracle_resumed(struct client *c, struct slice text, uint64_t version);
void oracle_welcome(struct client *c, struct slice text);
/* oracle_page checks a page; `from` is the seq that must come first, 0 when events are left out of it. With an epoch the
 * client holds what is in it. */
void oracle_page(struct client *c, unsigned room, struct slice items, uint64_t from, uint64_t version, uint64_t epoch);
/* oracle_page_end: a page of events that nothing follows ends with what anybody had been shown when it was asked for, or
 * behind it. `answer` is the whole answer, `items` its events. */
void oracle_page_end(const struct client *c, struct slice answer, struct slice items);
void oracle_sync(struct client *c, struct slice text, uint64_t version);
/* oracle_answered: a message of the client has its seq. */
void oracle_answered(struct client *c, unsigned message, struct slice text, uint64_t version);
/* oracle_acked: the gateway has answered an ack. */
void oracle_acked(const struct client *c, struct view *v, uint64_t seq);
/* oracle_refused: an error must have a reason that the scenario gave. True: asking again is of no use. */
bool oracle_refused(struct client *c, const struct line *l, unsigned room, struct slice code);
/* oracle_online: whoever was greeted is online, and nobody stands in the list who is not. */
void oracle_online(const struct client *c, struct slice text);
/* oracle_ephemeral: nobody is told of what they do themselves. */
void oracle_ephemeral(const struct client *c, struct slice text);
/* oracle_may_be_out: the client's user may leave the room, or come back to it, at any time. */
bool oracle_may_be_out(const struct client *c, unsigned room);
/* oracle_is_member: the client's user is a member by what is durable now. */
bool oracle_is_member(const struct client *c, unsigned room);

#endif
