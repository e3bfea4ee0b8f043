/* actions: the log of who did what to whom (log.actions): the operator's acts always, those that change rooms and
 * members when the setting says `changes`, messages too when it says `all`. One line an act, with its outcome.
 *
 * A route that only the operator may call and that changes something is an act without further words; the table in
 * actions.c names the others, and gives the operator's a name of their own. */
#ifndef CARILLON_API_ACTIONS_H
#define CARILLON_API_ACTIONS_H

#include "api.h"

/* action_answered: a REST call was answered, at once or by an op (`op`, else NULL). */
void action_answered(struct core *core, struct conn *conn, uint16_t route, uint64_t request_id, unsigned status,
                     enum error_code code, const struct op *op);
/* action_sent: a message came by WebSocket and was answered. */
void action_sent(struct core *core, const struct op *op);

#endif
