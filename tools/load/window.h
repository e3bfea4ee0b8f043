/* window: the messages of one publisher that wait for their answer, by number, in the order they were sent.
 *
 * Answers come nearly in order, so this is a ring over [first, next): the front moves on over what is answered. A
 * zeroed window is empty. */
#ifndef CARILLON_TOOLS_LOAD_WINDOW_H
#define CARILLON_TOOLS_LOAD_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define WINDOW_MESSAGES_MAX 65536u /* of one publisher; at it an open loop falls behind its schedule, and says so */

struct window {
    uint64_t first, next;  /* numbers; first ≤ next */
    uint64_t *intended_ns; /* of number n at n % capacity; 0: answered */
    uint32_t capacity;     /* a power of two */
};

static inline bool window_full(const struct window *w)
{
    return w->next - w->first >= WINDOW_MESSAGES_MAX;
}
/* window_push gives the next number to a message that was due at intended_ns (not 0). */
uint64_t window_push(struct window *w, uint64_t intended_ns);
/* window_take ends the wait for `number` and returns when it was due; 0 when nobody waits for it. */
uint64_t window_take(struct window *w, uint64_t number);
/* window_waits tells whether `number`, inside [first, next), still waits. */
bool window_waits(const struct window *w, uint64_t number);
void window_free(struct window *w);

#endif
