#define _GNU_SOURCE
#include "table.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct fault_table *table; /* NULL until the constructor has run, and in a process that was given no file */

_Static_assert(NUM_FAULT_SITES <= sizeof table->sites / sizeof table->sites[0], "every site has a row");
_Static_assert(offsetof(struct fault_table, sites) == 64 && sizeof table->sites[0] == 64, "fault_table.py");

/* The name leaves the environment: the gateway warns of settings that it does not know. */
__attribute__((constructor)) static void table_map(void)
{
    static const char *const names[] = {
#define FAULT_NAME(id, name) name,
        FAULT_SITES(FAULT_NAME)
#undef FAULT_NAME
    };
    const char *path = getenv("CARILLON_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = MAP_FAILED;
    if (ftruncate(fd, sizeof *table) == 0)
        mapped = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    unsetenv("CARILLON_FAULTS");
    if (mapped == MAP_FAILED) return;
    struct fault_table *t = mapped;
    for (unsigned i = 0; i < NUM_FAULT_SITES; i++) strcpy(t->sites[i].name, names[i]);
    atomic_store(&t->num_sites, NUM_FAULT_SITES);
    table = t;
}

static bool strikes(_Atomic(uint64_t) *mode, _Atomic(uint64_t) *failed)
{
    uint64_t now = atomic_load_explicit(mode, memory_order_relaxed);
    if (now == FAULT_OFF) return false;
    if (now == FAULT_ONCE && !atomic_compare_exchange_strong(mode, &now, FAULT_OFF)) return false;
    atomic_fetch_add(failed, 1);
    return true;
}

int fault_strikes(enum fault_site site)
{
    if (!table) return 0;
    atomic_fetch_add_explicit(&table->sites[site].passed, 1, memory_order_relaxed);
    return strikes(&table->sites[site].mode, &table->sites[site].failed);
}

static void note(uint64_t address)
{
    for (unsigned i = 0, at = (unsigned)(address * 0x9e3779b97f4a7c15u >> 40); i < FAULT_CALLERS; i++, at++) {
        uint64_t free_place = 0;
        _Atomic(uint64_t) *place = &table->callers[at % FAULT_CALLERS].address;
        if (atomic_load(place) != address && !atomic_compare_exchange_strong(place, &free_place, address) &&
            free_place != address)
            continue;
        atomic_fetch_add_explicit(&table->callers[at % FAULT_CALLERS].passed, 1, memory_order_relaxed);
        return;
    }
}

int fault_memory(const void *caller)
{
    uint64_t address = (uint64_t)(uintptr_t)caller;
    if (!table) return 0;
    if (atomic_load_explicit(&table->recording, memory_order_relaxed)) note(address);
    if (atomic_load_explicit(&table->memory_caller, memory_order_relaxed) != address) return 0;
    return strikes(&table->memory_mode, &table->memory_failed);
}
