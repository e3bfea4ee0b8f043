/* user_state: a user at its home core, as the modules of user.h share it. user.c finds, creates and drops users and
 * takes what is sent to them; user_rooms.c has the rooms they are in, with the cursors; user_cursors.c moves cursors
 * and writes them; user_presence.c says when they come and go. All of it belongs to the core that is the user's
 * home. */
#ifndef CARILLON_CHAT_USER_STATE_H
#define CARILLON_CHAT_USER_STATE_H

#include "user.h"

enum user_state {
    USER_LOOKING,  /* a reader looks for the name; ops wait */
    USER_ABSENT,   /* looked for and not there, or not readable; its ops are being answered, the first may create it */
    USER_UNKNOWN,  /* absent with sockets: their cores have yet to close them; the next op looks again */
    USER_CREATING, /* its rows are on their way to the disk; ops wait */
    USER_READY,    /* number known */
};

enum rooms_state { ROOMS_UNKNOWN, ROOMS_LOADING, ROOMS_LOADED };

enum presence {
    PRESENCE_OFFLINE,
    PRESENCE_COMING,  /* has a socket; told when the rooms are loaded */
    PRESENCE_ONLINE,  /* told */
    PRESENCE_LEAVING, /* told, and without a socket until `leave_ns` */
};

struct user_room {
    uint64_t room, joined_seq;
    uint64_t delivered, read; /* the user's own cursor */
    bool dirty;
};

/* device_room: one device's cursor in one room; only for devices that named themselves. */
struct device_room {
    uint64_t room, delivered, read;
    bool dirty;
    uint8_t device_len;
    char device[DEVICE_BYTES_MAX];
};

struct user {
    uint32_t tenant;
    uint64_t number, created_ms;
    uint8_t state;       /* enum user_state */
    uint8_t rooms_state; /* enum rooms_state */
    bool rooms_stale;    /* loading: a room was left meanwhile, what is read may still list it */
    uint8_t presence;    /* enum presence */
    bool typed;          /* since the first socket, on any that is gone */
    struct queue waiting, rooms_waiting;
    struct user_room *rooms;
    uint32_t num_rooms, cap_rooms;
    struct device_room *devices;
    uint32_t num_devices, cap_devices;
    struct list dirty; /* in core->users_dirty */
    uint64_t cursor_flush; /* number of the last write of cursors that has some of its */
    struct list idle;  /* in core->users_idle once it is ready, in core->users_leaving while it is leaving */
    uint64_t leave_ns; /* leaving: when it is offline */
    uint64_t hash, last_used_ns;
    uint16_t id_len, num_cores;
    uint32_t sockets[]; /* for each core; the id's bytes stand behind them */
};

static inline struct slice user_id(const struct user *u) { return slice_of(u->sockets + u->num_cores, u->id_len); }

/* --- user.c ------------------------------------------------------------------------------------------------------ */

/* user_serve answers an op of a user that is ready, now or when the rooms are loaded. */
void user_serve(struct core *core, struct user *u, struct op *op);

/* --- user_rooms.c ------------------------------------------------------------------------------------------------ */

/* user_room: the room among those the user is in, NULL when it is not; user_room_add keeps them sorted by number. */
struct user_room *user_room(struct user *u, uint64_t room);
void user_room_add(struct user *u, uint64_t room, uint64_t joined_seq);
void user_room_remove(struct user *u, struct user_room *r);
/* user_device: a device's cursor in a room, NULL when it has none; user_device_add makes one, at 0. Pointers to others
 * are void then. user_devices_forget drops every device's in a room. */
struct device_room *user_device(struct user *u, struct slice device, uint64_t room);
struct device_room *user_device_add(struct user *u, struct slice device, uint64_t room);
void user_devices_forget(struct user *u, uint64_t room);
/* user_rooms_load reads rooms and cursors, and then serves what waits in rooms_waiting. */
void user_rooms_load(struct core *core, struct user *u);
/* user_rooms_answer lists rooms and cursors as the device sees them: a device never seen before starts at the user's
 * own cursor. */
void user_rooms_answer(struct core *core, struct user *u, struct op *op);

/* --- user_cursors.c ---------------------------------------------------------------------------------------------- */

/* user_cursor: an ack. */
void user_cursor(struct core *core, struct user *u, struct op *op);

/* --- user_presence.c --------------------------------------------------------------------------------------------- */

/* user_comes: the first socket is there and the rooms are known. user_stays: back within the grace, nobody has noticed.
 * user_goes: the last socket is gone. Typing ends now, the rest when the grace is over. `number` is the user's, who may
 * not have been looked up here yet. */
void user_comes(struct core *core, struct user *u);
void user_stays(struct core *core, struct user *u);
void user_goes(struct core *core, struct user *u, uint64_t number);
/* user_presence: to those who share no room with the user, the user does not exist. */
void user_presence(struct core *core, struct user *u, struct op *op);
/* user_presence_post tells every core of the user's presence in one room, or in all of `rooms` (u64 each), as each has
 * a part in it: who listens there, whom it is asked about, who types. */
void user_presence_post(struct core *core, const struct user *u, uint64_t room, uint64_t offline_ms,
                        struct slice rooms);

#endif
