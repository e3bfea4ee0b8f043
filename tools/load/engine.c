#define _GNU_SOURCE /* strerrordesc_np (glibc 2.32) */
#include "engine.h"

#include <errno.h>
#include <inttypes.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "../../src/base/assert.h"

enum { OP_CONNECT, OP_RECEIVE, OP_SEND, OP_MASK = 7 }; /* in the low bits of a tag; the rest is the peer's address */

enum { BUFFER_GROUP = 1, SUBMISSIONS = 4096, COMPLETIONS = 65536 };

struct engine {
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    char *buffers;
    struct engine_handlers handlers;
    struct sockaddr_storage server;
    socklen_t server_len;
    uint32_t source_ipv4;
    struct peer *dirty;   /* peers with bytes to send */
    struct peer *starved; /* peers whose receive ended for want of a buffer */
    unsigned num_peers;
    uint64_t num_connects; /* chooses the source address */
};

static bool buffers_open(struct engine *e);
static int socket_open(struct engine *e);
static struct io_uring_sqe *prepare(struct engine *e, struct peer *p, unsigned op);
static void receive_arm(struct engine *e, struct peer *p);
static void send_start(struct engine *e, struct peer *p);
static void flush(struct engine *e);
static unsigned reap(struct engine *e);
static void handle(struct engine *e, const struct io_uring_cqe *cqe);
static void handle_receive(struct engine *e, struct peer *p, const struct io_uring_cqe *cqe, uint64_t now_ns);
static void handle_send(struct engine *e, struct peer *p, int result);
static void shut(struct engine *e, struct peer *p, int error);
static void join(struct engine *e, struct peer *p);

uint64_t engine_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

enum status engine_open(struct engine **out, const struct engine_handlers *handlers,
                        const struct sockaddr_storage *server, socklen_t server_len, uint32_t source_ipv4)
{
    struct engine *e = calloc(1, sizeof *e);
    ASSERT(e != NULL);
    e->handlers = *handlers;
    e->server = *server;
    e->server_len = server_len;
    e->source_ipv4 = source_ipv4;
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
                                     .cq_entries = COMPLETIONS};
    int error = io_uring_queue_init_params(SUBMISSIONS, &e->ring, &params);
    if (error || !buffers_open(e)) {
        fprintf(stderr, "carillon-load: io_uring (Linux 6.1 or newer) is not available: %s\n",
                strerrordesc_np(error ? -error : errno));
        if (!error) io_uring_queue_exit(&e->ring);
        free(e);
        return STATUS_IO;
    }
    io_uring_register_ring_fd(&e->ring);     /* only saves a table lookup a turn: its failure changes nothing */
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0); /* 1 µs instead of 50: an open loop must send when it intends to */
    *out = e;
    return STATUS_OK;
}

void engine_close(struct engine *e)
{
    io_uring_queue_exit(&e->ring);
    free(e->buffer_ring);
    free(e->buffers);
    free(e);
}

bool engine_descriptors(uint64_t num_peers)
{
    struct rlimit limit;
    if (num_peers > ENGINE_PEERS_MAX) {
        fprintf(stderr, "carillon-load: %" PRIu64 " sockets are more than one run may hold (%u); start several runs\n",
                num_peers, ENGINE_PEERS_MAX);
        return false;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < num_peers + 32) {
        fprintf(stderr,
                "carillon-load: %" PRIu64 " sockets do not fit into RLIMIT_NOFILE (%" PRIu64
                "); raise it (ulimit -n, prlimit --nofile) or ask for fewer\n",
                num_peers, (uint64_t)limit.rlim_cur);
        return false;
    }
    return true;
}

enum status engine_connect(struct engine *e, struct peer *p)
{
    ASSERT(p->state == PEER_IDLE && p->_pending == 0);
    p->_fd = socket_open(e);
    if (p->_fd < 0) {
        fprintf(stderr, "carillon-load: no socket: %s\n", strerrordesc_np(errno));
        return STATUS_IO;
    }
    p->state = PEER_CONNECTING;
    p->_error = 0;
    p->out.len = p->_wire.len = p->_wire_sent = 0;
    e->num_peers++;
    e->num_connects++;
    io_uring_prep_connect(prepare(e, p, OP_CONNECT), p->_fd, (struct sockaddr *)&e->server, e->server_len);
    return STATUS_OK;
}

void engine_send(struct engine *e, struct peer *p)
{
    if (p->_dirty || p->state != PEER_OPEN) return;
    p->_dirty = true;
    p->_next_dirty = e->dirty;
    e->dirty = p;
}

void engine_close_peer(struct engine *e, struct peer *p)
{
    if (p->state == PEER_CONNECTING || p->state == PEER_OPEN) shut(e, p, 0);
}

