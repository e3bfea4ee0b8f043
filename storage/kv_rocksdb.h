/* kv_rocksdb: what the parts that know RocksDB share: the handle behind a kv that kv_rocksdb_open made. */
#ifndef CARILLON_STORAGE_KV_ROCKSDB_H
#define CARILLON_STORAGE_KV_ROCKSDB_H

#include <rocksdb/c.h>

#include "kv.h"

/* kv_rocksdb_handle lends the database; NULL once a write or a sync has failed: what it holds then was never promised
 * to anyone. */
rocksdb_t *kv_rocksdb_handle(struct kv *kv);

#endif
