/* script: what is asked of both stores: keys, bounds, values and batches, all from chance.
 *
 * Keys come from a small world, so that writes, deletes, ranges and walks meet: each family's real keys with few
 * numbers in them, their neighbours (a byte more, a byte less, the next one), and keys that no product makes: bytes
 * 0x00 and 0xff, up to 3 KB long. */
#ifndef CARILLON_TESTS_STORAGE_SCRIPT_H
#define CARILLON_TESTS_STORAGE_SCRIPT_H

#include "../../src/base/buf.h"
#include "../../storage/kv.h"
#include "chances.h"

enum script_kind { SCRIPT_PUT, SCRIPT_DELETE, SCRIPT_DELETE_RANGE };

/* script_op: one row of a batch; `value` is the end of a range. */
struct script_op {
    enum script_kind kind;
    enum kv_cf cf;
    struct buf key, value;
};

#define SCRIPT_OPS_MAX 24u

struct script_batch {
    struct script_op ops[SCRIPT_OPS_MAX];
    size_t len;
};

/* script_key appends a key, never empty. */
void script_key(struct chances *c, enum kv_cf cf, struct buf *out);
/* script_bounds appends the bounds of a walk: none, a key, or a prefix and its end; lower may be above upper. */
void script_bounds(struct chances *c, enum kv_cf cf, struct buf *lower, struct buf *upper);
enum kv_cf script_family(struct chances *c);
/* script_batch_make fills a cleared batch with no rows or with up to SCRIPT_OPS_MAX. */
void script_batch_make(struct chances *c, struct script_batch *batch);
void script_batch_clear(struct script_batch *batch);
/* script_batch_into puts the rows into a batch of a store. */
void script_batch_into(struct kv *kv, struct kv_batch *b, const struct script_batch *batch);

#endif
