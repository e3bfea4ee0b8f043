/* used_tickets: which tickets (ticket.h) were used, at their users' homes, so that each opens one socket. A ticket
 * lives TICKET_LIFE_MS from being given out, so its nonce can be forgotten that long after its use, and never before
 * the ticket has ended. Bound: TICKETS_USED_MAX; beyond it a ticket is refused for now, and stays good.
 *
 * Owner: one core. */
#ifndef CARILLON_AUTH_USED_TICKETS_H
#define CARILLON_AUTH_USED_TICKETS_H

#include "../base/list.h"
#include "../base/map.h"
#include "../base/status.h"
#include "ticket.h"

struct used_tickets {
    struct map _by_nonce;
    struct list _by_age;
};

void used_tickets_init(struct used_tickets *u);
void used_tickets_free(struct used_tickets *u);
/* used_tickets_add uses a ticket: STATUS_OK the first time, STATUS_EXISTS again, STATUS_INVALID once it has ended,
 * STATUS_FULL when TICKETS_USED_MAX are remembered: it is not used up then. */
MUST_USE enum status used_tickets_add(struct used_tickets *u, uint64_t now_ns, uint64_t expires_ns,
                                      const uint8_t nonce[TICKET_NONCE_BYTES]);

/* used_tickets_on_op: OP_TICKET_USE at the user's home. */
void used_tickets_on_op(struct core *core, struct op *op);

#endif