void peer_free(struct peer *p)
{
    buf_free(&p->out);
    buf_free(&p->_wire);
}

void engine_turn(struct engine *e, uint64_t until_ns)
{
    flush(e);
    if (io_uring_cq_ready(&e->ring) == 0) {
        uint64_t now = engine_now_ns();
        struct io_uring_cqe *first;
        if (until_ns > now) {
            struct __kernel_timespec left = {.tv_sec = (long long)((until_ns - now) / 1000000000u),
                                             .tv_nsec = (long long)((until_ns - now) % 1000000000u)};
            int n = io_uring_submit_and_wait_timeout(&e->ring, &first, 1, &left, NULL);
            ASSERT(n >= 0 || n == -ETIME || n == -EINTR || n == -EAGAIN || n == -EBUSY);
        } else {
            io_uring_submit_and_get_events(&e->ring);
        }
    } else {
        io_uring_submit_and_get_events(&e->ring);
    }
    reap(e);
    while (e->starved) { /* the buffers are back: receive again */
        struct peer *p = e->starved;
        e->starved = p->_next_starved;
        if (p->state == PEER_OPEN) receive_arm(e, p);
        p->_pending--; /* what held the peer in the list */
        if (p->state == PEER_CLOSING) join(e, p);
    }
}

unsigned engine_peers(const struct engine *e)
{
    return e->num_peers;
}

static bool buffers_open(struct engine *e)
{
    size_t ring_bytes = ENGINE_BUFFERS * sizeof(struct io_uring_buf);
    void *ring_memory = NULL, *memory = NULL;
    if (posix_memalign(&ring_memory, 4096, ring_bytes) ||
        posix_memalign(&memory, 4096, (size_t)ENGINE_BUFFERS * ENGINE_BUFFER_BYTES))
        return false;
    memset(ring_memory, 0, ring_bytes);
    e->buffer_ring = ring_memory;
    e->buffers = memory;
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)ring_memory, .ring_entries = ENGINE_BUFFERS, .bgid = BUFFER_GROUP};
    int error = io_uring_register_buf_ring(&e->ring, &reg, 0);
    if (error) {
        errno = -error;
        return false;
    }
    io_uring_buf_ring_init(e->buffer_ring);
    for (unsigned i = 0; i < ENGINE_BUFFERS; i++)
        io_uring_buf_ring_add(e->buffer_ring, e->buffers + (size_t)i * ENGINE_BUFFER_BYTES, ENGINE_BUFFER_BYTES,
                              (unsigned short)i, io_uring_buf_ring_mask(ENGINE_BUFFERS), (int)i);
    io_uring_buf_ring_advance(e->buffer_ring, ENGINE_BUFFERS);
    return true;
}

/* socket_open makes a socket for the next connection. One address has about 28,000 local ports, of which a fast run
 * leaves many in TIME_WAIT; all of 127.0.0.0/8 is ours, so every ENGINE_PORTS_PER_ADDRESS connections to a loopback
 * server move on to the next source address: 127.0.0.1, 127.0.0.2 … */
static int socket_open(struct engine *e)
{
    int fd = socket(e->server.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const struct sockaddr_in *server = (const struct sockaddr_in *)&e->server;
    uint64_t address = e->num_connects / ENGINE_PORTS_PER_ADDRESS;
    if (e->server.ss_family == AF_INET && ntohl(server->sin_addr.s_addr) >> 24 == 127 &&
        (address > 0 || e->source_ipv4 != 0)) {
        uint32_t first = e->source_ipv4 ? e->source_ipv4 : 0x7f000001u;
        struct sockaddr_in source = {.sin_family = AF_INET,
                                     .sin_addr.s_addr = htonl(first + (uint32_t)(address % 0xffffu))};
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&source, sizeof source) != 0) {
            close(fd);
            return -1;
        }
    }
    return fd;
}

/* prepare takes a submission entry for `p`, entering the kernel first when the queue is full. The caller's
 * io_uring_prep_* keeps user_data, which liburing clears nowhere but here. */
static struct io_uring_sqe *prepare(struct engine *e, struct peer *p, unsigned op)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&e->ring);
    if (!sqe) {
        io_uring_submit(&e->ring);
        sqe = io_uring_get_sqe(&e->ring);
        ASSERT(sqe != NULL);
    }
    ASSERT(((uintptr_t)p & OP_MASK) == 0);
    io_uring_sqe_set_data64(sqe, (uintptr_t)p | op);
    p->_pending++;
    return sqe;
}

