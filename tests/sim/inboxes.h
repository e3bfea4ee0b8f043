/* inboxes: what production keeps of notifications in memory, held against the rows whenever nothing is under way: an
 * inbox has exactly what waits for its user, a user's past begins no later than that, and a tenant's counts are the
 * rows. */
#ifndef CARILLON_TESTS_SIM_INBOXES_H
#define CARILLON_TESTS_SIM_INBOXES_H

#include "../../src/core/gateway.h"

/* inboxes_check: every core sleeps and has no mail. */
void inboxes_check(const struct gateway *g);

#endif
