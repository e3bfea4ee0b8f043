/* vitals: fills gateway->vitals (src/core/vitals.h). */
#ifndef CARILLON_CLI_VITALS_H
#define CARILLON_CLI_VITALS_H

#include "../core/gateway.h"

/* vitals_look is called by the main thread, which may wait. */
void vitals_look(struct gateway *g);

#endif
