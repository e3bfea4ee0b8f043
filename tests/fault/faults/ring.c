/* ring: what stands before net/ring.c and liburing in carillon-faults (`ld --wrap`: a call of x comes to __wrap_x, and
 * __real_x is the one behind).
 *
 * An operation that is ordered to fail is not given to the kernel; its completion is made here. It becomes visible like
 * a real one, with the next ring_enter and behind what the kernel completed, because net relies on that order (ring.h).
 * A ring belongs to one thread, and a thread to one ring, so what waits is the thread's. */
#include "../../../net/ring.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include "../../../net/tag.h"
#include "../../../src/base/assert.h"
#include "../../../src/base/limits.h"
#include "../../../src/base/park.h"
#include "table.h"

#define MADE_MAX 65536u          /* completions that wait; a core has fewer connections in these tests */
#define PIECES_MAX 4096u         /* received bytes that were set apart and are not taken yet */
#define PIECE_FIRST 0x8000u      /* buffer numbers of theirs; the kernel's end below (ring_open) */
#define VECTORS_MAX 64u          /* shortened vectors between two enters */
#define OWN_TAG (0xffull << 56)  /* of operations that net knows nothing of: their completions are dropped */

struct piece {
    bool taken;
    char bytes[RECV_BUFFER_BYTES + RING_PADDING];
};

struct made {
    struct ring_completion completions[MADE_MAX]; /* in order; those before `visible` may be taken */
    unsigned len, visible;
    bool has_rest; /* of a receive that was taken apart: goes before everything else */
    struct ring_completion rest;
    struct piece *pieces;
    unsigned vectors;
    struct {
        struct msghdr message;
        struct iovec parts[SEND_VECTOR_MAX];
    } shortened[VECTORS_MAX];
};

static _Thread_local struct made *mine;

/* What waits is large, and only threads with a ring need it. */
static struct made *made(void)
{
    if (!mine) {
        mine = calloc(1, sizeof *mine);
        ASSERT(mine != NULL);
        mine->pieces = calloc(PIECES_MAX, sizeof *mine->pieces);
        ASSERT(mine->pieces != NULL);
    }
    return mine;
}

static void complete_with(uint64_t tag, int32_t result)
{
    struct made *m = made();
    ASSERT(m->len < MADE_MAX);
    m->completions[m->len++] = (struct ring_completion){.tag = tag, .result = result};
}

static void drop_made(struct made *m, unsigned at)
{
    memmove(m->completions + at, m->completions + at + 1, (m->len - at - 1) * sizeof *m->completions);
    m->len--;
    if (at < m->visible) m->visible--;
}

/* --- operations that fail --------------------------------------------------------------------------------------- */

#define DECLARE(type, name, ...)     \
    type __real_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

DECLARE(void, ring_accept, struct ring *ring, int listen_fd, struct sockaddr_storage *peer, socklen_t *peer_len,
        bool there, uint64_t tag);
DECLARE(void, ring_recv, struct ring *ring, uint32_t ring_fd, uint64_t tag);
DECLARE(void, ring_recv_once, struct ring *ring, uint32_t ring_fd, uint64_t tag);
DECLARE(void, ring_poll_in, struct ring *ring, uint32_t ring_fd, uint64_t tag);
DECLARE(void, ring_send, struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag);
DECLARE(void, ring_send_last, struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag);
DECLARE(void, ring_sendv, struct ring *ring, uint32_t ring_fd, const struct msghdr *message, uint64_t tag);
DECLARE(void, ring_poll_out, struct ring *ring, uint32_t ring_fd, uint64_t tag);
DECLARE(void, ring_cancel_tag, struct ring *ring, uint64_t target, uint64_t tag);
DECLARE(void, ring_shutdown_out, struct ring *ring, uint32_t ring_fd, uint64_t tag);
DECLARE(void, ring_bound_unsent, struct ring *ring, uint32_t ring_fd, uint64_t tag);
DECLARE(void, ring_close, struct ring *ring, uint32_t ring_fd, uint64_t tag);
DECLARE(void, ring_watch, struct ring *ring, struct park *park, uint64_t tag);
DECLARE(void, ring_enter, struct ring *ring, bool wait, uint64_t timeout_ns);
DECLARE(bool, ring_next, struct ring *ring, struct ring_completion *out);
DECLARE(bool, ring_pending, const struct ring *ring);
DECLARE(bool, ring_ready, const struct ring *ring);
DECLARE(const void *, ring_buffer, struct ring *ring, uint16_t buffer);
DECLARE(void, ring_buffer_return, struct ring *ring, uint16_t buffer);
DECLARE(enum status, ring_open, struct ring **out, const struct ring_config *config, char *why, size_t why_len);

