/* timer: deadlines of many connections, one node each, at the cost of two list operations to arm or cancel.
 *
 * Owner: one core. A hashed wheel of TIMER_SLOTS ticks; a deadline further away than one turn of the wheel stays in
 * its slot and is passed over until its turn comes. Ticks count from whatever start the caller chose; a tick's length
 * is the caller's too (net: TIMER_TICK_MS).
 *
 * Call order: timer_wheel_init; timer_arm and timer_cancel at will; timer_wheel_advance when time has passed, then
 * timer_pop until NULL. A zeroed node is unarmed; an armed one must not move or die. */
#ifndef CARILLON_NET_TIMER_H
#define CARILLON_NET_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include "../src/base/list.h"

#define TIMER_SLOTS 1024u         /* 102 s of 100 ms ticks: beyond the longest default deadline */
#define TIMER_NEVER UINT32_MAX    /* no deadline */

struct timer {
    struct list _link;
    uint32_t _due;
    uint32_t owners; /* a word for the owner, where there would be padding */
};

struct timer_wheel {
    struct list _slots[TIMER_SLOTS];
    uint64_t _occupied[TIMER_SLOTS / 64]; /* a bit a slot that is not empty */
    struct list _expired;                 /* due, not popped yet */
    uint32_t _now;                        /* the tick up to which slots have been emptied */
};

void timer_wheel_init(struct timer_wheel *wheel, uint32_t now_tick);
/* timer_arm sets the deadline, or moves it; a tick that has passed means the next one. */
void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint32_t due_tick);
/* timer_cancel may be called for a node that is not armed. */
void timer_cancel(struct timer_wheel *wheel, struct timer *timer);
static inline bool timer_armed(const struct timer *timer) { return list_linked(&timer->_link); }
/* timer_due returns the armed node's deadline. */
static inline uint32_t timer_due(const struct timer *timer) { return timer->_due; }

/* timer_wheel_advance expires every timer with a deadline at or before `now_tick`. */
void timer_wheel_advance(struct timer_wheel *wheel, uint32_t now_tick);
/* timer_pop takes one expired timer, NULL when there is none left. */
struct timer *timer_pop(struct timer_wheel *wheel);
/* timer_wheel_next returns a tick at or before the first deadline, TIMER_NEVER when nothing is armed: sleeping until
 * it is safe, and wakes for nothing at most once a turn of the wheel. */
uint32_t timer_wheel_next(const struct timer_wheel *wheel);

#endif
