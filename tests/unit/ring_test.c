#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "../../net/listener.h"
#include "../../net/ring.h"
#include "../../net/tag.h"
#include "../../src/base/clock.h"
#include "../../src/base/park.h"

#define MS 1000000ull

struct pair {
    struct ring *ring;
    int listen_fd, peer;
    uint32_t socket; /* in the ring's table */
    struct sockaddr_storage address;
    socklen_t address_len;
};

static struct ring_config small = {
    .sq_entries = 8, .cq_entries = 64, .descriptors = 4, .buffers = 4, .buffer_bytes = 128};

/* next waits for one completion. */
static struct ring_completion next(struct ring *ring)
{
    struct ring_completion done;
    uint64_t until_ns = clock_mono_ns(clock_real()) + 5000 * MS;
    while (!ring_next(ring, &done)) {
        assert_true(clock_mono_ns(clock_real()) < until_ns);
        ring_enter(ring, true, 100 * MS);
    }
    return done;
}

static bool nothing_comes(struct ring *ring)
{
    struct ring_completion done;
    ring_enter(ring, true, 30 * MS);
    return !ring_next(ring, &done);
}

static struct ring *open_ring(const struct ring_config *config)
{
    char why[256];
    struct ring *ring;
    enum status s = ring_open(&ring, config, why, sizeof why);
    if (s != STATUS_OK) print_error("%s\n", why);
    assert_int_equal(s, STATUS_OK);
    assert_int_equal(ring_enable_here(ring), STATUS_OK);
    return ring;
}

