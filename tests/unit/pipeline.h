/* pipeline: a commit pipeline over a scripted store and a scripted mark, for the tests of storage/commit.h. The store
 * knows what was written and synced, and can hold, fail, or call back in the middle; the mark refuses to run ahead of
 * the store; the clock of a step test is moved by hand. */
#ifndef CARILLON_TESTS_UNIT_PIPELINE_H
#define CARILLON_TESTS_UNIT_PIPELINE_H

/* cmocka needs these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "../../storage/commit.h"

#define CORES 3u

struct script_row {
    uint8_t op, cf;
    uint8_t core;
    uint64_t ticket; /* the key says which entry the row belongs to */
};

/* gate: a thread that passes a closed gate waits in it; `entered` counts who came. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned entered, allowed;
};

struct script_kv {
    struct kv kv;
    struct script_row *rows; /* everything written, in order */
    size_t num_rows, cap;
    size_t num_writes, rows_of_write[64];
    size_t num_syncs;
    _Atomic uint64_t written[CORES], synced[CORES]; /* tickets */
    _Atomic uint64_t sequence, synced_sequence;
    enum status write_result, sync_result;
    void (*during_write)(void *context), (*during_sync)(void *context);
    void *context;
    struct gate *sync_gate;
};

struct key_of_row {
    uint64_t core, ticket;
};

struct script_mark {
    struct mark mark;
    struct script_kv *store;
    uint64_t written, synced; /* sequence numbers */
    size_t num_writes;
    _Atomic size_t num_syncs;
    enum status write_result, sync_result;
};

struct completion {
    unsigned core;
    uint64_t ticket;
    enum commit_class class;
    enum status result;
};

struct pipeline {
    struct park wake[CORES];
    struct script_kv store;
    struct script_mark mark;
    struct clock clock;
    uint64_t now_ns;
    struct commit *commit;
    struct commit_core *core[CORES];
    unsigned woken[CORES];
    struct end {
        struct pipeline *pipeline;
        unsigned core;
    } end[CORES];
    struct completion *done;
    size_t num_done;
    struct gate gate;
};

/* An entry that lives on the heap and is freed in its `done`: the sanitizers see whoever touches it later. */
struct test_entry {
    struct commit_entry entry;
    struct key_of_row key;
    struct commit_row rows[3];
};

/* The fixtures: of tests that take the stages step by step, with parks that never block and count who would have been
 * woken; and of tests with the pipeline's threads, which a test starts. tear_down first brings to its end what was left
 * open: nothing may hang in the pipeline. */
int set_up_steps(void **state);
int set_up_threads(void **state);
int tear_down(void **state);
#define STEP_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_steps, tear_down)
#define THREAD_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_threads, tear_down)

/* entry_new: an entry of one row, which notes its completion in `done` and is freed then. push gives it to the pipeline
 * and holds that this is its ticket; push_one returns what commit_push says, and frees what was refused. */
struct test_entry *entry_new(unsigned core, enum commit_class class, uint64_t ticket);
enum status push_one(struct pipeline *p, unsigned core, enum commit_class class, uint64_t ticket);
void push(struct pipeline *p, unsigned core, enum commit_class class, uint64_t ticket);
unsigned poll_all(struct pipeline *p);
/* woken_by tells whether a step signals the sleeping core. */
unsigned woken_by(struct pipeline *p, bool (*step)(struct commit *), unsigned core);
void assert_completed(const struct pipeline *p, size_t at, uint64_t ticket, enum status result);

#endif
