/* user: a user at its home core: its number, the rooms it is in, its cursors, which cores hold its sockets.
 *
 * A cursor is a high-water mark for each (device, room), with the user's own (device "") beside it. Only a client's ack
 * moves it. A moved cursor is written within CURSOR_FLUSH_MS, or at once when the ack wants an answer, which then says
 * that it is in the WAL: a killed process does not take it back. Losing one means a redelivery, never a loss.
 *
 * Whether the user is online follows from the sockets that are counted here; presence.h tells what becomes of it.
 *
 * A socket is counted from the arrival of its OP_USER_ROOMS with `session` to that of its NOTICE_SOCKET_CLOSED, no
 * matter what is known of the user by then, whether the op is answered, waits, or fails. The socket's core sends the
 * one when the session begins (session_begin) and the other when it ends (session_free), once each and through the same
 * mailbox, so they arrive in that order. A user with a counted socket is never dropped from the table. So the count of
 * a core here is the number of its sessions that have begun, less what is on its way, and a close always finds its
 * socket: that is asserted. */
#ifndef CARILLON_CHAT_USER_H
#define CARILLON_CHAT_USER_H

#include "../core/core.h"
#include "../core/op.h"

struct notice;

/* user_num_sockets: how many sockets of this user, who is at home here, `of_core` has told of. */
uint32_t user_num_sockets(const struct core *core, uint32_t tenant, struct slice id, unsigned of_core);
/* user_sockets: how many on all cores. */
uint32_t user_sockets(const struct core *core, uint32_t tenant, struct slice id);
/* user_socket_cores: a bit for each core that holds sockets of this user, who is at home here. */
uint64_t user_socket_cores(const struct core *core, uint32_t tenant, struct slice id);
void user_on_op(struct core *core, struct op *op);
void user_on_notice(struct core *core, struct notice *n);
/* user_cursors_flush writes moved cursors when they are due: once a turn. */
void user_cursors_flush(struct core *core);
/* user_presence_timers tells that users are offline whose last socket is gone for PRESENCE_GRACE_MS: once a turn.
 * user_presence_wake_at: when the next one is due, UINT64_MAX when nobody is. */
void user_presence_timers(struct core *core);
uint64_t user_presence_wake_at(const struct core *core);
/* user_full_again looks once more at joins of users who were in too many rooms, when they are due: once a turn.
 * user_full_again_ns says when the next is; core->full_again is not empty. */
void user_full_again(struct core *core);
uint64_t user_full_again_ns(const struct core *core);
void users_free(struct core *core);

#endif
