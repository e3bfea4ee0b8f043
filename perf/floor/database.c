#define _GNU_SOURCE
#include "database.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "floor.h"

#define KEY_BYTES 20u                  /* tenant u32, room u64, seq u64: storage/keys.h */
#define WRITE_BUFFER_BYTES (64u << 20) /* the default of store.write_buffer */
#define WRITE_BUFFERS 4
#define INFO_LOG_LEVEL_FATAL 4

static char path[4096];

static int remove_one(const char *name, const struct stat *status, int kind, struct FTW *place)
{
    return remove(name);
}

static void directory_remove(void)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0) fprintf(stderr, "%s is left over\n", path);
}

void database_good(char *error, const char *what)
{
    if (error) floor_fail("RocksDB, %s: %s", what, error);
}

rocksdb_t *database_open(const char *directory, bool hints)
{
    if (snprintf(path, sizeof path, "%s/floor-rocksdb-XXXXXX", directory) >= (int)sizeof path || !mkdtemp(path))
        floor_fail("no directory can be made in %s", directory);
    atexit(directory_remove);
    rocksdb_options_t *base = rocksdb_options_create(), *o = rocksdb_options_create();
    char *error = NULL;
    /* The C API has no function for this one. */
    rocksdb_get_options_from_string(base, hints ? "memtable_insert_with_hint_prefix_extractor=fixed:12" : "", o,
                                    &error);
    database_good(error, "insert hints");
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0); /* which the hints need */
    rocksdb_options_set_enable_pipelined_write(o, 0);
    rocksdb_options_set_write_buffer_size(o, WRITE_BUFFER_BYTES);
    rocksdb_options_set_max_write_buffer_number(o, WRITE_BUFFERS);
    rocksdb_options_set_compaction_style(o, rocksdb_universal_compaction);
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_bytes_per_sync(o, 1u << 20);
    rocksdb_options_set_info_log_level(o, INFO_LOG_LEVEL_FATAL);
    rocksdb_t *db = rocksdb_open(o, path, &error);
    database_good(error, "opening");
    rocksdb_options_destroy(o);
    rocksdb_options_destroy(base);
    return db;
}

static void big_endian(uint8_t *out, uint64_t number, unsigned len)
{
    for (unsigned i = 0; i < len; i++) out[i] = (uint8_t)(number >> 8 * (len - 1 - i));
}

void database_put(rocksdb_writebatch_t *b, uint64_t room, uint64_t seq, const char *value, size_t bytes)
{
    uint8_t key[KEY_BYTES] = {0, 0, 0, 1};
    big_endian(key + 4, room, 8);
    big_endian(key + 12, seq, 8);
    rocksdb_writebatch_put(b, (const char *)key, sizeof key, value, bytes);
}
