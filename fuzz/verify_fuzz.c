/* Fuzzes `carillon verify-store` (storage/verify.c) and the reading of history with damaged stores. A gateway makes a
 * store once, in memory; an input is a list of damages to it: bytes changed in values and keys, values cut or exchanged,
 * rows removed or added. It holds:
 * - a store that is not damaged has no findings, and every row is looked at;
 * - one value cut short, or one row removed that others lean on, is always found;
 * - a finding is a line for people: not empty, and no byte of it controls a terminal;
 * - history is read as it is or refused as corrupt; nothing is read beyond a value. */
#include <stdlib.h>

#include "../src/base/assert.h"
#include "../src/chat/history.h"
#include "../storage/keys.h"
#include "../tests/unit/harness.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define ROWS_MAX 512u
#define DAMAGES_MAX 16u

struct row {
    enum kv_cf cf;
    struct buf key, value;
    bool removed;
};

enum damage { CHANGE_VALUE, CUT_VALUE, CHANGE_KEY, EXCHANGE_VALUE, REMOVE, ADD, DAMAGES };

static struct row sound[ROWS_MAX], rows[ROWS_MAX];
static unsigned num_sound, num_rows;
static uint32_t tenant;
static uint64_t rooms[3], heads[3];

static void make_sound_store(void);
static void take_rows(struct kv *kv);
static bool damage(struct slice *input, enum damage *kind, unsigned *row);
static bool leaned_on(unsigned row);
static void check_history(struct kv *kv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    make_sound_store();
    return 0;
}

static void call(struct client *c, const char *user, const char *path, const char *headers, const char *body)
{
    unsigned status = client_call(c, "POST", path, user, headers, body);
    ASSERT(status >= 200 && status < 300);
}

/* A store with rows of nearly every family. */
static void make_sound_store(void)
{
    void *state = NULL;
    ASSERT(harness_setup(&state) == 0);
    struct harness *h = state;
    harness_open(h, 1);
    struct person alice = harness_person(h, "alice"), bob = harness_person(h, "bob"), carol = harness_person(h, "carol");
    rooms[0] = harness_room(h, ROOM_GROUP, 0, PEOPLE(&alice, &bob));
    rooms[1] = harness_room(h, ROOM_CHANNEL, 0, PEOPLE(&bob, &carol));
    rooms[2] = harness_room(h, ROOM_DM, 0, PEOPLE(&alice, &carol));
    harness_fill(h, &alice, rooms[0], 6);
    harness_fill(h, &bob, rooms[1], 3);
    expect_ok(settled(h, harness_send_once(h, 0, &carol, rooms[2], "only once", "c1")));
    expect_ok(settled(h, harness_change(h, 0, OP_ROOM_ADD, &alice, rooms[0], &carol, MEMBER_MEMBER)));
    expect_ok(settled(h, harness_ack(h, 0, &bob, rooms[0], "phone", 2, false)));
    struct client *c = client_open(h, 0);
    call(c, "bob", "/v1/users/me/subscriptions", "", "{\"topic\":\"news\"}");
    call(c, "alice", "/v1/notify", "", "{\"topic\":\"news\",\"payload\":{},\"targets\":{\"topic_subscribers\":true}}");
    call(c, "bob", "/v1/rooms", "Idempotency-Key: k\r\n", "{\"type\":\"group\",\"name\":\"n\"}");
    call(c, "alice", "/v1/notify", "", "{\"topic\":\"t\",\"payload\":{},\"targets\":{\"user_ids\":[\"carol\"]}}");
    client_close(c);
    harness_advance(h, CURSOR_FLUSH_MS);
    harness_settle(h);
    for (unsigned i = 0; i < 3; i++) heads[i] = settled(h, harness_position(h, 0, i == 1 ? &carol : &alice, rooms[i],
                                                                            POSITION_LIVE, 0, 0))->head;
    tenant = h->tenant;
    kv_fake_hold(h->kv);
    struct kv *kv = h->kv;
    ASSERT(harness_teardown(&state) == 0);
    take_rows(kv);
    kv_close(kv);
}

static void take_rows(struct kv *kv)
{
    for (enum kv_cf cf = 0; cf < KV_CFS; cf++) {
        struct kv_iter *i = kv_iter_open(kv, cf, (struct slice){0}, (struct slice){0});
        for (bool on = kv_iter_first(kv, i); on; on = kv_iter_next(kv, i)) {
            ASSERT(num_sound < ROWS_MAX / 2);
            struct row *r = &sound[num_sound++];
            r->cf = cf;
            buf_slice_append(&r->key, kv_iter_key(kv, i));
            buf_slice_append(&r->value, kv_iter_value(kv, i));
        }
        ASSERT(kv_iter_close(kv, i) == STATUS_OK);
    }
}

