/* provider: the seam to whatever carries a notification to its user: the WebSocket today; mail, text messages, mobile
 * push and webhooks stand behind the same three functions.
 *
 * A provider gets one push at a time for each user: some notifications, ready as JSON, most urgent first. It says in
 * the push which of them it has handed over, and calls push_done once, from within `send` or later, on the same core.
 * Being handed over is an attempt, not a delivery: that is the user's acknowledgement. */
#ifndef CARILLON_NOTIFY_PROVIDER_H
#define CARILLON_NOTIFY_PROVIDER_H

#include "../core/core.h"

struct inbox;

struct push_item {
    uint64_t number;
    uint8_t priority;
    uint32_t at, len; /* its JSON in push->json; len 0: it could not be read */
};

/* push_socket: one socket and its core. */
struct push_socket {
    struct conn_ref conn;
    uint16_t core;
};

/* push_progress: how far a socket's opening has got: of each priority, the highest number that it has brought. */
struct push_progress {
    uint64_t had[PRIORITY_URGENT + 1];
};

/* push_to_come: the opening has yet to bring it. */
static inline bool push_to_come(const struct push_progress *o, uint8_t priority, uint64_t number)
{
    return number > o->had[priority];
}

/* push_opening: a socket with an opening, which brings it what is to come, in its order. */
struct push_opening {
    struct push_socket socket;
    struct push_progress progress;
};

struct push {
    struct read_job job;  /* reads the bodies */
    struct inbox *inbox;  /* on the user's home, which made the push */
    uint32_t tenant;
    uint64_t user;
    struct slice user_id;
    struct push_socket only; /* conn.generation 0: wherever the user can be reached, but for `openings` */
    struct push_opening *openings; /* what they have yet to bring is not for their sockets */
    uint32_t num_openings;
    uint32_t num;
    struct push_item items[PUSH_BATCH];
    struct buf json;      /* constant from `send` to push_done */
    /* the provider's answer */
    uint64_t taken;       /* bits, by place: handed over */
    uint32_t reached;     /* places where the user can be reached now; 0: nowhere, and this was no attempt */
    bool crowded;         /* what was not taken found no memory rather than a full socket: to be tried again soon */
    uint32_t waits;       /* the provider's own count of what is still under way */
};

struct provider {
    const char *type, *name; /* labels of notifications_sent_total */
    void (*send)(struct core *core, struct push *p);
    /* reachable: at how many places can this user be reached right now? */
    uint32_t (*reachable)(const struct core *core, uint32_t tenant, struct slice user_id);
    /* status: can it be expected to hand over anything? A word for /health: "ok", or why not. */
    const char *(*status)(const struct core *core);
};

extern const struct provider provider_websocket;

/* push_done is the provider's answer (push.c). */
void push_done(struct core *core, struct push *p);

#endif
