#include "ring.h"

#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../src/base/assert.h"
#include "../src/base/limits.h"
#include "../src/base/park.h"
#include "tag.h"

#define BUFFER_GROUP 0
#define ACCEPT_POLL_FIRST (1u << 2) /* IORING_ACCEPT_POLL_FIRST of linux/io_uring.h, Linux 6.10 */
#define FEAT_RW_ATTR (1u << 16)     /* IORING_FEAT_RW_ATTR, Linux 6.14 */
/* IORING_SEND_ZC_REPORT_USAGE, Linux 6.2, and IORING_NOTIF_USAGE_ZC_COPIED, in the result of a notification: liburing
 * 2.3's header does not have them. */
#define SEND_ZC_REPORT_USAGE (1u << 3)
#define NOTIF_USAGE_ZC_COPIED (1u << 31)
#define TAG_UNTOLD UINT64_MAX       /* of an operation that the ring does for itself */

struct ring {
    struct io_uring uring;
    struct io_uring_buf_ring *buffer_ring;
    char *buffers; /* config.buffers of config.buffer_bytes each, then RING_PADDING */
    size_t buffer_ring_bytes;
    struct ring_config config;
    struct ring_stats stats;
    bool accept_polls_first, knows_zero_copy;
    bool closes_late; /* see end_stream */
};

static enum status ring_fail(struct ring *ring, int error, const char *what, char *why, size_t why_len);
static int open_uring(struct ring *ring);
static int open_buffers(struct ring *ring);
static struct io_uring_sqe *next_sqe(struct ring *ring, uint64_t tag);
static bool knows_poll_first(struct ring *ring);
static bool knows_zero_copy(struct ring *ring);
static void end_stream(struct ring *ring, uint32_t ring_fd);
static void submit_all(struct ring *ring);
static void wait_for_one(struct ring *ring, uint64_t timeout_ns);
static bool take_one(struct ring *ring, struct ring_completion *out);
static void flush_overflow(struct ring *ring);

enum status ring_open(struct ring **out, const struct ring_config *config, char *why, size_t why_len)
{
    ASSERT((config->buffers & (config->buffers - 1)) == 0 && config->buffers <= 32768);
    struct ring *ring = calloc(1, sizeof *ring);
    ASSERT(ring != NULL);
    ring->config = *config;
    ring->uring.ring_fd = -1;
    *out = NULL;

    int error = open_uring(ring);
    if (error) return ring_fail(ring, error, "io_uring_setup", why, why_len);
    if (!(ring->uring.features & IORING_FEAT_EXT_ARG) || !(ring->uring.features & IORING_FEAT_CQE_SKIP))
        return ring_fail(ring, EINVAL, "io_uring features", why, why_len);
    ring->closes_late = !(ring->uring.features & FEAT_RW_ATTR);
    error = -io_uring_register_files_sparse(&ring->uring, config->descriptors);
    if (error) return ring_fail(ring, error, "io_uring descriptor table", why, why_len);
    error = open_buffers(ring);
    if (error) return ring_fail(ring, error, "io_uring buffer ring", why, why_len);
    *out = ring;
    return STATUS_OK;
}

enum status ring_check(bool zero_copy, char *why, size_t why_len)
{
    static const struct ring_config smallest = {
        .sq_entries = 8, .cq_entries = 16, .descriptors = 8, .buffers = 8, .buffer_bytes = 64};
    struct ring *ring;
    enum status s = ring_open(&ring, &smallest, why, why_len);
    if (s != STATUS_OK) return s;
    if (zero_copy && (ring_enable_here(ring) != STATUS_OK || !ring->knows_zero_copy)) {
        snprintf(why, why_len, "this kernel's io_uring has no sends without a copy that say whether they copied: "
                               "net.zero_copy=on needs Linux 6.2 or newer; auto takes them where they are");
        s = STATUS_IO;
    }
    ring_close_all(ring);
    return s;
}

/* open_uring returns 0 or an errno. DEFER_TASKRUN runs completions only when this core enters, so a handler is never
 * interrupted by them; R_DISABLED lets the main thread open what the core's thread will own (SINGLE_ISSUER). */
static int open_uring(struct ring *ring)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
        .cq_entries = ring->config.cq_entries,
    };
    return -io_uring_queue_init_params(ring->config.sq_entries, &ring->uring, &params);
}

