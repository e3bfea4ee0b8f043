#include "fake_ring_state.h"

#include <errno.h>
#include <string.h>

#include "../../net/tag.h"
#include "counts.h"
#include "store_watch.h"

static void submit(struct ring *ring, const struct operation *op);

void submit_prepared(struct ring *ring)
{
    ring->stats.enters++;
    for (size_t i = 0; i < ring->num_prepared; i++) submit(ring, &ring->prepared[i]);
    ring->stats.submitted += ring->num_prepared;
    ring->num_prepared = 0;
}

/* check_waits: each that is older keeps the sockets that have been closed since. An HTTP request may wait for long, so
 * time counts from the upgrade on. What counts is time in which the gateway ran: hours may pass between two of its
 * turns, and a cancellation that missed is tried again a ping interval later. */
static void check_waits(struct ring *ring)
{
    uint64_t passed_ns = world_now_ns() - ring->entered_ns;
    ring->entered_ns += passed_ns;
    ring->awake_ns += passed_ns < AWAKE_NS_MAX ? passed_ns : AWAKE_NS_MAX;
    for (unsigned i = 0; i < network.num_links; i++) {
        struct link *l = network.links[i];
        if (l->ring != ring || !(l->receiving || l->polling_in)) continue;
        if (!l->upgraded) l->waits_since_ns = ring->awake_ns;
        CHECK(ring->awake_ns - l->waits_since_ns < WAITS_NS_MAX, "what link %u waits with is never begun anew",
              l->number);
    }
}

/* check_ends: the kernel keeps what was sent last for the end of the stream (ring.h). Where none follows, the peer
 * waits for it. */
static void check_ends(struct ring *ring)
{
    for (unsigned i = 0; i < network.num_links; i++) {
        struct link *l = network.links[i];
        if (l->ring != ring || !l->sent_last || l->ending) continue;
        CHECK(++l->enters_since_last < LAST_ENTERS_MAX, "no end follows the last send of link %u", l->number);
    }
}

void ring_enter(struct ring *ring, bool wait, uint64_t timeout_ns)
{
    submit_prepared(ring);
    check_ends(ring);
    if (ring->keeps_closed) check_waits(ring); /* timers that came due in the meantime have had their turn */
    if (wait && !ring_has_arrivals(ring)) actor_sleep_on_ring(ring, timeout_ns);
    show_arrivals(ring);
}

#define DELAY_NS_MAX 50000000u

/* due_ns_of: what a send has to say is known when it was submitted, and no later (ring.h); anything else may take its
 * time. How long a wake-up takes, its sender says. */
static uint64_t due_ns_of(uint64_t tag)
{
    bool at_once = tag_op(tag) == RING_OP_SEND || tag_op(tag) == RING_OP_WAKE;
    if (at_once || !fault(network.faults.delay_of)) return 0;
    count_happened(COUNT_COMPLETION_LATE);
    return world_now_ns() + world_below(DELAY_NS_MAX);
}

struct arrival *arrive(struct ring *ring, uint32_t fd, struct ring_completion completion)
{
    ring->arrivals = grown(ring->arrivals, ring->num_arrivals, &ring->cap_arrivals, sizeof *ring->arrivals);
    struct arrival *a = &ring->arrivals[ring->num_arrivals++];
    *a = (struct arrival){completion, fd, due_ns_of(completion.tag)};
    return a;
}

void complete(struct ring *ring, uint32_t fd, uint64_t tag, int32_t result)
{
    arrive(ring, fd, (struct ring_completion){.tag = tag, .result = result});
}

bool is_first(const struct ring *ring, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (ring->arrivals[i].completion.tag == ring->arrivals[at].completion.tag) return false;
    return true;
}

/* next_arrival: operations overtake each other; the completions of one do not. False: nothing is due. */
static bool next_arrival(const struct ring *ring, size_t *out)
{
    size_t num = ring->num_arrivals, from = num ? world_below(num) : 0;
    for (size_t n = 0; n < num; n++) {
        *out = (from + n) % num;
        if (ring->arrivals[*out].due_ns <= world_now_ns() && is_first(ring, *out)) return true;
    }
    return false;
}

