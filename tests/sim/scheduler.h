/* scheduler: who goes on. A step lets one actor, one client, one link, … do one thing, or time pass; when nobody can go
 * on, time passes until somebody can. Before each, faults begin or end, and what must hold between steps is checked. */
#ifndef CARILLON_TESTS_SIM_SCHEDULER_H
#define CARILLON_TESTS_SIM_SCHEDULER_H

#include <stdint.h>

/* scheduler_step takes one step. A gateway runs (gateways.h). */
void scheduler_step(void);
/* scheduler_steps: how many have been taken in this run. */
uint64_t scheduler_steps(void);

#endif
