/* pages: long answers while they are made, and the memory that they may take until their readers' queues count them.
 *
 * A page of history is read by another thread, and may wait for its core behind hundreds of others: a client that asks
 * faster than the core answers would have as many in memory as it has requests under way. So a page is begun when what
 * it may hold at most fits into pages_bytes_max of the core that asked, and until then its op waits, in order, without
 * a page. A reader makes one page at a time, so that few under way at once are as fast as many.
 *
 *   request ─▶ pages_go ─▶ reserved, or waits ─▶ go: the homes, the readers ─▶ then: the answer is queued
 *              └▶ refused: 503 server.overloaded                              ─▶ op_free gives back
 *
 * Bounds: pages_bytes_max for the pages that are asked for, and as much for replays, so that neither waits for the
 * other (each half of core_bytes_max of PAGES_BYTES_MAX; one page of any length when there is no other);
 * pages_waiting_max ops that wait, of which a tenant may have as many as are free.
 *
 * Replays reserve by themselves, and wait with their sockets (chat/session.c).
 *
 * Owner: the core on which the ops were made. */
#ifndef CARILLON_API_PAGES_H
#define CARILLON_API_PAGES_H

#include "../core/core.h"

/* pages_item_bytes: the longest event or message as JSON, and what a buffer has grown beyond its content. */
size_t pages_item_bytes(const struct core *core);
/* pages_bound: what a page of at most `limit` items holds that ends with the item by which it passes `bytes_max`. */
size_t pages_bound(const struct core *core, uint64_t limit, size_t bytes_max);

/* pages_go runs go(core, op) as soon as `bytes` of memory are there for its answer, which op_free gives back. When too
 * many wait already, or the op's tenant or the process may not have more by then, the op fails with server.overloaded
 * and its `then` runs. Either may happen before this returns. */
void pages_go(struct core *core, struct op *op, size_t bytes, void (*go)(struct core *core, struct op *op));
/* pages_poll lets those go on that fit by now: once a turn, while some wait. */
void pages_poll(struct core *core);
/* pages_end refuses those that wait when the core ends; its connections are still there. */
void pages_end(struct core *core);

/* pages_reserve is false when `bytes` do not fit now; else pages_release has to follow. */
bool pages_reserve(struct core *core, enum pages_kind kind, size_t bytes);
void pages_release(struct core *core, enum pages_kind kind, size_t bytes);

#endif
