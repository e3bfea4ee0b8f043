/* control: what the operator asks of the process around the gateway: to stop, to read the settings again. That takes
 * files and time, so no core does it: the op goes to the main thread and comes back.
 *
 *   core:        control_ask(op) ──▶ asked, a stack of all cores' ops ──▶ main thread: control_take
 *   core:        control_poll    ◀── answered[origin]                 ◀── main thread: control_answer
 *
 * Threads: control_ask, _pollable and _poll belong to the op's core, control_take and _answer to the main thread. A
 * core pays one load a turn. Bound: one op of each HTTP connection of the operator. */
#ifndef CARILLON_CORE_CONTROL_H
#define CARILLON_CORE_CONTROL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "../base/limits.h"

struct core;
struct gateway;
struct op;

struct control {
    void (*wake)(void *context); /* wakes the main thread, from any core; NULL: there is none, all is refused */
    void *context;
    _Atomic(struct op *) asked;  /* newest first, linked by mail.node; taken whole */
    _Atomic(struct op *) answered[CORES_MAX];
};

/* control_ask hands an OP_DRAIN or OP_RELOAD to the main thread; it ends in its `then`. */
void control_ask(struct core *core, struct op *op);
bool control_pollable(const struct core *core);
/* control_poll runs `then` of every answered op; returns whether there was one. */
bool control_poll(struct core *core);

/* control_take returns the next op that was asked, or NULL. control_answer sends it back and wakes its core. */
struct op *control_take(struct gateway *g);
void control_answer(struct gateway *g, struct op *op);
/* control_close frees what nobody took any more; the threads have ended. */
void control_close(struct gateway *g);

#endif
