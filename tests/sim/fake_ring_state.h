/* fake_ring_state: what the modules of fake_ring share. fake_ring.c is net/ring.h: it takes operations and hands out
 * completions. fake_ring_kernel.c does what the kernel does with them. fake_link.c has the connections: what completes
 * when a link takes a step, and the clients' ends. */
#ifndef CARILLON_TESTS_SIM_FAKE_RING_STATE_H
#define CARILLON_TESTS_SIM_FAKE_RING_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "../../net/ring.h"
#include "../../src/base/buf.h"
#include "fake_ring.h"
#include "world.h"

#define RINGS_MAX 8u
#define NO_FD UINT32_MAX

/* mark: what was durable when the bytes up to `end` of the stream left the gateway. */
struct mark_of_bytes {
    uint64_t end, version;
};

struct link {
    unsigned number; /* for the trace */
    int listen_fd;
    struct buf up, down;
    size_t up_max, down_max;
    struct mark_of_bytes *marks; /* first..num - 1 are ahead of what link_version was asked for */
    size_t first_mark, num_marks, cap_marks;
    uint64_t down_sent;
    bool client_ended, client_reset, client_gone;
    bool gateway_ended; /* closed, shut, or reset by a crash */
    bool gateway_closed;
    struct ring *ring; /* from the accept on */
    uint32_t fd;
    bool receiving, receives_once, polling_in, polling, shutting;
    bool sent_last;             /* whole: nothing else is sent, and the end follows at once */
    bool ending;                /* which has begun */
    unsigned enters_since_last; /* of the ring, until it has */
    bool upgraded;
    bool copies; /* what is sent without a copy is copied on the way */
    uint64_t receive_tag, poll_in_tag, poll_tag, shutdown_tag;
    uint64_t waits_since_ns; /* of the receive, or the poll for one */
};

#define WAITS_NS_MAX 100000000000ull /* far beyond net.ping_interval */
#define AWAKE_NS_MAX 1000000000ull      /* a core that has nothing to do wakes once a second */
#define LAST_ENTERS_MAX 8u              /* a turn that sends, and the one that accounts for it, with room */

enum operation_kind {
    OP_ACCEPT,
    OP_RECV,
    OP_RECV_ONCE,
    OP_POLL_IN,
    OP_SEND,
    OP_SEND_ZC,
    OP_POLL_OUT,
    OP_CANCEL_FD,
    OP_CANCEL_TAG,
    OP_SHUTDOWN,
    OP_BOUND,
    OP_CLOSE,
    OP_WATCH
};

struct operation {
    enum operation_kind kind;
    uint32_t fd;
    int listen_fd;
    uint64_t tag, target;
    const void *data;             /* of a send … */
    size_t len;
    const struct msghdr *message; /* … or this */
    uint64_t bytes_hash;          /* of a send's bytes when it was prepared */
    bool last;                    /* of a send: a close follows it */
    struct sockaddr_storage *peer;
    socklen_t *peer_len;
    struct park *park;
};

/* arrival: a completion that the kernel has, and that the ring shows with the next enter. */
struct arrival {
    struct ring_completion completion;
    uint32_t fd;     /* NO_FD: of none */
    uint64_t due_ns; /* not shown before; arrivals of one operation keep their order */
};

/* zero_copy: a send without a copy, from when it is prepared until its last completion is taken. */
struct zero_copy {
    uint64_t tag;
    const void *data;
    size_t len;
    uint64_t bytes_hash;
    struct link *link; /* that it left by; NULL: it has not left, or its notification is on its way */
    uint64_t
        end; /* offset in the link's stream behind what was taken of it: acknowledged when the client has read it */
    bool sent;         /* something was taken */
    bool joins;        /* an earlier one that had not been notified of */
};

struct accept_armed {
    int listen_fd;
    uint64_t tag;
    struct sockaddr_storage *peer;
    socklen_t *peer_len;
};

struct ring {
    struct ring_config config;
    struct ring_stats stats;
    struct operation *prepared;
    size_t num_prepared, cap_prepared;
    struct arrival *arrivals, *visible;
    size_t num_arrivals, cap_arrivals, num_visible, cap_visible, next_visible;
    struct accept_armed *accepts;
    size_t num_accepts, cap_accepts;
    struct zero_copy *zero_copies;
    size_t num_zero_copies, cap_zero_copies;
    bool knows_zero_copy;
    struct link **descriptors;
    char **buffers;
    uint16_t *free_buffers;
    bool *buffer_lent;
    unsigned num_buffers, num_free;
    struct park *watched;
    uint64_t watch_tag;
    bool watching;   /* the poll on `watched` is armed */
    bool signalled;  /* and this came while it was not: an eventfd stays readable */
    bool overflowed; /* completions that were to be shown did not fit */
    bool enabled;
    uint64_t entered_ns, awake_ns; /* when it last entered; and for how long it has, AWAKE_NS_MAX at most a turn */
    bool keeps_closed; /* as kernels before 6.13 do; its sockets end at once all the same */
};

struct network {
    struct link *links[LINKS_MAX];
    unsigned num_links, next_number;
    struct ring *rings[RINGS_MAX];
    unsigned num_rings;
    struct ring_faults faults;
    unsigned starved; /* receives to come that find no buffer */
    bool open_fails;
};

extern struct network network;

/* grown: the array with room for one more item than `len`. */
void *grown(void *array, size_t len, size_t *cap, size_t item_bytes);
/* fault: true once in `of` times, never when that is 0. */
bool fault(unsigned of);
int32_t one_of(const int32_t *errors, size_t num);
#define ONE_OF(...) one_of((const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* send_hash: of a send's bytes, wherever they are. */
uint64_t send_hash(const struct operation *op);

/* submit_prepared hands over what was prepared, and show_arrivals fills the completion queue. What does not fit stays
 * in the kernel's backlog, from which the next enter takes it, as with IORING_FEAT_NODROP. */
void submit_prepared(struct ring *ring);
void show_arrivals(struct ring *ring);
/* arrive: a completion of an operation on this descriptor, or NO_FD, is there; complete: its last one. */
struct arrival *arrive(struct ring *ring, uint32_t fd, struct ring_completion completion);
void complete(struct ring *ring, uint32_t fd, uint64_t tag, int32_t result);
/* zero_copy_taken: the gateway has seen the first completion of such a send. zero_copy_due: of the link's sends one
 * that its client has read, or never will, whose notification is due; NULL without one. zero_copy_notify brings it. */
void zero_copy_taken(struct ring *ring, uint64_t tag);
struct zero_copy *zero_copy_due(const struct link *l, struct ring **out);
void zero_copy_notify(struct ring *ring, struct zero_copy *z);
/* is_first: no completion of the same operation is ahead of this arrival. */
bool is_first(const struct ring *ring, size_t at);

/* link_lose: the gateway's end is gone without a word; what was on the way may have come through. */
void link_lose(struct link *l);

#endif
