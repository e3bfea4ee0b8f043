#include <pthread.h>
#include <stdlib.h>

#include "../src/base/assert.h"
#include "store.h"

/* Each family is an array sorted by key. A written batch leaves behind what it replaced, until a sync makes it final
 * or a crash takes it back: newest first, so that the store passes through the states it came from. */

struct row {
    struct slice key, value; /* both owned */
};

struct family {
    struct row *rows;
    size_t len, cap;
};

/* replaced: what stood under a key before a batch touched it */
struct replaced {
    enum kv_cf cf;
    bool existed;
    struct row row; /* without `existed` only the key */
};

struct written {
    struct replaced *replaced;
    size_t len, cap;
    uint64_t sequence_before;
};

struct fake {
    struct kv kv;
    pthread_mutex_t lock; /* over everything below */
    unsigned owners;
    struct family family[KV_CFS];
    struct written *unsynced;
    size_t num_unsynced, cap_unsynced;
    uint64_t sequence;
    bool fail_writes, fail_syncs;
    bool failed; /* a write or sync has: until the store is opened again neither is tried */
    bool write_failed; /* the newest of `unsynced`: there to be read until the store is opened again */
};

enum batch_op_kind { BATCH_PUT, BATCH_DELETE, BATCH_DELETE_RANGE };

struct batch_op {
    enum batch_op_kind kind;
    enum kv_cf cf;
    struct slice key, value; /* owned; of a range: from and to */
};

struct kv_batch {
    struct batch_op *ops;
    size_t len, cap;
};

struct kv_iter {
    struct row *rows; /* copies: the snapshot */
    size_t len;
    size_t at; /* < len: stands on a row */
};

static const struct kv_ops fake_ops;
static enum status failure(struct fake *f, bool fails);
static void opened_again(struct fake *f);
static void apply(struct fake *f, struct written *w, const struct batch_op *op);
static void apply_put(struct fake *f, struct written *w, enum kv_cf cf, struct slice key, struct slice value);
static void apply_delete_range(struct fake *f, struct written *w, enum kv_cf cf, size_t first, size_t end);
static void take_back(struct fake *f, struct written *w);
static void written_free(struct written *w);
static size_t family_find(const struct family *family, struct slice key);
static bool family_has(const struct family *family, size_t at, struct slice key);
static void family_insert(struct family *family, size_t at, struct row row);
static void family_remove(struct family *family, size_t at);
static struct slice copy_of(struct slice s);
static void free_slice(struct slice s);
static void *grown(void *array, size_t len, size_t *cap, size_t item_bytes);

struct kv *kv_fake_new(void)
{
    struct fake *f = calloc(1, sizeof *f);
    ASSERT(f);
    f->kv.ops = &fake_ops;
    f->owners = 1;
    ASSERT(pthread_mutex_init(&f->lock, NULL) == 0);
    return &f->kv;
}

void kv_fake_hold(struct kv *kv)
{
    struct fake *f = (struct fake *)kv;
    pthread_mutex_lock(&f->lock);
    f->owners++;
    pthread_mutex_unlock(&f->lock);
}

size_t kv_fake_unsynced(struct kv *kv)
{
    struct fake *f = (struct fake *)kv;
    pthread_mutex_lock(&f->lock);
    size_t n = f->num_unsynced - f->write_failed;
    pthread_mutex_unlock(&f->lock);
    return n;
}

void kv_fake_crash(struct kv *kv, size_t keep, bool tear)
{
    struct fake *f = (struct fake *)kv;
    pthread_mutex_lock(&f->lock);
    opened_again(f);
    ASSERT(keep <= f->num_unsynced);
    if (tear && keep) keep--; /* a batch is one record: torn, its checksum fails and all of it is gone */
    while (f->num_unsynced > keep) take_back(f, &f->unsynced[--f->num_unsynced]);
    while (f->num_unsynced) written_free(&f->unsynced[--f->num_unsynced]);
    pthread_mutex_unlock(&f->lock);
}

/* opened_again: a write that failed is in no log. */
static void opened_again(struct fake *f)
{
    if (f->write_failed) take_back(f, &f->unsynced[--f->num_unsynced]);
    f->failed = f->write_failed = false;
}

