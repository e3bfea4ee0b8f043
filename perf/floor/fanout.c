/* floor-fanout: what the kernel charges for giving one message to N sockets. The sender has a prebuilt WebSocket frame
 * and nothing else to do; the receiver, another process on another CPU, drains, counts and publishes the next message.
 *
 * A publish is one byte on a control connection. What has arrived by the time the sender looks is one turn: that many
 * frames go to each socket in one send, as a server does that coalesces. Every socket gets the same stream, so its
 * position in it (`sent`) says what comes next, and a short send needs no queue. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "floor.h"

#define SQ_ENTRIES 4096u /* as a core of the gateway has */
#define CQ_ENTRIES 65536u
#define WINDOW_MAX 256u
#define SUBSCRIBERS_MAX 19000u /* under 20,000 descriptors, a common hard limit */
#define BACKLOG 4096
#define DRAIN_BUFFERS 256u
#define DRAIN_BUFFER_BYTES 16384u
#define FRAME_START 0x82   /* FIN and binary, RFC 6455, section 5.2; the content is another byte */
#define CONTROL UINT32_MAX /* user_data of the control connection; else the subscriber's number */
#define POLLED (1ull << 32)

enum way { WAY_SEND, WAY_URING, WAY_SILENT };
enum until { UNTIL_FIRST, UNTIL_ALL };
enum receiver_idle { RECEIVER_SLEEPS, RECEIVER_SPINS };

static const char *const way_names[] = {"send", "uring", "silent", NULL};
static const char *const until_names[] = {"first", "all", NULL};
static const char *const idle_names[] = {"sleeps", "spins", NULL};
static unsigned way = WAY_SILENT, until = UNTIL_FIRST, receiver_idle = RECEIVER_SLEEPS;
static uint64_t subscribers = 1000, size = 330, window = 1;
static double seconds = 1, warmup = 0.2;

static const struct floor_option options[] = {
    {"way", FLOOR_CHOICE, &way, 0, 0, way_names, "send(2), io_uring SEND, or SEND that completes only when short"},
    {"subscribers", FLOOR_COUNT, &subscribers, 1, SUBSCRIBERS_MAX, NULL, "sockets that get each message"},
    {"size", FLOOR_COUNT, &size, 4, 65536, NULL, "bytes of a frame, header included"},
    {"window", FLOOR_COUNT, &window, 1, WINDOW_MAX, NULL, "messages in flight; those of one turn are sent together"},
    {"until", FLOOR_CHOICE, &until, 0, 0, until_names,
     "a message is in flight until its first receipt, or all of them"},
    {"receiver", FLOOR_CHOICE, &receiver_idle, 0, 0, idle_names, "what it does when nothing has arrived"},
    {"seconds", FLOOR_REAL, &seconds, 0.01, FLOOR_SECONDS_MAX, NULL, "measured time"},
    {"warmup", FLOOR_REAL, &warmup, 0, 10, NULL, "time before it that is not counted"},
    {0},
};

static const struct floor_program program = {
    .name = "floor-fanout",
    .about = "sends of one prebuilt frame to N sockets over loopback TCP, by the kernel's price alone",
    .figures =
        "sends_per_second and cpu_ns_per_send count system calls or ring operations, deliveries frames: one send may\n"
        "hold several. sender_cpu_percent near 100 says that the sender was the first to be full. A receiver that\n"
        "sleeps has to be woken, and the sender pays for that; one that spins shows what is left. Every byte is\n"
        "counted at its receiver, and frames must begin where they should.",
    .examples = "  floor-fanout --way silent --subscribers 1000\n"
                "  floor-fanout --way send --subscribers 1000 --window 16\n",
    .options = options,
    .seconds = &seconds,
};

/* What the two processes tell each other beside the connections. */
struct shared {
    _Atomic bool measured;     /* by the sender: publish no more */
    _Atomic uint64_t cpu_ns;   /* of the receiver so far, written now and then */
    uint64_t bytes, published; /* of the receiver at its end */
};

