/* stop: SIGINT and SIGTERM ask a run to end early, with its report and its record whole. */
#ifndef CARILLON_TOOLS_LOAD_STOP_H
#define CARILLON_TOOLS_LOAD_STOP_H

#include <stdbool.h>

void stop_install(void);
bool stop_asked(void);

#endif
