/* kv_sealed: tells when RocksDB has closed a memtable and, with it, the log that it wrote so far. */
#ifndef CARILLON_STORAGE_KV_SEALED_H
#define CARILLON_STORAGE_KV_SEALED_H

#include <rocksdb/c.h>

#ifdef __cplusplus
extern "C" {
#endif

/* kv_call_when_sealed: databases opened with these options call `sealed` each time: on the thread that writes or flushes,
 * without a lock of RocksDB's, before anything stands in the next log. */
void kv_call_when_sealed(rocksdb_options_t *options, void (*sealed)(void *context), void *context);

#ifdef __cplusplus
}
#endif
#endif