struct subscriber {
    int fd;
    uint32_t asked; /* bytes of the send that was prepared last */
    uint64_t sent;  /* bytes of the stream that the kernel has taken, or will have */
};

struct sender {
    struct shared *shared;
    struct subscriber *to;
    char *frames; /* window + 1 of them, so that any turn's bytes lie in one piece from any position */
    int control;
    uint64_t target; /* position of the stream that every subscriber is to reach */
    uint64_t messages, sends, short_sends;
    uint32_t *behind; /* numbers of those that a short send left behind */
    uint32_t num_behind;
    struct io_uring ring;
    uint64_t began_ns, began_cpu_ns, began_receiver_ns, began_messages, began_sends; /* of the measured time */
    uint64_t ended_ns, ended_cpu_ns, ended_receiver_ns, ended_messages, ended_sends;
    uint64_t warm_at_ns, over_at_ns;
};

static int listen_here(struct sockaddr_in *address);
static void accept_all(struct sender *s, int listener);
static char *frames_new(void);
static void serve_by_calls(struct sender *s);
static void serve_by_ring(struct sender *s);
static void report(struct sender *s, int status);
static _Noreturn void receive(struct shared *shared, const struct sockaddr_in *address, int cpu);

int main(int argc, char **argv)
{
    floor_begin(&program, argc, argv);
    floor_descriptors(subscribers + 32);
    signal(SIGPIPE, SIG_IGN);
    int cpu = floor_cpu(0), other = floor_cpu(1);
    struct sockaddr_in address;
    int listener = listen_here(&address);
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(shared != MAP_FAILED);

    pid_t parent = getpid(), child = (pid_t)floor_must(fork(), "fork");
    if (child == 0) {
        floor_with_parent(parent);
        receive(shared, &address, other);
    }
    floor_pin(cpu);
    struct sender s = {.shared = shared, .frames = frames_new()};
    s.to = calloc(subscribers, sizeof *s.to);
    s.behind = calloc(subscribers, sizeof *s.behind);
    ASSERT(s.to && s.behind);
    accept_all(&s, listener);
    s.warm_at_ns = floor_now_ns() + (uint64_t)(warmup * FLOOR_SECOND_NS);
    s.over_at_ns = s.warm_at_ns + (uint64_t)(seconds * FLOOR_SECOND_NS);
    if (way == WAY_SEND)
        serve_by_calls(&s);
    else
        serve_by_ring(&s);

    int status;
    floor_must(waitpid(child, &status, 0), "waitpid");
    report(&s, status);
    return 0;
}

/* --- the sender ------------------------------------------------------------------------------------------------ */

static int listen_here(struct sockaddr_in *address)
{
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof *address;
    int on = 1, fd = (int)floor_must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    floor_must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on),
               "TCP_NODELAY"); /* inherited by what it accepts */
    floor_must(bind(fd, (struct sockaddr *)address, len), "bind");
    floor_must(listen(fd, BACKLOG), "listen");
    floor_must(getsockname(fd, (struct sockaddr *)address, &len), "getsockname");
    return fd;
}

