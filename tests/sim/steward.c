#include "steward.h"

#include "../../src/chat/session.h"
#include "../../src/chat/tail.h"
#include "../../src/core/core.h"
#include "../../src/core/reload.h"
#include "counts.h"
#include "world.h"

static struct steward {
    struct gateway *gateway;
    struct config *config;
    bool woken;
    uint64_t deadline_ns; /* of a drain */
} steward;

static void on_wake(void *context) { steward.woken = true; }

void steward_serve(struct gateway *g, struct config *config)
{
    steward = (struct steward){.gateway = g, .config = config};
    g->control = (struct control){.wake = on_wake};
}

bool steward_can_step(void) { return steward.woken; }

/* reload: one of the settings that a running gateway takes over has another value. */
static void reload(struct buf *out)
{
    struct reload_report report = {0};
    struct config *c = steward.config;
    switch (world_below(3)) {
    case 0: c->limits_send_queue = 64u << 10 << world_below(5); break;
    case 1: c->limits_presence_room_members = 8 + world_below(100); break;
    case 2: c->drain_timeout_s = 1 + world_below(20); break;
    }
    BUF_LIT(&report.applied, "a setting\n");
    reload_report_json(out, &report);
    reload_report_free(&report);
}

static void drain(struct buf *out)
{
    struct gateway *g = steward.gateway;
    buf_printf(out, "{\"draining\":true,\"timeout_s\":%llu}", (unsigned long long)steward.config->drain_timeout_s);
    if (atomic_load(&g->draining)) return;
    world_trace("the gateway drains");
    steward.deadline_ns = world_now_ns() + steward.config->drain_timeout_s * 1000000000ull;
    atomic_store(&g->draining, true);
    for (unsigned i = 0; i < g->num_cores; i++) park_wake(&g->cores[i]->park);
}

void steward_step(void)
{
    steward.woken = false;
    for (struct op *op; (op = control_take(steward.gateway));) {
        if (op->kind == OP_DRAIN) drain(&op->out);
        else reload(&op->out);
        op->http_status = op->kind == OP_DRAIN ? 202 : 200;
        control_answer(steward.gateway, op);
    }
}

bool steward_drained(void)
{
    if (!atomic_load(&steward.gateway->draining)) return false;
    bool told = true;
    uint32_t left = 0;
    for (unsigned i = 0; i < steward.gateway->num_cores; i++) {
        told &= steward.gateway->cores[i]->drain_told;
        left += atomic_load(&steward.gateway->cores[i]->connections);
    }
    return (told && left == 0) || world_now_ns() >= steward.deadline_ns;
}

/* A reader that is behind is caught up. It happens where no client sees it, so the calls are counted
 * (`-Wl,--wrap=session_catch_up,--wrap=tail_frame`). */
void __real_session_catch_up(struct core *core, struct sub *sub, uint64_t from);
void __wrap_session_catch_up(struct core *core, struct sub *sub, uint64_t from);
void __wrap_session_catch_up(struct core *core, struct sub *sub, uint64_t from)
{
    count_happened(COUNT_CATCH_UPS);
    __real_session_catch_up(core, sub, from);
}

struct frame *__real_tail_frame(struct core *core, const struct tail_part *part);
struct frame *__wrap_tail_frame(struct core *core, const struct tail_part *part);
struct frame *__wrap_tail_frame(struct core *core, const struct tail_part *part)
{
    struct frame *f = __real_tail_frame(core, part);
    count_happened(part->kind == TAIL_RUNS ? COUNT_CAUGHT_UP_RUNS : COUNT_CAUGHT_UP_PAGES);
    if (f->account) count_happened(COUNT_CAUGHT_UP_CUT); /* a copy, which counts as a frame in flight */
    return f;
}
