/* reload: what came of reading the settings again while the gateway runs. */
#ifndef CARILLON_CORE_RELOAD_H
#define CARILLON_CORE_RELOAD_H

#include <stdbool.h>

#include "../base/buf.h"

/* Lists of lines, each "section.key: old -> new\n" (secrets as ********), or one sentence in `problems`. A zeroed
 * struct is empty. With problems nothing has changed. */
struct reload_report {
    struct buf applied;                 /* in effect now */
    struct buf unchanged_needs_restart; /* differ, and take effect at the next start */
    struct buf problems;
};

static inline bool reload_good(const struct reload_report *r) { return r->problems.len == 0; }

/* reload_report_json appends {"applied":[…],"needs_restart":[…],"problems":[…]}, each line a string. */
void reload_report_json(struct buf *out, const struct reload_report *report);

static inline void reload_report_free(struct reload_report *r)
{
    buf_free(&r->applied);
    buf_free(&r->unchanged_needs_restart);
    buf_free(&r->problems);
}

#endif