static void receive_arm(struct engine *e, struct peer *p)
{
    struct io_uring_sqe *sqe = prepare(e, p, OP_RECEIVE);
    io_uring_prep_recv_multishot(sqe, p->_fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
}

static void send_start(struct engine *e, struct peer *p)
{
    p->_sending = true;
    io_uring_prep_send(prepare(e, p, OP_SEND), p->_fd, p->_wire.data + p->_wire_sent, p->_wire.len - p->_wire_sent,
                       MSG_NOSIGNAL | MSG_WAITALL);
}

static void flush(struct engine *e)
{
    while (e->dirty) {
        struct peer *p = e->dirty;
        e->dirty = p->_next_dirty;
        p->_dirty = false;
        if (p->_sending || p->out.len == 0 || p->state != PEER_OPEN) continue;
        struct buf sent = p->_wire; /* the emptied buffer is filled next, the full one stays still until it is sent */
        p->_wire = p->out;
        p->out = sent;
        p->out.len = p->_wire_sent = 0;
        send_start(e, p);
    }
}

/* reap handles one bounded batch, so that sends that answer it are not kept waiting by what keeps arriving. */
static unsigned reap(struct engine *e)
{
    struct io_uring_cqe *cqes[256];
    unsigned num = io_uring_peek_batch_cqe(&e->ring, cqes, 256);
    for (unsigned i = 0; i < num; i++) handle(e, cqes[i]);
    io_uring_cq_advance(&e->ring, num);
    return num;
}

static void handle(struct engine *e, const struct io_uring_cqe *cqe)
{
    struct peer *p = (struct peer *)(uintptr_t)(cqe->user_data & ~(uint64_t)OP_MASK);
    uint64_t now_ns = engine_now_ns();
    if (!(cqe->flags & IORING_CQE_F_MORE)) p->_pending--;
    switch (cqe->user_data & OP_MASK) {
    case OP_CONNECT:
        if (p->state == PEER_CONNECTING && cqe->res == 0) {
            p->state = PEER_OPEN;
            receive_arm(e, p);
            e->handlers.on_connected(e->handlers.context, p, now_ns);
        } else {
            shut(e, p, -cqe->res);
        }
        break;
    case OP_RECEIVE: handle_receive(e, p, cqe, now_ns); break;
    case OP_SEND: handle_send(e, p, cqe->res); break;
    default: UNREACHABLE();
    }
    if (p->state == PEER_CLOSING) join(e, p);
}

static void handle_receive(struct engine *e, struct peer *p, const struct io_uring_cqe *cqe, uint64_t now_ns)
{
    if (cqe->flags & IORING_CQE_F_BUFFER) {
        unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        char *buffer = e->buffers + (size_t)id * ENGINE_BUFFER_BYTES;
        if (p->state == PEER_OPEN && cqe->res > 0)
            e->handlers.on_bytes(e->handlers.context, p, buffer, (size_t)cqe->res, now_ns);
        io_uring_buf_ring_add(e->buffer_ring, buffer, ENGINE_BUFFER_BYTES, (unsigned short)id,
                              io_uring_buf_ring_mask(ENGINE_BUFFERS), 0);
        io_uring_buf_ring_advance(e->buffer_ring, 1);
    }
    if (cqe->flags & IORING_CQE_F_MORE) return;
    if (cqe->res > 0 && p->state == PEER_OPEN) {
        receive_arm(e, p);
    } else if (cqe->res == -ENOBUFS && p->state == PEER_OPEN) {
        p->_pending++; /* until the end of the turn, when the buffers are back */
        p->_next_starved = e->starved;
        e->starved = p;
    } else {
        shut(e, p, -cqe->res);
    }
}

static void handle_send(struct engine *e, struct peer *p, int result)
{
    p->_sending = false;
    if (result < 0) {
        shut(e, p, -result);
        return;
    }
    p->_wire_sent += (size_t)result;
    if (p->state != PEER_OPEN) return;
    if (p->_wire_sent < p->_wire.len)
        send_start(e, p);
    else if (p->out.len)
        engine_send(e, p);
}

/* shut begins the end: the shutdown makes every operation on the socket complete; join closes after the last one. */
static void shut(struct engine *e, struct peer *p, int error)
{
    if (p->state == PEER_CLOSING || p->state == PEER_IDLE) return;
    p->state = PEER_CLOSING;
    p->_error = error;
    shutdown(p->_fd, SHUT_RDWR);
    /* a peer that had nothing in the ring would never complete: let a no-op come back for it */
    if (p->_pending == 0) io_uring_prep_nop(prepare(e, p, OP_SEND));
}

static void join(struct engine *e, struct peer *p)
{
    if (p->_pending > 0) return;
    close(p->_fd);
    p->state = PEER_IDLE;
    p->_sending = false;
    e->num_peers--;
    e->handlers.on_closed(e->handlers.context, p, p->_error, engine_now_ns());
}
