/* floor-rocksdb: what RocksDB charges one writer for rows of a log: by how many are in a batch, with the WAL or
 * without, synced or not, with insert hints or without.
 *
 * Rows are of many rooms in turns, each room's in rising order, as a log's are. */
#define _GNU_SOURCE
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "../../src/base/assert.h"
#include "database.h"
#include "floor.h"

#define BATCH_MAX 4096u
#define VALUE_BYTES_MAX 65536u

enum way { WAY_NO_WAL, WAY_UNSYNCED, WAY_SYNCED, WAY_OVERLAPPED };
static const char *const way_names[] = {"no_wal", "unsynced", "synced", "overlapped", NULL};
enum hints { HINTS_OFF, HINTS_ON };
static const char *const hint_names[] = {"off", "on", NULL};
static unsigned way = WAY_SYNCED, hints = HINTS_ON;
static uint64_t batch = 64, bytes = 300, rooms = 1000;
static double seconds = 1;
static const char *directory = "/tmp";

static const struct floor_option options[] = {
    {"way", FLOOR_CHOICE, &way, 0, 0, way_names, "what a write has to do"},
    {"batch", FLOOR_COUNT, &batch, 1, BATCH_MAX, NULL, "rows of one write"},
    {"hints", FLOOR_CHOICE, &hints, 0, 0, hint_names, "memtable insert hints, one a room"},
    {"bytes", FLOOR_COUNT, &bytes, 1, VALUE_BYTES_MAX, NULL, "of a row's value"},
    {"rooms", FLOOR_COUNT, &rooms, 1, 1u << 20, NULL, "whose rows come in turns"},
    {"directory", FLOOR_TEXT, &directory, 0, 0, NULL, "where the database is made; it goes when the program ends"},
    {"seconds", FLOOR_REAL, &seconds, 0.01, 20, NULL, "measured time"},
    {0},
};

static const struct floor_program program = {
    .name = "floor-rocksdb",
    .about = "rows that one thread can write into RocksDB",
    .figures =
        "rows_per_second is what was written, and for synced and overlapped what was durable. cpu_us_per_row is of\n"
        "the writing thread; flushes and compactions run in others.\n"
        "  no_wal      the memtable alone\n"
        "  unsynced    the WAL too, in the page cache\n"
        "  synced      each batch is synced before the next one is written\n"
        "  overlapped  a second thread syncs what was written so far, again and again, as the gateway does",
    .examples = "  floor-rocksdb --way synced --batch 128\n  floor-rocksdb --way overlapped --hints off\n",
    .options = options,
    .seconds = &seconds,
};

static rocksdb_t *db;
static _Atomic uint64_t written, durable; /* rows */
static _Atomic bool over;

static void write_batch(rocksdb_writebatch_t *b, const rocksdb_writeoptions_t *o, uint64_t *next, const char *value);
static void count_rows(void);
static void *syncer(void *unused);

int main(int argc, char **argv)
{
    floor_begin(&program, argc, argv);
    int cpu = floor_cpu(0); /* the set of CPUs is read now, before RocksDB's threads begin */
    db = database_open(directory, hints == HINTS_ON);
    floor_pin(cpu); /* after them: they use the other CPU as well */
    rocksdb_writeoptions_t *o = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(o, way == WAY_NO_WAL);
    rocksdb_writeoptions_set_sync(o, way == WAY_SYNCED);
    rocksdb_writebatch_t *b = rocksdb_writebatch_create();
    char *value = malloc(bytes);
    ASSERT(value);
    for (uint64_t i = 0; i < bytes; i++)
        value[i] = (char)(i * 37 + i / 7); /* not all alike, if anybody compresses it */
    pthread_t thread = 0;
    if (way == WAY_OVERLAPPED) ASSERT(pthread_create(&thread, NULL, syncer, NULL) == 0);

    uint64_t rows = 0, batches = 0, began = floor_now_ns(), cpu_ns = floor_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t until = began + (uint64_t)(seconds * FLOOR_SECOND_NS);
    do {
        write_batch(b, o, &rows, value);
        atomic_store(&written, rows);
        batches++;
    } while (floor_now_ns() < until);
    cpu_ns = floor_clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
    if (way == WAY_OVERLAPPED) { /* until the last row is durable */
        atomic_store(&over, true);
        ASSERT(pthread_join(thread, NULL) == 0);
        if (atomic_load(&durable) != rows) floor_fail("not every row became durable");
    }
    double wall = (double)(floor_now_ns() - began) / (double)FLOOR_SECOND_NS;
    count_rows();

    floor_text("way", way_names[way]);
    floor_number("batch", (double)batch);
    floor_text("hints", hint_names[hints]);
    floor_number("bytes", (double)bytes);
    floor_number("rows_per_second", (double)rows / wall);
    floor_number("cpu_us_per_row", (double)cpu_ns / (double)rows / 1000);
    floor_number("us_per_batch", wall * 1e6 / (double)batches);
    floor_end();
    free(value);
    rocksdb_writebatch_destroy(b);
    rocksdb_writeoptions_destroy(o);
    rocksdb_close(db);
    return 0;
}

static void write_batch(rocksdb_writebatch_t *b, const rocksdb_writeoptions_t *o, uint64_t *next, const char *value)
{
    rocksdb_writebatch_clear(b);
    for (uint64_t i = 0; i < batch; i++, (*next)++) database_put(b, *next % rooms, *next / rooms, value, bytes);
    char *error = NULL;
    rocksdb_write(db, o, b, &error);
    database_good(error, "a write");
}

/* The store's own count of operations: what was not written cannot be in it. */
static void count_rows(void)
{
    uint64_t sequence = rocksdb_get_latest_sequence_number(db);
    if (sequence != atomic_load(&written))
        floor_fail("RocksDB counts %llu rows instead of %llu", (unsigned long long)sequence,
                   (unsigned long long)atomic_load(&written));
}

static void *syncer(void *unused)
{
    floor_pin(floor_cpu(1)); /* it must not share the writer's CPU */
    for (;;) {
        bool last = atomic_load(&over);
        uint64_t before = atomic_load(&written);
        if (before > atomic_load(&durable)) {
            char *error = NULL;
            rocksdb_flush_wal(db, 1, &error);
            database_good(error, "a sync");
            atomic_store(&durable, before);
        }
        if (last) return NULL;
    }
}
