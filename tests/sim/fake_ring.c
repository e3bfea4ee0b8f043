#include "fake_ring.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../net/ring.h"
#include "../../net/tag.h"
#include "../../src/base/buf.h"
#include "../../src/base/limits.h"
#include "../../src/base/park.h"
#include "counts.h"
#include "store_watch.h"
#include "world.h"

#define RINGS_MAX 8u
#define NO_FD UINT32_MAX

/* mark: what was durable when the bytes up to `end` of the stream left the gateway. */
struct mark_of_bytes {
    uint64_t end, version;
};

struct link {
    unsigned number; /* for the trace */
    int listen_fd;
    struct buf up, down;
    size_t up_max, down_max;
    struct mark_of_bytes *marks; /* first..num - 1 are ahead of what link_version was asked for */
    size_t first_mark, num_marks, cap_marks;
    uint64_t down_sent;
    bool client_ended, client_reset, client_gone;
    bool gateway_ended; /* closed, shut, or reset by a crash */
    bool gateway_closed;
    struct ring *ring; /* from the accept on */
    uint32_t fd;
    bool receiving, receives_once, polling_in, polling, shutting;
    bool sent_last; /* whole: nothing else is sent */
    bool upgraded;
    bool copies; /* what is sent without a copy is copied on the way */
    uint64_t receive_tag, poll_in_tag, poll_tag, shutdown_tag;
    uint64_t waits_since_ns; /* of the receive, or the poll for one */
};

#define WAITS_NS_MAX 100000000000ull /* far beyond net.ping_interval */

enum operation_kind {
    OP_ACCEPT,
    OP_RECV,
    OP_RECV_ONCE,
    OP_POLL_IN,
    OP_SEND,
    OP_SEND_ZC,
    OP_POLL_OUT,
    OP_CANCEL_FD,
    OP_CANCEL_TAG,
    OP_SHUTDOWN,
    OP_BOUND,
    OP_CLOSE,
    OP_WATCH
};

struct operation {
    enum operation_kind kind;
    uint32_t fd;
    int listen_fd;
    uint64_t tag, target;
    const void *data;             /* of a send … */
    size_t len;
    const struct msghdr *message; /* … or this */
    uint64_t bytes_hash;          /* of a send's bytes when it was prepared */
    bool last;                    /* of a send: a close follows it */
    struct sockaddr_storage *peer;
    socklen_t *peer_len;
    struct park *park;
};

/* arrival: a completion that the kernel has, and that the ring shows with the next enter. */
struct arrival {
    struct ring_completion completion;
    uint32_t fd;     /* NO_FD: of none */
    uint64_t due_ns; /* not shown before; arrivals of one operation keep their order */
};

/* zero_copy: a send without a copy, from when it is prepared until its last completion is taken. */
struct zero_copy {
    uint64_t tag;
    const void *data;
    size_t len;
    uint64_t bytes_hash;
    struct link *link; /* that it left by; NULL: it has not left, or its notification is on its way */
    uint64_t end;      /* offset in the link's stream behind what was taken of it: acknowledged when the client has read it */
    bool sent;         /* something was taken */
    bool joins;        /* an earlier one that had not been notified of */
};

struct accept_armed {
    int listen_fd;
    uint64_t tag;
    struct sockaddr_storage *peer;
    socklen_t *peer_len;
};

struct ring {
    struct ring_config config;
    struct ring_stats stats;
    struct operation *prepared;
    size_t num_prepared, cap_prepared;
    struct arrival *arrivals, *visible;
    size_t num_arrivals, cap_arrivals, num_visible, cap_visible, next_visible;
    struct accept_armed *accepts;
    size_t num_accepts, cap_accepts;
    struct zero_copy *zero_copies;
    size_t num_zero_copies, cap_zero_copies;
    bool knows_zero_copy;
    struct link **descriptors;
    char **buffers;
    uint16_t *free_buffers;
    bool *buffer_lent;
    unsigned num_buffers, num_free;
    struct park *watched;
    uint64_t watch_tag;
    bool watching;   /* the poll on `watched` is armed */
    bool signalled;  /* and this came while it was not: an eventfd stays readable */
    bool overflowed; /* completions that were to be shown did not fit */
    bool enabled;
    uint64_t entered_ns;
    bool keeps_closed; /* as kernels before 6.13 do; its sockets end at once all the same */
};

