/* client: users of the simulated gateway. Each has a REST connection and a WebSocket, speaks real bytes through
 * fake_ring's links, reads in small pieces, breaks off anywhere, comes back with the position it holds, and repeats
 * what it does not know to have happened. Whatever it is told it holds against the store (store_watch.h) at once.
 *
 * A client asks until everything of the scenario is settled: rooms made, messages answered, logs complete. */
#ifndef CARILLON_TESTS_SIM_CLIENT_H
#define CARILLON_TESTS_SIM_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "scenario.h"

void clients_open(void);
void clients_close(void);
/* client_can_step: it has something to do now. client_step does a piece of it. */
bool client_can_step(unsigned client);
void client_step(unsigned client);
/* client_wake_ns: when it will want to do something though nothing comes for it; WORLD_NEVER: not at all. */
uint64_t client_wake_ns(unsigned client);
/* client_unsettled is NULL when it holds everything and everything it asked has been answered; else it says what is
 * missing. */
const char *client_unsettled(unsigned client);
/* client_heal: from now on the gateway answers within a bound of simulated time, or the run fails. */
void client_heal(unsigned client);
/* client_check_stall fails the run when an answer has been missing for too long. */
void client_check_stall(unsigned client);
/* client_check_end holds what it was told over the whole run against the store. */
void client_check_end(unsigned client);
/* client_leave drops its connections. */
void client_leave(unsigned client);
/* clients_messages counts messages that were answered. */
unsigned clients_messages(void);

#endif
