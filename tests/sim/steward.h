/* steward: the main thread's part (src/cli/serve.c) of a simulated gateway: what the operator asks of the process
 * comes to it, and its answer goes back: settings are read again, the gateway is stopped in good order. */
#ifndef CARILLON_TESTS_SIM_STEWARD_H
#define CARILLON_TESTS_SIM_STEWARD_H

#include <stdbool.h>

#include "../../src/core/gateway.h"

/* steward_serve takes a gateway on that is about to be opened; `config` is what it runs with. */
void steward_serve(struct gateway *g, struct config *config);
/* steward_can_step: the operator has asked for something. */
bool steward_can_step(void);
void steward_step(void);
/* steward_drained: the gateway was asked to stop, and the last client has left or has had its time. */
bool steward_drained(void);

#endif