static struct network {
    struct link *links[LINKS_MAX];
    unsigned num_links, next_number;
    struct ring *rings[RINGS_MAX];
    unsigned num_rings;
    struct ring_faults faults;
    unsigned starved; /* receives to come that find no buffer */
    bool open_fails;
} network;

static void *grown(void *array, size_t len, size_t *cap, size_t item_bytes)
{
    if (len < *cap) return array;
    *cap = *cap ? *cap * 2 : 16;
    void *larger = realloc(array, *cap * item_bytes);
    CHECK(larger, "out of memory");
    return larger;
}

static bool fault(unsigned of) { return of && world_chance(of); }

static int32_t one_of(const int32_t *errors, size_t num) { return errors[world_below(num)]; }

#define ONE_OF(...) one_of((const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* --- opening and closing ------------------------------------------------------------------------------------- */

enum status ring_open(struct ring **out, const struct ring_config *config, char *why, size_t why_len)
{
    if (network.open_fails) {
        network.open_fails = false;
        count_happened(COUNT_RING_OPEN_FAILS);
        snprintf(why, why_len, "the ring does not open");
        *out = NULL;
        return STATUS_NO_MEMORY;
    }
    struct ring *r = calloc(1, sizeof *r);
    CHECK(r && network.num_rings < RINGS_MAX, "too many rings");
    r->config = *config;
    r->keeps_closed = world_chance(2);
    if (r->keeps_closed) count_happened(COUNT_RING_KEEPS_CLOSED);
    r->knows_zero_copy = !world_chance(8);
    unsigned buffers = network.faults.buffers;
    r->num_buffers = buffers && buffers < config->buffers ? buffers : config->buffers;
    r->descriptors = calloc(config->descriptors, sizeof *r->descriptors);
    r->buffers = calloc(r->num_buffers, sizeof *r->buffers);
    r->free_buffers = calloc(r->num_buffers, sizeof *r->free_buffers);
    r->buffer_lent = calloc(r->num_buffers, sizeof *r->buffer_lent);
    CHECK(r->descriptors && r->buffers && r->free_buffers && r->buffer_lent, "out of memory");
    for (unsigned i = 0; i < r->num_buffers; i++) {
        r->buffers[i] = calloc(1, config->buffer_bytes + RING_PADDING);
        CHECK(r->buffers[i], "out of memory");
        r->free_buffers[r->num_free++] = (uint16_t)i;
    }
    network.rings[network.num_rings++] = r;
    *out = r;
    return STATUS_OK;
}

enum status ring_enable_here(struct ring *ring)
{
    CHECK(!ring->enabled, "a ring is enabled twice");
    ring->enabled = true;
    return STATUS_OK;
}

static void ring_free(struct ring *ring)
{
    for (unsigned i = 0; i < ring->num_buffers; i++) free(ring->buffers[i]);
    free(ring->buffers);
    free(ring->free_buffers);
    free(ring->buffer_lent);
    free(ring->zero_copies);
    free(ring->descriptors);
    free(ring->prepared);
    free(ring->arrivals);
    free(ring->visible);
    free(ring->accepts);
    free(ring);
}

/* link_lose: the gateway's end is gone without a word; what was on the way may have come through. */
static void link_lose(struct link *l)
{
    if (!l->gateway_ended && l->down.len) l->down.len = world_below(l->down.len + 1);
    l->gateway_ended = l->gateway_closed = true;
    l->ring = NULL;
    l->receiving = l->polling_in = l->polling = l->shutting = false;
}

/* buffers_underway: received into, and the completion has not been shown. */
static unsigned buffers_underway(const struct ring *ring)
{
    unsigned num = 0;
    for (size_t i = 0; i < ring->num_arrivals; i++)
        num += (ring->arrivals[i].completion.flags & RING_BUFFER) != 0;
    return num;
}

void ring_close_all(struct ring *ring)
{
    if (!ring) return;
    unsigned lent = ring->num_buffers - ring->num_free, underway = buffers_underway(ring);
    CHECK(lent == underway, "a ring ends with %u receive buffers not given back", lent - underway);
    for (size_t i = ring->next_visible; i < ring->num_visible; i++)
        CHECK(tag_op(ring->visible[i].completion.tag) == RING_OP_WAKE,
              "a ring ends with a completion that was not taken");
    for (unsigned i = 0; i < network.num_links; i++)
        if (network.links[i]->ring == ring) link_lose(network.links[i]);
    for (unsigned i = 0; i < network.num_rings; i++)
        if (network.rings[i] == ring) network.rings[i--] = network.rings[--network.num_rings];
    ring_free(ring);
}

