/* far_walk: how far other cores have come with a large room's runs, so that its home keeps the room's news back for
 * the slowest of them as it does for itself (fanout.h).
 *
 * Each run has a weight, so that runs which are few and long and runs which are many and short fill the same window of
 * FANOUT_RUNS_BYTES. The home adds the weights up (`room.sent_weight`) and each
 * run carries the sum to the far core. A core that does not get through a room in one turn tells the home up to which
 * sum it has come: first when it begins to, then whenever another half window is through, so a room that says little
 * costs next to nothing. Sums are absolute: none is lost count of when a core comes, goes or tells late. Of a room with
 * few subscribers, where no runs gather, a core tells nothing.
 *
 * The home's part is owned by the room's home core, the other by each core with subscribers. */
#ifndef CARILLON_CHAT_FAR_WALK_H
#define CARILLON_CHAT_FAR_WALK_H

#include <stdbool.h>
#include <stdint.h>

struct core;
struct frame;
struct local_room;
struct notice;
struct room;

/* --- at the home ------------------------------------------------------------------------------------------------ */

/* far_walk_sent weighs a run of `len` bytes that is about to go out. */
void far_walk_sent(const struct core *core, struct room *r, uint32_t len);
/* far_walk_behind: some core has a window of the room's runs and more before it. */
bool far_walk_behind(const struct room *r);
/* far_walk_on_notice takes NOTICE_ROOM_WALKED; what it says of a room that this core no longer has is old. */
void far_walk_on_notice(struct core *core, struct notice *n);
/* far_walk_left: the core has no subscribers any more. */
void far_walk_left(struct room *r, unsigned core);
void far_walk_free(struct room *r);

/* --- at a core with subscribers ---------------------------------------------------------------------------------- */

/* far_walk_begun: a run has come that a turn does not bring to all, or that stands behind others. */
void far_walk_begun(struct core *core, struct local_room *l);
/* far_walk_through: this run has been given to all. */
void far_walk_through(struct core *core, struct local_room *l, struct frame *f);

#endif
