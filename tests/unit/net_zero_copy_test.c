#include "net_app.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../net/connection.h"

/* Sends without a copy over loopback, where the kernel always copies; but frames are held as on any other way. A peer
 * that does not read acknowledges what its receive buffer takes and no more. */

#define SMALL 4096 /* a receive buffer; who reads through it takes long */
#define LARGE (16u << 10)
#define BALLAST (192u << 10) /* more than the receive buffer of a peer of `stuffed`, much less than a send buffer */

static _Atomic int64_t account; /* bytes of the frames that are not freed */

static struct app *opened(struct app *a, enum net_zero_copy mode)
{
    a->limits.zero_copy = mode;
    a->limits.send_queue_bytes_max = 64u << 20;
    a->limits.idle_timeout_ns = a->limits.ping_interval_ns = a->limits.stall_timeout_ns = 3600 * SECOND;
    a->send_buffer_bytes = 1 << 20;
    account = 0;
    app_open(a);
    return a;
}

static uint64_t result(const struct app *a, enum net_zero_copy_result r) { return net_stats(a->n)->zero_copy[r]; }

static uint64_t results(const struct app *a)
{
    uint64_t sum = 0;
    for (unsigned r = 0; r < NET_ZERO_COPY_RESULTS; r++) sum += result(a, (enum net_zero_copy_result)r);
    return sum;
}

/* connected is a WebSocket's client end; receive_bytes 0: a buffer of the usual size. */
static int connected(struct app *a, int receive_bytes)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(a->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_bytes) assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(write(fd, UPGRADE, sizeof UPGRADE - 1), sizeof UPGRADE - 1);
    char answer[512];
    ssize_t len = 0;
    UNTIL(a, len > 0 || (len = recv(fd, answer, sizeof answer, 0)) > 0);
    assert_memory_equal(answer, "HTTP/1.1 101 ", 13);
    struct conn *c = net_conn(a->n, a->last_ws);
    assert_true(c->zero_copy_way == (a->limits.zero_copy == NET_ZERO_COPY_ON ? ZERO_COPY_UNTRIED : ZERO_COPY_COPIES));
    c->zero_copy_way = ZERO_COPY_UNTRIED; /* as if it came from elsewhere */
    return fd;
}

static struct frame *frame_of(uint32_t len, char fill)
{
    struct frame *f = frame_new(1, len);
    memset(frame_data(f), fill, len);
    f->account = &account;
    f->charged = len;
    atomic_fetch_add(&account, (int64_t)len);
    return f;
}

static void send_to(struct app *a, struct conn_ref ref, struct frame *f)
{
    struct conn *c = net_conn(a->n, ref);
    assert_non_null(c);
    assert_int_equal(net_send(a->n, c, f, CONN_DURABLE), STATUS_OK);
    UNTIL(a, !c->sending && net_queued(c) == 0);
}

/* reads `len` bytes, all of them `fill` */
static void reads(struct app *a, int fd, size_t len, char fill)
{
    static char in[1 << 16];
    uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS;
    while (len > 0) {
        assert_true(clock_mono_ns(clock_real()) < until_ns);
        ssize_t n = recv(fd, in, len < sizeof in ? len : sizeof in, 0);
        for (ssize_t i = 0; i < n; i++) assert_int_equal(in[i], fill);
        if (n > 0) len -= (size_t)n;
        if (a) turn(a);
    }
}

/* stuffed is a peer whose receive buffer is full: what comes behind the ballast is not acknowledged until it reads. */
static int stuffed(struct app *a)
{
    int fd = connected(a, 32 << 10);
    struct frame *f = frame_of(BALLAST, 'B');
    f->account = NULL;
    account -= BALLAST;
    send_to(a, a->last_ws, f);
    return fd;
}

/* --- when it is done, and when not ------------------------------------------------------------------------------ */

static void a_send_that_was_copied_is_its_connections_last(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_AUTO);
    for (unsigned peer = 1; peer <= 2; peer++) {
        int fd = connected(a, 0);
        for (unsigned i = 0; i < 5; i++) {
            send_to(a, a->last_ws, frame_of(LARGE, 'f'));
            reads(a, fd, LARGE, 'f');
        }
        UNTIL(a, account == 0);
        assert_int_equal(result(a, NET_ZERO_COPY_COPIED), peer);
        close(fd);
    }
    assert_int_equal(results(a), 2);
    UNTIL(a, net_connections(a->n) == 0);
    app_close(a);
}

