/* status: GET /admin/status as text for people: once, or compared with an earlier look (top). */
#ifndef CARILLON_TOOLS_CTL_STATUS_H
#define CARILLON_TOOLS_CTL_STATUS_H

#include <stdio.h>

#include "../../src/base/json.h"

/* status_print writes the figures of one look. With `before`, one `elapsed_ms` earlier, what counts up is shown by the
 * second, and percentiles are of what came between; without, all is since the start. `before` may be NULL. */
void status_print(FILE *out, struct json_node now, const struct json_node *before, uint64_t elapsed_ms);

#endif
