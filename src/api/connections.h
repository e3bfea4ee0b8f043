/* connections: who is connected, for the operator: listed page by page, and closed.
 *
 * One op goes from core to core, and on each looks through the connections there in the order of their slots. A
 * connection's id names core, slot and generation, mixed with a mask that is new at every start: an id of an earlier
 * run, or of a connection that has gone, names nobody. Both looks are as long as the core's table of connections, which
 * is walked in one go: some milliseconds for a hundred thousand of them. */
#ifndef CARILLON_API_CONNECTIONS_H
#define CARILLON_API_CONNECTIONS_H

#include "../core/op.h"

/* connections_on_op looks through this core's connections for an OP_CONNECTION_LIST or OP_CONNECTION_KICK. */
void connections_on_op(struct core *core, struct op *op);

#endif