/* Until a first notification has told whether it pays, nothing else is sent that way. */
static void one_send_is_tried_at_a_time(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_AUTO);
    int fd = stuffed(a);
    for (unsigned i = 0; i < 3; i++) send_to(a, a->last_ws, frame_of(LARGE, 't'));
    assert_int_equal(net_conn(a->n, a->last_ws)->zero_copies, 1);
    assert_int_equal(account, LARGE); /* the others are the kernel's own */
    reads(a, fd, BALLAST, 'B');
    reads(a, fd, 3 * LARGE, 't');
    UNTIL(a, account == 0);
    assert_int_equal(results(a), 1);
    close(fd);
    app_close(a);
}

static void on_it_never_goes_back(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_ON);
    int fd = connected(a, 0);
    for (unsigned i = 0; i < 5; i++) {
        send_to(a, a->last_ws, frame_of(ZERO_COPY_BYTES_MIN, 'o'));
        reads(a, fd, ZERO_COPY_BYTES_MIN, 'o');
    }
    UNTIL(a, account == 0);
    assert_int_equal(result(a, NET_ZERO_COPY_COPIED), 5);
    close(fd);
    app_close(a);
}

static void what_is_small_or_counted_nowhere_is_copied(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_ON);
    int fd = connected(a, 0);
    send_to(a, a->last_ws, frame_of(ZERO_COPY_BYTES_MIN - 1, 's'));
    struct frame *f = frame_of(LARGE, 's');
    f->account = NULL;
    account -= LARGE;
    send_to(a, a->last_ws, f);
    reads(a, fd, ZERO_COPY_BYTES_MIN - 1 + LARGE, 's');
    turns(a, 3);
    assert_int_equal(results(a) + a->n->zero_copy.num_held, 0);
    close(fd);
    app_close(a);
}

static void off_it_is_never_tried(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_OFF);
    int fd = connected(a, 0);
    send_to(a, a->last_ws, frame_of(LARGE, 'n'));
    reads(a, fd, LARGE, 'n');
    turns(a, 3);
    assert_int_equal(results(a) + a->n->zero_copy.num_held, 0);
    close(fd);
    app_close(a);
}

/* --- what is held ------------------------------------------------------------------------------------------- */

static void a_frame_is_held_until_its_peer_has_acknowledged_it(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_ON);
    int fd = stuffed(a);
    struct frame *f = frame_of(LARGE, 'h');
    send_to(a, a->last_ws, f);
    turns(a, 5);
    assert_int_equal(account, LARGE);
    assert_int_equal(f->cores[0].refs, 1);
    assert_int_equal(a->n->zero_copy.held_bytes, LARGE);
    reads(a, fd, BALLAST, 'B');
    reads(a, fd, LARGE, 'h');
    UNTIL(a, account == 0);
    assert_int_equal(a->n->zero_copy.held_bytes, 0);
    close(fd);
    app_close(a);
}

/* What the socket takes only in parts is sent on from where it fell short, each part on its own. */
static void a_frame_longer_than_the_socket_takes_arrives_whole(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_ON);
    int fd = connected(a, 0);
    const uint32_t len = 16u << 20;
    struct frame *f = frame_of(len, 'l');
    assert_int_equal(net_send(a->n, net_conn(a->n, a->last_ws), f, CONN_DURABLE), STATUS_OK);
    turns(a, 3); /* nobody reads */
    reads(a, fd, len, 'l');
    UNTIL(a, account == 0);
    assert_true(net_stats(a->n)->short_sends > 0 && results(a) > 1);
    close(fd);
    app_close(a);
}

static void a_connection_ends_and_its_frame_is_held_on(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_ON);
    int fd = stuffed(a);
    struct conn_ref first = a->last_ws;
    send_to(a, first, frame_of(LARGE, 'e'));
    net_abort(a->n, net_conn(a->n, first));
    UNTIL(a, net_connections(a->n) == 0);
    assert_int_equal(account, LARGE);

    int other = connected(a, 0); /* in the same place */
    assert_int_equal(a->last_ws.slot, first.slot);
    assert_int_not_equal(a->last_ws.generation, first.generation);
    reads(a, fd, BALLAST, 'B');
    reads(a, fd, LARGE, 'e'); /* sent by a socket that is closed */
    UNTIL(a, account == 0);
    assert_int_equal(net_conn(a->n, a->last_ws)->zero_copies, 0);
    send_to(a, a->last_ws, frame_of(LARGE, 'f'));
    reads(a, other, LARGE, 'f');
    UNTIL(a, account == 0);
    close(fd);
    close(other);
    app_close(a);
}

static void expect_kept(struct app *a)
{
    assert_int_equal(net_stats(a->n)->slow_closed, 0);
    assert_non_null(net_conn(a->n, a->last_ws));
}

