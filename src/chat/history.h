/* history: reading a room's log back, on reader threads. Every read carries the room's durable head and returns nothing
 * above it: what is written but not synced is not there yet. */
#ifndef CARILLON_CHAT_HISTORY_H
#define CARILLON_CHAT_HISTORY_H

#include "../../storage/kv.h"
#include "../core/core.h"
#include "../core/op.h"
#include "event.h"

/* history_page reads the page that op->in.history asks for, between the seqs `first` and `head`, and brings the op back
 * to its origin. op->out becomes `"items":[…],"next":…` (without braces), or the one message's object. */
void history_page(struct core *core, struct op *op, uint64_t first, uint64_t head);

enum history_format {
    HISTORY_JSON,   /* push objects, separated by commas */
    HISTORY_FRAMES, /* the same as WebSocket text frames, one behind the other */
};

/* history_read appends events `from` … `to` to `out`, at most `events_max` and, once one is in, `bytes_max` bytes.
 * *num is how many; the events are from, from+1, … A missing or foreign row is STATUS_CORRUPT. */
MUST_USE enum status history_read(struct buf *out, uint32_t *num, struct kv *kv, enum history_format format,
                                  uint32_t tenant, uint64_t room, uint64_t from, uint64_t to, uint32_t events_max,
                                  size_t bytes_max);

#endif
