/* Fuzzes every decoder of stored values. The first byte picks the record, the rest is its value:
 * - what decodes encodes to the same bytes: a record has one encoding;
 * - a byte more or less is no record any more, and nothing is read beyond the value;
 * - the texts of a record lie in its value. */
#include <stdlib.h>

#include "../src/base/assert.h"
#include "../storage/records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* PLAIN_KINDS: records with an encoder and a decoder of the usual shape. */
#define PLAIN_KINDS(KIND) \
    KIND(tenant) \
    KIND(api_key) \
    KIND(user) \
    KIND(room) \
    KIND(member) \
    KIND(cursor) \
    KIND(answer) \
    KIND(idempotency_run) \
    KIND(notification) \
    KIND(outbox) \
    KIND(notification_end) \
    KIND(dead_letter) \
    KIND(subscription)

/* again_X decodes a value and encodes what it found; false when it is no X. */
#define AGAIN(kind) \
    static bool again_##kind(struct buf *out, struct slice value) \
    { \
        struct kind##_record r; \
        if (kind##_record_decode(&r, value) != STATUS_OK) return false; \
        kind##_record_encode(out, &r); \
        return true; \
    }
PLAIN_KINDS(AGAIN)

static bool again_number(struct buf *out, struct slice value)
{
    uint64_t number;
    if (number_record_decode(&number, value) != STATUS_OK) return false;
    number_record_encode(out, number);
    return true;
}

static bool inside(struct slice part, struct slice whole)
{
    return part.len == 0 || (part.data >= whole.data && part.data + part.len <= whole.data + whole.len);
}

static bool again_log(struct buf *out, struct slice value)
{
    struct log_record r;
    if (log_record_decode(&r, value) != STATUS_OK) return false;
    ASSERT(inside(r.sender_id, value) && inside(r.client_id, value) && inside(r.message_type, value) &&
           inside(r.content, value) && inside(r.meta, value));
    size_t len = log_record_len(&r);
    buf_reserve(out, len);
    out->len = (size_t)(log_record_encode_to(out->data, &r) - out->data);
    ASSERT(out->len == len);
    return true;
}

/* A run's prints rise, and each can be read. */
static bool again_prints(struct buf *out, struct slice value)
{
    struct idempotency_run_record r;
    if (idempotency_run_record_decode(&r, value) != STATUS_OK) return false;
    struct fingerprint before = {0};
    for (uint32_t i = 0; i < fingerprints_len(r.prints); i++) {
        struct fingerprint print = fingerprints_at(r.prints, i);
        ASSERT(print.seq >= 1 && print.seq <= r.last_seq);
        ASSERT(i == 0 || fingerprint_order(&before, &print) < 0);
        before = print;
    }
    ASSERT(inside(r.prints, value));
    idempotency_run_record_encode(out, &r);
    return true;
}

#define ROW(kind) again_##kind,
static bool (*const kinds[])(struct buf *out, struct slice value) = {PLAIN_KINDS(ROW) ROW(number) ROW(log) ROW(prints)};
#define KINDS (sizeof kinds / sizeof *kinds)

/* decodes reads a copy without a byte to spare. */
static bool decodes(unsigned kind, struct buf *again, struct slice value)
{
    char *exact = malloc(value.len ? value.len : 1);
    ASSERT(exact != NULL);
    if (value.len) memcpy(exact, value.data, value.len);
    bool decoded = kinds[kind](again, slice_of(exact, value.len));
    free(exact);
    return decoded;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) return 0;
    unsigned kind = data[0] % KINDS;
    struct slice value = slice_of(data + 1, len - 1);
    struct buf again = {0}, other = {0}, longer = {0};
    if (decodes(kind, &again, value)) {
        ASSERT(slice_eq(buf_slice(&again), value));
        ASSERT(!decodes(kind, &other, slice_of(value.data, value.len - 1)));
        buf_slice_append(&longer, value);
        buf_char(&longer, (char)data[0]);
        ASSERT(!decodes(kind, &other, buf_slice(&longer)));
    }
    buf_free(&again);
    buf_free(&other);
    buf_free(&longer);
    return 0;
}