void kv_fake_fail(struct kv *kv, bool writes, bool syncs)
{
    struct fake *f = (struct fake *)kv;
    pthread_mutex_lock(&f->lock);
    f->fail_writes = writes;
    f->fail_syncs = syncs;
    pthread_mutex_unlock(&f->lock);
}

static void fake_close(struct kv *kv)
{
    struct fake *f = (struct fake *)kv;
    pthread_mutex_lock(&f->lock);
    ASSERT(f->owners > 0);
    bool last = --f->owners == 0;
    opened_again(f); /* by whoever still holds it */
    pthread_mutex_unlock(&f->lock);
    if (!last) return;
    while (f->num_unsynced) written_free(&f->unsynced[--f->num_unsynced]);
    free(f->unsynced);
    for (unsigned cf = 0; cf < KV_CFS; cf++) {
        struct family *family = &f->family[cf];
        for (size_t i = 0; i < family->len; i++) {
            free_slice(family->rows[i].key);
            free_slice(family->rows[i].value);
        }
        free(family->rows);
    }
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static enum status fake_write(struct kv *kv, struct kv_batch *b)
{
    struct fake *f = (struct fake *)kv;
    pthread_mutex_lock(&f->lock);
    enum status s = failure(f, f->fail_writes);
    if (s == STATUS_READ_ONLY) {
        pthread_mutex_unlock(&f->lock);
        return s;
    }
    f->unsynced = grown(f->unsynced, f->num_unsynced, &f->cap_unsynced, sizeof *f->unsynced);
    struct written *w = &f->unsynced[f->num_unsynced++];
    *w = (struct written){.sequence_before = f->sequence};
    for (size_t i = 0; i < b->len; i++) apply(f, w, &b->ops[i]);
    f->sequence += b->len;
    f->write_failed = s != STATUS_OK;
    pthread_mutex_unlock(&f->lock);
    return s;
}

static enum status fake_sync(struct kv *kv)
{
    struct fake *f = (struct fake *)kv;
    pthread_mutex_lock(&f->lock);
    enum status s = failure(f, f->fail_syncs);
    while (s == STATUS_OK && f->num_unsynced) written_free(&f->unsynced[--f->num_unsynced]);
    pthread_mutex_unlock(&f->lock);
    return s;
}

/* failure: what a write or sync says now; the first that fails is the last that is tried. */
static enum status failure(struct fake *f, bool fails)
{
    if (f->failed) return STATUS_READ_ONLY;
    f->failed = fails;
    return fails ? STATUS_IO : STATUS_OK;
}

static uint64_t fake_sequence(struct kv *kv)
{
    struct fake *f = (struct fake *)kv;
    pthread_mutex_lock(&f->lock);
    uint64_t sequence = f->sequence;
    pthread_mutex_unlock(&f->lock);
    return sequence;
}

static enum status fake_get(struct kv *kv, enum kv_cf cf, struct slice key, struct buf *out)
{
    struct fake *f = (struct fake *)kv;
    ASSERT(cf < KV_CFS);
    out->len = 0;
    pthread_mutex_lock(&f->lock);
    const struct family *family = &f->family[cf];
    size_t at = family_find(family, key);
    bool found = family_has(family, at, key);
    if (found) buf_slice_append(out, family->rows[at].value);
    pthread_mutex_unlock(&f->lock);
    return found ? STATUS_OK : STATUS_NOT_FOUND;
}

static struct kv_batch *fake_batch_new(struct kv *kv)
{
    struct kv_batch *b = calloc(1, sizeof *b);
    ASSERT(b);
    return b;
}

static void fake_batch_clear(struct kv_batch *b)
{
    for (size_t i = 0; i < b->len; i++) {
        free_slice(b->ops[i].key);
        free_slice(b->ops[i].value);
    }
    b->len = 0;
}

static void fake_batch_free(struct kv_batch *b)
{
    if (!b) return;
    fake_batch_clear(b);
    free(b->ops);
    free(b);
}

static void batch_push(struct kv_batch *b, enum batch_op_kind kind, enum kv_cf cf, struct slice key, struct slice value)
{
    ASSERT(cf < KV_CFS);
    b->ops = grown(b->ops, b->len, &b->cap, sizeof *b->ops);
    b->ops[b->len++] = (struct batch_op){kind, cf, copy_of(key), copy_of(value)};
}

static void fake_batch_put(struct kv_batch *b, enum kv_cf cf, struct slice key, struct slice value)
{
    ASSERT(key.len > 0);
    batch_push(b, BATCH_PUT, cf, key, value);
}

static void fake_batch_delete(struct kv_batch *b, enum kv_cf cf, struct slice key)
{
    ASSERT(key.len > 0);
    batch_push(b, BATCH_DELETE, cf, key, (struct slice){NULL, 0});
}

static void fake_batch_delete_range(struct kv_batch *b, enum kv_cf cf, struct slice from, struct slice to)
{
    ASSERT(kv_range_valid(cf, from, to));
    batch_push(b, BATCH_DELETE_RANGE, cf, from, to);
}

static struct kv_iter *fake_iter_open(struct kv *kv, enum kv_cf cf, struct slice lower, struct slice upper)
{
    struct fake *f = (struct fake *)kv;
    ASSERT(cf < KV_CFS);
    struct kv_iter *i = calloc(1, sizeof *i);
    ASSERT(i);
    pthread_mutex_lock(&f->lock);
    const struct family *family = &f->family[cf];
    size_t first = family_find(family, lower);
    size_t end = upper.len ? family_find(family, upper) : family->len;
    if (end > first) {
        i->len = end - first;
        i->rows = calloc(i->len, sizeof *i->rows);
        ASSERT(i->rows);
        for (size_t n = 0; n < i->len; n++) {
            i->rows[n].key = copy_of(family->rows[first + n].key);
            i->rows[n].value = copy_of(family->rows[first + n].value);
        }
    }
    pthread_mutex_unlock(&f->lock);
    i->at = i->len;
    return i;
}

static bool fake_iter_first(struct kv_iter *i)
{
    i->at = 0;
    return i->at < i->len;
}

static bool fake_iter_last(struct kv_iter *i)
{
    i->at = i->len ? i->len - 1 : 0;
    return i->at < i->len;
}

static bool fake_iter_next(struct kv_iter *i)
{
    ASSERT(i->at < i->len);
    return ++i->at < i->len;
}

static bool fake_iter_prev(struct kv_iter *i)
{
    ASSERT(i->at < i->len);
    i->at = i->at ? i->at - 1 : i->len;
    return i->at < i->len;
}

static struct slice fake_iter_key(struct kv_iter *i)
{
    ASSERT(i->at < i->len);
    return i->rows[i->at].key;
}

static struct slice fake_iter_value(struct kv_iter *i)
{
    ASSERT(i->at < i->len);
    return i->rows[i->at].value;
}

static enum status fake_iter_close(struct kv_iter *i)
{
    for (size_t n = 0; n < i->len; n++) {
        free_slice(i->rows[n].key);
        free_slice(i->rows[n].value);
    }
    free(i->rows);
    free(i);
    return STATUS_OK;
}

static void apply(struct fake *f, struct written *w, const struct batch_op *op)
{
    const struct family *family = &f->family[op->cf];
    size_t at = family_find(family, op->key);
    switch (op->kind) {
    case BATCH_PUT: apply_put(f, w, op->cf, op->key, op->value); return;
    case BATCH_DELETE:
        if (family_has(family, at, op->key)) apply_delete_range(f, w, op->cf, at, at + 1);
        return;
    case BATCH_DELETE_RANGE: apply_delete_range(f, w, op->cf, at, family_find(family, op->value)); return;
    }
    UNREACHABLE();
}

static void apply_put(struct fake *f, struct written *w, enum kv_cf cf, struct slice key, struct slice value)
{
    struct family *family = &f->family[cf];
    size_t at = family_find(family, key);
    w->replaced = grown(w->replaced, w->len, &w->cap, sizeof *w->replaced);
    struct replaced *old = &w->replaced[w->len++];
    *old = (struct replaced){.cf = cf, .existed = family_has(family, at, key), .row = {.key = copy_of(key)}};
    if (old->existed) {
        old->row.value = family->rows[at].value;
        family->rows[at].value = copy_of(value);
    } else {
        family_insert(family, at, (struct row){copy_of(key), copy_of(value)});
    }
}

static void apply_delete_range(struct fake *f, struct written *w, enum kv_cf cf, size_t first, size_t end)
{
    struct family *family = &f->family[cf];
    if (first == end) return;
    for (size_t i = first; i < end; i++) {
        w->replaced = grown(w->replaced, w->len, &w->cap, sizeof *w->replaced);
        w->replaced[w->len++] = (struct replaced){.cf = cf, .existed = true, .row = family->rows[i]};
    }
    memmove(family->rows + first, family->rows + end, (family->len - end) * sizeof *family->rows);
    family->len -= end - first;
}

static void take_back(struct fake *f, struct written *w)
{
    while (w->len) {
        struct replaced *old = &w->replaced[--w->len];
        struct family *family = &f->family[old->cf];
        size_t at = family_find(family, old->row.key);
        bool exists = family_has(family, at, old->row.key);
        if (exists) family_remove(family, at);
        if (old->existed) {
            family_insert(family, at, old->row);
        } else {
            ASSERT(exists); /* only a put leaves "nothing was here" behind */
            free_slice(old->row.key);
        }
    }
    f->sequence = w->sequence_before;
    free(w->replaced);
}

static void written_free(struct written *w)
{
    for (size_t i = 0; i < w->len; i++) {
        free_slice(w->replaced[i].row.key);
        free_slice(w->replaced[i].row.value);
    }
    free(w->replaced);
}

/* family_find returns the index of the first row whose key is not below `key`. */
static size_t family_find(const struct family *family, struct slice key)
{
    size_t low = 0, high = family->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (kv_key_compare(family->rows[middle].key, key) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

static bool family_has(const struct family *family, size_t at, struct slice key)
{
    return at < family->len && slice_eq(family->rows[at].key, key);
}

static void family_insert(struct family *family, size_t at, struct row row)
{
    family->rows = grown(family->rows, family->len, &family->cap, sizeof *family->rows);
    memmove(family->rows + at + 1, family->rows + at, (family->len - at) * sizeof *family->rows);
    family->rows[at] = row;
    family->len++;
}

static void family_remove(struct family *family, size_t at)
{
    free_slice(family->rows[at].key);
    free_slice(family->rows[at].value);
    family->len--;
    memmove(family->rows + at, family->rows + at + 1, (family->len - at) * sizeof *family->rows);
}

static struct slice copy_of(struct slice s)
{
    if (s.len == 0) return (struct slice){NULL, 0};
    char *copy = malloc(s.len);
    ASSERT(copy);
    memcpy(copy, s.data, s.len);
    return slice_of(copy, s.len);
}

static void free_slice(struct slice s) { free((void *)s.data); }

/* grown makes room for one more item behind `len`. */
static void *grown(void *array, size_t len, size_t *cap, size_t item_bytes)
{
    if (len < *cap) return array;
    *cap = *cap ? *cap * 2 : 8;
    void *larger = realloc(array, *cap * item_bytes);
    ASSERT(larger);
    return larger;
}

static const struct kv_ops fake_ops = {
    .batch_new = fake_batch_new,
    .batch_free = fake_batch_free,
    .batch_clear = fake_batch_clear,
    .batch_put = fake_batch_put,
    .batch_delete = fake_batch_delete,
    .batch_delete_range = fake_batch_delete_range,
    .write = fake_write,
    .sync = fake_sync,
    .sequence = fake_sequence,
    .get = fake_get,
    .iter_open = fake_iter_open,
    .iter_first = fake_iter_first,
    .iter_last = fake_iter_last,
    .iter_next = fake_iter_next,
    .iter_prev = fake_iter_prev,
    .iter_key = fake_iter_key,
    .iter_value = fake_iter_value,
    .iter_close = fake_iter_close,
    .close = fake_close,
};
