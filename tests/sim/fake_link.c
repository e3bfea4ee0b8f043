#include "fake_ring_state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "counts.h"

/* --- the clients' side --------------------------------------------------------------------------------------- */

struct link *link_open(unsigned core, bool admin, size_t up_bytes, size_t down_bytes)
{
    CHECK(network.num_links < LINKS_MAX, "too many links");
    struct link *l = calloc(1, sizeof *l);
    CHECK(l, "out of memory");
    l->number = network.next_number++;
    l->listen_fd = LISTENER_FD_BASE + (int)core + (admin ? ADMIN_FD : 0);
    l->up_max = up_bytes;
    l->down_max = down_bytes;
    l->copies = world_chance(2);
    l->fd = NO_FD;
    network.links[network.num_links++] = l;
    return l;
}

size_t link_writable(const struct link *l)
{
    return l->gateway_closed || l->client_ended || l->up.len >= l->up_max ? 0 : l->up_max - l->up.len;
}

size_t link_write(struct link *l, struct slice bytes)
{
    size_t room = link_writable(l), n = bytes.len < room ? bytes.len : room;
    buf_append(&l->up, bytes.data, n);
    return n;
}

size_t link_readable(const struct link *l) { return l->down.len; }

size_t link_read(struct link *l, void *out, size_t len)
{
    size_t n = len < l->down.len ? len : l->down.len;
    if (n) memcpy(out, l->down.data, n);
    buf_consume(&l->down, n);
    return n;
}

bool link_ended(const struct link *l) { return l->gateway_ended && l->down.len == 0; }

uint64_t link_version(struct link *l, uint64_t offset)
{
    while (l->first_mark + 1 < l->num_marks && l->marks[l->first_mark].end <= offset) l->first_mark++;
    CHECK(l->first_mark < l->num_marks && offset < l->marks[l->first_mark].end, "a byte that never left the gateway");
    return l->marks[l->first_mark].version;
}

void link_finish(struct link *l)
{
    if (!l->client_ended) count_happened(COUNT_HALF_CLOSED);
    l->client_ended = true;
}

void link_drop(struct link *l, bool reset)
{
    CHECK(!l->client_gone, "a link is dropped twice");
    l->client_gone = l->client_ended = true;
    l->client_reset = reset;
    if (reset) l->up.len = world_below(l->up.len + 1);
    l->down.len = 0;
}

/* --- the network --------------------------------------------------------------------------------------------- */

unsigned links_len(void) { return network.num_links; }

static struct accept_armed *armed_accept(const struct link *l, struct ring **ring)
{
    for (unsigned i = 0; i < network.num_rings; i++) {
        *ring = network.rings[i];
        for (size_t n = 0; n < (*ring)->num_accepts; n++)
            if ((*ring)->accepts[n].listen_fd == l->listen_fd) return &(*ring)->accepts[n];
    }
    return NULL;
}

static bool can_accept(const struct link *l)
{
    struct ring *ring;
    return l->fd == NO_FD && !l->gateway_closed && armed_accept(l, &ring);
}

static bool can_receive(const struct link *l) { return l->receiving && (l->up.len || l->client_ended); }

static bool can_poll_in(const struct link *l) { return l->polling_in && (l->up.len || l->client_ended); }

static bool can_poll(const struct link *l) { return l->polling && (l->down.len < l->down_max || l->client_gone); }

bool link_can_step(unsigned index)
{
    const struct link *l = network.links[index];
    struct ring *ring;
    return can_accept(l) || can_receive(l) || can_poll_in(l) || can_poll(l) || l->shutting || zero_copy_due(l, &ring);
}

void link_lose(struct link *l)
{
    if (!l->gateway_ended && l->down.len) l->down.len = world_below(l->down.len + 1);
    l->gateway_ended = l->gateway_closed = true;
    l->ring = NULL;
    l->receiving = l->polling_in = l->polling = l->shutting = false;
}

/* accept_fails: who gave up while it waited is gone; for want of anything else it stays in the backlog. */
static void accept_fails(struct link *l, struct ring *ring, const struct accept_armed *accept)
{
    int32_t error = ONE_OF(-EMFILE, -ENFILE, -ENOMEM, -ENOBUFS, -EINTR, -ECONNABORTED, -EPROTO);
    count_happened(COUNT_ACCEPT_FAILS);
    world_trace("link %u is not accepted: error %d", l->number, -error);
    complete(ring, NO_FD, accept->tag, error);
    if (error == -ECONNABORTED || error == -EPROTO) link_lose(l);
}

static void step_accept(struct link *l)
{
    struct ring *ring;
    struct accept_armed accept = *armed_accept(l, &ring), *at = armed_accept(l, &ring);
    *at = ring->accepts[--ring->num_accepts];
    if (fault(network.faults.error_of)) {
        accept_fails(l, ring, &accept);
        return;
    }
    uint32_t fd = 0;
    while (fd < ring->config.descriptors && ring->descriptors[fd]) fd++;
    CHECK(fd < ring->config.descriptors, "more accepts are armed than there are free descriptors");
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000000u + l->number)};
    memcpy(accept.peer, &from, sizeof from);
    *accept.peer_len = sizeof from;
    ring->descriptors[fd] = l;
    l->ring = ring;
    l->fd = fd;
    complete(ring, NO_FD, accept.tag, (int32_t)fd);
    world_trace("link %u accepted as descriptor %u", l->number, fd);
}