void show_arrivals(struct ring *ring)
{
    size_t at;
    if (ring->next_visible == ring->num_visible) ring->next_visible = ring->num_visible = 0;
    ring->overflowed = false;
    while (next_arrival(ring, &at)) {
        size_t shown = ring->num_visible - ring->next_visible;
        ring->overflowed = network.faults.cq_entries && shown >= network.faults.cq_entries;
        if (ring->overflowed) return;
        ring->visible = grown(ring->visible, ring->num_visible, &ring->cap_visible, sizeof *ring->visible);
        ring->visible[ring->num_visible++] = ring->arrivals[at];
        ring->num_arrivals--;
        memmove(ring->arrivals + at, ring->arrivals + at + 1, (ring->num_arrivals - at) * sizeof *ring->arrivals);
    }
}

/* open_link: the connection behind a descriptor in use. */
static struct link *open_link(const struct ring *ring, uint32_t fd, const char *what)
{
    CHECK(fd < ring->config.descriptors && ring->descriptors[fd], "%s on descriptor %u, which is closed", what, fd);
    return ring->descriptors[fd];
}

static void note_version(struct link *l)
{
    uint64_t version = store_version();
    struct mark_of_bytes *last = l->num_marks > l->first_mark ? &l->marks[l->num_marks - 1] : NULL;
    if (last && last->version == version) {
        last->end = l->down_sent;
        return;
    }
    l->marks = grown(l->marks, l->num_marks, &l->cap_marks, sizeof *l->marks);
    l->marks[l->num_marks++] = (struct mark_of_bytes){l->down_sent, version};
}

/* take_bytes takes what fits, and no more than `*most` of it, which it counts down. */
static size_t take_bytes(struct link *l, const void *data, size_t len, size_t *most)
{
    size_t room = l->down_max - l->down.len, taken = len < room ? len : room;
    if (taken > *most) taken = *most;
    *most -= taken;
    buf_append(&l->down, data, taken);
    l->down_sent += taken;
    return taken;
}

static size_t send_wanted(const struct operation *op)
{
    size_t wanted = op->message ? 0 : op->len;
    for (size_t i = 0; op->message && i < op->message->msg_iovlen; i++) wanted += op->message->msg_iov[i].iov_len;
    return wanted;
}

/* take_send: the socket takes what fits, at once (MSG_DONTWAIT). Returns the count, or -errno. */
static int32_t take_send(struct link *l, const struct operation *op)
{
    CHECK(send_hash(op) == op->bytes_hash, "bytes of a send were changed before it was taken");
    CHECK(!l->shutting, "send behind a shutdown");
    CHECK(!l->sent_last, "send behind the last one");
    l->upgraded |= op->data && op->len > 12 && memcmp(op->data, "HTTP/1.1 101", 12) == 0;
    if (fault(network.faults.error_of)) {
        count_happened(COUNT_SEND_FAILS);
        return ONE_OF(-ENOMEM, -ENOBUFS, -EPIPE, -ECONNRESET, -ETIMEDOUT);
    }
    if (l->client_reset || (l->client_gone && world_chance(2))) {
        count_happened(COUNT_SEND_RESET);
        return l->client_reset ? -ECONNRESET : -EPIPE;
    }
    size_t sent = 0, wanted = send_wanted(op), most = SIZE_MAX;
    if (l->client_gone) return (int32_t)wanted; /* nobody reads it: the kernel does not know yet */
    if (fault(network.faults.tiny_of)) { /* the kernel had no memory for more */
        count_happened(COUNT_SEND_TINY);
        most = 1;
    }
    if (op->message) {
        for (size_t i = 0, before = 0; i < op->message->msg_iovlen && sent == before; i++) {
            const struct iovec *part = &op->message->msg_iov[i];
            before += part->iov_len;
            sent += take_bytes(l, part->iov_base, part->iov_len, &most);
        }
    } else {
        sent = take_bytes(l, op->data, op->len, &most);
    }
    if (sent) note_version(l);
    world_note(l->number, sent);
    l->sent_last = op->last && sent == wanted;
    if (sent < wanted) count_happened(COUNT_SEND_SHORT);
    return sent ? (int32_t)sent : -EAGAIN;
}

/* submit_send: what is taken whole is silent. */
static void submit_send(struct ring *ring, const struct operation *op)
{
    int32_t result = take_send(open_link(ring, op->fd, "send"), op);
    if (result < 0 || (size_t)result < send_wanted(op)) complete(ring, op->fd, op->tag, result);
}

static struct zero_copy *zero_copy_of(const struct ring *ring, uint64_t tag)
{
    for (size_t i = 0; i < ring->num_zero_copies; i++)
        if (ring->zero_copies[i].tag == tag) return &ring->zero_copies[i];
    CHECK(false, "a send without a copy that the ring does not know");
    return NULL;
}

