#include "spsc.h"

#include <stdlib.h>

enum status spsc_init(struct spsc *q, uint32_t cells)
{
    ASSERT(cells >= 2 && (cells & (cells - 1)) == 0);
    memset(q, 0, sizeof *q);
    q->cells = aligned_alloc(CACHE_LINE, cells * sizeof(struct spsc_cell));
    if (!q->cells) return STATUS_NO_MEMORY;
    memset(q->cells, 0, cells * sizeof(struct spsc_cell));
    q->mask = cells - 1;
    return STATUS_OK;
}

void spsc_free(struct spsc *q)
{
    free(q->cells);
    q->cells = NULL;
}
