#include "damaged_store.h"

#include "../src/base/assert.h"

struct sound_store sound;
struct row damaged_rows[ROWS_MAX];
unsigned num_damaged_rows;

static void take_rows(struct kv *kv);

static void call(struct client *c, const char *user, const char *path, const char *headers, const char *body)
{
    unsigned status = client_call(c, "POST", path, user, headers, body);
    ASSERT(status >= 200 && status < 300);
}

/* A store with rows of nearly every family. */
void sound_store_make(void)
{
    void *state = NULL;
    ASSERT(harness_setup(&state) == 0);
    struct harness *h = state;
    harness_open(h, 1);
    struct person alice = sound.alice = harness_person(h, "alice");
    struct person bob = sound.bob = harness_person(h, "bob"), carol = sound.carol = harness_person(h, "carol");
    uint64_t *rooms = sound.rooms;
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
    for (unsigned i = 0; i < SOUND_ROOMS; i++)
        sound.heads[i] =
            settled(h, harness_position(h, 0, i == 1 ? &carol : &alice, rooms[i], POSITION_LIVE, 0, 0))->head;
    sound.tenant = h->tenant;
    memcpy(sound.api_key, h->api_key, sizeof sound.api_key);
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
            ASSERT(sound.num_rows < ROWS_MAX / 2);
            struct row *r = &sound.rows[sound.num_rows++];
            r->cf = cf;
            buf_slice_append(&r->key, kv_iter_key(kv, i));
            buf_slice_append(&r->value, kv_iter_value(kv, i));
        }
        ASSERT(kv_iter_close(kv, i) == STATUS_OK);
    }
}

void damages_begin(void)
{
    for (num_damaged_rows = 0; num_damaged_rows < sound.num_rows; num_damaged_rows++) {
        struct row *r = &damaged_rows[num_damaged_rows];
        const struct row *from = &sound.rows[num_damaged_rows];
        r->cf = from->cf;
        r->removed = false;
        r->key.len = r->value.len = 0;
        buf_slice_append(&r->key, buf_slice(&from->key));
        buf_slice_append(&r->value, buf_slice(&from->value));
    }
}

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

bool damage_next(struct slice *input, enum damage *kind, unsigned *row, uint32_t families)
{
    if (input->len < 3) return false;
    *kind = take_byte(input) % DAMAGES;
    *row = take_byte(input) % sound.num_rows;
    while (!(families >> sound.rows[*row].cf & 1)) *row = (*row + 1) % sound.num_rows;
    struct row *r = &damaged_rows[*row];
    switch (*kind) {
    case CHANGE_VALUE: change_byte(&r->value, input); break;
    case CHANGE_KEY: change_byte(&r->key, input); break;
    case CUT_VALUE: r->value.len = r->value.len ? take_byte(input) % r->value.len : 0; break;
    case EXCHANGE_VALUE: {
        const struct row *from = &sound.rows[take_byte(input) % sound.num_rows];
        r->value.len = 0;
        buf_slice_append(&r->value, buf_slice(&from->value));
        break;
    }
    case REMOVE: r->removed = true; break;
    case ADD: {
        if (num_damaged_rows == ROWS_MAX) break;
        struct row *added = &damaged_rows[num_damaged_rows];
        added->cf = take_byte(input) % KV_CFS;
        if (!(families >> added->cf & 1)) added->cf = r->cf;
        added->removed = false;
        added->key.len = added->value.len = 0;
        buf_append(&added->key, r->key.data, r->key.len < 20 ? r->key.len : 20); /* the same numbers in front */
        change_byte(&added->key, input);
        buf_slice_append(&added->value, take_bytes(input));
        num_damaged_rows++;
        break;
    }
    case DAMAGES: UNREACHABLE();
    }
    return true;
}

unsigned rows_write(struct kv *kv)
{
    struct kv_batch *batch = kv_batch_new(kv);
    unsigned num = 0;
    for (unsigned i = 0; i < num_damaged_rows; i++) {
        const struct row *r = &damaged_rows[i];
        if (r->removed) continue;
        kv->ops->batch_put(batch, r->cf, buf_slice(&r->key), buf_slice(&r->value));
        num++;
    }
    enum status s = kv_write(kv, batch);
    ASSERT(s == STATUS_OK);
    kv->ops->batch_free(batch);
    return num;
}
