/* rest: the scenario of plain HTTP requests on kept-alive connections, one under way on each. */
#ifndef CARILLON_TOOLS_LOAD_REST_H
#define CARILLON_TOOLS_LOAD_REST_H

#include "options.h"
#include "report.h"

/* rest_run returns the exit code as traffic_run does; answers of 4xx and 5xx count as failures. */
int rest_run(const struct options *o, struct report *report);

#endif
