#include "control.h"

#include "core.h"

static struct op *next_of(const struct op *op)
{
    struct queue_node *next = op->mail.node.next;
    return next ? CONTAINER_OF(next, struct op, mail.node) : NULL;
}

/* Nobody takes single ops off such a stack, so a push needs no more than one compare and swap. */
static void stack_push(_Atomic(struct op *) *stack, struct op *op)
{
    struct op *top = atomic_load_explicit(stack, memory_order_relaxed);
    do {
        op->mail.node.next = top ? &top->mail.node : NULL;
    } while (!atomic_compare_exchange_weak_explicit(stack, &top, op, memory_order_release, memory_order_relaxed));
}

void control_ask(struct core *core, struct op *op)
{
    struct control *c = &core->gateway->control;
    if (!c->wake) {
        op_fail(op, ERR_SERVER_OVERLOADED, "Nobody is there to do that", NULL);
        op->then(core, op);
        return;
    }
    stack_push(&c->asked, op);
    c->wake(c->context);
}

bool control_pollable(const struct core *core)
{
    return atomic_load_explicit(&core->gateway->control.answered[core->id], memory_order_relaxed) != NULL;
}

bool control_poll(struct core *core)
{
    if (!control_pollable(core)) return false;
    struct op *op = atomic_exchange_explicit(&core->gateway->control.answered[core->id], NULL, memory_order_acquire);
    for (struct op *next; op; op = next) {
        next = next_of(op);
        op->then(core, op);
    }
    return true;
}

struct op *control_take(struct gateway *g)
{
    struct op *op = atomic_exchange_explicit(&g->control.asked, NULL, memory_order_acquire);
    if (!op) return NULL;
    for (struct op *rest = next_of(op), *next; rest; rest = next) {
        next = next_of(rest);
        stack_push(&g->control.asked, rest);
    }
    return op;
}

void control_answer(struct gateway *g, struct op *op)
{
    unsigned origin = op->origin; /* once pushed, the op is the core's */
    stack_push(&g->control.answered[origin], op);
    park_wake(&g->cores[origin]->park);
}

void control_close(struct gateway *g)
{
    for (struct op *op; (op = control_take(g));) op_free(op);
    for (unsigned i = 0; i < CORES_MAX; i++) {
        struct op *op = atomic_exchange(&g->control.answered[i], NULL);
        for (struct op *next; op; op = next) {
            next = next_of(op);
            op_free(op);
        }
    }
}