/* The receiver connects its control first. Ours are closed by a reset: no port has to wait for a late segment. */
static void accept_all(struct sender *s, int listener)
{
    s->control = (int)floor_must(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept");
    for (uint64_t i = 0; i < subscribers; i++)
        s->to[i].fd = (int)floor_must(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept");
    close(listener);
}

static char *frames_new(void)
{
    char *frames = malloc((window + 1) * size);
    ASSERT(frames);
    for (uint64_t i = 0; i <= window; i++) {
        uint8_t *frame = (uint8_t *)frames + i * size;
        memset(frame, 'x', size);
        frame[0] = FRAME_START;
        if (size <= 125 + 2) {
            frame[1] = (uint8_t)(size - 2);
        } else {
            frame[1] = 126;
            frame[2] = (uint8_t)((size - 4) >> 8);
            frame[3] = (uint8_t)(size - 4);
        }
    }
    return frames;
}

/* The clock is read once a turn. The receiver hears that it is over, publishes no more, and closes when it has all. */
static void turn_begins(struct sender *s, uint64_t messages)
{
    uint64_t now = floor_now_ns();
    uint64_t receiver = atomic_load_explicit(&s->shared->cpu_ns, memory_order_relaxed);
    if (!s->began_ns && now >= s->warm_at_ns) {
        s->began_ns = now;
        s->began_cpu_ns = floor_cpu_ns();
        s->began_receiver_ns = receiver;
        s->began_messages = s->messages;
        s->began_sends = s->sends;
    } else if (s->began_ns && !s->ended_ns && now >= s->over_at_ns) {
        s->ended_ns = now;
        s->ended_cpu_ns = floor_cpu_ns();
        s->ended_receiver_ns = receiver;
        s->ended_messages = s->messages;
        s->ended_sends = s->sends;
        atomic_store(&s->shared->measured, true);
    }
    s->messages += messages;
    s->target += messages * size;
}

static const char *next_bytes(struct sender *s, struct subscriber *to)
{
    to->asked = (uint32_t)(s->target - to->sent);
    ASSERT(to->asked <= window * size);
    return s->frames + to->sent % size;
}

static void sent(struct sender *s, uint32_t number, long result)
{
    struct subscriber *to = &s->to[number];
    if (result == -EAGAIN) result = 0;
    if (result < 0) floor_fail("send: %s", strerror((int)-result));
    to->sent += (uint64_t)result;
    if (result == to->asked) return;
    s->short_sends++;
    s->behind[s->num_behind++] = number;
}

static void call_send(struct sender *s, uint32_t number)
{
    const char *bytes = next_bytes(s, &s->to[number]);
    ssize_t n = send(s->to[number].fd, bytes, s->to[number].asked, MSG_DONTWAIT | MSG_NOSIGNAL);
    s->sends++;
    sent(s, number, n < 0 ? -errno : n);
}

static void serve_by_calls(struct sender *s)
{
    char publishes[WINDOW_MAX];
    for (;;) {
        ssize_t n = floor_must(recv(s->control, publishes, window, 0), "recv of a publish");
        if (n == 0) return;
        turn_begins(s, (uint64_t)n);
        for (uint32_t i = 0; i < subscribers; i++) call_send(s, i);
        while (s->num_behind) {
            uint32_t waiting = s->num_behind;
            s->num_behind = 0;
            for (uint32_t i = 0; i < waiting; i++) {
                uint32_t number = s->behind[i];
                struct pollfd room = {.fd = s->to[number].fd, .events = POLLOUT};
                floor_must(poll(&room, 1, -1), "poll");
                call_send(s, number);
            }
        }
    }
}

static void open_ring(struct sender *s)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
                                     .cq_entries = CQ_ENTRIES};
    floor_must_ring(io_uring_queue_init_params(SQ_ENTRIES, &s->ring, &params), "io_uring_setup");
    floor_must_ring(io_uring_register_ring_fd(&s->ring), "io_uring_register_ring_fd");
    int *table = malloc((subscribers + 1) * sizeof *table);
    ASSERT(table);
    for (uint64_t i = 0; i < subscribers; i++) table[i] = s->to[i].fd;
    table[subscribers] = s->control;
    floor_must_ring(io_uring_register_files(&s->ring, table, (unsigned)subscribers + 1), "io_uring_register_files");
    free(table);
}

static struct io_uring_sqe *next_sqe(struct sender *s)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
    if (LIKELY(sqe)) return sqe;
    floor_must_ring(io_uring_submit(&s->ring), "io_uring_submit");
    sqe = io_uring_get_sqe(&s->ring);
    ASSERT(sqe);
    return sqe;
}

/* A silent send counts as taken whole until its completion says otherwise; MSG_WAITALL is what makes a short one
 * complete at all. The plain one waits inside the kernel until it is whole. */
