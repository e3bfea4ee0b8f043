#include "vitals.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static void look_at_process(struct vitals *v);
static void look_at_heap(struct vitals *v);
static void look_at_store(struct gateway *g);

void vitals_look(struct gateway *g)
{
    look_at_process(&g->vitals);
    look_at_heap(&g->vitals);
    if (g->store_property) look_at_store(g);
}

static void memory_set(struct vitals *v, enum memory_part part, uint64_t bytes)
{
    atomic_store_explicit(&v->memory[part], bytes, memory_order_relaxed);
}

/* open_descriptors counts entries of /proc/self/fd (proc(5)). Clients' sockets are the rings' own and are not among
 * them. */
static uint64_t open_descriptors(void)
{
    uint64_t num = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir) return 0;
    while (readdir(dir)) num++;
    closedir(dir);
    return num > 3 ? num - 3 : 0; /* ".", ".." and the directory itself */
}

/* statm: in pages (proc(5)). */
struct statm {
    unsigned long size, resident, shared;
};

static bool statm_read(struct statm *now)
{
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return false;
    bool good = fscanf(f, "%lu %lu %lu", &now->size, &now->resident, &now->shared) == 3;
    fclose(f);
    return good && now->resident >= now->shared;
}

static void look_at_process(struct vitals *v)
{
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    struct statm now = {0};
    statm_read(&now);
    metric_set(&v->metrics, METRIC_VIRTUAL_MEMORY_BYTES, now.size * page_bytes);
    metric_set(&v->metrics, METRIC_RESIDENT_MEMORY_BYTES, now.resident * page_bytes);
    metric_set(&v->metrics, METRIC_OPEN_FDS, open_descriptors());
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) metric_set(&v->metrics, METRIC_MAX_FDS, limit.rlim_cur);
    struct rusage used;
    if (getrusage(RUSAGE_SELF, &used) != 0) return;
    uint64_t us = (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000u +
                  (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    atomic_store_explicit(&v->cpu_ns, us * 1000, memory_order_relaxed);
}

/* mallctl(3) of jemalloc; absent in builds with a sanitizer, which brings its own allocator. */
extern int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len) __attribute__((weak));

static void look_at_heap(struct vitals *v)
{
    static const struct {
        const char *name;
        enum memory_part part;
    } parts[] = {{"stats.allocated", MEMORY_HEAP_ALLOCATED},
                 {"stats.active", MEMORY_HEAP_ACTIVE},
                 {"stats.resident", MEMORY_HEAP_RESIDENT}};
    if (!mallctl) return;
    uint64_t epoch = 1; /* the figures stand still until this is written */
    size_t len = sizeof epoch;
    if (mallctl("epoch", &epoch, &len, &epoch, len) != 0) return;
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t bytes = 0;
        len = sizeof bytes;
        if (mallctl(parts[i].name, &bytes, &len, NULL, 0) == 0) memory_set(v, parts[i].part, bytes);
    }
}

static void look_at_store(struct gateway *g)
{
    static const struct {
        const char *name;
        enum metric_id id;
    } gauges[] = {{"rocksdb.is-write-stopped", METRIC_STORE_WRITE_STOPPED},
                  {"rocksdb.actual-delayed-write-rate", METRIC_STORE_DELAYED_WRITE_RATE},
                  {"rocksdb.estimate-pending-compaction-bytes", METRIC_STORE_COMPACTION_PENDING_BYTES},
                  {"rocksdb.num-running-flushes", METRIC_STORE_FLUSHES_RUNNING},
                  {"rocksdb.num-running-compactions", METRIC_STORE_COMPACTIONS_RUNNING},
                  {"rocksdb.live-sst-files-size", METRIC_STORE_FILES_BYTES},
                  {"rocksdb.background-errors", METRIC_STORE_BACKGROUND_ERRORS}};
    static const struct {
        const char *name;
        enum memory_part part;
    } parts[] = {{"rocksdb.block-cache-usage", MEMORY_BLOCK_CACHE},
                 {"rocksdb.cur-size-all-mem-tables", MEMORY_MEMTABLES},
                 {"rocksdb.estimate-table-readers-mem", MEMORY_TABLE_READERS}};
    for (unsigned i = 0; i < sizeof gauges / sizeof *gauges; i++)
        metric_set(&g->vitals.metrics, gauges[i].id, g->store_property(g->store->kv, gauges[i].name));
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
        memory_set(&g->vitals, parts[i].part, g->store_property(g->store->kv, parts[i].name));
}

#define ALL_ARENAS "arena.4096.purge" /* MALLCTL_ARENAS_ALL */

void vitals_give_back(void)
{
    if (mallctl) mallctl(ALL_ARENAS, NULL, NULL, NULL, 0);
}

uint64_t vitals_memory_used(void)
{
    struct statm now;
    return statm_read(&now) ? (now.resident - now.shared) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}
