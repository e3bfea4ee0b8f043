/* websocket_provider: notifications to the live sockets of their user, on whichever cores they are. */
#include "../../net/websocket.h"
#include "../base/assert.h"
#include "../chat/session.h"
#include "../chat/user.h"
#include "notify.h"
#include "provider.h"

static void push_returned(struct core *core, struct op *op);

static bool sockets_reachable(const struct core *core, uint32_t tenant, struct slice user_id)
{
    return user_socket_cores(core, tenant, user_id) != 0;
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

/* item_send gives one frame to every socket that may have it; true when one took it. A queue that is full gets nothing:
 * the notification is not acknowledged, so it comes again. */
static bool item_send(struct core *core, struct known_user *u, struct conn_ref only, const struct push *p,
                      const struct push_item *item)
{
    bool taken = false;
    struct frame *f = item_frame(core, p, item);
    frame_ref(f, core->id);
    for (struct list *at = u->sessions.next; at != &u->sessions; at = at->next) {
        struct session *s = CONTAINER_OF(at, struct session, of_user);
        if (s->state != SESSION_OPEN) continue;
        if (only.generation ? s != session_on(core, only) : s->passed_over) continue;
        taken |= net_send(core->net, s->conn, f, CONN_DURABLE) == STATUS_OK;
    }
    frame_unref(f, core->id);
    return taken;
}

static uint32_t open_sockets(struct core *core, const struct known_user *u, struct conn_ref only)
{
    uint32_t num = 0;
    for (struct list *at = u->sessions.next; at != &u->sessions; at = at->next) {
        struct session *s = CONTAINER_OF(at, struct session, of_user);
        if (s->state != SESSION_OPEN || net_conn(core->net, net_ref(s->conn)) == NULL) continue;
        num += !only.generation || s == session_on(core, only);
    }
    return num;
}

/* frames_fit: notifications that their users' sockets do not take leave the rooms half of FRAMES_BYTES_MAX. */
static bool frames_fit(const struct core *core)
{
    return atomic_load_explicit(&core->frames_bytes, memory_order_relaxed) <= (int64_t)core->frames_bytes_max / 2;
}

static void pass_over(struct core *core, const struct push *p, bool so)
{
    for (uint32_t i = 0; i < p->num_not_to; i++) {
        struct session *s = p->not_to[i].core == core->id ? session_on(core, p->not_to[i].conn) : NULL;
        if (s) s->passed_over = so;
    }
}

void notify_on_push(struct core *core, struct op *op)
{
    const struct push *p = op->flow; /* constant while the op is under way */
    struct known_user *u = known_user_find(core, op->tenant, op->user_id);
    if (u) op->in.push.sockets = open_sockets(core, u, op->in.push.conn);
    pass_over(core, p, true);
    for (uint32_t i = 0; u && i < p->num && op->in.push.sockets; i++) {
        if (p->items[i].len == 0) continue;
        if (!frames_fit(core)) {
            op->in.push.crowded = true;
            break;
        }
        if (!item_send(core, u, op->in.push.conn, p, &p->items[i])) { /* nothing overtakes what found no room */
            struct session *one = op->in.push.conn.generation ? session_on(core, op->in.push.conn) : NULL;
            if (one) one->pushes_wait = true;
            break;
        }
        op->in.push.taken |= 1ull << i;
    }
    pass_over(core, p, false);
    op_return(core, op);
}