static void ring_send(struct sender *s, uint32_t number)
{
    const char *bytes = next_bytes(s, &s->to[number]);
    struct io_uring_sqe *sqe = next_sqe(s);
    int flags = MSG_WAITALL | MSG_NOSIGNAL | (way == WAY_SILENT ? MSG_DONTWAIT : 0);
    io_uring_prep_send(sqe, (int)number, bytes, s->to[number].asked, flags);
    sqe->flags |= IOSQE_FIXED_FILE | (way == WAY_SILENT ? IOSQE_CQE_SKIP_SUCCESS : 0);
    sqe->user_data = number;
    s->sends++;
    if (way == WAY_SILENT) s->to[number].sent += s->to[number].asked;
}

static void ring_poll(struct sender *s, uint32_t number)
{
    struct io_uring_sqe *sqe = next_sqe(s);
    io_uring_prep_poll_add(sqe, (int)number, POLLOUT);
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe->user_data = POLLED | number;
}

static void ring_listen(struct sender *s, char *publishes)
{
    struct io_uring_sqe *sqe = next_sqe(s);
    io_uring_prep_recv(sqe, (int)subscribers, publishes, window, 0);
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe->user_data = CONTROL;
}

/* What the turn's completions said; the next turn begins when nothing of this one is left. */
struct reaped {
    int64_t publishes; /* -1: none yet; 0: the end */
    uint32_t pending;  /* sends with completions, and polls */
};

static void reap(struct sender *s, struct reaped *r)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&s->ring, head, cqe)
    {
        count++;
        uint32_t number = (uint32_t)cqe->user_data;
        if (number == CONTROL) {
            r->publishes = floor_must_ring(cqe->res, "receiving a publish");
        } else if (cqe->user_data & POLLED) {
            floor_must_ring(cqe->res, "poll");
            r->pending--;
            s->behind[s->num_behind++] = number;
        } else {
            if (way == WAY_SILENT)
                s->to[number].sent -= s->to[number].asked;
            else
                r->pending--;
            uint32_t before = s->num_behind;
            sent(s, number, cqe->res);
            if (way == WAY_SILENT && s->num_behind > before) { /* wait until the socket takes more */
                s->num_behind--;
                ring_poll(s, number);
                r->pending++;
            }
        }
    }
    io_uring_cq_advance(&s->ring, count);
}

static void serve_by_ring(struct sender *s)
{
    char publishes[WINDOW_MAX];
    open_ring(s);
    struct reaped r = {.publishes = -1};
    ring_listen(s, publishes);
    for (;;) {
        int n = io_uring_submit_and_wait(&s->ring, 1);
        if (n < 0 && n != -EINTR) floor_must_ring(n, "io_uring_enter");
        reap(s, &r);
        for (; s->num_behind; s->num_behind--) {
            ring_send(s, s->behind[s->num_behind - 1]);
            if (way == WAY_URING) r.pending++;
        }
        if (r.publishes < 0 || r.pending) continue;
        if (r.publishes == 0) break;
        turn_begins(s, (uint64_t)r.publishes);
        for (uint32_t i = 0; i < subscribers; i++) ring_send(s, i);
        if (way == WAY_URING) r.pending += (uint32_t)subscribers;
        r.publishes = -1;
        ring_listen(s, publishes);
    }
    io_uring_queue_exit(&s->ring);
}