/* open_buffers lays the receive buffers end to end, so that reading past one of them stays inside the mapping. */
static int open_buffers(struct ring *ring)
{
    unsigned count = ring->config.buffers;
    ring->buffer_ring_bytes = count * sizeof(struct io_uring_buf);
    void *shared = mmap(NULL, ring->buffer_ring_bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (shared == MAP_FAILED) return errno;
    ring->buffer_ring = shared;
    ring->buffers = calloc(1, (size_t)count * ring->config.buffer_bytes + RING_PADDING);
    if (!ring->buffers) return ENOMEM;

    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)shared, .ring_entries = count, .bgid = BUFFER_GROUP};
    int error = -io_uring_register_buf_ring(&ring->uring, &registration, 0);
    if (error) return error;
    io_uring_buf_ring_init(ring->buffer_ring);
    for (unsigned i = 0; i < count; i++) ring_buffer_return(ring, (uint16_t)i);
    return 0;
}

static enum status ring_fail(struct ring *ring, int error, const char *what, char *why, size_t why_len)
{
    const char *advice = "";
    switch (error) {
    case ENOSYS:
    case EPERM:
    case EACCES:
        advice = ": Linux 6.1 or newer is needed, with io_uring allowed: sysctl kernel.io_uring_disabled must be 0, "
                 "and a container's seccomp profile must let io_uring through";
        break;
    case EINVAL: advice = ": the kernel is too old; Linux 6.1 or newer is needed"; break;
    case EMFILE: advice = ": more connections than RLIMIT_NOFILE allows; raise it or lower limits.connections"; break;
    case ENOMEM:
        advice = ": not enough memory, or the limit on locked memory is too low (ulimit -l, LimitMEMLOCK=)";
        break;
    default: break;
    }
    snprintf(why, why_len, "%s failed (%s)%s", what, strerror(error), advice);
    ring_close_all(ring);
    return error == ENOMEM ? STATUS_NO_MEMORY : STATUS_IO;
}

