/* fanout: from a room's newly durable events to the send queues of its subscribers.
 *
 * At the room's home, all events of one room that became durable in one turn are encoded once into one frame, a run;
 * one mail carries it to each core with subscribers; there every subscription that stands at the run's first seq gets
 * one reference. N messages for one socket in one turn are one queue entry and one send.
 *
 * A send costs about 4 µs, so a turn sends to FANOUT_SLICE subscribers, of which each room with news gets its share,
 * FANOUT_ROOM_SLICE at most or one part in FANOUT_ROOM_PART, and the others come in the next turns: meanwhile the core
 * receives and commits. A turn that has handled many completions sends to one for FANOUT_SLICE_PART of them, so that
 * who speaks does not keep others from hearing. The walk over a room's subscribers goes round and round: runs that come
 * while it is under way queue up behind it (`runs`), and each subscriber it comes to gets all that it has not got, in
 * one send. A run is through when the walk has come round once since it came. So the more is said, the fewer sends
 * carry it. At FANOUT_RUNS_MAX runs, or half as many that have FANOUT_RUNS_BYTES, the home keeps the room's news until
 * one is through: they become one run, and who publishes as fast as the first reader gets it goes as fast as the last.
 * The same holds for walks on other cores, which say how far they have come (far_walk.h).
 *
 * A subscription is either live (`next_seq` is the next run's first seq) or held (`next_seq` = SUB_HELD: it replays the
 * log; live runs only raise the room's `seen_head`, and the replay ends when it reaches that). So nothing is buffered
 * for a subscription that is behind, and nothing falls between replay and live. A socket whose queue is at its cap when
 * a run comes is held from that run on: it catches up from the log at its own speed. `seen_head` counts the runs that
 * are being walked, so whoever goes live in the middle of a walk stands behind them. */
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
    struct queue runs;   /* frame_core.parked of this core: not given to all yet, the oldest first */
    struct list walking; /* in core->rooms_walking while there are some */
    size_t runs_bytes;   /* of those frames */
    uint64_t walked;     /* subscribers that walks have come to, counted for frame_core.walk_end */
    uint32_t walk_at;    /* the one that is next */
    bool tells_home;     /* how far the walks have come, which is on another core (far_walk.h) */
    uint64_t through_weight, told_weight; /* … that is so far, and what it was told */
    struct list watches; /* struct watch.of_room: sockets that asked for presence and typing */
    bool large;          /* … which go to them alone; until the home has said so it counts as large */
};

/* --- at the home ------------------------------------------------------------------------------------------------ */

/* fanout_publish sends a room's newly durable events; fanout_publish_dirty those of all rooms that have some. Of rooms
 * whose news have to wait there may be thousands, so it looks at none of them (core->rooms_held) until
 * fanout_look_again: a run is through, here or on another core. */
void fanout_publish(struct core *core, struct room *r);
bool fanout_publish_dirty(struct core *core);
void fanout_look_again(struct core *core, struct room *r);
/* fanout_takes_news: false while so much waits to be published that nothing more is to become news; what is durable
 * stays in the pipeline meanwhile, and counts there. */
bool fanout_takes_news(const struct core *core);

/* --- at a core with subscribers ---------------------------------------------------------------------------------- */

/* fanout_local gives a run to the walk over the room's subscribers here; takes over this core's hold on the frame. */
void fanout_local(struct core *core, struct frame *f);
/* fanout_walk goes on with the walks and comes to at most `max` subscribers; false when there are none. */
bool fanout_walk(struct core *core, uint32_t max);
/* fanout_walking: a walk is under way. */
static inline bool fanout_walking(const struct core *core) { return !list_empty(&core->rooms_walking); }
/* fanout_overtake gives a subscription now what the walk would bring it: before something that must come behind
 * that. */
void fanout_overtake(struct core *core, struct sub *sub);
/* fanout_end drops what is being walked: the core ends. */
void fanout_end(struct core *core);

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
