/* zero_copy: large shared frames that the kernel sends from where they lie, without copying them (IORING_OP_SEND_ZC).
 * Private to net.
 *
 * Such a send completes twice. The first completion says, at once, how much of it the socket has taken, and is handled
 * as an ordinary send's. The second one, the notification, comes when the kernel has no more need of the bytes: over
 * TCP when the peer has acknowledged them. Until then the frame is held here, by a reference of its own. A hold belongs
 * to the send and not to the connection, whose close waits for no notification: a peer that acknowledges nothing would
 * keep its place, and the end of its stream would come a round trip late.
 *
 * Whether it pays depends on the way to the peer: loopback, veth and whatever looks into the packets make the kernel
 * copy after all, and then the notification, which says so, is pure cost. In auto a connection tries one send, and goes
 * on only after its notification; one that was copied is the connection's last. Only a send that began alone is
 * believed: bytes that join an earlier such send in a packet which has not left yet are said to be copied, whatever
 * became of them (Linux 6.10 on, io_link_skb in io_uring/notif.c; seen on 6.18).
 *
 * What is held is bounded: in sends of a connection (ZERO_COPY_CONN_SENDS_MAX), in sends and bytes of a core
 * (ZERO_COPY_SENDS_MAX, ZERO_COPY_BYTES_MAX), beyond which sends copy, and in time: who has not acknowledged one for
 * ZERO_COPY_HELD_MS_MAX, and no other one meanwhile, is too slow. A peer that is slow and takes all of it in the end
 * stays: a send buffer grows to megabytes. Only frames with an account are held, so that their bytes are counted
 * meanwhile; and none whose account has more than one part in ZERO_COPY_ACCOUNT_PART of its bound already. So that is
 * the most of it that can be held, however many cores hold frames of it: peers who acknowledge nothing stop no room.
 *
 * Owner: one core. Order: zero_copy_open; _start once the ring is enabled; _accept for each connection; _send within
 * conn_flush, _complete for each completion of RING_OP_SEND_ZC, _expire with the timers; _close behind
 * ring_close_all. */
#ifndef CARILLON_NET_ZERO_COPY_H
#define CARILLON_NET_ZERO_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/base/list.h"

struct net;
struct conn;
struct frame;
struct ring_completion;

/* What a connection knows of the way to its peer. */
enum zero_copy_way {
    ZERO_COPY_UNTRIED, /* one send is tried at a time, until a notification has told */
    ZERO_COPY_PAYS,    /* a send was not copied */
    ZERO_COPY_COPIES,  /* one was: ordinary sends from now on */
};

/* zero_copy_hold: one send whose last completion has not come. */
struct zero_copy_hold {
    struct list by_age;  /* in zero_copy.oldest, until it is through or overdue */
    struct frame *frame; /* NULL: free */
    uint32_t slot, generation; /* of the connection, which may be gone */
    uint32_t bytes;      /* asked for */
    int32_t result;      /* of the first completion */
    union {
        uint32_t since_tick;
        uint32_t next_free;
    };
    bool alone;          /* no other one of the connection was held when it began */
    bool told;           /* the first completion has come */
    bool let_go;         /* the notification has come, or none will */
    bool copied;
};

struct zero_copy {
    size_t bytes_min;              /* SIZE_MAX: nothing is sent this way */
    int64_t account_max;           /* a frame whose account is beyond it is copied */
    bool always;                   /* also where it was copied */
    struct zero_copy_hold *_holds; /* ZERO_COPY_SENDS_MAX, used from the front */
    uint32_t num_used, num_held;
    uint32_t _free;                /* head of those below num_used that are free, UINT32_MAX at its end */
    size_t held_bytes;             /* of their frames, counted for each send */
    struct list oldest;            /* by_age */
    uint32_t *_ended_ticks;        /* of each slot: when a hold of its connection ended last */
    uint32_t rests_until_tick;     /* the kernel had no memory for it */
};

void zero_copy_open(struct net *n);
/* zero_copy_start turns it off where the kernel does not know it. */
void zero_copy_start(struct net *n);
/* zero_copy_close forgets what is held. Those frames are never freed: what the kernel has not sent yet it would read
 * from memory that is somebody else's. */
void zero_copy_close(struct net *n);

/* zero_copy_accept: a new connection. From a loopback address nothing is tried in auto: it is always copied, in whole
 * pages that a peer with a small receive buffer has no room for, so that its packets are dropped and wait for
 * retransmission. */
void zero_copy_accept(const struct net *n, struct conn *c);
/* zero_copy_send sends the bytes, which are the unsent ones of the connection's first frame, and holds it; false: they
 * are to be sent in the ordinary way. */
bool zero_copy_send(struct net *n, struct conn *c, const void *data, size_t bytes);
/* zero_copy_complete handles a completion of RING_OP_SEND_ZC, whose tag's slot names the hold. */
void zero_copy_complete(struct net *n, const struct ring_completion *done);
/* zero_copy_expire closes connections that have kept a send for too long. */
void zero_copy_expire(struct net *n);

/* zero_copy_held: the hold at this place, NULL when that is free; for checks. */
const struct zero_copy_hold *zero_copy_held(const struct zero_copy *z, uint32_t at);

#endif