/* submit_zero_copy: the first completion says what was taken. A notification follows, behind some errors too; older
 * kernels have none then. */
static void submit_zero_copy(struct ring *ring, const struct operation *op)
{
    struct link *l = open_link(ring, op->fd, "send");
    struct zero_copy *z = zero_copy_of(ring, op->tag);
    bool refused = fault(network.faults.error_of);
    if (refused) count_happened(COUNT_ZERO_COPY_REFUSED);
    int32_t result = refused ? ONE_OF(-ENOMEM, -ENOBUFS, -EOPNOTSUPP) : take_send(l, op);
    struct ring_completion done = {.tag = op->tag, .result = result};
    if (result >= 0 || world_chance(2)) {
        done.flags = RING_MORE;
        for (size_t i = 0; i < ring->num_zero_copies; i++) z->joins |= ring->zero_copies[i].link == l;
        z->link = l;
        z->end = l->down_sent;
        z->sent = result > 0;
    }
    arrive(ring, NO_FD, done);
}

/* zero_copy_notify: the kernel has no more need of the bytes. A socket that is closed makes no difference. */
void zero_copy_notify(struct ring *ring, struct zero_copy *z)
{
    struct operation same = {.data = z->data, .len = z->len};
    CHECK(send_hash(&same) == z->bytes_hash, "bytes of a send without a copy were changed before its notification");
    bool copied = z->link->copies || !z->sent || (z->joins && world_chance(2)); /* Linux 6.10 says so of those */
    count_happened(copied ? COUNT_ZERO_COPY_COPIED : COUNT_ZERO_COPY_NOTIFIED);
    if (!z->link->ring) count_happened(COUNT_ZERO_COPY_BEHIND_CLOSE);
    z->link = NULL;
    arrive(ring, NO_FD,
           (struct ring_completion){.tag = z->tag, .flags = RING_NOTIFICATION | (copied ? RING_COPIED : 0)});
}

/* zero_copy_due: of the link's sends one that its client has read, or never will. */
struct zero_copy *zero_copy_due(const struct link *l, struct ring **out)
{
    for (unsigned r = 0; r < network.num_rings; r++) {
        *out = network.rings[r];
        for (size_t i = 0; i < (*out)->num_zero_copies; i++) {
            struct zero_copy *z = &(*out)->zero_copies[i];
            if (z->link == l && (l->client_gone || l->down_sent - l->down.len >= z->end)) return z;
        }
    }
    return NULL;
}

void zero_copy_taken(struct ring *ring, uint64_t tag)
{
    struct zero_copy *z = zero_copy_of(ring, tag);
    CHECK(!z->link, "the last completion of a send without a copy comes before its notification");
    *z = ring->zero_copies[--ring->num_zero_copies];
}

static void cancel_recv(struct ring *ring, struct link *l)
{
    l->receiving = false;
    complete(ring, l->fd, l->receive_tag, -ECANCELED);
}

static void cancel_poll_in(struct ring *ring, struct link *l)
{
    l->polling_in = false;
    complete(ring, l->fd, l->poll_in_tag, -ECANCELED);
}

static void cancel_poll(struct ring *ring, struct link *l)
{
    l->polling = false;
    complete(ring, l->fd, l->poll_tag, -ECANCELED);
}

/* cancel_tag: a cancellation may come while the operation is between two of its turns, and then misses it. */
static int32_t cancel_tag(struct ring *ring, uint64_t target)
{
    if (fault(network.faults.odd_of)) {
        count_happened(COUNT_CANCEL_MISSES);
        for (unsigned i = 0; i < network.num_links; i++) { /* tried, and tried again when its time has come once more */
            struct link *l = network.links[i];
            if (l->ring == ring && (l->receive_tag == target || l->poll_in_tag == target))
                l->waits_since_ns = ring->awake_ns;
        }
        return -EALREADY;
    }
    for (size_t i = 0; i < ring->num_accepts; i++) {
        if (ring->accepts[i].tag != target) continue;
        ring->accepts[i] = ring->accepts[--ring->num_accepts];
        complete(ring, NO_FD, target, -ECANCELED);
        return 0;
    }
    for (unsigned i = 0; i < network.num_links; i++) {
        struct link *l = network.links[i];
        if (l->ring != ring) continue;
        bool receive = l->receiving && l->receive_tag == target, poll = l->polling && l->poll_tag == target;
        bool poll_in = l->polling_in && l->poll_in_tag == target;
        if (receive) cancel_recv(ring, l);
        if (poll) cancel_poll(ring, l);
        if (poll_in) cancel_poll_in(ring, l);
        if (receive || poll || poll_in) return 0;
    }
    return -ENOENT;
}