static int connect_to(const char *name, int receive_bytes)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(strrchr(name, ':') + 1)),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (receive_bytes) assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes), 0);
    assert_true(connect(fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    assert_int_equal(poll(&p, 1, 5000), 1);
    return fd;
}

/* pair_open_to: the peer has a receive buffer of this size; 0: of the usual one. */
static struct pair pair_open_to(int receive_bytes)
{
    struct pair p = {.ring = open_ring(&small)};
    char why[256], name[LISTENER_NAME_LEN];
    const struct listener_tcp listener = {.address = "127.0.0.1:0", .send_buffer_bytes = 20000};
    assert_int_equal(listener_open_tcp(&p.listen_fd, name, &listener, why, sizeof why), STATUS_OK);
    ring_accept(p.ring, p.listen_fd, &p.address, &p.address_len, false, tag_make(RING_OP_ACCEPT, 1, 2));
    p.peer = connect_to(name, receive_bytes);
    struct ring_completion done = next(p.ring);
    assert_int_equal(done.tag, tag_make(RING_OP_ACCEPT, 1, 2));
    assert_true(done.result >= 0 && !(done.flags & RING_MORE));
    p.socket = (uint32_t)done.result;
    return p;
}

static struct pair pair_open(void)
{
    return pair_open_to(0);
}

static void pair_close(struct pair *p)
{
    ring_close_all(p->ring);
    close(p->peer);
    close(p->listen_fd);
}

static void a_tag_keeps_its_parts(void **state)
{
    uint64_t tag = tag_make(RING_OP_CLOSE, 0xabcdef, 0xfedcba98);
    assert_int_equal(tag_op(tag), RING_OP_CLOSE);
    assert_int_equal(tag_generation(tag), 0xabcdef);
    assert_int_equal(tag_slot(tag), 0xfedcba98);
    assert_int_equal(tag_generation(tag_make(RING_OP_RECV, 0x1000001, 0)), 1);
}

static void an_accept_tells_the_peers_address(void **state)
{
    struct pair p = pair_open();
    struct sockaddr_in local;
    socklen_t len = sizeof local;
    getsockname(p.peer, (struct sockaddr *)&local, &len);
    assert_int_equal(p.address.ss_family, AF_INET);
    assert_int_equal(((struct sockaddr_in *)&p.address)->sin_port, local.sin_port);
    pair_close(&p);
}

static void a_backlog_tells_how_many_wait(void **state)
{
    struct ring *ring = open_ring(&small);
    char why[256], name[LISTENER_NAME_LEN];
    const struct listener_tcp listener = {.address = "127.0.0.1:0"};
    struct sockaddr_storage peer[2];
    socklen_t peer_len[2];
    int fd;
    assert_int_equal(listener_open_tcp(&fd, name, &listener, why, sizeof why), STATUS_OK);
    assert_int_equal(ring_backlog(fd), 0);
    int clients[2] = {connect_to(name, 0), connect_to(name, 0)};
    for (unsigned i = 0; i < 5000 && ring_backlog(fd) < 2; i++) usleep(1000); /* the last ACK may be on its way */
    assert_int_equal(ring_backlog(fd), 2);
    for (unsigned i = 0; i < 2; i++)
        ring_accept(ring, fd, &peer[i], &peer_len[i], true, tag_make(RING_OP_ACCEPT, 1, i));
    assert_true(next(ring).result >= 0);
    assert_true(next(ring).result >= 0);
    assert_int_equal(ring_backlog(fd), 0);
    assert_int_equal(ring_backlog(clients[0]), 0);
    assert_int_equal(ring_backlog(STDIN_FILENO), 0); /* not even a socket */
    ring_close_all(ring);
    close(clients[0]);
    close(clients[1]);
    close(fd);
}

static void a_receive_goes_on_until_the_stream_ends(void **state)
{
    struct pair p = pair_open();
    ring_recv(p.ring, p.socket, tag_make(RING_OP_RECV, 1, 0));
    for (unsigned i = 0; i < 10; i++) {
        char text[8];
        snprintf(text, sizeof text, "text %u", i);
        assert_int_equal(send(p.peer, text, 6, 0), 6);
        struct ring_completion done = next(p.ring);
        assert_int_equal(done.result, 6);
        assert_true((done.flags & RING_MORE) && (done.flags & RING_BUFFER));
        assert_memory_equal(ring_buffer(p.ring, done.buffer), text, 6);
        ring_buffer_return(p.ring, done.buffer);
    }
    shutdown(p.peer, SHUT_WR);
    struct ring_completion done = next(p.ring);
    assert_int_equal(done.result, 0);
    assert_false(done.flags & RING_MORE);
    pair_close(&p);
}

static void running_out_of_buffers_ends_a_receive_and_it_can_be_armed_again(void **state)
{
    struct pair p = pair_open();
    char fill[6 * 128];
    memset(fill, 'f', sizeof fill);
    assert_int_equal(send(p.peer, fill, sizeof fill, 0), sizeof fill);
    ring_recv(p.ring, p.socket, tag_make(RING_OP_RECV, 1, 0));
    uint16_t held[4];
    for (unsigned i = 0; i < 4; i++) {
        struct ring_completion done = next(p.ring);
        assert_int_equal(done.result, 128);
        assert_true(done.flags & RING_MORE);
        held[i] = done.buffer;
    }
    struct ring_completion done = next(p.ring);
    assert_int_equal(done.result, -ENOBUFS);
    assert_false(done.flags & RING_MORE);
    assert_int_equal(ring_stats(p.ring)->buffers_empty, 1);
    for (unsigned i = 0; i < 4; i++) ring_buffer_return(p.ring, held[i]);
    ring_recv(p.ring, p.socket, tag_make(RING_OP_RECV, 1, 0));
    for (unsigned i = 0; i < 2; i++) {
        done = next(p.ring);
        assert_int_equal(done.result, 128);
        ring_buffer_return(p.ring, done.buffer);
    }
    pair_close(&p);
}

static void a_poll_tells_of_what_is_there_and_of_what_comes(void **state)
{
    struct pair p = pair_open();
    uint64_t poll_tag = tag_make(RING_OP_POLL_IN, 1, 0), recv_tag = tag_make(RING_OP_RECV, 1, 0);
    for (unsigned i = 0; i < 3; i++) {
        ring_poll_in(p.ring, p.socket, poll_tag);
        assert_true(nothing_comes(p.ring));
        assert_int_equal(send(p.peer, "comes", 5, 0), 5);
        for (unsigned again = 0; again < 2; again++) { /* and it is there still */
            struct ring_completion done = next(p.ring);
            assert_int_equal(done.tag, poll_tag);
            assert_true(done.result > 0 && done.result & POLLIN && !(done.flags & RING_MORE));
            if (again == 0) ring_poll_in(p.ring, p.socket, poll_tag);
        }
        ring_recv_once(p.ring, p.socket, recv_tag);
        struct ring_completion done = next(p.ring);
        assert_int_equal(done.result, 5);
        ring_buffer_return(p.ring, done.buffer);
    }
    ring_poll_in(p.ring, p.socket, poll_tag);
    shutdown(p.peer, SHUT_WR);
    assert_int_equal(next(p.ring).tag, poll_tag);
    ring_recv_once(p.ring, p.socket, recv_tag);
    assert_int_equal(next(p.ring).result, 0);
    pair_close(&p);
}

static void a_single_receive_waits_ends_and_tells_that_more_is_there(void **state)
{
    struct pair p = pair_open();
    uint64_t tag = tag_make(RING_OP_RECV, 1, 0);
    ring_recv_once(p.ring, p.socket, tag);
    assert_true(nothing_comes(p.ring));
    char fill[200];
    memset(fill, 'f', sizeof fill);
    assert_int_equal(send(p.peer, fill, sizeof fill, 0), sizeof fill);
    struct ring_completion done = next(p.ring);
    assert_int_equal(done.result, 128); /* a buffer */
    assert_true(done.flags & RING_NONEMPTY && !(done.flags & RING_MORE));
    ring_buffer_return(p.ring, done.buffer);
    assert_true(nothing_comes(p.ring));
    ring_recv_once(p.ring, p.socket, tag);
    done = next(p.ring);
    assert_int_equal(done.result, 200 - 128);
    assert_false(done.flags & (RING_NONEMPTY | RING_MORE));
    ring_buffer_return(p.ring, done.buffer);
    pair_close(&p);
}

/* fill sends until neither side takes a byte more and adds what was taken to *sent. */
static void fill(struct pair *p, size_t *sent, const char *data, size_t len)
{
    struct ring_completion done;
    do {
        ring_send(p->ring, p->socket, data, len, tag_make(RING_OP_SEND, 1, 0));
        ring_enter(p->ring, true, 20 * MS);
        if (!ring_next(p->ring, &done)) done.result = (int32_t)len;
        assert_true(done.result > 0 || done.result == -EAGAIN);
        if (done.result > 0) *sent += (size_t)done.result;
    } while (done.result > 0);
}

static void a_send_taken_whole_is_silent_and_a_short_one_tells_its_count(void **state)
{
    struct pair p = pair_open();
    uint64_t tag = tag_make(RING_OP_SEND, 1, 0);
    ring_send(p.ring, p.socket, "whole", 5, tag);
    assert_true(nothing_comes(p.ring));
    char got[16];
    assert_int_equal(recv(p.peer, got, sizeof got, 0), 5);

    enum { MUCH = 8 << 20 };
    char *much = malloc(MUCH);
    memset(much, 'm', MUCH);
    ring_send(p.ring, p.socket, much, MUCH, tag);
    struct ring_completion done = next(p.ring);
    assert_int_equal(done.tag, tag);
    assert_true(done.result > 0 && done.result < MUCH);
    size_t sent = (size_t)done.result, read = 0;
    fill(&p, &sent, much, 50000);
    while (read < sent) {
        ssize_t n = recv(p.peer, much, MUCH, MSG_DONTWAIT);
        if (n > 0) read += (size_t)n;
    }
    assert_int_equal(read, sent); /* exactly the counts that were told */
    assert_int_equal(recv(p.peer, much, MUCH, MSG_DONTWAIT), -1);
    free(much);
    pair_close(&p);
}

static void a_send_without_a_copy_tells_its_count_and_when_its_bytes_are_free(void **state)
{
    struct pair p = pair_open();
    assert_true(ring_knows_zero_copy(p.ring)); /* Linux 6.2, which tests are run on */
    uint64_t tag = tag_make(RING_OP_SEND_ZC, 1, 0);
    static char data[50000];
    char got[4096];
    memset(data, 'z', sizeof data);
    ring_send_zero_copy(p.ring, p.socket, data, 5000, tag);
    struct ring_completion done = next(p.ring);
    assert_true(done.tag == tag && done.result == 5000 && done.flags == RING_MORE);
    done = next(p.ring); /* over loopback it is copied for the one who receives it */
    assert_true(done.tag == tag && done.flags == (RING_NOTIFICATION | RING_COPIED));
    for (size_t read = 0; read < 5000;) {
        ssize_t n = recv(p.peer, got, sizeof got, MSG_DONTWAIT);
        if (n > 0) read += (size_t)n;
    }

    while (done.result != -EAGAIN) { /* until the socket takes no more: the last but one is short */
        ring_send_zero_copy(p.ring, p.socket, data, sizeof data, tag);
        do done = next(p.ring);
        while (done.flags & RING_NOTIFICATION);
        assert_true(done.result == -EAGAIN || (done.result > 0 && done.flags == RING_MORE));
    }
    pair_close(&p);
}

static void the_bytes_of_a_closed_socket_are_in_use_until_its_peer_has_them(void **state)
{
    struct pair p = pair_open_to(4096);
    static char data[8000], got[8000];
    memset(data, 'c', sizeof data);
    uint64_t tag = tag_make(RING_OP_SEND_ZC, 1, 0), close_tag = tag_make(RING_OP_CLOSE, 1, 0);
    ring_send_zero_copy(p.ring, p.socket, data, sizeof data, tag);
    ring_close(p.ring, p.socket, close_tag);
    struct ring_completion first = next(p.ring), second = next(p.ring);
    assert_true(first.tag == tag && first.result == sizeof data && first.flags == RING_MORE);
    assert_true(second.tag == close_tag && second.result == 0);
    assert_true(nothing_comes(p.ring));
    for (size_t read = 0; read < sizeof data;) {
        ssize_t n = recv(p.peer, got + read, sizeof got - read, MSG_DONTWAIT);
        if (n > 0) read += (size_t)n;
    }
    assert_memory_equal(got, data, sizeof data);
    first = next(p.ring);
    assert_true(first.tag == tag && first.flags & RING_NOTIFICATION && !(first.flags & RING_MORE));
    pair_close(&p);
}

static void a_kernel_with_zero_copy_sends_passes_the_check_for_them(void **state)
{
    char why[256] = "";
    assert_int_equal(ring_check(false, why, sizeof why), STATUS_OK);
    assert_int_equal(ring_check(true, why, sizeof why), STATUS_OK);
    assert_string_equal(why, "");
}

static void a_full_socket_is_writable_once_the_peer_has_read(void **state)
{
    struct pair p = pair_open();
    char part[50000] = {0};
    size_t sent = 0, read = 0;
    uint64_t tag = tag_make(RING_OP_POLL_OUT, 1, 0);
    do { /* the kernel may still move bytes to the peer's side, which makes room too */
        fill(&p, &sent, part, sizeof part);
        ring_poll_out(p.ring, p.socket, tag);
        ring_enter(p.ring, true, 50 * MS);
    } while (ring_ready(p.ring) && next(p.ring).tag == tag);
    while (read < sent) {
        ssize_t n = recv(p.peer, part, sizeof part, MSG_DONTWAIT);
        if (n > 0) read += (size_t)n;
    }
    struct ring_completion done = next(p.ring);
    assert_int_equal(done.tag, tag);
    assert_true(done.result > 0 && (done.result & POLLOUT) && !(done.flags & RING_MORE));
    pair_close(&p);
}

static void a_vector_is_sent_in_order(void **state)
{
    struct pair p = pair_open();
    char ab[] = "ab", cde[] = "cde", got[16];
    struct iovec parts[2] = {{ab, 2}, {cde, 3}};
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ring_sendv(p.ring, p.socket, &message, tag_make(RING_OP_SEND, 1, 0));
    assert_true(nothing_comes(p.ring));
    assert_int_equal(recv(p.peer, got, sizeof got, 0), 5);
    assert_memory_equal(got, "abcde", 5);
    pair_close(&p);
}

static unsigned segments_received(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    return info.tcpi_segs_in;
}

static ssize_t take(int fd, char *out, size_t room)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    return recv(fd, out, room, 0);
}