static void count_finding(void *context, const char *text)
{
    ++*(uint64_t *)context;
    ASSERT(text[0]);
    for (; *text; text++) ASSERT((unsigned char)*text >= ' ' && *text != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    for (num_rows = 0; num_rows < num_sound; num_rows++) {
        rows[num_rows].cf = sound[num_rows].cf;
        rows[num_rows].removed = false;
        rows[num_rows].key.len = rows[num_rows].value.len = 0;
        buf_slice_append(&rows[num_rows].key, buf_slice(&sound[num_rows].key));
        buf_slice_append(&rows[num_rows].value, buf_slice(&sound[num_rows].value));
    }
    struct slice input = slice_of(data, len);
    enum damage kind = DAMAGES;
    unsigned row = 0, damages = 0;
    while (damages < DAMAGES_MAX && damage(&input, &kind, &row)) damages++;

    struct kv *kv = kv_fake_new();
    struct kv_batch *batch = kv_batch_new(kv);
    uint64_t num_left = 0, seen = 0, findings = 0;
    for (unsigned i = 0; i < num_rows; i++) {
        if (rows[i].removed) continue;
        kv->ops->batch_put(batch, rows[i].cf, buf_slice(&rows[i].key), buf_slice(&rows[i].value));
        num_left++;
    }
    ASSERT(kv_write(kv, batch) == STATUS_OK);
    kv->ops->batch_free(batch);

    ASSERT(store_verify(kv, count_finding, &findings, &seen) == findings);
    ASSERT(seen <= num_left && (damages > 0 || seen == num_left)); /* a changed key may be another row's */
    if (damages == 0) ASSERT(findings == 0);
    /* what stands in user_rooms is not read: the key is all there is to say */
    bool cut = rows[row].value.len < sound[row].value.len && rows[row].cf != KV_USER_ROOMS;
    if (damages == 1 && kind == CUT_VALUE && cut && findings == 0)
        fail_msg("a row of %s with %zu of %zu bytes was not found", kv_cf_name(rows[row].cf), rows[row].value.len,
                 sound[row].value.len);
    if (damages == 1 && kind == REMOVE && leaned_on(row) && findings == 0)
        fail_msg("the row %u of %s that was removed was not found", row, kv_cf_name(rows[row].cf));
    check_history(kv);
    kv_close(kv);
    return 0;
}

/* --- damages ----------------------------------------------------------------------------------------------------- */

static uint8_t take_byte(struct slice *input)
{
    if (input->len == 0) return 0;
    uint8_t byte = (uint8_t)input->data[0];
    *input = slice_from(*input, 1);
    return byte;
}

static struct slice take_bytes(struct slice *input)
{
    size_t len = take_byte(input);
    if (len > input->len) len = input->len;
    struct slice bytes = slice_of(input->data, len);
    *input = slice_from(*input, len);
    return bytes;
}

static void change_byte(struct buf *b, struct slice *input)
{
    size_t at = take_byte(input);
    uint8_t by = take_byte(input);
    if (b->len) b->data[at % b->len] = (char)(b->data[at % b->len] ^ by);
}

/* damage does the next one to a row; false at the input's end. */
static bool damage(struct slice *input, enum damage *kind, unsigned *row)
{
    if (input->len < 3) return false;
    *kind = take_byte(input) % DAMAGES;
    *row = take_byte(input) % num_sound;
    struct row *r = &rows[*row];
    switch (*kind) {
    case CHANGE_VALUE: change_byte(&r->value, input); break;
    case CHANGE_KEY: change_byte(&r->key, input); break;
    case CUT_VALUE: r->value.len = r->value.len ? take_byte(input) % r->value.len : 0; break;
    case EXCHANGE_VALUE: {
        const struct row *from = &sound[take_byte(input) % num_sound];
        r->value.len = 0;
        buf_slice_append(&r->value, buf_slice(&from->value));
        break;
    }
    case REMOVE: r->removed = true; break;
    case ADD: {
        if (num_rows == ROWS_MAX) break;
        struct row *added = &rows[num_rows];
        added->cf = take_byte(input) % KV_CFS;
        added->removed = false;
        added->key.len = added->value.len = 0;
        buf_append(&added->key, r->key.data, r->key.len < 20 ? r->key.len : 20); /* the same numbers in front */
        change_byte(&added->key, input);
        buf_slice_append(&added->value, take_bytes(input));
        num_rows++;
        break;
    }
    case DAMAGES: UNREACHABLE();
    }
    return true;
}

/* leaned_on: another row says that this one must be there. */
static bool leaned_on(unsigned row)
{
    const struct row *r = &sound[row];
    switch (r->cf) {
    case KV_TENANTS:
    case KV_MEMBERS:
    case KV_USER_ROOMS:
    case KV_ROOMS: return true;
    case KV_LOG: /* the last event of a room may never have been written */
        return row + 1 < num_sound && sound[row + 1].cf == KV_LOG && memcmp(sound[row + 1].key.data, r->key.data, 12) == 0;
    default: return false;
    }
}

static void check_history(struct kv *kv)
{
    for (unsigned i = 0; i < 3; i++) {
        for (enum history_format format = HISTORY_JSON; format <= HISTORY_FRAMES; format++) {
            struct buf out = {0};
            uint32_t num = 0;
            enum status s = history_read(&out, &num, kv, format, tenant, rooms[i], 1, heads[i], 256, REPLAY_BATCH_BYTES);
            ASSERT(s == STATUS_OK || s == STATUS_CORRUPT);
            ASSERT(s != STATUS_OK || num == heads[i]);
            buf_free(&out);
        }
    }
}
