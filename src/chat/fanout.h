/* fanout: from a room's newly durable events to the send queues of its subscribers.
 *
 * At the room's home, all events of one room that became durable in one turn are encoded once into one frame, a run;
 * one mail carries it to each core with subscribers; there every subscription that stands at the run's first seq gets
 * one reference. N messages for one socket in one turn are one queue entry and one send.
 *
 * A subscription is either live (`next_seq` is the next run's first seq) or held (`next_seq` = SUB_HELD: it replays the
 * log; live runs only raise the room's `seen_head`, and the replay ends when it reaches that). So nothing is buffered for
 * a subscription that is behind, and nothing falls between replay and live. A socket whose queue is at its cap when a run
 * comes is held from that run on: it catches up from the log at its own speed. */
#ifndef CARILLON_CHAT_FANOUT_H
#define CARILLON_CHAT_FANOUT_H

#include "../../net/net.h"
#include "../core/core.h"

struct notice;
struct room;
struct session;
struct sub;

#define SUB_HELD UINT64_MAX

/* local_sub: what the walk over a room's subscribers touches: 24 bytes each, side by side. */
struct local_sub {
    struct conn *conn;
    struct sub *sub;
    uint64_t next_seq; /* or SUB_HELD */
};

/* local_room: a room as seen by a core with subscribers of it. */
struct local_room {
    uint32_t tenant;
    uint64_t number;
    uint64_t seen_head; /* highest durable seq this core was told of */
    uint32_t pending;   /* subscriptions that are being asked for: the home must go on sending */
    uint32_t num_subs, cap_subs;
    struct local_sub *subs;
    struct list watches; /* struct watch.of_room: sockets that asked for presence and typing */
    bool large;          /* … which go to them alone; until the home has said so it counts as large */
};

/* --- at the home ------------------------------------------------------------------------------------------------ */

/* fanout_publish sends a room's newly durable events; fanout_publish_dirty those of all rooms that have some. */
void fanout_publish(struct core *core, struct room *r);
bool fanout_publish_dirty(struct core *core);

/* --- at a core with subscribers ------------------------------------------------------------------------------------ */

/* fanout_local walks the room's subscribers here; takes over this core's hold on the frame. */
void fanout_local(struct core *core, struct frame *f);

struct local_room *local_room_find(const struct core *core, uint32_t tenant, uint64_t number);
struct local_room *local_room_get(struct core *core, uint32_t tenant, uint64_t number);
/* local_room_add enters a subscription, held; sub keeps its index. */
void local_room_add(struct local_room *l, struct conn *conn, struct sub *sub);
void local_room_remove(struct core *core, struct local_room *l, struct sub *sub);
/* local_room_release tells the home when nobody here needs the room any more, and frees it. */
void local_room_release(struct core *core, struct local_room *l);
/* fanout_on_notice: the room has become large, or is no longer. */
void fanout_on_notice(struct core *core, struct notice *n);

#endif