static void report(struct sender *s, int status)
{
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) floor_fail("the receiver ended with status %d", status);
    if (!s->ended_ns) floor_fail("the measured time did not come to its end");
    struct shared *shared = s->shared;
    if (shared->published != s->messages)
        floor_fail("%llu messages were published, %llu sent", (unsigned long long)shared->published,
                   (unsigned long long)s->messages);
    uint64_t expected = s->messages * size * subscribers;
    if (shared->bytes != expected)
        floor_fail("%llu bytes arrived of %llu", (unsigned long long)shared->bytes, (unsigned long long)expected);

    double wall_ns = (double)(s->ended_ns - s->began_ns), wall = wall_ns / (double)FLOOR_SECOND_NS;
    double cpu_ns = (double)(s->ended_cpu_ns - s->began_cpu_ns), sends = (double)(s->ended_sends - s->began_sends);
    double messages = (double)(s->ended_messages - s->began_messages), deliveries = messages * (double)subscribers;
    if (sends == 0) floor_fail("no turn ended within %g s: a longer time is needed", seconds);
    floor_text("way", way_names[way]);
    floor_number("subscribers", (double)subscribers);
    floor_number("size", (double)size);
    floor_number("window", (double)window);
    floor_text("until", until_names[until]);
    floor_text("receiver", idle_names[receiver_idle]);
    floor_number("seconds", wall);
    floor_number("messages_per_second", messages / wall);
    floor_number("sends_per_second", sends / wall);
    floor_number("deliveries_per_second", deliveries / wall);
    floor_number("bytes_per_second", deliveries * (double)size / wall);
    floor_number("cpu_ns_per_send", cpu_ns / sends);
    floor_number("cpu_ns_per_delivery", cpu_ns / deliveries);
    floor_number("sender_cpu_percent", 100 * cpu_ns / wall_ns);
    floor_number("receiver_cpu_percent", 100 * (double)(s->ended_receiver_ns - s->began_receiver_ns) / wall_ns);
    floor_number("short_sends", (double)s->short_sends);
    floor_end();
}

/* --- the receiver ---------------------------------------------------------------------------------------------- */

struct receiver {
    struct shared *shared;
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    char *bytes;
    int control;
    uint64_t *position;           /* of each subscriber in its stream, bytes */
    uint64_t published, done;     /* messages; `done` by --until */
    uint32_t arrived[WINDOW_MAX]; /* receipts of the messages in flight, for --until all */
    uint64_t turns;
};

static void connect_all(struct receiver *r, const struct sockaddr_in *address);
static void open_receiver(struct receiver *r, const int *table);
static void drain(struct receiver *r);
static void publish(struct receiver *r);

static _Noreturn void receive(struct shared *shared, const struct sockaddr_in *address, int cpu)
{
    floor_pin(cpu);
    struct receiver r = {.shared = shared, .position = calloc(subscribers, sizeof *r.position)};
    ASSERT(r.position);
    connect_all(&r, address);
    publish(&r);
    bool over = false;
    while (!over || r.shared->bytes < r.published * size * subscribers) {
        int n = receiver_idle == RECEIVER_SLEEPS ? io_uring_submit_and_wait(&r.ring, 1)
                                                 : io_uring_submit_and_get_events(&r.ring);
        if (n < 0 && n != -EINTR) floor_must_ring(n, "io_uring_enter of the receiver");
        drain(&r);
        if (++r.turns % 64 == 0) atomic_store_explicit(&shared->cpu_ns, floor_cpu_ns(), memory_order_relaxed);
        over = atomic_load_explicit(&shared->measured, memory_order_relaxed);
        if (!over) publish(&r);
    }
    shared->published = r.published;
    exit(0); /* whose sockets' end tells the sender that everything was seen */
}

static void connect_all(struct receiver *r, const struct sockaddr_in *address)
{
    /* Closed by a reset, a connection leaves no port in TIME_WAIT: runs of many sockets follow each other at once. The
     * control is closed properly, since its end of stream is a signal. */
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    int *table = malloc(subscribers * sizeof *table);
    ASSERT(table);
    for (uint64_t i = 0; i <= subscribers; i++) {
        int fd = (int)floor_must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        floor_must(connect(fd, (const struct sockaddr *)address, sizeof *address), "connect");
        if (i == 0) {
            int on = 1;
            floor_must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
            r->control = fd;
        } else {
            floor_must(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), "SO_LINGER");
            table[i - 1] = fd;
        }
    }
    open_receiver(r, table);
    free(table);
}

static void return_buffer(struct receiver *r, unsigned id)
{
    io_uring_buf_ring_add(r->buffers, r->bytes + (size_t)id * DRAIN_BUFFER_BYTES, DRAIN_BUFFER_BYTES, (uint16_t)id,
                          io_uring_buf_ring_mask(DRAIN_BUFFERS), 0);
    io_uring_buf_ring_advance(r->buffers, 1);
}

