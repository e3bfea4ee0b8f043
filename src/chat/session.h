/* session: an authenticated WebSocket on its core: who it is, what it is subscribed to, what it still replays.
 *
 * A subscription is asked for at the room's home, which checks membership and pins the live position in the same ring
 * as the runs. It starts held; when it is started it either goes live at once or replays the log, at the socket's own
 * speed, until it reaches what this core has seen live (replay.h, fanout.h). */
#ifndef CARILLON_CHAT_SESSION_H
#define CARILLON_CHAT_SESSION_H

#include "../auth/directory.h"
#include "../core/core.h"
#include "../core/notice.h"
#include "fanout.h"

/* known_user: a user who acts on this core; number and id never change, so knowing them never goes stale. */
struct known_user {
    uint32_t tenant;
    uint64_t number, hash;
    struct list sessions; /* struct session.of_user */
    struct list idle;     /* in core->known_idle while there is no session */
    uint16_t id_len;
    char id[];
};

static inline struct slice known_user_id(const struct known_user *u) { return slice_of(u->id, u->id_len); }
struct known_user *known_user_find(const struct core *core, uint32_t tenant, struct slice id);
struct known_user *known_user_add(struct core *core, uint32_t tenant, struct slice id, uint64_t number);

enum session_state {
    SESSION_HELLO,   /* waits for hello until `deadline_ns` */
    SESSION_OPENING, /* rooms are being subscribed */
    SESSION_OPEN,
};

enum sub_state {
    SUB_NEW,    /* subscribed at the home, held, not started */
    SUB_REPLAY, /* has a struct replaying in session_aside.replays */
    SUB_LIVE,
};

struct sub {
    struct session *session;
    struct local_room *room;
    struct sub *next;   /* of the session */
    uint64_t replay_next;
    uint64_t changed_seq; /* the newest join or leave heard of: an older one changes nothing */
    uint32_t index;     /* in room->subs */
    uint8_t state;      /* enum sub_state */
    bool left;          /* changed_seq is a leave, which ends it once the replay has got there */
    bool quiet;         /* presence.unsubscribe: no presence and typing of this room */
};
_Static_assert(sizeof(struct sub) == 48, "of an idle socket's user space, for each room");
/* sub_ends: the replay is through with what was to be seen before a leave. */
static inline bool sub_ends(const struct sub *sub) { return sub->left && sub->replay_next > sub->changed_seq; }

/* replaying: a subscription's turn among those of its session that replay; lent while it does (replay.c). */
struct replaying {
    struct list of_session; /* session_aside.replays */
    struct sub *sub;
};

/* watch: a socket that asked for presence and typing of a room, subscribed to it or not (presence.c). */
struct watch {
    struct session *session;
    struct local_room *room;
    struct list of_room, of_session;
};

/* session_aside: what a session needs while it opens, replays, watches or has many rooms; lent for as long as it
 * does. */
struct session_aside {
    struct session *session;
    struct list waiting;   /* in core->hello_waiting; later in one of the lists of replay.h */
    struct list replays;   /* struct replaying.of_session */
    struct list watches;   /* struct watch.of_session */
    struct map *index;     /* subs by room, once there are more than a look along the list is worth; else NULL */
    uint64_t deadline_ns;  /* of hello */
    uint32_t num_watches;
};

struct session {
    struct conn *conn;
    struct known_user *user;
    struct api_key *key;
    struct sub *subs;
    struct session_aside *aside; /* NULL: nothing of it is needed now */
    struct list of_user;   /* known_user.sessions */
    uint64_t id;
    uint64_t told;         /* serial of the last presence or typing push: none comes twice */
    char *device;          /* device_len bytes; NULL: the user's own */
    uint16_t num_subs;
    uint16_t refusals, misuses; /* since window_s: operations beyond a rate; messages in a row that are no operation */
    uint16_t window_s;     /* second, the lower bits of it */
    uint8_t state;         /* enum session_state */
    bool all;              /* rooms joined later are subscribed too */
    bool subprotocol;      /* carillon.v1.json: begins with hello */
    bool registered;       /* the user's home was told to count this socket (user.h), and is told of its end */
    bool replay_open;      /* waits for a page */
    bool typed;            /* has said typing.start */
    bool pushes_wait : 1;  /* notifications for which it had no room: their home is told when it has */
    bool passed_over : 1;  /* by the push of notifications that goes on now (websocket_provider.c) */
    uint8_t device_len;
};
_Static_assert(sizeof(struct session) == 96, "of an idle socket's user space");
_Static_assert(SUBSCRIPTIONS_MAX <= UINT16_MAX, "session.num_subs");

