/* arrival: what reaches a participant: pushes, answers, errors, and the end of its connection. Checks on the way that
 * every push belongs to the participant's room and that seq rises by exactly one. */
#ifndef CARILLON_TOOLS_LOAD_ARRIVAL_H
#define CARILLON_TOOLS_LOAD_ARRIVAL_H

#include "crowd.h"

#define ARRIVAL_POSITION_WAIT_NS 500000000ull /* for the `resumed` of a room that welcome did not list */
#define ARRIVAL_JOIN_WAIT_NS 20000000ull      /* servers that do not say when they have taken somebody into a room */

/* The handlers of the session hub; `context` is the crowd. */
void arrival_upgraded(void *context, struct session *s, uint64_t now_ns);
void arrival_text(void *context, struct session *s, struct slice text, uint64_t now_ns);
void arrival_lost(void *context, struct session *s, uint64_t now_ns);

/* arrival_ready makes a welcomed participant ready. */
void arrival_ready(struct crowd *c, struct participant *p);

#endif
