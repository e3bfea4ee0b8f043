/* simulation: one run, from one seed. A store, a gateway with one to four cores over it, clients that do what clients
 * do, an operator; the scheduler lets one of them take one step at a time (scheduler.h); now and then the process dies,
 * or stops in good order, and another one is started (gateways.h). Then the run heals: no more faults, no new requests,
 * until everybody holds everything; and at the end the gateway is closed in good order, and what is left is judged.
 *
 * A process has one run: the world is global. */
#ifndef CARILLON_TESTS_SIM_SIMULATION_H
#define CARILLON_TESTS_SIM_SIMULATION_H

#include <stdbool.h>
#include <stdint.h>

/* outcome: what a run came to in which nothing failed. */
struct outcome {
    uint64_t hash;  /* of all that happened: the same for the same seed */
    uint64_t steps; /* without those of the end */
    unsigned messages, crashes;
};

/* simulation_run returns when everything held; otherwise world_fail ends the process. `trace` prints the steps. */
struct outcome simulation_run(uint64_t seed, bool trace);

#endif