static void expect_closed_as_slow(struct app *a, int fd)
{
    assert_int_equal(net_stats(a->n)->slow_closed, 1);
    assert_null(net_conn(a->n, a->last_ws));
    close(fd);
    UNTIL(a, account == 0);
    app_close(a);
}

static void who_acknowledges_nothing_is_too_slow_in_the_end(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_ON);
    int fd = connected(a, SMALL);
    send_to(a, a->last_ws, frame_of(LARGE, 'a'));
    a->skipped_ns += (ZERO_COPY_HELD_MS_MAX - 5000) * 1000000ull;
    turns(a, 3);
    expect_kept(a);
    a->skipped_ns += 10 * SECOND;
    turns(a, 3);
    expect_closed_as_slow(a, fd);
}

/* A send buffer of megabytes takes a slow peer longer than that. */
static void who_acknowledges_little_at_a_time_is_not(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_ON);
    int fd = stuffed(a);
    for (unsigned i = 0; i < 20; i++) send_to(a, a->last_ws, frame_of(LARGE, 'g'));
    reads(a, fd, BALLAST, 'B');
    for (unsigned i = 0; i < 3; i++) {
        int64_t held = account;
        a->skipped_ns += (ZERO_COPY_HELD_MS_MAX - 20000) * 1000000ull;
        reads(a, fd, (size_t)4 * LARGE, 'g');
        UNTIL(a, account < held);
    }
    expect_kept(a);
    a->skipped_ns += 2 * ZERO_COPY_HELD_MS_MAX * 1000000ull;
    turns(a, 3);
    a->skipped_ns += 2 * ZERO_COPY_HELD_MS_MAX * 1000000ull;
    turns(a, 3);
    expect_closed_as_slow(a, fd);
}

/* The kernel goes on sending behind the end of the process's ring. */
static void what_is_held_at_the_end_stays_as_it_is(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_ON);
    int fd = stuffed(a);
    struct frame *f = frame_of(LARGE, 'k');
    send_to(a, a->last_ws, f);
    app_end(a);
    assert_int_equal(account, LARGE);
    assert_int_equal(f->cores[0].refs, 1);
    reads(NULL, fd, BALLAST, 'B');
    reads(NULL, fd, LARGE, 'k');
    close(fd);
}

/* --- bounds ------------------------------------------------------------------------------------------------- */

static void a_connection_holds_so_many_sends_and_copies_the_others(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_ON);
    int fd = stuffed(a);
    const unsigned num = ZERO_COPY_CONN_SENDS_MAX + 9;
    for (unsigned i = 0; i < num; i++) send_to(a, a->last_ws, frame_of(ZERO_COPY_BYTES_MIN, 'c'));
    assert_int_equal(net_conn(a->n, a->last_ws)->zero_copies, ZERO_COPY_CONN_SENDS_MAX);
    reads(a, fd, BALLAST, 'B');
    reads(a, fd, num * ZERO_COPY_BYTES_MIN, 'c');
    UNTIL(a, account == 0);
    assert_in_range(results(a), ZERO_COPY_CONN_SENDS_MAX, num - 1);
    close(fd);
    app_close(a);
}

static void a_core_holds_so_many_bytes_and_copies_the_others(void **state)
{
    struct app *a = opened(*state, NET_ZERO_COPY_ON);
    const uint32_t len = ZERO_COPY_BYTES_MAX / 8;
    struct frame *f = frame_of(len, 'b'); /* counted for each send */
    int fds[10];
    for (unsigned i = 0; i < 10; i++) {
        fds[i] = connected(a, SMALL);
        assert_int_equal(net_send(a->n, net_conn(a->n, a->last_ws), f, CONN_DURABLE), STATUS_OK);
        turns(a, 3);
    }
    assert_int_equal(a->n->zero_copy.num_held, 8);
    assert_int_equal(a->n->zero_copy.held_bytes, ZERO_COPY_BYTES_MAX);
    for (unsigned i = 0; i < 10; i++) close(fds[i]);
    UNTIL(a, account == 0);
    assert_int_equal(a->n->zero_copy.held_bytes, 0);
    app_close(a);
}