void rings_crash(void)
{
    for (unsigned i = 0; i < network.num_links; i++) link_lose(network.links[i]);
    while (network.num_rings) ring_free(network.rings[--network.num_rings]);
}

void rings_set_faults(const struct ring_faults *faults)
{
    network.faults = *faults;
    network.starved = 0;
    for (unsigned i = 0; i < network.num_rings && !faults->delay_of; i++) /* what was held back comes */
        for (size_t n = 0; n < network.rings[i]->num_arrivals; n++) network.rings[i]->arrivals[n].due_ns = 0;
}

void rings_fail_open(void) { network.open_fails = true; }

/* --- preparing ----------------------------------------------------------------------------------------------- */

static void submit_prepared(struct ring *ring);
static void show_arrivals(struct ring *ring);

/* prepare flushes a full queue into the kernel first, and that also brings what has completed meanwhile. */
static struct operation *prepare(struct ring *ring, enum operation_kind kind, uint32_t fd, uint64_t tag)
{
    CHECK(ring->enabled, "an operation on a ring that is not enabled");
    if (network.faults.sq_entries && ring->num_prepared >= network.faults.sq_entries) {
        count_happened(COUNT_SUBMISSIONS_FULL);
        submit_prepared(ring);
        show_arrivals(ring);
    }
    ring->prepared = grown(ring->prepared, ring->num_prepared, &ring->cap_prepared, sizeof *ring->prepared);
    struct operation *op = &ring->prepared[ring->num_prepared++];
    *op = (struct operation){.kind = kind, .fd = fd, .tag = tag};
    return op;
}

/* open_link: the connection behind a descriptor in use. */
static struct link *open_link(const struct ring *ring, uint32_t fd, const char *what)
{
    CHECK(fd < ring->config.descriptors && ring->descriptors[fd], "%s on descriptor %u, which is closed", what, fd);
    return ring->descriptors[fd];
}

/* hash_of takes eight bytes at a time: every byte of every send is hashed twice. */
static uint64_t hash_of(uint64_t h, const void *data, size_t len)
{
    const unsigned char *at = data;
    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        h = (h ^ word) * 0x9fb21c651e98df25u;
        h ^= h >> 32;
    }
    for (size_t i = 0; i < len; i++) h = (h ^ at[i]) * 0x100000001b3u;
    return h;
}

static uint64_t send_hash(const struct operation *op)
{
    uint64_t h = 0xcbf29ce484222325u;
    if (!op->message) return hash_of(h, op->data, op->len);
    for (size_t i = 0; i < op->message->msg_iovlen; i++)
        h = hash_of(h, op->message->msg_iov[i].iov_base, op->message->msg_iov[i].iov_len);
    return h;
}

void ring_accept(struct ring *ring, int listen_fd, struct sockaddr_storage *peer, socklen_t *peer_len, bool there,
                 uint64_t tag)
{
    struct operation *op = prepare(ring, OP_ACCEPT, NO_FD, tag);
    op->listen_fd = listen_fd;
    op->peer = peer;
    op->peer_len = peer_len;
}

/* Of those who wait some may have given up when they are accepted, and others may have come. */
unsigned ring_backlog(int listen_fd)
{
    unsigned num = 0;
    for (unsigned i = 0; i < network.num_links; i++) {
        const struct link *l = network.links[i];
        num += l->listen_fd == listen_fd && l->fd == NO_FD && !l->gateway_closed;
    }
    return world_chance(4) ? (unsigned)world_below(num + 3) : num;
}

void ring_recv(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_RECV, ring_fd, tag); }

void ring_recv_once(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_RECV_ONCE, ring_fd, tag); }

void ring_poll_in(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_POLL_IN, ring_fd, tag); }

void ring_send(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag)
{
    CHECK(len > 0, "a send of nothing");
    struct operation *op = prepare(ring, OP_SEND, ring_fd, tag);
    op->data = data;
    op->len = len;
    op->bytes_hash = send_hash(op);
}

void ring_send_last(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag)
{
    ring_send(ring, ring_fd, data, len, tag);
    ring->prepared[ring->num_prepared - 1].last = true;
}

