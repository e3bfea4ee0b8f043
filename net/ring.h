/* ring: the seam to the kernel: submit operations, reap completions. One ring per core, used by its thread only.
 *
 * Two implementations stand behind this header, chosen at link time so that the data path has no indirect call:
 * net/ring.c on io_uring (Linux ≥ 6.1), and tests/sim's scripted one. Semantics both keep:
 *
 *  - Every operation completes exactly once with RING_MORE clear, except a silent send that succeeds in full, which
 *    completes never. Multishot receives complete any number of times with RING_MORE set before, and a zero-copy
 *    send once.
 *  - Sockets are ring descriptors (`ring_fd`: an index in the ring's own table), made by ring_accept and given
 *    back by ring_close. They do not count against RLIMIT_NOFILE.
 *  - The bytes of a silent send may be reused after the next ring_enter *and* after all completions that were
 *    visible right after it have been handled: a send without a completion by then was taken whole.
 *  - ring_* calls that prepare an operation never fail: a full submission queue is flushed into the kernel first.
 *
 * Received bytes stand in a provided buffer (RING_BUFFER set, ring_buffer(result)) until ring_buffer_return. */
#ifndef CARILLON_NET_RING_H
#define CARILLON_NET_RING_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "../src/base/status.h"

struct ring;
struct park;

struct ring_config {
    unsigned sq_entries;   /* submission queue; a power of two */
    unsigned cq_entries;   /* completion queue; sized to the worst burst, a power of two */
    unsigned descriptors;  /* size of the descriptor table = most connections */
    unsigned buffers;      /* provided receive buffers; a power of two */
    unsigned buffer_bytes; /* size of each */
};

struct ring_completion {
    uint64_t tag;
    int32_t result;  /* as the system call: ≥ 0, or -errno */
    uint32_t flags;  /* RING_MORE … */
    uint16_t buffer; /* id, when RING_BUFFER */
};

#define RING_MORE 1u     /* the operation is still armed */
#define RING_BUFFER 2u   /* `buffer` holds the received bytes */
#define RING_NONEMPTY 4u /* the socket had more to read */
#define RING_NOTIFICATION 8u /* the second completion of a ring_send_zero_copy … */
#define RING_COPIED 16u      /* … the bytes of which were copied after all, or none were sent */

/* ring_check opens a small ring and closes it: whether this kernel, its sysctls and seccomp filters let one be opened
 * at all, and, with `zero_copy`, one that sends without copying; found out before anything else is. `why` as
 * ring_open. */
MUST_USE enum status ring_check(bool zero_copy, char *why, size_t why_len);
/* ring_open makes the ring; on failure `why` (of why_len bytes) says what is missing and what to do. */
MUST_USE enum status ring_open(struct ring **out, const struct ring_config *config, char *why, size_t why_len);
/* ring_enable_here must be called once by the owning thread before anything else (single issuer). */
MUST_USE enum status ring_enable_here(struct ring *ring);
/* ring_close_all ends the ring and every socket in its table. Operations in flight never complete. NULL is allowed. */
void ring_close_all(struct ring *ring);

/* ring_accept takes one connection from the listening socket `listen_fd` (a plain descriptor). The completion's
 * result is the new ring descriptor. `peer` and `peer_len` must stay valid until the completion. `there`: a connection
 * is known to wait. Else the kernel waits for one before it tries (Linux 6.10): an accept makes its socket and file
 * first, and when nobody is there it has made them for nothing, which costs as much as an accept. */
void ring_accept(struct ring *ring, int listen_fd, struct sockaddr_storage *peer, socklen_t *peer_len, bool there,
                 uint64_t tag);
/* ring_backlog: how many connections wait to be accepted from a TCP socket; of another one it knows nothing and says
 * 0. */
unsigned ring_backlog(int listen_fd);
/* ring_recv arms a multishot receive into provided buffers. Result 0 is the peer's end of stream. */
void ring_recv(struct ring *ring, uint32_t ring_fd, uint64_t tag);
/* ring_recv_once receives once into a provided buffer: at once when there is something, else when something comes. */
void ring_recv_once(struct ring *ring, uint32_t ring_fd, uint64_t tag);
/* ring_poll_in completes once when there is something to receive, which may be the end of the stream or an error; at
 * once when there is already. While it waits it holds less of the kernel's memory than a receive (perf/floors
 * sockets). */
