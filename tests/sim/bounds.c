#include "bounds.h"

#include <inttypes.h>

#include "../../src/core/core.h"
#include "counts.h"
#include "world.h"

/* or_default: gateway_cells has 0 for what limits.h says. */
static uint32_t or_default(uint32_t cells, uint32_t default_cells) { return cells ? cells : default_cells; }

static void check_mailboxes(const struct core *core)
{
    uint32_t cells = or_default(core->gateway->cells.mailbox, MAILBOX_CELLS);
    for (unsigned to = 0; to < core->num_cores; to++) {
        if (to == core->id) continue;
        const struct outbox *o = &core->out[to];
        CHECK(spsc_depth(o->ring) <= cells, "core %u has %u cells in a mailbox of %u", core->id, spsc_depth(o->ring),
              cells);
        if (o->parked.len) count_happened(COUNT_MAILBOX_PARKED);
    }
}

void bounds_check(const struct core *core)
{
    const struct gateway_cells *cells = &core->gateway->cells;
    size_t pending = commit_pending(core->commit), pending_max = or_default(cells->commit_pending, COMMIT_PENDING_MAX);
    CHECK(pending <= pending_max, "core %u has %zu entries that are not durable, of %zu", core->id, pending, pending_max);
    if (pending == pending_max) count_happened(COUNT_COMMITS_FULL);
    if (pending > or_default(cells->commit, COMMIT_RING_CELLS)) count_happened(COUNT_COMMITS_PARKED);
    if (read_waiting(core->reader) > or_default(cells->read, READ_RING_CELLS)) count_happened(COUNT_READS_PARKED);
    CHECK(core->pending_bytes == 0 || pending > 0, "core %u counts %zu bytes of no entry", core->id, core->pending_bytes);
    CHECK(core->pending_bytes <= COMMIT_PENDING_BYTES_MAX, "core %u has %zu bytes that are not durable", core->id,
          core->pending_bytes);
    check_mailboxes(core);
    bounds_check_net(core->net);
}
