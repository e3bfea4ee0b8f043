/* floor-sockets: what a connection costs that does nothing: in the kernel's slabs, and in this process.
 *
 * The connections come over loopback, so both ends are this machine's: what the kernel takes for a connected pair is
 * shown as half of it for each socket. What arming a ring's poll or receive adds is the server's side alone. Figures of
 * the whole machine (/proc/meminfo): nothing else should run. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "floor.h"

#define CONNECTIONS_MAX 19000u
#define BACKLOG 4096
#define SQ_ENTRIES 4096u
#define CQ_ENTRIES 65536u
#define BUFFERS 64u
#define BUFFER_BYTES 4096u
#define TOUCHED_AT_ONCE \
    32u /* NOPs of one enter: the ring keeps as many requests, which sockets would get for nothing */
#define ACCEPT_TAG 1u
#define ARM_TAG 2u
#define RECV_TAG 3u

enum armed { ARMED_NOTHING, ARMED_POLL, ARMED_RECV };
static const char *const armed_names[] = {"nothing", "poll", "recv", NULL};
static unsigned armed = ARMED_POLL;
static uint64_t connections = 10000;
static double settle = 0.2; /* the kernel frees what RCU holds back, and moves pages into its counts, after a moment */

static const struct floor_option options[] = {
    {"armed", FLOOR_CHOICE, &armed, 0, 0, armed_names, "what the ring waits with on each socket (multishot)"},
    {"connections", FLOOR_COUNT, &connections, 100, CONNECTIONS_MAX, NULL, "idle, all at once"},
    {"settle", FLOOR_REAL, &settle, 0, 10, NULL, "seconds before each look at the memory"},
    {0},
};

static const struct floor_program program = {
    .name = "floor-sockets",
    .about = "bytes of memory for an idle accepted TCP socket in a ring's descriptor table",
    .figures = "All in bytes a socket.\n"
               "  socket_slab   slabs of a connected pair, halved (/proc/meminfo: Slab)\n"
               "  armed_slab    what arming adds\n"
               "  woken_slab    what is held above an accepted socket after each has received once, and waits again\n"
               "  user_rss      growth of this process (VmRSS), which keeps nothing for a socket itself",
    .examples = "  floor-sockets --armed poll\n  floor-sockets --armed recv --connections 19000\n",
    .options = options,
    .seconds = &settle,
};

struct reading {
    double slab, rss; /* bytes */
};

static struct io_uring ring;
static char *buffers;
static struct io_uring_buf_ring *buffer_ring;
static int client_pipe[2]; /* the client waits for a byte: 'w' writes on every socket, the end ends it */

static void ring_open(void);
static void accept_all(int listener);
static void arm_all(void);
static void receive_all(void);
static struct reading take(void);
static _Noreturn void client(const struct sockaddr_in *address);

