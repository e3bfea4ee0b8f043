/* database: a RocksDB of its own for a floor. The family's options are those of the gateway's log
 * (storage/kv_rocksdb.c) as far as they matter to a writer. */
#ifndef CARILLON_PERF_FLOOR_DATABASE_H
#define CARILLON_PERF_FLOOR_DATABASE_H

#include <rocksdb/c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* database_open makes one in a new directory below `directory`, which goes when the program ends; `hints`: memtable
 * insert hints, one a room. One thread may write. */
rocksdb_t *database_open(const char *directory, bool hints);
/* database_put adds a row with a key as the log's are. */
void database_put(rocksdb_writebatch_t *b, uint64_t room, uint64_t seq, const char *value, size_t bytes);
/* database_good ends the program when there is an error; `what` had to be done. */
void database_good(char *error, const char *what);

#endif