void ring_poll_in(struct ring *ring, uint32_t ring_fd, uint64_t tag);
/* ring_send is silent: MSG_DONTWAIT|MSG_WAITALL, a completion only when short (count) or failed (-errno). */
void ring_send(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag);
/* ring_send_last is ring_send for the last bytes before the socket is closed: the kernel keeps what does not fill a
 * packet until the close, and sends it with the end of the stream (MSG_MORE, send(2)); without a close, after 200
 * ms. */
void ring_send_last(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag);
/* ring_sendv is the same for a message header whose iovecs stay valid as the bytes do. */
void ring_sendv(struct ring *ring, uint32_t ring_fd, const struct msghdr *message, uint64_t tag);
/* ring_send_zero_copy sends the bytes from where they lie, taking what ring_send would. It is not silent: it
 * completes with the count or -errno, and when RING_MORE is set a second time, with RING_NOTIFICATION, as soon as the
 * kernel has no more need of the bytes. Until then they must stay as they are, also when the descriptor has been
 * closed meanwhile. */
void ring_send_zero_copy(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag);
/* ring_knows_zero_copy: this kernel has such sends, and says whether they were copied (Linux 6.2). Known once the ring
 * is enabled. */
bool ring_knows_zero_copy(const struct ring *ring);
/* ring_poll_out completes once when the socket takes bytes again. */
void ring_poll_out(struct ring *ring, uint32_t ring_fd, uint64_t tag);
/* ring_cancel cancels every operation on the descriptor; each still completes on its own. The kernel walks all of the
 * ring's armed operations for it (io_uring/poll.c), so it is for rare use; ring_cancel_tag looks one up. */
void ring_cancel(struct ring *ring, uint32_t ring_fd, uint64_t tag);
/* ring_cancel_tag cancels the one operation with that tag. */
void ring_cancel_tag(struct ring *ring, uint64_t target, uint64_t tag);
/* ring_shutdown_out ends our direction of the stream, so that the peer sees its end while we still read. The kernel
 * does it on a worker thread: for refusals and other rare ends only. */
void ring_shutdown_out(struct ring *ring, uint32_t ring_fd, uint64_t tag);
/* ring_bound_unsent has the kernel let go of what the peer does not take once it has taken nothing for PEER_TIMEOUT_MS
 * (TCP_USER_TIMEOUT, tcp(7)): for a TCP socket that is about to be closed. -EOPNOTSUPP before Linux 6.7. */
void ring_bound_unsent(struct ring *ring, uint32_t ring_fd, uint64_t tag);
/* ring_close gives the descriptor back; only after every other operation on it has completed. The peer sees the end of
 * the stream at once, whatever the kernel; the socket's memory may come back late (ring_keeps_closed). */
void ring_close(struct ring *ring, uint32_t ring_fd, uint64_t tag);
/* ring_keeps_closed: this kernel keeps a closed socket until all operations on sockets have ended that had begun before
 * (end_stream in ring.c), so one that waits for long has to be ended and begun anew now and then. */
bool ring_keeps_closed(const struct ring *ring);
/* ring_watch arms a multishot poll on a park's eventfd. */
void ring_watch(struct ring *ring, struct park *park, uint64_t tag);

/* ring_enter submits everything prepared; waits up to `timeout_ns` for a completion when `wait` and none is there. */
void ring_enter(struct ring *ring, bool wait, uint64_t timeout_ns);
/* ring_next takes one completion; false when there is none left. */
bool ring_next(struct ring *ring, struct ring_completion *out);
/* ring_pending tells whether prepared operations have not been submitted yet. */
bool ring_pending(const struct ring *ring);
/* ring_ready tells whether completions can be taken without entering. */
bool ring_ready(const struct ring *ring);

/* ring_buffer: at least RING_PADDING bytes behind the buffer's end are readable too. */
#define RING_PADDING 64u
const void *ring_buffer(struct ring *ring, uint16_t buffer);
void ring_buffer_return(struct ring *ring, uint16_t buffer);

struct ring_stats {
    uint64_t enters, submitted, completed, cq_overflows, buffers_empty;
};
const struct ring_stats *ring_stats(const struct ring *ring);

#endif