/* session_aside lends what the session has not got yet. session_tidy takes it back when nothing of it is in use. */
struct session_aside *session_aside(struct session *s);
void session_tidy(struct session *s);
/* session_replays: is any of its subscriptions replaying? */
bool session_replays(const struct session *s);

/* session_open makes the session of a connection that has just become a WebSocket. */
struct session *session_open(struct core *core, struct conn *conn, struct known_user *user, struct api_key *key,
                             bool subprotocol, struct slice device);
/* session_set_device names the device; an empty name leaves it as it is. */
void session_set_device(struct session *s, struct slice device);
/* session_begin opens it: subscribes to its rooms. `hello` is the op that is answered by welcome, with op->flow holding
 * a struct session_wish, or NULL for a socket that is served at once. */
struct session_wish;
void session_begin(struct core *core, struct session *s, struct op *hello, struct session_wish *wish);
/* session_welcome_again answers a hello on a socket that is being served already; `op` is an OP_USER_ROOMS. */
void session_welcome_again(struct core *core, struct session *s, struct op *op);
/* session_on: the session of a connection, or NULL when it is gone. */
struct session *session_on(struct core *core, struct conn_ref ref);
struct sub *session_sub(struct session *s, uint64_t room);
void session_unsubscribe(struct core *core, struct sub *sub);

/* session_subscribe asks the room's home; `op` is an OP_ROOM_POSITION whose `then` calls session_subscribed first. */
void session_subscribe(struct core *core, struct session *s, struct op *op);
/* session_subscribed enters the subscription, held, or finds the one that is there and leaves it alone; NULL when it
 * was refused or the socket is gone (op says which). */
struct sub *session_subscribed(struct core *core, struct op *op);
/* session_rewind holds a subscription again, to be started from seq `from`: somebody has wished for that since. A live
 * one that a walk has not come to yet is started from what that would have brought it. Returns where it is to be
 * started. */
uint64_t session_rewind(struct sub *sub, uint64_t from);
/* session_start lets a new subscription run: replay first when it is behind (replay.h). */
void session_start(struct core *core, struct sub *sub);
/* sub_go_live: it has got all that this core has been told of. */
void sub_go_live(struct sub *sub);
/* op_not_in_room: refused because the user is not, or no longer, in the room. Any other refusal says nothing about the
 * membership: a room must never be left out of an answer for it. */
static inline bool op_not_in_room(const struct op *op)
{
    return op->error.code == ERR_ROOM_NOT_FOUND || op->error.code == ERR_ROOM_NOT_MEMBER;
}
/* session_resumed tells the client where a room's replay begins. */
void session_resumed(struct core *core, struct session *s, const struct room_position *p);

/* session_catch_up holds a live subscription whose socket's queue is at its cap: it is behind from `from` on, and goes
 * on when the socket has drained. A socket that takes nothing at all for STALL_TIMEOUT_MS is closed by net (4200). */
void session_catch_up(struct core *core, struct sub *sub, uint64_t from);
void session_timers(struct core *core);
void session_on_notice(struct core *core, struct notice *n);
/* session_revoke closes the sockets of a revoked key or a tenant that is no longer active. */
void session_revoke(struct core *core, const struct api_key *key, const struct tenant *tenant);
/* session_drain_tell tells every socket when to come back. Connections are still taken, so that /ready can say what is
 * going on; upgrades and what would begin anything new are refused. session_drain_close closes the sockets that wait
 * for no answer; it is called again while anything is left. */
void session_drain_tell(struct core *core);
void session_drain_close(struct core *core);
void session_on_drain(void *context, struct conn *c);
void session_on_closed(void *context, struct conn *c);
void sessions_free(struct core *core);

/* session_wish: what hello asks for; one allocation, freed by session_begin. */
struct wish_room {
    uint64_t room, epoch, seq;
    bool resume;
};

/* wish_order sorts wishes by room; session_begin takes them sorted, each room once. */
int wish_order(const void *a, const void *b);

enum wish_mode { WISH_ALL, WISH_LIST, WISH_NONE };

struct session_wish {
    enum wish_mode mode;
    uint32_t num_rooms;
    struct wish_room rooms[];
};

#endif
