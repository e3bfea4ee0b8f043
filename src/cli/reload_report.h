/* reload_report: what came of reading the settings again, for the log and for the operator who asked. */
#ifndef CARILLON_CLI_RELOAD_REPORT_H
#define CARILLON_CLI_RELOAD_REPORT_H

#include "../base/buf.h"

/* Names of settings (problems: sentences) as JSON strings with commas between them. A zeroed report is an empty one. */
struct reload_report {
    struct buf applied;       /* changed, and in effect now */
    struct buf needs_restart; /* changed, but read at the start only */
    struct buf problems;      /* nothing was taken over: why */
};

void reload_report_add(struct buf *list, const char *text);
/* reload_report_json appends {"applied":[…],"needs_restart":[…],"problems":[…]}. */
void reload_report_json(struct buf *out, const struct reload_report *r);
void reload_report_free(struct reload_report *r);

#endif