/* last_bytes_arrive returns in how many packets the last bytes came with the end of the stream. */
static unsigned last_bytes_arrive(void)
{
    struct pair p = pair_open();
    unsigned before = segments_received(p.peer);
    ring_send_last(p.ring, p.socket, "last", 4, tag_make(RING_OP_SEND, 1, 0));
    ring_enter(p.ring, false, 0);
    ring_close(p.ring, p.socket, tag_make(RING_OP_CLOSE, 1, 0));
    struct ring_completion done = next(p.ring);
    assert_int_equal(done.tag, tag_make(RING_OP_CLOSE, 1, 0));
    char got[16];
    assert_int_equal(take(p.peer, got, sizeof got), 4);
    assert_memory_equal(got, "last", 4);
    assert_int_equal(take(p.peer, got, sizeof got), 0);
    unsigned packets = segments_received(p.peer) - before;
    pair_close(&p);
    return packets;
}

static void the_last_bytes_go_with_the_end_of_the_stream(void **state)
{
    unsigned packets = 2;
    for (unsigned i = 0; i < 20 && packets > 1; i++) packets = last_bytes_arrive(); /* who is held up sends two */
    assert_int_equal(packets, 1);
}

static void a_send_to_a_peer_that_has_gone_tells_its_error(void **state)
{
    struct pair p = pair_open();
    struct linger reset = {.l_onoff = 1};
    setsockopt(p.peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(p.peer);
    struct ring_completion done;
    do { /* the first one may still meet an open socket */
        ring_send(p.ring, p.socket, "x", 1, tag_make(RING_OP_SEND, 1, 0));
        ring_enter(p.ring, true, 10 * MS);
    } while (!ring_next(p.ring, &done));
    assert_true(done.result == -ECONNRESET || done.result == -EPIPE);
    p.peer = -1;
    pair_close(&p);
}

static void cancelled_operations_complete_and_the_descriptor_comes_back(void **state)
{
    struct pair p = pair_open();
    uint64_t recv_tag = tag_make(RING_OP_RECV, 1, 0), cancel_tag = tag_make(RING_OP_CANCEL, 1, 0);
    ring_recv(p.ring, p.socket, recv_tag);
    assert_true(nothing_comes(p.ring));
    ring_cancel_tag(p.ring, recv_tag, cancel_tag);
    bool recv_done = false, cancel_done = false;
    for (unsigned i = 0; i < 2; i++) {
        struct ring_completion done = next(p.ring);
        if (done.tag == recv_tag) recv_done = done.result == -ECANCELED && !(done.flags & RING_MORE);
        if (done.tag == cancel_tag) cancel_done = true;
    }
    assert_true(recv_done && cancel_done);

    ring_recv(p.ring, p.socket, recv_tag); /* once more, by descriptor */
    assert_true(nothing_comes(p.ring));
    ring_cancel(p.ring, p.socket, cancel_tag);
    recv_done = false;
    for (unsigned i = 0; i < 2; i++)
        if (next(p.ring).tag == recv_tag) recv_done = true;
    assert_true(recv_done);

    ring_close(p.ring, p.socket, tag_make(RING_OP_CLOSE, 1, 0));
    struct ring_completion done = next(p.ring);
    assert_int_equal(tag_op(done.tag), RING_OP_CLOSE);
    assert_int_equal(done.result, 0);
    struct pollfd end = {.fd = p.peer, .events = POLLIN};
    assert_int_equal(poll(&end, 1, 5000), 1);
    char byte;
    assert_int_equal(recv(p.peer, &byte, 1, 0), 0);
    pair_close(&p);
}

static void a_closed_socket_ends_its_stream_while_others_are_read_from(void **state)
{
    struct pair p = pair_open();
    ring_recv(p.ring, p.socket, tag_make(RING_OP_RECV, 1, 0));
    assert_true(nothing_comes(p.ring));
    char name[LISTENER_NAME_LEN];
    struct sockaddr_in at;
    socklen_t at_len = sizeof at;
    assert_int_equal(getsockname(p.listen_fd, (struct sockaddr *)&at, &at_len), 0);
    snprintf(name, sizeof name, "127.0.0.1:%u", ntohs(at.sin_port));
    ring_accept(p.ring, p.listen_fd, &p.address, &p.address_len, false, tag_make(RING_OP_ACCEPT, 1, 3));
    int other = connect_to(name, 0);
    struct ring_completion done = next(p.ring);
    assert_true(done.result >= 0);
    ring_send_last(p.ring, (uint32_t)done.result, "last", 4, tag_make(RING_OP_SEND, 1, 0));
    ring_enter(p.ring, false, 0);
    ring_close(p.ring, (uint32_t)done.result, tag_make(RING_OP_CLOSE, 1, 0));
    assert_int_equal(next(p.ring).tag, tag_make(RING_OP_CLOSE, 1, 0));
    char got[16];
    assert_int_equal(take(other, got, sizeof got), 4);
    assert_int_equal(take(other, got, sizeof got), 0);
    close(other);
    pair_close(&p);
}

static void a_shut_direction_still_receives(void **state)
{
    struct pair p = pair_open();
    ring_recv(p.ring, p.socket, tag_make(RING_OP_RECV, 1, 0));
    ring_shutdown_out(p.ring, p.socket, tag_make(RING_OP_SHUTDOWN, 1, 0));
    struct ring_completion done = next(p.ring);
    assert_int_equal(tag_op(done.tag), RING_OP_SHUTDOWN);
    assert_int_equal(done.result, 0);
    char byte;
    assert_int_equal(recv(p.peer, &byte, 1, 0), 0);
    assert_int_equal(send(p.peer, "still", 5, 0), 5);
    done = next(p.ring);
    assert_int_equal(done.result, 5);
    pair_close(&p);
}

static void what_a_peer_does_not_take_can_be_bounded(void **state)
{
    struct pair p = pair_open();
    ring_bound_unsent(p.ring, p.socket, tag_make(RING_OP_BOUND, 1, 0));
    struct ring_completion done = next(p.ring);
    assert_int_equal(tag_op(done.tag), RING_OP_BOUND);
    struct utsname kernel;
    unsigned major = 0, minor = 0;
    assert_int_equal(uname(&kernel), 0);
    assert_int_equal(sscanf(kernel.release, "%u.%u", &major, &minor), 2);
    assert_int_equal(done.result, major > 6 || (major == 6 && minor >= 7) ? 0 : -EOPNOTSUPP);
    pair_close(&p);
}

static void more_operations_than_the_queue_holds_are_all_done(void **state)
{
    struct pair p = pair_open();
    for (unsigned i = 0; i < 100; i++) /* the queue holds 8; each cancels nothing and completes */
        ring_cancel_tag(p.ring, tag_make(RING_OP_RECV, 9, i), tag_make(RING_OP_CANCEL, 1, i));
    uint64_t seen[2] = {0};
    for (unsigned i = 0; i < 100; i++) {
        struct ring_completion done = next(p.ring); /* the completion queue holds 64: it overflows */
        assert_int_equal(done.result, -ENOENT);
        seen[tag_slot(done.tag) / 64] |= 1ull << tag_slot(done.tag) % 64;
    }
    assert_true(seen[0] == UINT64_MAX && seen[1] == (1ull << 36) - 1);
    assert_true(ring_stats(p.ring)->cq_overflows > 0);
    assert_false(ring_pending(p.ring) || ring_ready(p.ring));
    pair_close(&p);
}

static void a_wait_ends_at_its_timeout(void **state)
{
    struct ring *ring = open_ring(&small);
    uint64_t before_ns = clock_mono_ns(clock_real());
    ring_enter(ring, true, 50 * MS);
    uint64_t waited_ns = clock_mono_ns(clock_real()) - before_ns;
    assert_true(waited_ns >= 49 * MS && waited_ns < 1000 * MS);
    assert_false(ring_ready(ring));
    ring_close_all(ring);
}

static void *signal_later(void *context)
{
    const struct timespec pause = {.tv_nsec = 30000000};
    nanosleep(&pause, NULL);
    park_signal(context);
    return NULL;
}

static void a_watched_park_ends_a_wait_every_time(void **state)
{
    struct ring *ring = open_ring(&small);
    struct park park;
    assert_int_equal(park_init(&park, NULL, NULL), STATUS_OK);
    ring_watch(ring, &park, tag_make(RING_OP_WAKE, 0, 0));
    for (unsigned i = 0; i < 3; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, signal_later, &park);
        ring_enter(ring, true, 5000 * MS);
        pthread_join(thread, NULL);
        struct ring_completion done = next(ring);
        assert_int_equal(tag_op(done.tag), RING_OP_WAKE);
        assert_true(done.flags & RING_MORE);
        park_drain(&park);
    }
    park_close(&park);
    ring_close_all(ring);
}