/* fails gives the operation its result when one of the sites, from `first` on, strikes. */
static bool fails(uint64_t tag, enum fault_site first, const int *errors, unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        if (!fault_strikes((enum fault_site)(first + i))) continue;
        complete_with(tag, -errors[i]);
        return true;
    }
    return false;
}

#define FAILS(tag, first, ...) \
    fails(tag, first, (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

void __wrap_ring_accept(struct ring *ring, int listen_fd, struct sockaddr_storage *peer, socklen_t *peer_len,
                        bool there, uint64_t tag)
{
    if (FAILS(tag, FAULT_ACCEPT_EMFILE, EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED)) return;
    __real_ring_accept(ring, listen_fd, peer, peer_len, there, tag);
}

void __wrap_ring_recv(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    if (FAILS(tag, FAULT_RECV_ENOBUFS, ENOBUFS, ENOMEM, ECONNRESET)) return;
    __real_ring_recv(ring, ring_fd, tag);
}

void __wrap_ring_recv_once(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    if (FAILS(tag, FAULT_RECV_ENOBUFS, ENOBUFS, ENOMEM, ECONNRESET)) return;
    __real_ring_recv_once(ring, ring_fd, tag);
}

void __wrap_ring_poll_in(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    if (FAILS(tag, FAULT_POLL_IN_ENOMEM, ENOMEM)) return;
    __real_ring_poll_in(ring, ring_fd, tag);
}

/* What a send has to say when it is not whole. */
static bool send_fails(uint64_t tag)
{
    return FAILS(tag, FAULT_SEND_EAGAIN, EAGAIN, ENOBUFS, ENOMEM, EPIPE);
}

/* sent_len halves a send that is to be short, and tells so. */
static size_t sent_len(uint64_t tag, size_t len)
{
    if (len < 2 || !fault_strikes(FAULT_SEND_SHORT)) return len;
    complete_with(tag, (int32_t)(len / 2));
    return len / 2;
}

void __wrap_ring_send(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag)
{
    if (!send_fails(tag)) __real_ring_send(ring, ring_fd, data, sent_len(tag, len), tag);
}

void __wrap_ring_send_last(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag)
{
    if (!send_fails(tag)) __real_ring_send_last(ring, ring_fd, data, sent_len(tag, len), tag);
}

void __wrap_ring_sendv(struct ring *ring, uint32_t ring_fd, const struct msghdr *message, uint64_t tag)
{
    struct made *m = made();
    if (send_fails(tag)) return;
    if (m->vectors < VECTORS_MAX && message->msg_iovlen >= 2 && fault_strikes(FAULT_SEND_SHORT)) {
        unsigned parts = (unsigned)message->msg_iovlen / 2, at = m->vectors++;
        size_t bytes = 0;
        memcpy(m->shortened[at].parts, message->msg_iov, parts * sizeof *message->msg_iov);
        m->shortened[at].parts[parts - 1].iov_len = (m->shortened[at].parts[parts - 1].iov_len + 1) / 2;
        m->shortened[at].message = (struct msghdr){.msg_iov = m->shortened[at].parts, .msg_iovlen = parts};
        for (unsigned i = 0; i < parts; i++) bytes += m->shortened[at].parts[i].iov_len;
        complete_with(tag, (int32_t)bytes);
        message = &m->shortened[at].message;
    }
    __real_ring_sendv(ring, ring_fd, message, tag);
}

void __wrap_ring_poll_out(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    if (FAILS(tag, FAULT_POLL_ENOMEM, ENOMEM)) return;
    __real_ring_poll_out(ring, ring_fd, tag);
}

void __wrap_ring_cancel_tag(struct ring *ring, uint64_t target, uint64_t tag)
{
    if (FAILS(tag, FAULT_CANCEL_ENOENT, ENOENT)) return;
    __real_ring_cancel_tag(ring, target, tag);
}

void __wrap_ring_shutdown_out(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    if (FAILS(tag, FAULT_SHUTDOWN_ENOTCONN, ENOTCONN)) return;
    __real_ring_shutdown_out(ring, ring_fd, tag);
}

void __wrap_ring_bound_unsent(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    if (FAILS(tag, FAULT_BOUND_EOPNOTSUPP, EOPNOTSUPP)) return;
    __real_ring_bound_unsent(ring, ring_fd, tag);
}

/* close(2): the descriptor is gone whatever the result says. */
void __wrap_ring_close(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    __real_ring_close(ring, ring_fd, FAILS(tag, FAULT_CLOSE_EIO, EIO) ? OWN_TAG : tag);
}

void __wrap_ring_watch(struct ring *ring, struct park *park, uint64_t tag)
{
    if (FAILS(tag, FAULT_WATCH_ENOMEM, ENOMEM)) return;
    __real_ring_watch(ring, park, tag);
}

/* --- completions ------------------------------------------------------------------------------------------------ */

void __wrap_ring_enter(struct ring *ring, bool wait, uint64_t timeout_ns)
{
    struct made *m = made();
    __real_ring_enter(ring, wait && m->len == 0 && !m->has_rest, timeout_ns);
    m->visible = m->len;
    m->vectors = 0;
}

bool __wrap_ring_pending(const struct ring *ring)
{
    return made()->len > made()->visible || __real_ring_pending(ring);
}

bool __wrap_ring_ready(const struct ring *ring)
{
    return made()->has_rest || made()->visible > 0 || __real_ring_ready(ring);
}

/* take_apart leaves one byte of a receive in `out` and sets the others apart; they come next. */
static void take_apart(struct ring *ring, struct ring_completion *out)
{
    struct made *m = made();
    unsigned at = 0;
    while (at < PIECES_MAX && m->pieces[at].taken) at++;
    if (at == PIECES_MAX) return;
    m->pieces[at].taken = true;
    memcpy(m->pieces[at].bytes, (const char *)__real_ring_buffer(ring, out->buffer) + 1, (size_t)out->result - 1);
    m->rest = *out;
    m->rest.result--;
    m->rest.buffer = (uint16_t)(PIECE_FIRST + at);
    m->has_rest = true;
    out->result = 1;
    out->flags |= RING_MORE;
}

static void meddle(struct ring *ring, struct ring_completion *out)
{
    struct made *m = made();
    switch (tag_op(out->tag)) {
    case RING_OP_RECV:
        if (out->flags & RING_BUFFER && out->result >= 2 && fault_strikes(FAULT_RECV_SHORT)) take_apart(ring, out);
        if (out->flags & RING_MORE && !m->has_rest && fault_strikes(FAULT_RECV_ENDS))
            __real_ring_cancel_tag(ring, out->tag, OWN_TAG);
        return;
    case RING_OP_WAKE:
        if (out->flags & RING_MORE && fault_strikes(FAULT_WATCH_ENDS)) __real_ring_cancel_tag(ring, out->tag, OWN_TAG);
        return;
    case RING_OP_SEND: /* what the kernel says goes before what was to be said */
        for (unsigned i = 0; i < m->len; i++)
            if (m->completions[i].tag == out->tag) {
                drop_made(m, i);
                return;
            }
        return;
    case RING_OP_NONE:
    case RING_OP_ACCEPT:
    case RING_OP_POLL_IN:
    case RING_OP_POLL_OUT:
    case RING_OP_CANCEL:
    case RING_OP_SEND_ZC:
    case RING_OP_SHUTDOWN:
    case RING_OP_BOUND:
    case RING_OP_CLOSE: return;
    }
}

bool __wrap_ring_next(struct ring *ring, struct ring_completion *out)
{
    struct made *m = made();
    if (m->has_rest) {
        *out = m->rest;
        m->has_rest = false;
        return true;
    }
    while (__real_ring_next(ring, out)) {
        if (out->tag == OWN_TAG) continue;
        meddle(ring, out);
        return true;
    }
    if (m->visible == 0) return false;
    *out = m->completions[0];
    drop_made(m, 0);
    return true;
}

const void *__wrap_ring_buffer(struct ring *ring, uint16_t buffer)
{
    return buffer >= PIECE_FIRST ? made()->pieces[buffer - PIECE_FIRST].bytes : __real_ring_buffer(ring, buffer);
}

void __wrap_ring_buffer_return(struct ring *ring, uint16_t buffer)
{
    if (buffer >= PIECE_FIRST) made()->pieces[buffer - PIECE_FIRST].taken = false;
    else __real_ring_buffer_return(ring, buffer);
}

/* --- the kernel and its start ----------------------------------------------------------------------------------- */

DECLARE(int, io_uring_submit_and_get_events, struct io_uring *uring);
DECLARE(int, io_uring_submit_and_wait_timeout, struct io_uring *uring, struct io_uring_cqe **cqe, unsigned wait_nr,
        struct __kernel_timespec *ts, sigset_t *mask);
DECLARE(int, io_uring_get_events, struct io_uring *uring);
DECLARE(int, io_uring_queue_init_params, unsigned entries, struct io_uring *uring, struct io_uring_params *p);
DECLARE(int, io_uring_register_files_sparse, struct io_uring *uring, unsigned nr);
DECLARE(int, io_uring_register_buf_ring, struct io_uring *uring, struct io_uring_buf_reg *reg, unsigned flags);
DECLARE(int, io_uring_register_ring_fd, struct io_uring *uring);

static int enter_error(void)
{
    if (fault_strikes(FAULT_ENTER_EAGAIN)) return -EAGAIN;
    if (fault_strikes(FAULT_ENTER_EBUSY)) return -EBUSY;
    return fault_strikes(FAULT_ENTER_EINTR) ? -EINTR : 0;
}

int __wrap_io_uring_submit_and_get_events(struct io_uring *uring)
{
    int error = enter_error();
    return error ? error : __real_io_uring_submit_and_get_events(uring);
}

int __wrap_io_uring_submit_and_wait_timeout(struct io_uring *uring, struct io_uring_cqe **cqe, unsigned wait_nr,
                                            struct __kernel_timespec *ts, sigset_t *mask)
{
    int error = enter_error();
    return error ? error : __real_io_uring_submit_and_wait_timeout(uring, cqe, wait_nr, ts, mask);
}

int __wrap_io_uring_get_events(struct io_uring *uring)
{
    int error = enter_error();
    return error ? error : __real_io_uring_get_events(uring);
}

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *uring, struct io_uring_params *p)
{
    if (fault_strikes(FAULT_START_QUEUES_ENOMEM)) return -ENOMEM;
    if (fault_strikes(FAULT_START_QUEUES_EPERM)) return -EPERM;
    return __real_io_uring_queue_init_params(entries, uring, p);
}

int __wrap_io_uring_register_files_sparse(struct io_uring *uring, unsigned nr)
{
    return fault_strikes(FAULT_START_TABLE_EMFILE) ? -EMFILE : __real_io_uring_register_files_sparse(uring, nr);
}

int __wrap_io_uring_register_buf_ring(struct io_uring *uring, struct io_uring_buf_reg *reg, unsigned flags)
{
    return fault_strikes(FAULT_START_BUFFERS_ENOMEM) ? -ENOMEM : __real_io_uring_register_buf_ring(uring, reg, flags);
}

int __wrap_io_uring_register_ring_fd(struct io_uring *uring)
{
    return fault_strikes(FAULT_START_RING_FD_EBUSY) ? -EBUSY : __real_io_uring_register_ring_fd(uring);
}

enum status __wrap_ring_open(struct ring **out, const struct ring_config *config, char *why, size_t why_len)
{
    struct ring_config given = *config;
    if (fault_strikes(FAULT_START_QUEUES_SMALL)) {
        given.sq_entries = 8;
        given.cq_entries = 16;
    }
    if (fault_strikes(FAULT_START_BUFFERS_FEW)) given.buffers = 8;
    return __real_ring_open(out, &given, why, why_len);
}
