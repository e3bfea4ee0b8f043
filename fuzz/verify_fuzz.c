/* Fuzzes `carillon verify-store` (storage/verify.c) and the reading of history with damaged stores: an input is
 * a list of damages (damaged_store.h). It holds:
 * - a store that is not damaged has no findings, and every row is looked at;
 * - one value cut short, or one row removed that others lean on, is always found;
 * - a finding is a line for people: not empty, and no byte of it controls a terminal;
 * - history is read as it is or refused as corrupt; nothing is read beyond a value. */
#include <stdlib.h>

#include "../src/base/assert.h"
#include "../src/chat/history.h"
#include "damaged_store.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define DAMAGES_MAX 16u

static bool leaned_on(unsigned row);
static void check_history(struct kv *kv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    sound_store_make();
    return 0;
}

static void count_finding(void *context, const char *text)
{
    ++*(uint64_t *)context;
    ASSERT(text[0]);
    for (; *text; text++) ASSERT((unsigned char)*text >= ' ' && *text != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    damages_begin();
    struct slice input = slice_of(data, len);
    enum damage kind = DAMAGES;
    unsigned row = 0, damages = 0;
    while (damages < DAMAGES_MAX && damage_next(&input, &kind, &row, UINT32_MAX)) damages++;

    struct kv *kv = kv_fake_new();
    uint64_t num_left = rows_write(kv), seen = 0, findings = 0;
    ASSERT(store_verify(kv, count_finding, &findings, &seen) == findings);
    ASSERT(seen <= num_left && (damages > 0 || seen == num_left)); /* a changed key may be another row's */
    if (damages == 0) ASSERT(findings == 0);
    /* what stands in user_rooms is not read: the key is all there is to say */
    bool cut = damaged_rows[row].value.len < sound.rows[row].value.len && sound.rows[row].cf != KV_USER_ROOMS;
    if (damages == 1 && kind == CUT_VALUE && cut && findings == 0)
        fail_msg("a row of %s with %zu of %zu bytes was not found", kv_cf_name(sound.rows[row].cf),
                 damaged_rows[row].value.len, sound.rows[row].value.len);
    if (damages == 1 && kind == REMOVE && leaned_on(row) && findings == 0)
        fail_msg("the row %u of %s that was removed was not found", row, kv_cf_name(sound.rows[row].cf));
    check_history(kv);
    kv_close(kv);
    return 0;
}

/* leaned_on: another row says that this one must be there. */
static bool leaned_on(unsigned row)
{
    const struct row *r = &sound.rows[row];
    switch (r->cf) {
    case KV_TENANTS:
    case KV_MEMBERS:
    case KV_USER_ROOMS:
    case KV_ROOMS: return true;
    case KV_LOG: /* the last event of a room may never have been written */
        return row + 1 < sound.num_rows && r[1].cf == KV_LOG && memcmp(r[1].key.data, r->key.data, 12) == 0;
    default: return false;
    }
}

static void check_history(struct kv *kv)
{
    for (unsigned i = 0; i < SOUND_ROOMS; i++) {
        for (enum history_format format = HISTORY_JSON; format <= HISTORY_FRAMES; format++) {
            struct buf out = {0};
            uint32_t num = 0;
            enum status s = history_read(&out, &num, kv, format, sound.tenant, sound.rooms[i], 1, sound.heads[i], 256,
                                         REPLAY_BATCH_BYTES);
            ASSERT(s == STATUS_OK || s == STATUS_CORRUPT);
            ASSERT(s != STATUS_OK || num == sound.heads[i]);
            buf_free(&out);
        }
    }
}