static void a_core_holds_so_many_sends_and_copies_the_others(void **state)
{
    enum { PEERS = ZERO_COPY_SENDS_MAX / ZERO_COPY_CONN_SENDS_MAX + 8 };
    struct app *a = opened(*state, NET_ZERO_COPY_ON);
    static int fds[PEERS];
    static struct conn_ref refs[PEERS];
    for (unsigned i = 0; i < PEERS; i++) {
        fds[i] = connected(a, SMALL);
        refs[i] = a->last_ws;
    }
    struct frame *f = frame_of(ZERO_COPY_BYTES_MIN, 'm');
    frame_ref(f, 0);
    for (unsigned i = 0; i < ZERO_COPY_CONN_SENDS_MAX + 4; i++) {
        for (unsigned peer = 0; peer < PEERS; peer++)
            assert_int_equal(net_send(a->n, net_conn(a->n, refs[peer]), f, CONN_DURABLE), STATUS_OK);
        turns(a, 2);
        assert_true(a->n->zero_copy.num_held <= ZERO_COPY_SENDS_MAX);
    }
    assert_int_equal(a->n->zero_copy.num_held, ZERO_COPY_SENDS_MAX);
    for (unsigned i = 0; i < PEERS; i++) close(fds[i]);
    UNTIL(a, f->cores[0].refs == 1 && a->n->zero_copy.num_held == 0);
    frame_unref(f, 0);
    app_close(a);
}

/* Peers of all cores can hold frames that one core made: what they hold leaves its rooms most of what they may have in
 * flight, which with little memory is less than what a core may hold. */
static void frames_that_have_many_in_flight_beside_them_are_copied(void **state)
{
    struct app *a = *state;
    a->limits.zero_copy_account_max = 3 * LARGE;
    opened(a, NET_ZERO_COPY_ON);
    int fd = stuffed(a);
    for (unsigned i = 0; i < 8; i++) send_to(a, a->last_ws, frame_of(LARGE, 'q'));
    assert_int_equal(account, 3 * LARGE);
    assert_int_equal(a->n->zero_copy.num_held, 3);
    reads(a, fd, BALLAST, 'B');
    reads(a, fd, 8 * LARGE, 'q');
    UNTIL(a, account == 0);
    close(fd);
    app_close(a);
}

/* Pages that are being sent count as locked memory, unless the process may lock what it likes (CAP_IPC_LOCK). */
static void where_no_memory_may_be_locked_sends_copy_for_a_while(void **state)
{
    struct rlimit before, little;
    getrlimit(RLIMIT_MEMLOCK, &before);
    little = before;
    little.rlim_cur = LARGE / 2;
    bool root = geteuid() == 0;
    if (root) assert_int_equal(seteuid(65534), 0);
    struct app *a = opened(*state, NET_ZERO_COPY_ON); /* what the ring itself locks goes by the limit of before */
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &little), 0);
    int fd = connected(a, 0);
    for (unsigned i = 0; i < 3; i++) {
        send_to(a, a->last_ws, frame_of(LARGE, 'w'));
        reads(a, fd, LARGE, 'w');
    }
    UNTIL(a, account == 0);
    assert_int_equal(result(a, NET_ZERO_COPY_FAILED), 1);
    a->skipped_ns += 2 * ZERO_COPY_REST_MS * 1000000ull;
    turns(a, 1);
    send_to(a, a->last_ws, frame_of(LARGE, 'w'));
    reads(a, fd, LARGE, 'w');
    UNTIL(a, result(a, NET_ZERO_COPY_FAILED) == 2);
    assert_int_equal(results(a), 2);
    close(fd);
    app_close(a);
    if (root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_TEST(a_send_that_was_copied_is_its_connections_last),
        NET_TEST(one_send_is_tried_at_a_time),
        NET_TEST(on_it_never_goes_back),
        NET_TEST(what_is_small_or_counted_nowhere_is_copied),
        NET_TEST(off_it_is_never_tried),
        NET_TEST(a_frame_is_held_until_its_peer_has_acknowledged_it),
        NET_TEST(a_frame_longer_than_the_socket_takes_arrives_whole),
        NET_TEST(a_connection_ends_and_its_frame_is_held_on),
        NET_TEST(who_acknowledges_nothing_is_too_slow_in_the_end),
        NET_TEST(who_acknowledges_little_at_a_time_is_not),
        NET_TEST(what_is_held_at_the_end_stays_as_it_is),
        NET_TEST(a_connection_holds_so_many_sends_and_copies_the_others),
        NET_TEST(a_core_holds_so_many_bytes_and_copies_the_others),
        NET_TEST(a_core_holds_so_many_sends_and_copies_the_others),
        NET_TEST(frames_that_have_many_in_flight_beside_them_are_copied),
        NET_TEST(where_no_memory_may_be_locked_sends_copy_for_a_while),
    };
    return cmocka_run_group_tests_name("net_zero_copy", tests, app_descriptors, NULL);
}