enum status ring_enable_here(struct ring *ring)
{
    /* The plain system call: liburing 2.3 declares io_uring_enable_rings, but its shared object does not export it. */
    if (io_uring_register((unsigned)ring->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0) return STATUS_IO;
    /* Saves the descriptor lookup of every enter. It belongs to the calling thread, hence here; doing without is only
     * slower, so a full table of registered rings is no reason to refuse service. */
    int ignored = io_uring_register_ring_fd(&ring->uring);
    (void)ignored;
    ring->accept_polls_first = knows_poll_first(ring);
    ring->knows_zero_copy = knows_zero_copy(ring);
    ring->stats = (struct ring_stats){0}; /* they count what the core asked for */
    return STATUS_OK;
}

/* knows_poll_first has an accept refused: a kernel that does not know the flag says EINVAL before it misses the
 * socket. */
static bool knows_poll_first(struct ring *ring)
{
    struct io_uring_sqe *sqe = next_sqe(ring, 0);
    io_uring_prep_accept(sqe, -1, NULL, NULL, 0);
    sqe->ioprio |= ACCEPT_POLL_FIRST;
    struct ring_completion done = {0};
    while (!ring_next(ring, &done)) wait_for_one(ring, UINT64_MAX);
    return done.result != -EINVAL;
}

/* knows_zero_copy has a send refused likewise. A notification may follow. */
static bool knows_zero_copy(struct ring *ring)
{
    bool knows = false;
    struct ring_completion done = {0};
    ring_send_zero_copy(ring, UINT32_MAX, NULL, 0, 0);
    do {
        while (!ring_next(ring, &done)) wait_for_one(ring, UINT64_MAX);
        if (!(done.flags & RING_NOTIFICATION)) knows = done.result == -EBADF;
    } while (done.flags & RING_MORE);
    return knows;
}

void ring_close_all(struct ring *ring)
{
    if (!ring) return;
    if (ring->uring.ring_fd >= 0) io_uring_queue_exit(&ring->uring);
    if (ring->buffer_ring) munmap(ring->buffer_ring, ring->buffer_ring_bytes);
    free(ring->buffers);
    free(ring);
}

/* --- operations --------------------------------------------------------------------------------------------- */

void ring_accept(struct ring *ring, int listen_fd, struct sockaddr_storage *peer, socklen_t *peer_len, bool there,
                 uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    *peer_len = sizeof *peer;
    io_uring_prep_accept(sqe, listen_fd, (struct sockaddr *)peer, peer_len, 0);
    /* By hand: liburing 2.3's prep_accept_direct adds one, which turns "any free slot" into "no slot". */
    sqe->file_index = IORING_FILE_INDEX_ALLOC;
    if (!there && ring->accept_polls_first) sqe->ioprio |= ACCEPT_POLL_FIRST;
}

/* Of a listening socket tcpi_unacked is the length of its queue (tcp_get_info in net/ipv4/tcp.c). */
unsigned ring_backlog(int listen_fd)
{
    struct tcp_info info;
    socklen_t len = offsetof(struct tcp_info, tcpi_unacked) + sizeof info.tcpi_unacked;
    bool known = getsockopt(listen_fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0;
    return known ? info.tcpi_unacked : 0;
}

void ring_recv(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_recv_multishot(sqe, (int)ring_fd, NULL, 0, 0);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
}

void ring_recv_once(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_recv(sqe, (int)ring_fd, NULL, ring->config.buffer_bytes, 0);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
}

void ring_poll_in(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_poll_add(sqe, (int)ring_fd, POLLIN);
    sqe->flags |= IOSQE_FIXED_FILE;
}

/* MSG_WAITALL makes a short send an incomplete one, which completes in spite of SKIP_SUCCESS; without it the tail
 * would vanish silently. MSG_DONTWAIT keeps the kernel from parking the send on its own poll. */
#define SILENT_SEND (MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL)

void ring_send(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_send(sqe, (int)ring_fd, data, len, SILENT_SEND);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
}

void ring_send_last(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_send(sqe, (int)ring_fd, data, len, SILENT_SEND | MSG_MORE);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
}

void ring_sendv(struct ring *ring, uint32_t ring_fd, const struct msghdr *message, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_sendmsg(sqe, (int)ring_fd, message, SILENT_SEND);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
}

void ring_send_zero_copy(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_send_zc(sqe, (int)ring_fd, data, len, SILENT_SEND, SEND_ZC_REPORT_USAGE);
    sqe->flags |= IOSQE_FIXED_FILE; /* it cannot skip its completions */
}

bool ring_knows_zero_copy(const struct ring *ring) { return ring->knows_zero_copy; }

void ring_poll_out(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_poll_add(sqe, (int)ring_fd, POLLOUT);
    sqe->flags |= IOSQE_FIXED_FILE;
}

void ring_cancel(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_cancel_fd(sqe, (int)ring_fd, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD_FIXED);
}

void ring_cancel_tag(struct ring *ring, uint64_t target, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_cancel64(sqe, target, 0);
}

void ring_shutdown_out(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_shutdown(sqe, (int)ring_fd, SHUT_WR);
    sqe->flags |= IOSQE_FIXED_FILE;
}

void ring_bound_unsent(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    /* SOCKET_URING_OP_SETSOCKOPT, as linux/io_uring.h lays it out since 6.7; liburing 2.3 does not know it yet: cmd_op
     * lies at off, level and optname at addr, optlen at file_index, optval at addr3. */
    static const unsigned setsockopt_op = 3, timeout_ms = PEER_TIMEOUT_MS;
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, (int)ring_fd, NULL, 0, setsockopt_op);
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe->addr = (uint64_t)TCP_USER_TIMEOUT << 32 | IPPROTO_TCP;
    sqe->file_index = sizeof timeout_ms;
    sqe->addr3 = (uintptr_t)&timeout_ms;
}

void ring_close(struct ring *ring, uint32_t ring_fd, uint64_t tag)
{
    if (UNLIKELY(ring->closes_late)) end_stream(ring, ring_fd);
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_close_direct(sqe, ring_fd);
}

/* end_stream: before Linux 6.13 a file that has left the ring's table is let go of a second later at the earliest, and
 * not before all operations have ended that had begun, on whichever socket (io_uring/rsrc.c). Its peer would get the
 * last bytes after 200 ms, and wait for the end of the stream as long as another one is connected. So the stream is
 * ended first, and the close linked behind. No feature tells 6.13 from those before it: one of 6.14 does. */
static void end_stream(struct ring *ring, uint32_t ring_fd)
{
    while (io_uring_sq_space_left(&ring->uring) < 2) submit_all(ring); /* a link ends with its submission */
    struct io_uring_sqe *sqe = next_sqe(ring, TAG_UNTOLD);
    io_uring_prep_shutdown(sqe, (int)ring_fd, SHUT_RDWR);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_IO_HARDLINK | IOSQE_CQE_SKIP_SUCCESS; /* it fails when the peer has reset */
}

bool ring_keeps_closed(const struct ring *ring) { return ring->closes_late; }

void ring_watch(struct ring *ring, struct park *park, uint64_t tag)
{
    struct io_uring_sqe *sqe = next_sqe(ring, tag);
    io_uring_prep_poll_multishot(sqe, park->fd, POLLIN);
}

/* next_sqe flushes a full queue into the kernel. The tag is set first, since liburing's prepare functions leave it;
 * they clear the flags, so those are set after them. */
static struct io_uring_sqe *next_sqe(struct ring *ring, uint64_t tag)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    while (UNLIKELY(!sqe)) {
        submit_all(ring);
        sqe = io_uring_get_sqe(&ring->uring);
    }
    io_uring_sqe_set_data64(sqe, tag);
    return sqe;
}

/* --- the kernel --------------------------------------------------------------------------------------------- */

