/* floor-spsc: what src/base/spsc.h carries from one core to another, by how many cells are published at once. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "../../src/base/assert.h"
#include "../../src/base/spsc.h"
#include "floor.h"

#define BATCH_MAX 4096u

static uint64_t batch = 64, cells = 4096;
static double seconds = 0.5;

static const struct floor_option options[] = {
    {"batch", FLOOR_COUNT, &batch, 1, BATCH_MAX, NULL, "cells of one publish, and the most of one release"},
    {"cells", FLOOR_COUNT, &cells, 2, 1u << 20, NULL, "of the ring, a power of two"},
    {"seconds", FLOOR_REAL, &seconds, 0.001, FLOOR_SECONDS_MAX, NULL, "measured time"},
    {0},
};

static const struct floor_program program = {
    .name = "floor-spsc",
    .about = "cells a second through the ring between two cores",
    .figures =
        "Both sides spin, each on its own CPU, so ns_per_cell is the price of moving cache lines; no wake-up is in it\n"
        "(floor-wake has those). Every cell is counted, and its number must be the next one.",
    .examples = "  floor-spsc --batch 1\n  floor-spsc --batch 256\n",
    .options = options,
    .seconds = &seconds,
};

static struct spsc ring;
static _Atomic bool over;
static int consumer_cpu;

static void *consume(void *unused);

int main(int argc, char **argv)
{
    floor_begin(&program, argc, argv);
    if ((cells & (cells - 1)) != 0) floor_fail("--cells must be a power of two");
    if (floor_cpu(0) == floor_cpu(1)) floor_absent("two CPUs are needed, since both sides spin");
    consumer_cpu = floor_cpu(1);
    floor_pin(floor_cpu(0));
    if (spsc_init(&ring, (uint32_t)cells) != STATUS_OK) floor_fail("no memory for the ring");
    pthread_t consumer;
    ASSERT(pthread_create(&consumer, NULL, consume, NULL) == 0);

    uint64_t pushed = 0, full = 0, began = floor_now_ns(), until = began + (uint64_t)(seconds * FLOOR_SECOND_NS);
    do {
        for (unsigned turn = 0; turn < 64; turn++) { /* between two looks at the clock */
            for (uint64_t i = 0; i < batch; i++) {
                struct spsc_cell cell = {.word = {pushed, ~pushed}};
                while (spsc_push(&ring, &cell) != STATUS_OK) {
                    spsc_publish(&ring);
                    full++;
                }
                pushed++;
            }
            spsc_publish(&ring);
        }
    } while (floor_now_ns() < until);
    atomic_store(&over, true);
    void *popped;
    ASSERT(pthread_join(consumer, &popped) == 0);
    double ns = (double)(floor_now_ns() - began);
    if ((uint64_t)(uintptr_t)popped != pushed)
        floor_fail("%llu cells went in, %llu came out", (unsigned long long)pushed,
                   (unsigned long long)(uintptr_t)popped);

    floor_number("batch", (double)batch);
    floor_number("cells", (double)cells);
    floor_number("cells_per_second", (double)pushed / ns * (double)FLOOR_SECOND_NS);
    floor_number("ns_per_cell", ns / (double)pushed);
    floor_number("full_percent", 100 * (double)full / (double)(pushed + full));
    floor_end();
    spsc_free(&ring);
    return 0;
}

/* consume returns the number of cells. */
static void *consume(void *unused)
{
    floor_pin(consumer_cpu);
    uint64_t popped = 0;
    for (;;) {
        bool last = atomic_load_explicit(&over, memory_order_acquire); /* read first: what is pushed before it counts */
        uint64_t taken = 0;
        struct spsc_cell *cell;
        while (taken < batch && (cell = spsc_peek(&ring)) != NULL) {
            if (cell->word[0] != popped || cell->word[1] != ~popped)
                floor_fail("cell %llu is not the next one", (unsigned long long)cell->word[0]);
            spsc_pop(&ring);
            popped++;
            taken++;
        }
        if (taken) spsc_release(&ring);
        if (last && taken == 0) return (void *)(uintptr_t)popped;
    }
}
