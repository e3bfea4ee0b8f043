/* kv_row: rows of a store that a test writes by hand, past everything that would keep them right. */
#ifndef CARILLON_TESTS_UNIT_KV_ROW_H
#define CARILLON_TESTS_UNIT_KV_ROW_H

#include "../../storage/keys.h"
#include "../../storage/kv.h"

/* Both are synced when they return, and fail the test when they cannot be written. */
void kv_row_put(struct kv *kv, enum kv_cf cf, const struct key *key, struct slice value);
void kv_row_delete(struct kv *kv, enum kv_cf cf, const struct key *key);

#endif
