/* homes: what users' homes and the cores of their sockets must agree on whenever nothing is on its way between
 * cores. */
#ifndef CARILLON_TESTS_SIM_HOMES_H
#define CARILLON_TESTS_SIM_HOMES_H

#include "../../src/core/gateway.h"

/* homes_check holds the sockets that homes count, and who is online, against the sessions that there are. Every core
 * sleeps, and no mail waits. */
void homes_check(const struct gateway *g);
/* homes_check_empty: the last socket has gone, and the grace with it: nobody is counted or online. */
void homes_check_empty(const struct gateway *g);

#endif
