/* operator: who has the master key. Makes the tenants, and in some runs interferes: new keys and revoked ones,
 * kicks, tenants switched off and on, rates, settings read again, restarts in good order. One request at a time;
 * what came of one whose answer was lost is not known until it is repeated. */
#ifndef CARILLON_TESTS_SIM_OPERATOR_H
#define CARILLON_TESTS_SIM_OPERATOR_H

#include <stdbool.h>
#include <stdint.h>

void operator_open(void);
void operator_close(void);
bool operator_can_step(void);
void operator_step(void);
/* operator_wake_ns: when it will want to do something though nothing comes for it; WORLD_NEVER: not at all. */
uint64_t operator_wake_ns(void);
/* operator_unsettled is NULL when what it began has come to an end, and nobody is kept out. */
const char *operator_unsettled(void);
void operator_leave(void);

#endif
