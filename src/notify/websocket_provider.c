/* websocket_provider: notifications to the live sockets of their user, on whichever cores they are. */
#include "../../net/websocket.h"
#include "../base/assert.h"
#include "../chat/session.h"
#include "../chat/user.h"
#include "notify.h"
#include "provider.h"

static void push_returned(struct core *core, struct op *op);

static uint32_t sockets_reachable(const struct core *core, uint32_t tenant, struct slice user_id)
{
    return user_sockets(core, tenant, user_id);
}

static const char *sockets_status(const struct core *core)
{
    return atomic_load_explicit(&core->gateway->draining, memory_order_relaxed) ? "draining" : "ok";
}

static void push_to(struct core *core, struct push *p, unsigned target)
{
    struct op *op = op_new(core, OP_NOTIFICATION_PUSH, 0);
    op->tenant = p->tenant;
    op->user = p->user;
    op->user_id = p->user_id;
    op->in.push.conn = p->only.conn;
    op->flow = p;
    op->then = push_returned;
    p->waits++;
    op_send(core, op, target);
}

static void push_send(struct core *core, struct push *p)
{
    ASSERT(p->waits == 0);
    uint64_t cores = p->only.conn.generation ? 1ull << p->only.core : user_socket_cores(core, p->tenant, p->user_id);
    p->waits = 1; /* one more until all are asked */
    for (; cores; cores &= cores - 1) push_to(core, p, (unsigned)__builtin_ctzll(cores));
    if (--p->waits == 0) push_done(core, p);
}

static void push_returned(struct core *core, struct op *op)
{
    struct push *p = op->flow;
    p->taken |= op->in.push.taken;
    p->reached += op->in.push.sockets;
    p->crowded |= op->in.push.crowded;
    op_free(op);
    if (--p->waits == 0) push_done(core, p);
}

const struct provider provider_websocket = {.type = "websocket",
                                            .name = "websocket",
                                            .send = push_send,
                                            .reachable = sockets_reachable,
                                            .status = sockets_status};

/* --- on a core with sockets -------------------------------------------------------------------------------------- */

/* item_frame makes a frame that counts among this core's, as a room's run does. */
static struct frame *item_frame(struct core *core, const struct push *p, const struct push_item *item)
{
    uint8_t header[WS_HEADER_MAX];
    size_t header_len = ws_header(header, WS_OP_TEXT, item->len);
    struct frame *f = frame_new(1, (uint32_t)(header_len + item->len));
    memcpy(frame_data(f), header, header_len);
    memcpy(frame_data(f) + header_len, p->json.data + item->at, item->len);
    frame_charge(f, &core->frames_bytes);
    return f;
}

enum item_sent { ITEM_FOR_NOBODY, ITEM_REFUSED, ITEM_TAKEN };

/* frame_send adds one socket to what has become of an item. A queue that is full gets nothing: the notification is not
 * acknowledged, so it comes again. */
static enum item_sent frame_send(struct core *core, const struct session *s, struct frame *f, enum item_sent so_far)
{
    if (s->state != SESSION_OPEN || s->passed_over) return so_far;
    if (net_send(core->net, s->conn, f, CONN_DURABLE) == STATUS_OK) return ITEM_TAKEN;
    return so_far == ITEM_TAKEN ? ITEM_TAKEN : ITEM_REFUSED;
}

/* item_send gives one frame to the one socket, or else to every one that may have it. */
static enum item_sent item_send(struct core *core, const struct known_user *u, const struct session *one,
                                const struct push *p, const struct push_item *item)
{
    enum item_sent sent = ITEM_FOR_NOBODY;
    struct frame *f = item_frame(core, p, item);
    frame_ref(f, core->id);
    if (one) sent = frame_send(core, one, f, sent);
    for (struct list *at = u->sessions.next; !one && at != &u->sessions; at = at->next)
        sent = frame_send(core, CONTAINER_OF(at, struct session, of_user), f, sent);
    frame_unref(f, core->id);
    return sent;
}

static uint32_t open_sockets(struct core *core, const struct known_user *u, struct conn_ref only)
{
    const struct session *one = only.generation ? session_on(core, only) : NULL;
    if (only.generation) return one && one->state == SESSION_OPEN;
    uint32_t num = 0;
    for (struct list *at = u->sessions.next; at != &u->sessions; at = at->next) {
        const struct session *s = CONTAINER_OF(at, struct session, of_user);
        num += s->state == SESSION_OPEN && net_conn(core->net, net_ref(s->conn)) != NULL;
    }
    return num;
}

/* frames_fit: notifications that their users' sockets do not take leave the rooms half of FRAMES_BYTES_MAX. */
static bool frames_fit(const struct core *core)
{
    return atomic_load_explicit(&core->frames_bytes, memory_order_relaxed) <= (int64_t)core->frames_bytes_max / 2;
}

/* pass_over marks the sockets that get an item by their openings; NULL: none any more. */
static void pass_over(struct core *core, const struct push *p, const struct push_item *item)
{
    for (uint32_t i = 0; i < p->num_openings; i++) {
        const struct push_opening *o = &p->openings[i];
        struct session *s = o->socket.core == core->id ? session_on(core, o->socket.conn) : NULL;
        if (s) s->passed_over = item && push_to_come(&o->progress, item->priority, item->number);
    }
}

/* push_items: nothing overtakes what found no room. */
static void push_items(struct core *core, struct op *op, const struct known_user *u)
{
    const struct push *p = op->flow; /* constant while the op is under way */
    struct session *one = op->in.push.conn.generation ? session_on(core, op->in.push.conn) : NULL;
    for (uint32_t i = 0; i < p->num; i++) {
        if (p->items[i].len == 0) continue;
        op->in.push.crowded = !frames_fit(core);
        if (op->in.push.crowded) return;
        pass_over(core, p, &p->items[i]);
        enum item_sent sent = item_send(core, u, one, p, &p->items[i]);
        if (sent == ITEM_TAKEN) op->in.push.taken |= 1ull << i;
        if (sent != ITEM_REFUSED) continue;
        if (one) one->pushes_wait = true;
        return;
    }
}

void notify_on_push(struct core *core, struct op *op)
{
    struct known_user *u = known_user_find(core, op->tenant, op->user_id);
    if (u) op->in.push.sockets = open_sockets(core, u, op->in.push.conn);
    if (u && op->in.push.sockets) push_items(core, op, u);
    pass_over(core, op->flow, NULL);
    op_return(core, op);
}
