#include "timer.h"

#include "../src/base/assert.h"
#include "../src/base/planted.h"

_Static_assert((TIMER_SLOTS & (TIMER_SLOTS - 1)) == 0 && TIMER_SLOTS % 64 == 0, "slots are found by masking");

static unsigned slot_of(uint32_t tick)
{
    return tick & (TIMER_SLOTS - 1);
}
static void expire_slot(struct timer_wheel *wheel, unsigned slot, uint32_t now_tick);
static void clear_if_empty(struct timer_wheel *wheel, unsigned slot);

void timer_wheel_init(struct timer_wheel *wheel, uint32_t now_tick)
{
    for (unsigned i = 0; i < TIMER_SLOTS; i++) list_init(&wheel->_slots[i]);
    for (unsigned i = 0; i < TIMER_SLOTS / 64; i++) wheel->_occupied[i] = 0;
    list_init(&wheel->_expired);
    wheel->_now = now_tick;
}

void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint32_t due_tick)
{
    ASSERT(due_tick != TIMER_NEVER);
    timer_cancel(wheel, timer);
    timer->_due = due_tick > wheel->_now ? due_tick : wheel->_now + 1;
    unsigned slot = slot_of(timer->_due);
    list_push(&wheel->_slots[slot], &timer->_link);
    wheel->_occupied[slot / 64] |= 1ull << slot % 64;
}

void timer_cancel(struct timer_wheel *wheel, struct timer *timer)
{
    if (!timer_armed(timer)) return;
    list_remove(&timer->_link);
    clear_if_empty(wheel, slot_of(timer->_due));
}

void timer_wheel_advance(struct timer_wheel *wheel, uint32_t now_tick)
{
    if (now_tick <= wheel->_now) return;
    /* After a long pause every slot is visited once, not once a tick. */
    uint32_t from = now_tick - wheel->_now > TIMER_SLOTS ? now_tick - TIMER_SLOTS : wheel->_now;
    wheel->_now = now_tick;
    for (uint32_t tick = from + 1; tick <= now_tick; tick++) {
        unsigned slot = slot_of(tick);
        if (wheel->_occupied[slot / 64] >> slot % 64 & 1) expire_slot(wheel, slot, now_tick);
    }
}

struct timer *timer_pop(struct timer_wheel *wheel)
{
    struct list *link = list_pop(&wheel->_expired);
    return link ? CONTAINER_OF(link, struct timer, _link) : NULL;
}

uint32_t timer_wheel_next(const struct timer_wheel *wheel)
{
    if (!list_empty(&wheel->_expired)) return wheel->_now;
    unsigned start = slot_of(wheel->_now + 1);
    for (unsigned ahead = 0; ahead < TIMER_SLOTS;) {
        unsigned slot = (start + ahead) & (TIMER_SLOTS - 1);
        uint64_t word = wheel->_occupied[slot / 64] >> slot % 64;
        if (word) {
            unsigned found = ahead + (unsigned)__builtin_ctzll(word);
            return found < TIMER_SLOTS ? wheel->_now + 1 + found : wheel->_now + TIMER_SLOTS;
        }
        ahead += 64 - slot % 64;
    }
    return TIMER_NEVER;
}

/* expire_slot leaves what belongs to a later turn of the wheel where it is. */
static void expire_slot(struct timer_wheel *wheel, unsigned slot, uint32_t now_tick)
{
    struct list *head = &wheel->_slots[slot], *next;
    for (struct list *at = head->next; at != head; at = next) {
        next = at->next;
        if (CONTAINER_OF(at, struct timer, _link)->_due > now_tick && !PLANTED(timer_never_fires)) continue;
        list_remove(at);
        if (PLANTED(timer_never_fires) && CONTAINER_OF(at, struct timer, _link)->_due > now_tick) continue;
        list_push(&wheel->_expired, at);
    }
    clear_if_empty(wheel, slot);
}

static void clear_if_empty(struct timer_wheel *wheel, unsigned slot)
{
    if (list_empty(&wheel->_slots[slot])) wheel->_occupied[slot / 64] &= ~(1ull << slot % 64);
}
