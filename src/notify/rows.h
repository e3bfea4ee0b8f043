/* rows: the rows of one commit entry, built one after the other into one block of bytes, so that thousands of them cost
 * two allocations and not two each.
 *
 * Call order: rows_key and rows_put or rows_delete in turns; rows_finish once, which makes `rows` what the entry takes.
 * A zeroed struct is empty and safe to free. */
#ifndef CARILLON_NOTIFY_ROWS_H
#define CARILLON_NOTIFY_ROWS_H

#include "../../storage/commit.h"
#include "../../storage/keys.h"
#include "../base/buf.h"

struct rows {
    struct buf bytes;
    struct commit_row *rows; /* until rows_finish their data are offsets into `bytes` */
    uint32_t num, cap;
    size_t _value_at;
    bool _finished;
};

void rows_free(struct rows *r);
/* rows_put begins a row; the caller appends its value to the returned buffer before the next call. */
struct buf *rows_put(struct rows *r, enum kv_cf cf, const struct key *key);
void rows_delete(struct rows *r, enum kv_cf cf, const struct key *key);
/* rows_finish fixes the bytes in place; at most UINT16_MAX rows. */
void rows_finish(struct rows *r);

#endif