static void submit_close(struct ring *ring, const struct operation *op)
{
    struct link *l = open_link(ring, op->fd, "close");
    CHECK(!l->receiving && !l->polling_in && !l->polling && !l->shutting,
          "descriptor %u is closed with operations in flight", op->fd);
    bool told;
    unsigned outstanding = ring_outstanding(ring, tag_slot(op->tag), tag_generation(op->tag), &told);
    CHECK(outstanding == 1 && !told, "descriptor %u is closed with %u completions that were not taken", op->fd,
          outstanding - 1 + told);
    /* closing with unread bytes resets the connection: what was sent last may be lost (RFC 1122 section 4.2.2.13) */
    if (l->up.len && !l->client_gone && !l->gateway_ended && world_chance(2))
        l->down.len = world_below(l->down.len + 1);
    l->gateway_ended = l->gateway_closed = true;
    l->ring = NULL;
    ring->descriptors[op->fd] = NULL;
    world_trace("link %u closed by the gateway", l->number);
    complete(ring, op->fd, op->tag, 0);
}

static void submit(struct ring *ring, const struct operation *op)
{
    struct link *l;
    switch (op->kind) {
    case OP_ACCEPT:
        ring->accepts = grown(ring->accepts, ring->num_accepts, &ring->cap_accepts, sizeof *ring->accepts);
        ring->accepts[ring->num_accepts++] = (struct accept_armed){op->listen_fd, op->tag, op->peer, op->peer_len};
        return;
    case OP_RECV:
    case OP_RECV_ONCE:
        l = open_link(ring, op->fd, "receive");
        CHECK(!l->receiving && !l->polling_in, "descriptor %u waits for input twice", op->fd);
        l->receiving = true;
        l->receives_once = op->kind == OP_RECV_ONCE;
        l->receive_tag = op->tag;
        l->waits_since_ns = ring->awake_ns;
        if (!l->receives_once) count_happened(COUNT_RECV_STREAMS);
        return;
    case OP_POLL_IN:
        l = open_link(ring, op->fd, "poll for input");
        CHECK(!l->receiving && !l->polling_in, "descriptor %u waits for input twice", op->fd);
        l->polling_in = true;
        l->poll_in_tag = op->tag;
        l->waits_since_ns = ring->awake_ns;
        return;
    case OP_SEND: submit_send(ring, op); return;
    case OP_SEND_ZC: submit_zero_copy(ring, op); return;
    case OP_POLL_OUT:
        l = open_link(ring, op->fd, "poll");
        CHECK(!l->polling, "two polls are armed on descriptor %u", op->fd);
        l->polling = true;
        l->poll_tag = op->tag;
        return;
    case OP_CANCEL_FD:
        l = open_link(ring, op->fd, "cancel");
        if (l->receiving) cancel_recv(ring, l);
        if (l->polling_in) cancel_poll_in(ring, l);
        if (l->polling) cancel_poll(ring, l);
        complete(ring, NO_FD, op->tag, 0);
        return;
    case OP_CANCEL_TAG: complete(ring, NO_FD, op->tag, cancel_tag(ring, op->target)); return;
    case OP_SHUTDOWN:
        l = open_link(ring, op->fd, "shutdown");
        l->shutting = l->ending = true;
        l->shutdown_tag = op->tag;
        return;
    case OP_BOUND: /* what the kernel keeps behind a close is its own here; an older one knows no such operation */
        open_link(ring, op->fd, "bound")->ending = true; /* which net does as it begins to close */
        complete(ring, op->fd, op->tag, fault(network.faults.error_of) ? -EOPNOTSUPP : 0);
        return;
    case OP_CLOSE: submit_close(ring, op); return;
    case OP_WATCH:
        CHECK(!ring->watching, "a watch is armed twice");
        ring->watched = op->park;
        ring->watch_tag = op->tag;
        ring->watching = true;
        if (ring->signalled) ring_signal_watch(op->park, 0);
        ring->signalled = false;
        return;
    }
}
