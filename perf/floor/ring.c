/* floor-ring: what io_uring charges for an operation that does nothing, by how many are submitted in one enter. */
#include <errno.h>
#include <liburing.h>

#include "../../src/base/assert.h"
#include "floor.h"

#define BATCH_MAX 4096u

enum completions { COMPLETIONS_ALL, COMPLETIONS_NONE };
static const char *const completion_names[] = {"all", "none", NULL};
static unsigned completions = COMPLETIONS_ALL;
static uint64_t batch = 64;
static double seconds = 0.5;

static const struct floor_option options[] = {
    {"batch", FLOOR_COUNT, &batch, 1, BATCH_MAX, NULL, "operations in one enter"},
    {"completions", FLOOR_CHOICE, &completions, 0, 0, completion_names,
     "of every operation, or IOSQE_CQE_SKIP_SUCCESS"},
    {"seconds", FLOOR_REAL, &seconds, 0.001, FLOOR_SECONDS_MAX, NULL, "measured time"},
    {0},
};

static const struct floor_program program = {
    .name = "floor-ring",
    .about = "io_uring's own price: NOPs by batch size",
    .figures =
        "ns_per_operation is CPU time, with its share of the enter; what it has above the figure of a large batch is\n"
        "the system call. The ring is set up as a core of the gateway sets up its own.",
    .examples = "  floor-ring --batch 1\n  floor-ring --batch 1024 --completions none\n",
    .options = options,
    .seconds = &seconds,
};

static uint64_t turn(struct io_uring *ring);

int main(int argc, char **argv)
{
    floor_begin(&program, argc, argv);
    floor_pin(floor_cpu(0));
    struct io_uring ring;
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
                                     .cq_entries = 2 * BATCH_MAX};
    floor_must_ring(io_uring_queue_init_params(BATCH_MAX, &ring, &params), "io_uring_setup");
    floor_must_ring(io_uring_register_ring_fd(&ring), "io_uring_register_ring_fd");

    uint64_t turns = 0, completed = 0, began = floor_now_ns(), cpu = floor_cpu_ns();
    uint64_t until = began + (uint64_t)(seconds * FLOOR_SECOND_NS);
    do {
        completed += turn(&ring);
        turns++;
    } while (floor_now_ns() < until);
    cpu = floor_cpu_ns() - cpu;
    double wall = (double)(floor_now_ns() - began) / (double)FLOOR_SECOND_NS;
    uint64_t expected = completions == COMPLETIONS_ALL ? turns * batch : 0;
    if (completed != expected)
        floor_fail("%llu completions instead of %llu", (unsigned long long)completed, (unsigned long long)expected);

    floor_number("batch", (double)batch);
    floor_text("completions", completion_names[completions]);
    floor_number("operations_per_second", (double)(turns * batch) / wall);
    floor_number("ns_per_operation", (double)cpu / (double)(turns * batch));
    floor_number("ns_per_enter", (double)cpu / (double)turns);
    floor_end();
    io_uring_queue_exit(&ring);
    return 0;
}

/* turn submits one batch and returns the number of completions. */
static uint64_t turn(struct io_uring *ring)
{
    for (uint64_t i = 0; i < batch; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
        ASSERT(sqe);
        io_uring_prep_nop(sqe);
        if (completions == COMPLETIONS_NONE) sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    }
    int n = io_uring_submit_and_get_events(ring);
    if (n != (int)batch) floor_fail("io_uring_enter took %d of %llu operations", n, (unsigned long long)batch);
    unsigned head, count = 0;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(ring, head, cqe)
    {
        floor_must_ring(cqe->res, "NOP");
        count++;
    }
    io_uring_cq_advance(ring, count);
    return count;
}
