/* kv: the seam to the ordered key-value store under the commit pipeline and the readers.
 *
 * Two implementations: kv_rocksdb.c (RocksDB ≥ 7.7 through its C API) and kv_fake.c (sorted memory that crashes to a
 * prefix of its unsynced writes and may tear the last batch), for the simulator and unit tests.
 *
 * Threads: kv_write and kv_sequence by the writer; kv_sync by the syncer, at the same time as the next kv_write;
 * kv_get and iterators by any reader. A write is readable at once but durable only after a kv_sync that began after
 * it. Borrowed slices of an iterator live until its next move. */
#ifndef CARILLON_STORAGE_KV_H
#define CARILLON_STORAGE_KV_H

#include "../src/base/buf.h"
#include "../src/base/slice.h"
#include "../src/base/status.h"

/* Column families, by access pattern. The order is not stored; the names are (kv_cf_name). */
enum kv_cf {
    KV_META,
    KV_TENANTS,
    KV_KEYS,
    KV_NAMES,
    KV_USERS,
    KV_SESSIONS,
    KV_ROOMS,
    KV_MEMBERS,
    KV_USER_ROOMS,
    KV_LOG,
    KV_CHANGES,
    KV_CURSORS,
    KV_IDEMPOTENCY,
    KV_OUTBOX,
    KV_DEAD_LETTERS,
    KV_NOTIFICATIONS,
    KV_SUBSCRIPTIONS,
    KV_AUDIT,
    KV_CFS
};

/* kv_cf_name returns the stored name ("user_rooms"). */
const char *kv_cf_name(enum kv_cf cf);
/* kv_key_compare orders keys as every store does: by bytes, the shorter first; negative, zero or positive. */
int kv_key_compare(struct slice a, struct slice b);

/* A range deleted from KV_LOG begins at a tenant's or a room's first key (key_tenant, key_room; at most this many
 * bytes) and may end anywhere: what is removed from a log is always its beginning or all of it. See kv_rocksdb.c, at
 * the insert hints, for what else would happen. */
#define KV_LOG_RANGE_FROM_MAX 12u
/* kv_range_valid: from < to, and the rule above. Writing any other range aborts. */
bool kv_range_valid(enum kv_cf cf, struct slice from, struct slice to);

struct kv;
struct kv_batch;
struct kv_iter;

/* kv_manifest: the list of table files that RocksDB keeps, as far as it has synced it. */
struct kv_manifest {
    uint64_t number; /* of MANIFEST-<number>; 0: not known, or the store has failed */
    uint64_t bytes;
};

struct kv_ops {
    struct kv_batch *(*batch_new)(struct kv *kv);
    void (*batch_free)(struct kv_batch *b);
    void (*batch_clear)(struct kv_batch *b);
    void (*batch_put)(struct kv_batch *b, enum kv_cf cf, struct slice key, struct slice value);
    void (*batch_delete)(struct kv_batch *b, enum kv_cf cf, struct slice key);
    void (*batch_delete_range)(struct kv_batch *b, enum kv_cf cf, struct slice from, struct slice to);
    enum status (*write)(struct kv *kv, struct kv_batch *b);
    enum status (*sync)(struct kv *kv);
    uint64_t (*sequence)(struct kv *kv);
    enum status (*get)(struct kv *kv, enum kv_cf cf, struct slice key, struct buf *out);
    struct kv_iter *(*iter_open)(struct kv *kv, enum kv_cf cf, struct slice lower, struct slice upper);
    bool (*iter_first)(struct kv_iter *i);
    bool (*iter_last)(struct kv_iter *i);
    bool (*iter_next)(struct kv_iter *i);
    bool (*iter_prev)(struct kv_iter *i);
    struct slice (*iter_key)(struct kv_iter *i);
    struct slice (*iter_value)(struct kv_iter *i);
    enum status (*iter_close)(struct kv_iter *i);
    void (*close)(struct kv *kv);
    void (*manifest)(struct kv *kv, struct kv_manifest *out); /* NULL: there is none */
};

/* Implementations embed this first. */
struct kv {
    const struct kv_ops *ops;
};

/* A batch is filled by kv->ops->batch_…, which copy the bytes; a range removes from ≤ key < to (kv_range_valid). It may
 * be cleared and filled again, and is freed before kv_close. */
static inline struct kv_batch *kv_batch_new(struct kv *kv) { return kv->ops->batch_new(kv); }
/* kv_write applies the whole batch atomically, unsynced; later rows of a batch win. STATUS_IO, NO_SPACE,
 * CORRUPT: the batch may be there or not, now and after a reopening; the store takes no more writes (READ_ONLY). */
MUST_USE static inline enum status kv_write(struct kv *kv, struct kv_batch *b) { return kv->ops->write(kv, b); }
/* kv_sync makes everything written before the call durable. Any error is final: it and every later
 * write and sync fail (READ_ONLY) until the store is opened again. */
MUST_USE static inline enum status kv_sync(struct kv *kv) { return kv->ops->sync(kv); }
/* kv_sequence counts the operations ever written (each put, delete or range of a batch is one); never lower after a
 * recovery that lost nothing. */
static inline uint64_t kv_sequence(struct kv *kv) { return kv->ops->sequence(kv); }
/* kv_get replaces *out by the value; STATUS_NOT_FOUND when there is none. */
MUST_USE static inline enum status kv_get(struct kv *kv, enum kv_cf cf, struct slice key, struct buf *out)
{
    return kv->ops->get(kv, cf, key, out);
}
/* kv_iter_open walks the keys k with lower ≤ k < upper of a consistent snapshot; both bounds are copied. An empty
 * bound is none: key_prefix_end gives an empty upper bound for a prefix that has nothing behind it. */
static inline struct kv_iter *kv_iter_open(struct kv *kv, enum kv_cf cf, struct slice lower, struct slice upper)
{
    return kv->ops->iter_open(kv, cf, lower, upper);
}
/* moves return whether the iterator stands on a row; next and prev, key and value are for an iterator that stands on
 * one. kv_iter_close says whether the walk met an error: without STATUS_OK what was seen may be incomplete. */
static inline bool kv_iter_first(struct kv *kv, struct kv_iter *i) { return kv->ops->iter_first(i); }
static inline bool kv_iter_last(struct kv *kv, struct kv_iter *i) { return kv->ops->iter_last(i); }
static inline bool kv_iter_next(struct kv *kv, struct kv_iter *i) { return kv->ops->iter_next(i); }
static inline bool kv_iter_prev(struct kv *kv, struct kv_iter *i) { return kv->ops->iter_prev(i); }
static inline struct slice kv_iter_key(struct kv *kv, struct kv_iter *i) { return kv->ops->iter_key(i); }
static inline struct slice kv_iter_value(struct kv *kv, struct kv_iter *i) { return kv->ops->iter_value(i); }
MUST_USE static inline enum status kv_iter_close(struct kv *kv, struct kv_iter *i) { return kv->ops->iter_close(i); }
static inline void kv_close(struct kv *kv) { kv->ops->close(kv); }
/* kv_manifest tells what RocksDB's own sync has made durable of the MANIFEST that CURRENT durably names: whole edits,
 * that it never takes back. */
static inline struct kv_manifest kv_manifest(struct kv *kv)
{
    struct kv_manifest m = {0};
    if (kv->ops->manifest) kv->ops->manifest(kv, &m);
    return m;
}

#endif