static void a_table_beyond_the_descriptor_limit_is_refused_with_advice(void **state)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    struct ring_config config = small;
    config.descriptors = (unsigned)limit.rlim_max + 1000;
    char why[256] = "";
    struct ring *ring;
    if (limit.rlim_max > 1000000) skip(); /* the kernel's own bound would be met first */
    assert_int_equal(ring_open(&ring, &config, why, sizeof why), STATUS_IO);
    assert_null(ring);
    assert_non_null(strstr(why, "RLIMIT_NOFILE"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tag_keeps_its_parts),
        cmocka_unit_test(an_accept_tells_the_peers_address),
        cmocka_unit_test(a_backlog_tells_how_many_wait),
        cmocka_unit_test(a_receive_goes_on_until_the_stream_ends),
        cmocka_unit_test(running_out_of_buffers_ends_a_receive_and_it_can_be_armed_again),
        cmocka_unit_test(a_poll_tells_of_what_is_there_and_of_what_comes),
        cmocka_unit_test(a_single_receive_waits_ends_and_tells_that_more_is_there),
        cmocka_unit_test(a_send_taken_whole_is_silent_and_a_short_one_tells_its_count),
        cmocka_unit_test(a_send_without_a_copy_tells_its_count_and_when_its_bytes_are_free),
        cmocka_unit_test(the_bytes_of_a_closed_socket_are_in_use_until_its_peer_has_them),
        cmocka_unit_test(a_kernel_with_zero_copy_sends_passes_the_check_for_them),
        cmocka_unit_test(a_full_socket_is_writable_once_the_peer_has_read),
        cmocka_unit_test(a_vector_is_sent_in_order),
        cmocka_unit_test(the_last_bytes_go_with_the_end_of_the_stream),
        cmocka_unit_test(a_send_to_a_peer_that_has_gone_tells_its_error),
        cmocka_unit_test(cancelled_operations_complete_and_the_descriptor_comes_back),
        cmocka_unit_test(a_closed_socket_ends_its_stream_while_others_are_read_from),
        cmocka_unit_test(a_shut_direction_still_receives),
        cmocka_unit_test(what_a_peer_does_not_take_can_be_bounded),
        cmocka_unit_test(more_operations_than_the_queue_holds_are_all_done),
        cmocka_unit_test(a_wait_ends_at_its_timeout),
        cmocka_unit_test(a_watched_park_ends_a_wait_every_time),
        cmocka_unit_test(a_table_beyond_the_descriptor_limit_is_refused_with_advice),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
