#include "kv_row.h"

/* cmocka needs these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void write_and_free(struct kv *kv, struct kv_batch *batch)
{
    assert_int_equal(kv_write(kv, batch), STATUS_OK);
    assert_int_equal(kv_sync(kv), STATUS_OK);
    kv->ops->batch_free(batch);
}

void kv_row_put(struct kv *kv, enum kv_cf cf, const struct key *key, struct slice value)
{
    struct kv_batch *batch = kv_batch_new(kv);
    kv->ops->batch_put(batch, cf, key_slice(key), value);
    write_and_free(kv, batch);
}

void kv_row_delete(struct kv *kv, enum kv_cf cf, const struct key *key)
{
    struct kv_batch *batch = kv_batch_new(kv);
    kv->ops->batch_delete(batch, cf, key_slice(key));
    write_and_free(kv, batch);
}
