/* connections: the scenarios in which nobody talks: upgrades a second, and what an idle connection costs. */
#ifndef CARILLON_TOOLS_LOAD_CONNECTIONS_H
#define CARILLON_TOOLS_LOAD_CONNECTIONS_H

#include "options.h"
#include "report.h"

/* Both return the exit code as traffic_run does. */
int connections_connect(const struct options *o, struct report *report);
int connections_idle(const struct options *o, struct report *report);

#endif
