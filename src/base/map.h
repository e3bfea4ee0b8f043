/* map: a hash table of pointers, open addressing with linear probing, grown at 3/4.
 *
 * The caller brings the hash (hash_bytes for keys that a caller chooses) and an equality function; the map stores
 * (hash, pointer) only. One core uses a map; nothing is thread-safe. By hand because the tables sit on the data
 * path and the packaged C tables (uthash) cost a 56-byte header in every object. */
#ifndef CARILLON_BASE_MAP_H
#define CARILLON_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_slot {
    uint64_t hash;
    void *value; /* NULL: empty */
};

struct map {
    struct map_slot *slots;
    uint32_t mask; /* slots - 1, or 0 when nothing is allocated yet */
    uint32_t len;
};

typedef bool (*map_eq)(const void *value, const void *key);

void map_free(struct map *m);
void *map_find(const struct map *m, uint64_t hash, map_eq eq, const void *key);
/* map_insert adds a value whose key is not in the map yet. */
void map_insert(struct map *m, uint64_t hash, void *value);
/* map_remove takes out exactly this pointer; returns whether it was there. Later slots move back (no tombstones). */
bool map_remove(struct map *m, uint64_t hash, const void *value);
/* map_next walks all values: start with *at = 0; NULL at the end. Inserting or removing ends the walk's validity. */
void *map_next(const struct map *m, uint32_t *at);

#endif