void ring_enter(struct ring *ring, bool wait, uint64_t timeout_ns)
{
    if (wait && !ring_ready(ring))
        wait_for_one(ring, timeout_ns);
    else
        submit_all(ring);
    /* A wait that was interrupted may have left submissions behind; a silent send must be in the kernel by now. */
    while (UNLIKELY(ring_pending(ring))) submit_all(ring);
}

/* submit_all also asks for events: with DEFER_TASKRUN nothing completes unless this thread enters for it. */
static void submit_all(struct ring *ring)
{
    unsigned prepared = io_uring_sq_ready(&ring->uring);
    int n = io_uring_submit_and_get_events(&ring->uring);
    ring->stats.enters++;
    /* EINTR: a signal came first. EAGAIN and EBUSY: the kernel is short of memory for requests or completions; both
     * pass, and the caller enters again. */
    ASSERT(n >= 0 || n == -EINTR || n == -EAGAIN || n == -EBUSY);
    ring->stats.submitted += prepared - io_uring_sq_ready(&ring->uring);
}

static void wait_for_one(struct ring *ring, uint64_t timeout_ns)
{
    unsigned prepared = io_uring_sq_ready(&ring->uring);
    struct __kernel_timespec limit = {.tv_sec = (long long)(timeout_ns / 1000000000u),
                                      .tv_nsec = (long long)(timeout_ns % 1000000000u)};
    struct io_uring_cqe *first = NULL;
    int n = io_uring_submit_and_wait_timeout(&ring->uring, &first, 1, timeout_ns == UINT64_MAX ? NULL : &limit, NULL);
    ring->stats.enters++;
    ASSERT(n >= 0 || n == -ETIME || n == -EINTR || n == -EAGAIN || n == -EBUSY);
    ring->stats.submitted += prepared - io_uring_sq_ready(&ring->uring);
}

bool ring_next(struct ring *ring, struct ring_completion *out)
{
    do {
        if (!take_one(ring, out)) return false;
    } while (UNLIKELY(out->tag == TAG_UNTOLD));
    ring->stats.completed++;
    if (out->result == -ENOBUFS && tag_op(out->tag) == RING_OP_RECV) ring->stats.buffers_empty++;
    return true;
}

static bool take_one(struct ring *ring, struct ring_completion *out)
{
    if (UNLIKELY(!io_uring_cq_ready(&ring->uring) && io_uring_cq_has_overflow(&ring->uring))) flush_overflow(ring);
    unsigned head = *ring->uring.cq.khead;
    if (head == io_uring_smp_load_acquire(ring->uring.cq.ktail)) return false;
    const struct io_uring_cqe *cqe = &ring->uring.cq.cqes[head & ring->uring.cq.ring_mask];

    *out = (struct ring_completion){.tag = cqe->user_data, .result = cqe->res};
    if (cqe->flags & IORING_CQE_F_MORE) out->flags |= RING_MORE;
    if (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) out->flags |= RING_NONEMPTY;
    if (cqe->flags & IORING_CQE_F_BUFFER) {
        out->flags |= RING_BUFFER;
        out->buffer = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    }
    if (UNLIKELY(cqe->flags & IORING_CQE_F_NOTIF)) {
        out->flags |= RING_NOTIFICATION;
        if ((uint32_t)cqe->res & NOTIF_USAGE_ZC_COPIED) out->flags |= RING_COPIED;
        out->result = 0;
    }
    io_uring_cq_advance(&ring->uring, 1);
    return true;
}

/* flush_overflow fetches completions that did not fit: the kernel keeps them aside until it is entered for events. */
static void flush_overflow(struct ring *ring)
{
    ring->stats.cq_overflows++;
    int n = io_uring_get_events(&ring->uring);
    ring->stats.enters++;
    ASSERT(n >= 0 || n == -EINTR || n == -EAGAIN || n == -EBUSY);
}

bool ring_pending(const struct ring *ring)
{
    return io_uring_sq_ready(&ring->uring) != 0;
}

bool ring_ready(const struct ring *ring)
{
    return io_uring_cq_ready(&ring->uring) != 0 || io_uring_cq_has_overflow(&ring->uring);
}

const void *ring_buffer(struct ring *ring, uint16_t buffer)
{
    ASSERT(buffer < ring->config.buffers);
    return ring->buffers + (size_t)buffer * ring->config.buffer_bytes;
}

void ring_buffer_return(struct ring *ring, uint16_t buffer)
{
    ASSERT(buffer < ring->config.buffers);
    io_uring_buf_ring_add(ring->buffer_ring, ring->buffers + (size_t)buffer * ring->config.buffer_bytes,
                          ring->config.buffer_bytes, buffer, (int)ring->config.buffers - 1, 0);
    io_uring_buf_ring_advance(ring->buffer_ring, 1);
}

const struct ring_stats *ring_stats(const struct ring *ring)
{
    return &ring->stats;
}