void ring_sendv(struct ring *ring, uint32_t ring_fd, const struct msghdr *message, uint64_t tag)
{
    struct operation *op = prepare(ring, OP_SEND, ring_fd, tag);
    op->message = message;
    op->bytes_hash = send_hash(op);
}

void ring_send_zero_copy(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag)
{
    CHECK(ring->knows_zero_copy, "a send without a copy on a ring that does not know it");
    CHECK(len > 0, "a send of nothing");
    struct operation *op = prepare(ring, OP_SEND_ZC, ring_fd, tag);
    op->data = data;
    op->len = len;
    op->bytes_hash = send_hash(op);
    ring->zero_copies = grown(ring->zero_copies, ring->num_zero_copies, &ring->cap_zero_copies, sizeof *ring->zero_copies);
    ring->zero_copies[ring->num_zero_copies++] =
        (struct zero_copy){.tag = tag, .data = data, .len = len, .bytes_hash = op->bytes_hash};
}

bool ring_knows_zero_copy(const struct ring *ring) { return ring->knows_zero_copy; }

void ring_poll_out(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_POLL_OUT, ring_fd, tag); }

void ring_cancel(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_CANCEL_FD, ring_fd, tag); }

void ring_cancel_tag(struct ring *ring, uint64_t target, uint64_t tag)
{
    prepare(ring, OP_CANCEL_TAG, NO_FD, tag)->target = target;
}

void ring_shutdown_out(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_SHUTDOWN, ring_fd, tag); }

void ring_bound_unsent(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_BOUND, ring_fd, tag); }

void ring_close(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_CLOSE, ring_fd, tag); }

bool ring_keeps_closed(const struct ring *ring) { return ring->keeps_closed; }

void ring_watch(struct ring *ring, struct park *park, uint64_t tag)
{
    prepare(ring, OP_WATCH, NO_FD, tag)->park = park;
}

/* --- submitting ---------------------------------------------------------------------------------------------- */

static void submit(struct ring *ring, const struct operation *op);

static void submit_prepared(struct ring *ring)
{
    ring->stats.enters++;
    for (size_t i = 0; i < ring->num_prepared; i++) submit(ring, &ring->prepared[i]);
    ring->stats.submitted += ring->num_prepared;
    ring->num_prepared = 0;
}

/* check_waits: each that is older keeps the sockets that have been closed since. An HTTP request may wait for long, so
 * time counts from the upgrade on, and weeks may pass in between. */
static void check_waits(struct ring *ring)
{
    uint64_t now_ns = world_now_ns();
    bool jumped = now_ns - ring->entered_ns >= WAITS_NS_MAX;
    ring->entered_ns = now_ns;
    for (unsigned i = 0; i < network.num_links; i++) {
        struct link *l = network.links[i];
        if (l->ring != ring || !(l->receiving || l->polling_in)) continue;
        if (jumped || !l->upgraded) l->waits_since_ns = now_ns;
        CHECK(now_ns - l->waits_since_ns < WAITS_NS_MAX, "what link %u waits with is never begun anew", l->number);
    }
}

