/* presence: who is online, and telling it to those who share a room with them. Typing goes out the same way.
 *
 * A user's home decides (user_presence.c): online with the first socket, offline PRESENCE_GRACE_MS after the last. It
 * tells every core in one notice, with the rooms that the user is in. So each core knows who is online on the whole
 * server, and tells its own sockets: it walks the user's rooms that have listeners here, and gives each socket one
 * reference to one frame, however many rooms they share.
 *
 * Who listens: in a room of at most limits.presence_room_members members every socket that is subscribed to it, unless
 * it asked for quiet; in a larger one only sockets that asked (a watch). A watch needs no subscription.
 *
 * A change waits in core->presence_changes, one for each user: what it says is looked up when it is told, so a user who
 * comes and goes meanwhile is told of once. A turn tells until PRESENCE_SLICE or PRESENCE_SENDS is reached, then pauses
 * four times as long as that takes: a storm of thousands who come back at once is worked off beside the messages, not
 * before them. Bound: PRESENCE_BYTES_MAX for all that wait; what does not fit is dropped and counted.
 *
 * It stops between rooms, never within one: all changes of a room's storm go to the same sockets, and each
 * socket gets what a turn has for it in one send. So a turn goes over by one room of new sockets at most: 60 ms for
 * 10,000 of them. */
#ifndef CARILLON_CHAT_PRESENCE_H
#define CARILLON_CHAT_PRESENCE_H

#include "../core/core.h"

struct local_room;
struct notice;
struct session;

/* presence_on_notice takes over what a user's home, or a room's home about somebody who types, has told. */
void presence_on_notice(struct core *core, struct notice *n);
/* presence_flush tells what waits, once a turn. presence_wake_at: when it is due again, UINT64_MAX when nothing
 * waits. */
void presence_flush(struct core *core);
uint64_t presence_wake_at(const struct core *core);
/* presence_goes_on: may a turn that has looked at so many sockets tell one more change? Its last one began when
 * `sends_before` sockets had something to send, and now `sends` have. presence_pause_ns: how long the telling then
 * rests. Both are pure. */
bool presence_goes_on(uint32_t looked, uint32_t sends_before, uint32_t sends, uint32_t sends_max);
uint64_t presence_pause_ns(uint32_t looked, uint32_t sends);

bool presence_online(const struct core *core, uint64_t user);
/* presence_object appends {"user_id","status","last_seen"}. `last_seen` is null for who is online, and for who was not
 * seen since the start or so long ago that PRESENCE_REMEMBERED_MAX others left since. */
void presence_object(struct buf *out, const struct core *core, uint64_t user, struct slice user_id);
/* presence_page writes `"items":[…],"next":…` of the members that an OP_ROOM_PRESENCE brought: of those online alone,
 * or of all. It ends early at `bytes_max`; `next` is the cursor behind the last one that it looked at. */
void presence_page(struct buf *out, const struct core *core, const struct op *op, bool online_only, size_t bytes_max);

/* presence_watch: this socket has asked for the room; false when it watches SUBSCRIPTIONS_MAX rooms already. */
MUST_USE bool presence_watch(struct core *core, struct session *s, struct local_room *l);
/* presence_unwatch ends it, and makes the socket's subscription quiet if it has one; false when there is neither. */
MUST_USE bool presence_unwatch(struct core *core, struct session *s, uint64_t room);
/* presence_ended: the socket may not, or need not, hear of the room any more. */
void presence_ended(struct core *core, struct session *s, uint64_t room);
/* presence_session_ended drops all watches of a socket that goes. */
void presence_session_ended(struct core *core, struct session *s);
void presence_free(struct core *core);

#endif