int main(int argc, char **argv)
{
    floor_begin(&program, argc, argv);
    floor_descriptors(connections + 32);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = (int)floor_must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    floor_must(bind(listener, (struct sockaddr *)&address, len), "bind");
    floor_must(listen(listener, BACKLOG), "listen");
    floor_must(getsockname(listener, (struct sockaddr *)&address, &len), "getsockname");
    floor_must(pipe(client_pipe), "pipe");
    pid_t parent = getpid(), child = (pid_t)floor_must(fork(), "fork");
    if (child == 0) {
        floor_with_parent(parent);
        client(&address);
    }
    close(client_pipe[0]);

    ring_open();
    struct reading before = take();
    accept_all(listener);
    struct reading accepted = take();
    if (armed != ARMED_NOTHING) arm_all();
    struct reading waiting = take(), woken = waiting;
    if (armed != ARMED_NOTHING) {
        floor_must(write(client_pipe[1], "w", 1), "write");
        receive_all();
        woken = take();
    }
    floor_must(kill(child, 0), "the client is gone");

    double n = (double)connections;
    floor_text("armed", armed_names[armed]);
    floor_number("connections", n);
    floor_number("socket_slab", (accepted.slab - before.slab) / n / 2);
    floor_number("armed_slab", (waiting.slab - accepted.slab) / n);
    floor_number("woken_slab", (woken.slab - accepted.slab) / n);
    floor_number("user_rss", (woken.rss - before.rss) / n);
    floor_end();
    close(client_pipe[1]);
    io_uring_queue_exit(&ring);
    int status;
    floor_must(waitpid(child, &status, 0), "waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) floor_fail("the client ended with status %d", status);
    return 0;
}

/* --- what is read ---------------------------------------------------------------------------------------------- */

static double kilobytes(const char *file, const char *field)
{
    double found = -1;
    FILE *f = fopen(file, "re");
    if (f) {
        char line[256];
        size_t len = strlen(field);
        while (found < 0 && fgets(line, sizeof line, f))
            if (strncmp(line, field, len) == 0) found = strtod(line + len, NULL);
        fclose(f);
    } else {
        floor_absent("%s cannot be read: %s", file, strerror(errno));
    }
    if (found < 0) floor_fail("%s has no %s", file, field);
    return found * 1024;
}

static struct reading take(void)
{
    struct timespec time = {.tv_sec = (time_t)settle, .tv_nsec = (long)((settle - (double)(time_t)settle) * 1e9)};
    nanosleep(&time, NULL);
    return (struct reading){.slab = kilobytes("/proc/meminfo", "Slab:"),
                            .rss = kilobytes("/proc/self/status", "VmRSS:")};
}

/* --- the server's side ----------------------------------------------------------------------------------------- */

static struct io_uring_sqe *next_sqe(uint64_t tag)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    if (!sqe) {
        floor_must_ring(io_uring_submit(&ring), "io_uring_submit");
        sqe = io_uring_get_sqe(&ring);
    }
    ASSERT(sqe);
    io_uring_sqe_set_data64(sqe, tag);
    return sqe;
}

static void return_buffer(unsigned id)
{
    io_uring_buf_ring_add(buffer_ring, buffers + (size_t)id * BUFFER_BYTES, BUFFER_BYTES, (uint16_t)id,
                          io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(buffer_ring, 1);
}

/* Both queues are touched once, so that their pages are not counted as the sockets'. */
static void ring_open(void)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
                                     .cq_entries = CQ_ENTRIES};
    floor_must_ring(io_uring_queue_init_params(SQ_ENTRIES, &ring, &params), "io_uring_setup");
    floor_must_ring(io_uring_register_files_sparse(&ring, (unsigned)connections), "io_uring_register_files_sparse");
    size_t ring_bytes = BUFFERS * sizeof(struct io_uring_buf);
    buffer_ring = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    buffers = calloc(BUFFERS, BUFFER_BYTES);
    ASSERT(buffer_ring != MAP_FAILED && buffers);
    struct io_uring_buf_reg registration = {.ring_addr = (uintptr_t)buffer_ring, .ring_entries = BUFFERS};
    floor_must_ring(io_uring_register_buf_ring(&ring, &registration, 0), "io_uring_register_buf_ring");
    io_uring_buf_ring_init(buffer_ring);
    for (unsigned i = 0; i < BUFFERS; i++) return_buffer(i);
    for (unsigned i = 0; i < CQ_ENTRIES; i++) {
        io_uring_prep_nop(next_sqe(0));
        if (i % TOUCHED_AT_ONCE != TOUCHED_AT_ONCE - 1) continue;
        floor_must_ring(io_uring_submit_and_get_events(&ring), "io_uring_enter");
        io_uring_cq_advance(&ring, io_uring_cq_ready(&ring));
    }
}