static void arm(struct receiver *r, uint64_t number)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    if (!sqe) {
        floor_must_ring(io_uring_submit(&r->ring), "io_uring_submit of the receiver");
        sqe = io_uring_get_sqe(&r->ring);
    }
    ASSERT(sqe);
    io_uring_prep_recv_multishot(sqe, (int)number, NULL, 0, 0);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    sqe->user_data = number;
}

static void open_receiver(struct receiver *r, const int *table)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
                                     .cq_entries = CQ_ENTRIES};
    floor_must_ring(io_uring_queue_init_params(SQ_ENTRIES, &r->ring, &params), "io_uring_setup of the receiver");
    floor_must_ring(io_uring_register_ring_fd(&r->ring), "io_uring_register_ring_fd");
    floor_must_ring(io_uring_register_files(&r->ring, table, (unsigned)subscribers), "io_uring_register_files");
    size_t ring_bytes = DRAIN_BUFFERS * sizeof(struct io_uring_buf);
    r->buffers = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    r->bytes = malloc((size_t)DRAIN_BUFFERS * DRAIN_BUFFER_BYTES);
    ASSERT(r->buffers != MAP_FAILED && r->bytes);
    struct io_uring_buf_reg registration = {.ring_addr = (uintptr_t)r->buffers, .ring_entries = DRAIN_BUFFERS};
    floor_must_ring(io_uring_register_buf_ring(&r->ring, &registration, 0), "io_uring_register_buf_ring");
    io_uring_buf_ring_init(r->buffers);
    for (unsigned i = 0; i < DRAIN_BUFFERS; i++) return_buffer(r, i);
    for (uint64_t i = 0; i < subscribers; i++) arm(r, i);
    floor_must_ring(io_uring_submit(&r->ring), "io_uring_submit of the receiver");
}

/* Each frame must begin where the stream says, and nothing else may look like its beginning. */
static void check_frames(const uint8_t *bytes, uint64_t position, uint64_t len)
{
    for (uint64_t at = (size - position % size) % size; at < len; at += size) {
        if (bytes[at] == FRAME_START && (at == 0 || bytes[at - 1] != FRAME_START)) continue;
        uint64_t where = position + at;
        floor_fail("no frame begins at byte %llu of a stream", (unsigned long long)where);
    }
}

static void arrive(struct receiver *r, uint64_t number, const uint8_t *bytes, uint64_t len)
{
    uint64_t before = r->position[number] / size;
    check_frames(bytes, r->position[number], len);
    r->position[number] += len;
    r->shared->bytes += len;
    uint64_t now = r->position[number] / size;
    if (now > r->published) floor_fail("a subscriber got a message that was not published");
    if (until == UNTIL_FIRST) {
        if (now > r->done) r->done = now;
        return;
    }
    for (uint64_t m = before; m < now; m++) {
        if (++r->arrived[m % WINDOW_MAX] < subscribers) continue;
        r->arrived[m % WINDOW_MAX] = 0;
        r->done++;
    }
}

static void drain(struct receiver *r)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&r->ring, head, cqe)
    {
        count++;
        if (cqe->res == 0) floor_fail("the sender closed a connection");
        if (cqe->res < 0 && cqe->res != -ENOBUFS) floor_must_ring(cqe->res, "recv");
        if (cqe->res > 0) {
            unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
            arrive(r, cqe->user_data, (uint8_t *)r->bytes + (size_t)id * DRAIN_BUFFER_BYTES, (uint64_t)cqe->res);
            return_buffer(r, id);
        }
        if (!(cqe->flags & IORING_CQE_F_MORE)) arm(r, cqe->user_data); /* the buffers had run out */
    }
    io_uring_cq_advance(&r->ring, count);
}

static void publish(struct receiver *r)
{
    static const char publishes[WINDOW_MAX];
    uint64_t due = r->done + window - r->published;
    if (due == 0) return;
    r->published += due;
    if (floor_must(send(r->control, publishes, due, MSG_NOSIGNAL), "publish") != (long)due)
        floor_fail("a short publish");
}