/* step_end: the peer's end of stream, or a reset. */
static void step_end(struct link *l)
{
    l->receiving = false;
    if (l->client_reset) count_happened(COUNT_RECV_RESET);
    complete(l->ring, l->fd, l->receive_tag, l->client_reset ? -ECONNRESET : 0);
}

static void step_receive(struct link *l)
{
    struct ring *ring = l->ring;
    if (l->up.len == 0) {
        step_end(l);
        return;
    }
    if (fault(network.faults.error_of)) {
        count_happened(COUNT_RECV_FAILS);
        l->receiving = false;
        complete(ring, l->fd, l->receive_tag, ONE_OF(-EINTR, -ENOMEM, -ECONNRESET, -ETIMEDOUT, -EHOSTUNREACH));
        return;
    }
    if (!network.starved && fault(network.faults.starved_of)) network.starved = 1 + (unsigned)world_below(200);
    if (network.starved) {
        network.starved--;
        count_happened(COUNT_RECV_STARVED);
    }
    if (ring->num_free == 0 || network.starved) {
        count_happened(COUNT_RECV_NO_BUFFERS);
        l->receiving = false;
        complete(ring, l->fd, l->receive_tag, -ENOBUFS);
        return;
    }
    size_t len_max = l->up.len < ring->config.buffer_bytes ? l->up.len : ring->config.buffer_bytes;
    size_t len = world_chance(3) ? 1 + world_below(len_max) : len_max;
    if (fault(network.faults.tiny_of)) {
        count_happened(COUNT_RECV_TINY);
        len = 1;
    }
    uint16_t buffer = ring->free_buffers[--ring->num_free];
    ring->buffer_lent[buffer] = true;
    memcpy(ring->buffers[buffer], l->up.data, len);
    buf_consume(&l->up, len);
    struct ring_completion done = {
        .tag = l->receive_tag, .result = (int32_t)len, .flags = RING_BUFFER | RING_MORE, .buffer = buffer};
    if (l->up.len && !world_chance(8)) done.flags |= RING_NONEMPTY; /* not every kind of socket says so */
    if (l->receives_once) {
        done.flags &= ~RING_MORE;
        l->receiving = false;
    } else if (fault(network.faults.odd_of)) { /* a multishot may end with any of its completions */
        count_happened(COUNT_RECV_ENDS);
        done.flags &= ~RING_MORE;
        l->receiving = false;
    }
    arrive(ring, l->fd, done);
    world_note(l->number, len);
}

static void step_poll_in(struct link *l)
{
    l->polling_in = false;
    bool fails = fault(network.faults.error_of);
    if (fails) count_happened(COUNT_POLL_FAILS);
    complete(l->ring, l->fd, l->poll_in_tag, fails ? -ENOMEM : l->client_reset ? POLLIN | POLLERR | POLLHUP : POLLIN);
}

static void step_poll(struct link *l)
{
    l->polling = false;
    bool fails = fault(network.faults.error_of);
    if (fails) count_happened(COUNT_POLL_FAILS);
    complete(l->ring, l->fd, l->poll_tag, fails ? -ENOMEM : l->client_gone ? POLLOUT | POLLERR | POLLHUP : POLLOUT);
}

static void step_shutdown(struct link *l)
{
    l->shutting = false;
    l->gateway_ended = true;
    complete(l->ring, l->fd, l->shutdown_tag, 0);
}

static void step_notify(struct link *l)
{
    struct ring *ring;
    struct zero_copy *z = zero_copy_due(l, &ring);
    zero_copy_notify(ring, z);
}

void link_step(unsigned index)
{
    struct link *l = network.links[index];
    void (*steps[5])(struct link *);
    unsigned num = 0;
    if (can_accept(l)) steps[num++] = step_accept;
    if (can_receive(l)) steps[num++] = step_receive;
    if (can_poll_in(l)) steps[num++] = step_poll_in;
    if (can_poll(l)) steps[num++] = step_poll;
    if (l->shutting) steps[num++] = step_shutdown;
    struct ring *ring;
    if (zero_copy_due(l, &ring)) steps[num++] = step_notify;
    CHECK(num > 0, "a link that cannot go on is stepped");
    steps[world_below(num)](l);
}

unsigned links_open_at_gateway(void)
{
    unsigned num = 0;
    for (unsigned i = 0; i < network.num_links; i++) num += network.links[i]->ring != NULL;
    return num;
}

void links_sweep(void)
{
    for (unsigned i = 0; i < network.num_links;) {
        struct link *l = network.links[i];
        /* one that the gateway has not accepted yet will be, unless it is gone */
        struct ring *ring;
        if (!l->client_gone || !l->gateway_closed || zero_copy_due(l, &ring)) {
            i++;
            continue;
        }
        memmove(network.links + i, network.links + i + 1, (--network.num_links - i) * sizeof *network.links);
        buf_free(&l->up);
        buf_free(&l->down);
        free(l->marks);
        free(l);
    }
}