static void accept_all(int listener)
{
    for (uint64_t i = 0; i < connections; i++) {
        struct io_uring_sqe *sqe = next_sqe(ACCEPT_TAG);
        io_uring_prep_accept(sqe, listener, NULL, NULL, 0);
        sqe->file_index = IORING_FILE_INDEX_ALLOC; /* by hand: liburing 2.3's prep_accept_direct adds one */
        floor_must_ring(io_uring_submit_and_wait(&ring, 1), "io_uring_enter");
        struct io_uring_cqe *cqe;
        floor_must_ring(io_uring_peek_cqe(&ring, &cqe), "a completion");
        floor_must_ring(cqe->res, "accept");
        if (cqe->res != (int)i) floor_fail("descriptor %d instead of %llu", cqe->res, (unsigned long long)i);
        io_uring_cqe_seen(&ring, cqe);
    }
}

static void arm(uint64_t number)
{
    struct io_uring_sqe *sqe = next_sqe(ARM_TAG | number << 8);
    if (armed == ARMED_POLL) {
        io_uring_prep_poll_multishot(sqe, (int)number, POLLIN);
        sqe->flags |= IOSQE_FIXED_FILE;
    } else {
        io_uring_prep_recv_multishot(sqe, (int)number, NULL, 0, 0);
        sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
        sqe->buf_group = 0;
    }
}

static void receive_once(uint64_t number)
{
    struct io_uring_sqe *sqe = next_sqe(RECV_TAG | number << 8);
    io_uring_prep_recv(sqe, (int)number, NULL, BUFFER_BYTES, MSG_DONTWAIT);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
}

static void arm_all(void)
{
    for (uint64_t i = 0; i < connections; i++) arm(i);
    floor_must_ring(io_uring_submit(&ring), "io_uring_submit");
    if (io_uring_cq_ready(&ring) != 0) floor_fail("an idle socket completed");
}

/* reap takes one completion and returns the bytes it brought. A poll is followed by the receive that it is for. */
static uint64_t reap(const struct io_uring_cqe *cqe)
{
    uint64_t number = cqe->user_data >> 8, tag = cqe->user_data & 0xff;
    bool polled = armed == ARMED_POLL && tag == ARM_TAG;
    if (cqe->res == 0) floor_fail("a client closed its connection");
    if (cqe->res < 0 && cqe->res != -ENOBUFS) floor_must_ring(cqe->res, "receiving");
    if (polled || (tag == RECV_TAG && cqe->res < 0)) receive_once(number); /* again, when the buffers had run out */
    if (tag == ARM_TAG && !(cqe->flags & IORING_CQE_F_MORE)) arm(number);
    if (cqe->flags & IORING_CQE_F_BUFFER) return_buffer(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    return !polled && cqe->res > 0 ? (uint64_t)cqe->res : 0;
}

/* receive_all waits until each socket has received the byte that its client wrote. */
static void receive_all(void)
{
    uint64_t seen = 0;
    while (seen < connections) {
        int n = io_uring_submit_and_wait(&ring, 1);
        if (n < 0 && n != -EINTR) floor_must_ring(n, "io_uring_enter");
        unsigned head, count = 0;
        struct io_uring_cqe *cqe;
        io_uring_for_each_cqe(&ring, head, cqe)
        {
            count++;
            seen += reap(cqe);
        }
        io_uring_cq_advance(&ring, count);
    }
    if (seen != connections)
        floor_fail("%llu bytes came from %llu clients", (unsigned long long)seen, (unsigned long long)connections);
}

/* --- the other ends -------------------------------------------------------------------------------------------- */

static _Noreturn void client(const struct sockaddr_in *address)
{
    close(client_pipe[1]);
    int *fds = calloc(connections, sizeof *fds);
    ASSERT(fds);
    for (uint64_t i = 0; i < connections; i++) {
        fds[i] = (int)floor_must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        floor_must(connect(fds[i], (const struct sockaddr *)address, sizeof *address), "connect");
    }
    char order;
    while (floor_must(read(client_pipe[0], &order, 1), "read") == 1)
        for (uint64_t i = 0; i < connections; i++) floor_must(send(fds[i], "x", 1, MSG_NOSIGNAL), "send");
    exit(0);
}
