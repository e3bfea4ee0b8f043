/* replay: feeds subscriptions that are behind, until they have reached what this core has been told of and go live.
 *
 * What is missing comes from the tail (tail.h), at once; else a reader thread reads one page, which then is in the tail
 * for all who wait for it: many who are behind alike cost one read. Each socket goes at its own speed: it gets the next
 * part when no more than REPLAY_BATCH_BYTES wait for it. Its rooms take turns, so that a room which is faster than the
 * socket does not keep the others from it. A core gives REPLAY_TURN_BYTES a turn to those who are behind, in turns; the
 * live ones have the rest.
 *
 *   replay_begin ─▶ replays_ready ─▶ in the tail? ─▶ sent ─▶ more? its queue drains (replay_go_on) or the next turn
 *                                    └▶ page_read, with all who want it ─▶ in the tail
 *                                       └▶ no memory for it: replays_waiting, tried again each REPLAYS_RETRY_MS
 *
 * A session stands in one of these lists at most (session_aside.waiting). A part is sent when the subscription stands
 * at its first seq, and ends at the leave that ends the subscription; what has changed while a page was read is seen
 * then.
 *
 * Classes: runs are durable pushes, as they were when they went out live, within limits.send_queue. Pages count as
 * answers of their tenant, so that those who resume and do not read are held back with their own tenant; a page that
 * several have is counted for each.
 *
 * Owner: the socket's core. */
#ifndef CARILLON_CHAT_REPLAY_H
#define CARILLON_CHAT_REPLAY_H

#include "session.h"

/* replay_begin: a held subscription is to be fed from seq `from` on, which this core has been told of. Nothing is sent
 * before replays_run, so it may be called in the middle of a walk over subscriptions. */
void replay_begin(struct core *core, struct sub *sub, uint64_t from);
/* replay_end takes a subscription out of those that replay, if it is one; its state is the caller's to set. */
void replay_end(struct sub *sub);
/* replay_go_on: the session's socket has room again. */
void replay_go_on(struct core *core, struct session *s);
/* replays_run is called once a turn, after what became durable went to the live ones. */
void replays_run(struct core *core);

#endif
