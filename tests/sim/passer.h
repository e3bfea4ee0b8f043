/* passer: sockets that come and go. They are of the clients' users and of strangers, are opened with headers or with a
 * ticket, alone or as many at once as there are, and are reset or closed at any moment: also while their user is being
 * looked up. What they are told is dropped; only that a ticket opens no more than one socket is held. */
#ifndef CARILLON_TESTS_SIM_PASSER_H
#define CARILLON_TESTS_SIM_PASSER_H

#include <stdbool.h>

#define PASSERS_MAX 8u

/* passer_can_step: there is a crowd, and something to open a socket to. passer_step does a piece of it. */
bool passer_can_step(unsigned passer);
void passer_step(unsigned passer);
/* passers_change: all of them leave, and those who come next are mostly of one user, another one perhaps. */
void passers_change(void);
/* passers_leave drops their connections; passers_close frees what they hold as well. */
void passers_leave(void);
void passers_close(void);

#endif
