/* traffic: the scenarios in which people talk (fanout, chat, durable): connects everyone, sends for the measured time,
 * watches order and completeness of what arrives, and fills the report. */
#ifndef CARILLON_TOOLS_LOAD_TRAFFIC_H
#define CARILLON_TOOLS_LOAD_TRAFFIC_H

#include "options.h"
#include "report.h"

/* traffic_run returns the exit code: 0, 1 when a promise was broken or the gateway was lost, 2 for limits of ours. */
int traffic_run(const struct options *o, struct report *report);

#endif