void ring_enter(struct ring *ring, bool wait, uint64_t timeout_ns)
{
    submit_prepared(ring);
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

static struct arrival *arrive(struct ring *ring, uint32_t fd, struct ring_completion completion)
{
    ring->arrivals = grown(ring->arrivals, ring->num_arrivals, &ring->cap_arrivals, sizeof *ring->arrivals);
    struct arrival *a = &ring->arrivals[ring->num_arrivals++];
    *a = (struct arrival){completion, fd, due_ns_of(completion.tag)};
    return a;
}

static void complete(struct ring *ring, uint32_t fd, uint64_t tag, int32_t result)
{
    arrive(ring, fd, (struct ring_completion){.tag = tag, .result = result});
}

static bool is_first(const struct ring *ring, size_t at)
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

/* show_arrivals fills the completion queue. What does not fit stays in the kernel's backlog, from which the next enter
 * takes it, as with IORING_FEAT_NODROP. */
static void show_arrivals(struct ring *ring)
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

/* notify: the kernel has no more need of the bytes. A socket that is closed makes no difference. */
static void notify(struct ring *ring, struct zero_copy *z)
{
    struct operation same = {.data = z->data, .len = z->len};
    CHECK(send_hash(&same) == z->bytes_hash, "bytes of a send without a copy were changed before its notification");
    bool copied = z->link->copies || !z->sent || (z->joins && world_chance(2)); /* Linux 6.10 says so of those */
    count_happened(copied ? COUNT_ZERO_COPY_COPIED : COUNT_ZERO_COPY_NOTIFIED);
    if (!z->link->ring) count_happened(COUNT_ZERO_COPY_BEHIND_CLOSE);
    z->link = NULL;
    arrive(ring, NO_FD, (struct ring_completion){.tag = z->tag, .flags = RING_NOTIFICATION | (copied ? RING_COPIED : 0)});
}

/* notification_due: of the link's sends one that its client has read, or never will. */
static struct zero_copy *notification_due(const struct link *l, struct ring **out)
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

static void zero_copy_taken(struct ring *ring, uint64_t tag)
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

/* submit_cancel: a cancellation may come while the operation is between two of its turns, and then misses it. */
static int32_t cancel_tag(struct ring *ring, uint64_t target)
{
    if (fault(network.faults.odd_of)) {
        count_happened(COUNT_CANCEL_MISSES);
        for (unsigned i = 0; i < network.num_links; i++) { /* tried, and tried again when its time has come once more */
            struct link *l = network.links[i];
            if (l->ring == ring && (l->receive_tag == target || l->poll_in_tag == target)) l->waits_since_ns = world_now_ns();
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
    CHECK(!l->receiving && !l->polling_in && !l->polling && !l->shutting, "descriptor %u is closed with operations in flight", op->fd);
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
        l->waits_since_ns = world_now_ns();
        if (!l->receives_once) count_happened(COUNT_RECV_STREAMS);
        return;
    case OP_POLL_IN:
        l = open_link(ring, op->fd, "poll for input");
        CHECK(!l->receiving && !l->polling_in, "descriptor %u waits for input twice", op->fd);
        l->polling_in = true;
        l->poll_in_tag = op->tag;
        l->waits_since_ns = world_now_ns();
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
        l->shutting = true;
        l->shutdown_tag = op->tag;
        return;
    case OP_BOUND: /* what the kernel keeps behind a close is its own here; an older one knows no such operation */
        open_link(ring, op->fd, "bound");
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

/* --- completions --------------------------------------------------------------------------------------------- */

bool ring_next(struct ring *ring, struct ring_completion *out)
{
    if (ring->next_visible == ring->num_visible && ring->overflowed) {
        count_happened(COUNT_COMPLETIONS_OVERFLOW);
        ring->stats.cq_overflows++;
        show_arrivals(ring);
    }
    if (ring->next_visible == ring->num_visible) return false;
    *out = ring->visible[ring->next_visible++].completion;
    ring->stats.completed++;
    if (out->result == -ENOBUFS && tag_op(out->tag) == RING_OP_RECV) ring->stats.buffers_empty++;
    if (tag_op(out->tag) == RING_OP_SEND_ZC && !(out->flags & RING_MORE)) zero_copy_taken(ring, out->tag);
    return true;
}

bool ring_pending(const struct ring *ring) { return ring->num_prepared > 0; }

bool ring_ready(const struct ring *ring) { return ring->next_visible < ring->num_visible || ring->overflowed; }

bool ring_has_arrivals(const struct ring *ring) { return ring_ready(ring) || ring_due_ns(ring) <= world_now_ns(); }

bool rings_have_arrivals(void)
{
    bool any = false;
    for (unsigned i = 0; i < network.num_rings; i++) any |= ring_has_arrivals(network.rings[i]);
    return any;
}

uint64_t ring_due_ns(const struct ring *ring)
{
    uint64_t due_ns = WORLD_NEVER;
    for (size_t i = 0; i < ring->num_arrivals; i++)
        if (ring->arrivals[i].due_ns < due_ns && is_first(ring, i)) due_ns = ring->arrivals[i].due_ns;
    return due_ns;
}

static struct arrival *wake_arrival(const struct ring *ring)
{
    for (size_t i = 0; i < ring->num_arrivals; i++)
        if (tag_op(ring->arrivals[i].completion.tag) == RING_OP_WAKE) return &ring->arrivals[i];
    return NULL;
}

bool ring_wake_coming(const struct ring *ring) { return ring_ready(ring) || wake_arrival(ring); }

static void watch_fires(struct ring *ring, uint64_t due_ns)
{
    struct arrival *there = wake_arrival(ring); /* an eventfd that is readable already says nothing new */
    if (there) {
        if (due_ns < there->due_ns) there->due_ns = due_ns;
        return;
    }
    if (!ring->watching) {
        ring->signalled = true;
        return;
    }
    struct ring_completion fired = {.tag = ring->watch_tag, .result = 1, .flags = RING_MORE};
    if (fault(network.faults.odd_of)) {
        count_happened(COUNT_WATCH_ENDS);
        fired.flags = 0;
        ring->watching = false;
    }
    arrive(ring, NO_FD, fired)->due_ns = due_ns;
}

bool ring_signal_watch(const struct park *park, uint64_t due_ns)
{
    for (unsigned i = 0; i < network.num_rings; i++) {
        if (network.rings[i]->watched != park) continue;
        watch_fires(network.rings[i], due_ns);
        return true;
    }
    return false;
}

const void *ring_buffer(struct ring *ring, uint16_t buffer)
{
    CHECK(buffer < ring->num_buffers && ring->buffer_lent[buffer], "receive buffer %u is read but not lent", buffer);
    return ring->buffers[buffer];
}

void ring_buffer_return(struct ring *ring, uint16_t buffer)
{
    CHECK(buffer < ring->num_buffers && ring->buffer_lent[buffer], "receive buffer %u is given back twice", buffer);
    ring->buffer_lent[buffer] = false;
    memset(ring->buffers[buffer], 0xdd, 64); /* whoever still reads it sees nonsense */
    ring->free_buffers[ring->num_free++] = buffer;
}

const struct ring_stats *ring_stats(const struct ring *ring) { return &ring->stats; }

static bool is_of(uint64_t tag, uint32_t slot, uint32_t generation)
{
    return tag_slot(tag) == slot && tag_generation(tag) == generation && tag_op(tag) != RING_OP_ACCEPT &&
           tag_op(tag) != RING_OP_WAKE && tag_op(tag) != RING_OP_SEND_ZC;
}

/* completions_of counts those that are the last of their operation, sends apart. */
static unsigned completions_of(const struct arrival *arrivals, size_t len, uint32_t slot, uint32_t generation,
                               bool *send_told)
{
    unsigned num = 0;
    for (size_t i = 0; i < len; i++) {
        const struct ring_completion *c = &arrivals[i].completion;
        if (!is_of(c->tag, slot, generation)) continue;
        bool send = tag_op(c->tag) == RING_OP_SEND;
        *send_told |= send;
        num += !send && !(c->flags & RING_MORE);
    }
    return num;
}

unsigned ring_zero_copies(const struct ring *ring, unsigned at, uint64_t *tag, struct slice *bytes)
{
    if (at < ring->num_zero_copies) {
        const struct zero_copy *z = &ring->zero_copies[at];
        *tag = z->tag;
        *bytes = slice_of(z->data, z->len);
    }
    return (unsigned)ring->num_zero_copies;
}

bool rings_reading(void)
{
    for (unsigned r = 0; r < network.num_rings; r++)
        for (size_t i = 0; i < network.rings[r]->num_zero_copies; i++)
            if (network.rings[r]->zero_copies[i].link) return true;
    return false;
}

unsigned ring_outstanding(const struct ring *ring, uint32_t slot, uint32_t generation, bool *send_told)
{
    unsigned num = 0;
    *send_told = false;
    for (size_t i = 0; i < ring->num_prepared; i++)
        num += is_of(ring->prepared[i].tag, slot, generation) && ring->prepared[i].kind != OP_SEND;
    num += completions_of(ring->arrivals, ring->num_arrivals, slot, generation, send_told);
    num += completions_of(ring->visible + ring->next_visible, ring->num_visible - ring->next_visible, slot, generation,
                          send_told);
    for (unsigned i = 0; i < network.num_links; i++) {
        const struct link *l = network.links[i];
        if (l->ring != ring) continue;
        num += l->receiving && is_of(l->receive_tag, slot, generation);
        num += l->polling_in && is_of(l->poll_in_tag, slot, generation);
        num += l->polling && is_of(l->poll_tag, slot, generation);
        num += l->shutting && is_of(l->shutdown_tag, slot, generation);
    }
    return num;
}

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
    return can_accept(l) || can_receive(l) || can_poll_in(l) || can_poll(l) || l->shutting || notification_due(l, &ring);
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
    struct zero_copy *z = notification_due(l, &ring);
    notify(ring, z);
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
    if (notification_due(l, &ring)) steps[num++] = step_notify;
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
        if (!l->client_gone || !l->gateway_closed || notification_due(l, &ring)) {
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
