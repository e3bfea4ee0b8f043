/* Every decoder of stored values, and the key parsers. What decodes must encode to the same bytes: a record has one
 * encoding. The first byte picks the decoder, so that a corpus file belongs to one. */
#include <stddef.h>
#include <stdint.h>

#include "../src/base/assert.h"
#include "../storage/keys.h"
#include "../storage/kv.h"
#include "../storage/records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* AGAIN encodes what was decoded and compares. */
#define AGAIN(kind) \
    { \
        struct kind##_record r; \
        decoded = kind##_record_decode(&r, value) == STATUS_OK; \
        if (decoded) kind##_record_encode(&again, &r); \
        break; \
    }

static void fuzz_log(struct slice value, struct buf *again, bool *decoded)
{
    struct log_record r;
    *decoded = log_record_decode(&r, value) == STATUS_OK;
    if (!*decoded) return;
    size_t len = log_record_len(&r);
    ASSERT(len == value.len);
    buf_reserve(again, len);
    again->len = (size_t)(log_record_encode_to(again->data, &r) - again->data);
}

static void fuzz_key(struct slice key)
{
    struct key end;
    struct slice rest = key;
    uint32_t tenant;
    uint64_t number;
    if (key_parse_u32(&rest, &tenant))
        while (key_parse_u64(&rest, &number)) continue;
    if (key.len > KEY_MAX) return;
    key_prefix_end(&end, key);
    ASSERT(end.len == 0 || kv_key_compare(key, key_slice(&end)) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) return 0;
    struct slice value = slice_of(data + 1, len - 1);
    struct buf again = {0};
    bool decoded = false;
    switch (data[0] % 11) {
    case 0: AGAIN(tenant)
    case 1: AGAIN(api_key)
    case 2: AGAIN(user)
    case 3: AGAIN(room)
    case 4: AGAIN(member)
    case 5: AGAIN(cursor)
    case 6: AGAIN(answer)
    case 7: {
        uint64_t v;
        decoded = number_record_decode(&v, value) == STATUS_OK;
        if (decoded) number_record_encode(&again, v);
        break;
    }
    case 8: fuzz_log(value, &again, &decoded); break;
    case 9: fuzz_key(value); break;
    case 10: AGAIN(idempotency_run)
    }
    if (decoded) ASSERT(slice_eq(buf_slice(&again), value));
    buf_free(&again);
    return 0;
}
