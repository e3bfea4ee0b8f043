#include "rows.h"

#include <stdlib.h>

#include "../base/assert.h"

static struct commit_row *row_new(struct rows *r, enum commit_row_op op, enum kv_cf cf, const struct key *key);
static void value_end(struct rows *r);

void rows_free(struct rows *r)
{
    buf_free(&r->bytes);
    free(r->rows);
    *r = (struct rows){0};
}

struct buf *rows_put(struct rows *r, enum kv_cf cf, const struct key *key)
{
    row_new(r, COMMIT_PUT, cf, key);
    r->_value_at = r->bytes.len;
    return &r->bytes;
}

void rows_delete(struct rows *r, enum kv_cf cf, const struct key *key) { row_new(r, COMMIT_DELETE, cf, key); }

void rows_finish(struct rows *r)
{
    ASSERT(!r->_finished && r->num <= UINT16_MAX);
    value_end(r);
    r->_finished = true;
    for (uint32_t i = 0; i < r->num; i++) {
        r->rows[i].key.data = r->bytes.data + (uintptr_t)r->rows[i].key.data;
        r->rows[i].value.data = r->bytes.data + (uintptr_t)r->rows[i].value.data;
    }
}

static struct commit_row *row_new(struct rows *r, enum commit_row_op op, enum kv_cf cf, const struct key *key)
{
    ASSERT(!r->_finished);
    value_end(r);
    if (r->num == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 4;
        r->rows = realloc(r->rows, r->cap * sizeof *r->rows);
        ASSERT(r->rows != NULL);
    }
    struct commit_row *row = &r->rows[r->num++];
    *row = (struct commit_row){.op = (uint8_t)op, .cf = (uint8_t)cf};
    row->key = (struct slice){(const char *)(uintptr_t)r->bytes.len, key->len}; /* the bytes may still move */
    buf_append(&r->bytes, key->bytes, key->len);
    return row;
}

/* value_end: the value of a put is what was appended behind its key. */
static void value_end(struct rows *r)
{
    struct commit_row *last = r->num ? &r->rows[r->num - 1] : NULL;
    if (!last || last->op != COMMIT_PUT) return;
    last->value = (struct slice){(const char *)(uintptr_t)r->_value_at, r->bytes.len - r->_value_at};
}
