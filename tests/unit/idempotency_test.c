#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../src/base/limits.h"
#include "../../src/chat/idempotency.h"
#include "../../storage/keys.h"
#include "../../storage/store.h"
#include "next_random.h"
#include "kv_row.h"

#define TENANT 1u
#define ROOM 5u
#define ANN 11u
#define BEN 12u

static const struct hash_key key = {{0x0123456789abcdef, 0xfedcba9876543210}};
static const uint64_t day_ms = 24ull * 3600 * 1000;

/* numbered writes a client id that is its own for each n. */
static struct slice numbered(char out[32], uint64_t n)
{
    return slice_of(out, (size_t)snprintf(out, 32, "client-%llu", (unsigned long long)n));
}

/* --- the window ---------------------------------------------------------------------------------- */

static void a_key_is_found_under_exactly_its_room_and_sender(void **state)
{
    struct idempotency i;
    idempotency_init(&i, &key);
    struct idempotency_entry *e = idempotency_add(&i, TENANT, ROOM, ANN, SLICE("c1"), 7, 8, 9);
    assert_ptr_equal(idempotency_find(&i, TENANT, ROOM, ANN, SLICE("c1")), e);
    assert_true(e->seq == 7 && e->payload_hash == 8 && e->created_ms == 9 && e->event == NULL);
    assert_null(idempotency_find(&i, TENANT + 1, ROOM, ANN, SLICE("c1")));
    assert_null(idempotency_find(&i, TENANT, ROOM + 1, ANN, SLICE("c1")));
    assert_null(idempotency_find(&i, TENANT, ROOM, BEN, SLICE("c1")));
    assert_null(idempotency_find(&i, TENANT, ROOM, ANN, SLICE("c")));
    assert_null(idempotency_find(&i, TENANT, ROOM, ANN, SLICE("c2")));
    /* rooms and senders that the hash adds up to the same number */
    assert_null(idempotency_find(&i, TENANT, ROOM - 1, ANN + 31, SLICE("c1")));
    idempotency_free(&i);
}

static void add_numbered(struct idempotency *i, uint64_t first, uint64_t end)
{
    char id[32];
    for (uint64_t n = first; n < end; n++) idempotency_add(i, TENANT, ROOM, ANN, numbered(id, n), n + 1, 0, 0);
}

static bool window_has(const struct idempotency *i, uint64_t n)
{
    char id[32];
    struct idempotency_entry *e = idempotency_find(i, TENANT, ROOM, ANN, numbered(id, n));
    if (e) assert_int_equal(e->seq, n + 1);
    return e != NULL;
}

static void the_window_drops_its_oldest_keys(void **state)
{
    struct idempotency i;
    idempotency_init(&i, &key);
    add_numbered(&i, 0, IDEMPOTENCY_WINDOW);
    idempotency_evict(&i);
    assert_true(window_has(&i, 0)); /* full, but not above its bound */
    add_numbered(&i, IDEMPOTENCY_WINDOW, IDEMPOTENCY_WINDOW + 10);
    idempotency_evict(&i);
    for (uint64_t n = 0; n < IDEMPOTENCY_WINDOW + 10; n++) assert_int_equal(window_has(&i, n), n >= 10);
    idempotency_free(&i);
}

static void a_key_on_its_way_to_the_disk_is_not_dropped(void **state)
{
    struct idempotency i;
    char id[32], in_flight;
    idempotency_init(&i, &key);
    add_numbered(&i, 0, IDEMPOTENCY_WINDOW + 10);
    struct idempotency_entry *e = idempotency_find(&i, TENANT, ROOM, ANN, numbered(id, 4));
    e->event = (struct event *)&in_flight; /* only looked at for being there */
    idempotency_evict(&i);
    for (uint64_t n = 0; n < 10; n++) assert_int_equal(window_has(&i, n), n >= 4);
    e->event = NULL;
    idempotency_evict(&i);
    for (uint64_t n = 0; n < 12; n++) assert_int_equal(window_has(&i, n), n >= 10);
    idempotency_free(&i);
}

/* --- the filter ---------------------------------------------------------------------------------- */

static const struct seq_range everywhere = {1, UINT64_MAX};

static uint64_t random_print(void)
{
    char id[32];
    return fingerprint_of(&key, next_random() % 1000, numbered(id, next_random()));
}

static bool maybe(const struct room_keys *k, uint64_t print)
{
    struct seq_range where;
    return room_keys_maybe(k, print, &where);
}

static uint32_t keys_of_block(uint32_t bytes) { return bytes * 8 / FILTER_KEY_BITS; }

static uint32_t num_blocks(const struct room_keys *k)
{
    uint32_t num = 0;
    for (const struct filter_block *b = k->newest; b; b = b->older) num++;
    return num;
}

static uint32_t num_keys(const struct room_keys *k)
{
    uint32_t num = 0;
    for (const struct filter_block *b = k->newest; b; b = b->older) num += b->keys;
    return num;
}

/* add_blocks adds as many keys as it takes to fill `num` more blocks, with seqs from the one after *seq, which it
 * advances; returns a print of the last block. */
static uint64_t add_blocks(struct room_keys *k, uint32_t num, uint64_t *seq, uint64_t created_ms)
{
    uint64_t some = 0;
    uint32_t end = num_blocks(k) + num;
    do {
        some = random_print();
        room_keys_add(k, some, ++*seq, created_ms);
        k->num_open = 0; /* as though their runs were written */
    } while (num_blocks(k) < end || k->newest->keys < keys_of_block(k->newest->bytes));
    return some;
}

/* The six blocks below the largest size and the first of it are full here: 0.7 false ones in 10,000 are expected. */
static void the_filter_denies_no_key_it_holds_and_passes_few_others(void **state)
{
    enum { keys = 232952, others = 1000000 };
    struct room_keys k = {0};
    uint64_t *prints = malloc(keys * sizeof *prints);
    assert_non_null(prints);
    for (uint32_t n = 0; n < keys; n++) {
        prints[n] = random_print();
        room_keys_add(&k, prints[n], n + 1, 0);
    }
    assert_int_equal(num_blocks(&k), 6);
    unsigned denied = 0, passed = 0;
    for (uint32_t n = 0; n < keys; n++) denied += !maybe(&k, prints[n]);
    for (uint32_t n = 0; n < others; n++) passed += maybe(&k, random_print());
    assert_int_equal(denied, 0);
    assert_in_range(passed, 1, others / 10000 - 1); /* none at all would be a filter that is not asked */
    free(prints);
    room_keys_free(&k);
}

/* In few bits it shows first when probes are not independent: plain double hashing passes 50 to 100 here. */
static void small_blocks_pass_no_more_than_large_ones(void **state)
{
    unsigned passed = 0;
    for (int room = 0; room < 1000; room++) {
        struct room_keys k = {0};
        uint64_t seq = 0;
        add_blocks(&k, 1, &seq, 0);
        assert_int_equal(k.newest->bytes, FILTER_BLOCK_BYTES_MIN);
        for (int n = 0; n < 1000; n++) passed += maybe(&k, hash_u64(next_random()));
        room_keys_free(&k);
    }
    assert_in_range(passed, 1, 29); /* 10 are expected */
}

static void an_empty_filter_knows_no_key(void **state)
{
    struct room_keys k = {0};
    assert_false(maybe(&k, random_print()));
    assert_false(maybe(&k, 0));
}

static void filter_blocks_grow_from_small_to_large(void **state)
{
    static const uint32_t bytes[] = {512, 2048, 8192, 32768, 131072, 524288, 524288};
    struct room_keys k = {0};
    uint64_t seq = 0, all = 0;
    for (size_t n = 0; n < sizeof bytes / sizeof *bytes; n++) {
        add_blocks(&k, 1, &seq, 0);
        all += bytes[n];
        assert_int_equal(k.newest->bytes, bytes[n]);
        assert_int_equal(k.newest->keys, keys_of_block(bytes[n]));
        assert_int_equal(k.filter_bytes, all);
    }
    assert_int_equal(num_keys(&k), seq);
    room_keys_free(&k);
}

static void a_maybe_tells_where_the_key_can_be(void **state)
{
    struct room_keys k = {0};
    uint64_t print[4], ends[4], seq = 0;
    for (int n = 0; n < 4; n++) {
        print[n] = add_blocks(&k, 1, &seq, 0);
        ends[n] = seq;
    }
    for (int n = 0; n < 4; n++) {
        struct seq_range where;
        assert_true(room_keys_maybe(&k, print[n], &where));
        assert_int_equal(where.first, n ? ends[n - 1] + 1 : 1);
        assert_int_equal(where.last, ends[n]);
    }
    room_keys_add(&k, print[1], seq + 5, 0); /* used again: both blocks, and what is between */
    struct seq_range where;
    assert_true(room_keys_maybe(&k, print[1], &where));
    assert_int_equal(where.first, ends[0] + 1);
    assert_int_equal(where.last, seq + 5);
    room_keys_free(&k);
}

static void filter_blocks_are_dropped_by_age(void **state)
{
    struct room_keys k = {0};
    uint64_t seq = 0;
    uint64_t first = add_blocks(&k, 1, &seq, 1000);
    uint64_t second = add_blocks(&k, 1, &seq, 2000);
    uint64_t third = add_blocks(&k, 1, &seq, 3000);
    assert_int_equal(num_blocks(&k), 3);
    room_keys_drop_old(&k, 1000 + IDEMPOTENCY_KEEP_MS);
    assert_int_equal(num_blocks(&k), 3);
    room_keys_drop_old(&k, 1000 + IDEMPOTENCY_KEEP_MS + 1);
    assert_int_equal(num_blocks(&k), 2);
    assert_true(!maybe(&k, first) && maybe(&k, second) && maybe(&k, third));
    room_keys_drop_old(&k, 4000 + IDEMPOTENCY_KEEP_MS); /* the newest block stays: keys are still added to it */
    assert_int_equal(num_blocks(&k), 1);
    assert_int_equal(k.filter_bytes, k.newest->bytes);
    assert_true(!maybe(&k, second) && maybe(&k, third));
    room_keys_free(&k);
    room_keys_drop_old(&k, UINT64_MAX);
}

static void a_filter_that_may_not_grow_calls_every_key_a_maybe(void **state)
{
    struct room_keys k = {0};
    uint64_t seq = 0;
    uint64_t held = add_blocks(&k, 2, &seq, 1000), full = seq;
    uint64_t bytes = k.filter_bytes;
    k.filter_bytes = ROOM_FILTER_BYTES_MAX; /* as though the other blocks were there */
    unsigned passed = 0;
    for (int n = 0; n < 1000; n++) passed += maybe(&k, random_print());
    assert_true(passed < 1000);
    room_keys_add(&k, random_print(), ++seq, 1000);
    room_keys_add(&k, random_print(), ++seq, 2000);
    assert_int_equal(k.filter_bytes, ROOM_FILTER_BYTES_MAX);
    assert_int_equal(k.num_open, 2); /* their run gets them all the same */
    struct seq_range where;
    for (int n = 0; n < 1000; n++) {
        assert_true(room_keys_maybe(&k, random_print(), &where));
        assert_true(where.first <= full + 1 && where.last == full + 2);
    }
    assert_true(room_keys_maybe(&k, held, &where));
    assert_true(where.first <= full && where.last == full + 2);

    k.filter_bytes = bytes; /* and as though they were dropped again: it grows, and what it could not hold ages */
    uint64_t later = add_blocks(&k, 1, &seq, 3000);
    assert_int_equal(k.newest->bytes, FILTER_BLOCK_BYTES_MAX);
    room_keys_drop_old(&k, 2000 + IDEMPOTENCY_KEEP_MS);
    assert_true(maybe(&k, random_print()));
    room_keys_drop_old(&k, 2001 + IDEMPOTENCY_KEEP_MS);
    passed = 0;
    for (int n = 0; n < 1000; n++) passed += maybe(&k, random_print());
    assert_true(passed < 10 && maybe(&k, later));
    room_keys_free(&k);
}

static void a_filter_stays_within_its_memory(void **state)
{
    struct room_keys k = {0};
    uint64_t seq = 0, bytes = 0;
    do {
        seq++;
        room_keys_add(&k, hash_u64(seq), seq, 0);
        k.num_open = 0;
    } while (k.newest->bytes);
    for (const struct filter_block *b = k.newest; b; b = b->older) bytes += b->bytes;
    assert_int_equal(k.filter_bytes, bytes);
    assert_in_range(bytes, ROOM_FILTER_BYTES_MAX - FILTER_BLOCK_BYTES_MAX + 1, ROOM_FILTER_BYTES_MAX);
    uint32_t blocks = num_blocks(&k);
    for (int n = 0; n < 1000; n++) {
        seq++;
        room_keys_add(&k, hash_u64(seq), seq, 0);
        k.num_open = 0;
    }
    assert_int_equal(num_blocks(&k), blocks);
    room_keys_free(&k);
}

/* --- runs and the log ---------------------------------------------------------------------------- */

static struct kv *kv;

static int open_kv(void **state)
{
    kv = kv_fake_new();
    return 0;
}

static int close_kv(void **state)
{
    kv_close(kv);
    return 0;
}

static void put_row(enum kv_cf cf, const struct key *k, struct buf *value)
{
    kv_row_put(kv, cf, k, buf_slice(value));
    buf_free(value);
}

static void put_event(uint64_t room, uint64_t seq, uint64_t sender, struct slice client_id)
{
    struct log_record r = {.tenant = TENANT, .room = room, .seq = seq, .kind = LOG_MESSAGE, .created_ms = seq * 10,
                           .sender = sender, .client_id = client_id, .content = SLICE("hi")};
    struct key k;
    struct buf value = {0};
    key_log(&k, TENANT, room, seq);
    buf_reserve(&value, log_record_len(&r));
    value.len = (size_t)(log_record_encode_to(value.data, &r) - value.data);
    put_row(KV_LOG, &k, &value);
}

static void put_run(uint64_t room, uint64_t first, uint64_t last, struct fingerprint *prints, uint32_t num)
{
    struct key k;
    struct buf value = {0};
    struct room_keys keys = {.run_from = first, .open = prints, .num_open = num};
    key_idempotency_run(&k, TENANT, room, first);
    room_keys_encode(&value, &keys, last, last * 10);
    put_row(KV_IDEMPOTENCY, &k, &value);
}

/* put_room writes events 1 to head, every third without a client id, ANN's and BEN's in turn, and a run for each full
 * `run` of them, as a room does while it appends. Returns where the log behind the runs begins. */
static uint64_t put_room(uint64_t room, uint64_t head, uint64_t run)
{
    struct room_keys k = {.run_from = 1};
    for (uint64_t seq = 1; seq <= head; seq++) {
        char id[32];
        struct slice client_id = seq % 3 ? numbered(id, room * 1000000 + seq) : SLICE("");
        uint64_t sender = seq % 2 ? ANN : BEN;
        put_event(room, seq, sender, client_id);
        if (client_id.len) room_keys_add(&k, fingerprint_of(&key, sender, client_id), seq, seq * 10);
        if (seq - k.run_from + 1 < run) continue;
        put_run(room, k.run_from, seq, k.open, k.num_open);
        room_keys_close(&k, seq);
        assert_true(k.run_from == seq + 1 && k.num_open == 0);
    }
    uint64_t run_from = k.run_from;
    room_keys_free(&k);
    return run_from;
}

static uint64_t print_of(uint64_t room, uint64_t seq)
{
    char id[32];
    return fingerprint_of(&key, seq % 2 ? ANN : BEN, numbered(id, room * 1000000 + seq));
}

static void a_load_finds_every_key_of_the_runs_and_of_the_log_behind_them(void **state)
{
    uint64_t run_from = put_room(ROOM, 10000, IDEMPOTENCY_RUN);
    put_room(ROOM - 1, 100, 10); /* whose rows lie before and behind */
    put_room(ROOM + 1, 100, 10);
    assert_int_equal(run_from, 2 * IDEMPOTENCY_RUN + 1);
    struct room_keys k = {0};
    assert_int_equal(room_keys_load(&k, kv, &key, TENANT, ROOM, 10000), STATUS_OK);
    assert_int_equal(k.run_from, run_from);
    uint32_t keys = 0, open = 0;
    for (uint64_t seq = 1; seq <= 10000; seq++) {
        if (seq % 3 == 0) continue;
        keys++;
        open += seq >= run_from;
        assert_true(maybe(&k, print_of(ROOM, seq)));
    }
    assert_int_equal(num_keys(&k), keys);
    assert_int_equal(k.num_open, open);
    for (uint32_t n = 0; n < k.num_open; n++) {
        assert_true(k.open[n].seq >= run_from);
        assert_true(k.open[n].print == print_of(ROOM, k.open[n].seq));
    }
    room_keys_free(&k);
}

static void a_room_without_rows_loads_empty(void **state)
{
    struct room_keys k = {0};
    assert_int_equal(room_keys_load(&k, kv, &key, TENANT, ROOM, 0), STATUS_OK);
    assert_true(k.run_from == 1 && k.num_open == 0 && k.newest == NULL && k.filter_bytes == 0);
    assert_false(maybe(&k, random_print()));
}

static void runs_past_their_days_are_not_loaded_but_still_stand(void **state)
{
    assert_int_equal(put_room(ROOM, 100, 50), 101);
    struct room_keys k = {0}; /* the first run's newest message is of 500 ms, the second's of 1000 ms */
    assert_int_equal(room_keys_load(&k, kv, &key, TENANT, ROOM, 501 + IDEMPOTENCY_KEEP_MS), STATUS_OK);
    assert_int_equal(k.run_from, 101);
    for (uint64_t seq = 1; seq <= 100; seq++)
        if (seq % 3) assert_int_equal(maybe(&k, print_of(ROOM, seq)), seq > 50);
    room_keys_free(&k);
    assert_true(IDEMPOTENCY_KEEP_MS >= 7 * day_ms); /* what clients are promised */
}

static void a_load_stops_at_the_first_run_past_its_days(void **state)
{
    struct key k;
    struct buf value = {0};
    struct room_keys keys = {0};
    uint64_t now_ms = 1001 + IDEMPOTENCY_KEEP_MS; /* the second run's newest message is of 1000 ms */
    put_room(ROOM, 160, 50);
    key_idempotency_run(&k, TENANT, ROOM, 1);
    BUF_LIT(&value, "never read");
    put_row(KV_IDEMPOTENCY, &k, &value);
    assert_int_equal(room_keys_load(&keys, kv, &key, TENANT, ROOM, now_ms - 1), STATUS_CORRUPT);
    room_keys_free(&keys);
    assert_int_equal(room_keys_load(&keys, kv, &key, TENANT, ROOM, now_ms), STATUS_OK);
    assert_int_equal(keys.run_from, 151);
    for (uint64_t seq = 1; seq <= 160; seq++)
        if (seq % 3) assert_int_equal(maybe(&keys, print_of(ROOM, seq)), seq > 100);
    room_keys_free(&keys);
}

static void a_loaded_filter_knows_where_its_keys_are(void **state)
{
    struct room_keys loaded = {0}, grown = {0};
    put_room(ROOM, 2000, 300);
    for (uint64_t seq = 1; seq <= 2000; seq++)
        if (seq % 3) room_keys_add(&grown, print_of(ROOM, seq), seq, seq * 10);
    assert_int_equal(room_keys_load(&loaded, kv, &key, TENANT, ROOM, 0), STATUS_OK);
    assert_int_equal(num_blocks(&loaded), num_blocks(&grown));
    for (uint64_t seq = 1; seq <= 2000; seq++) {
        struct seq_range where;
        if (seq % 3 == 0) continue;
        assert_true(room_keys_maybe(&loaded, print_of(ROOM, seq), &where));
        assert_true(where.first <= seq && seq <= where.last);
    }
    assert_true(loaded.newest->seqs.first > 1100); /* the blocks before it hold 852 keys, of 1278 events */
    assert_int_equal(loaded.newest->seqs.last, 2000);
    room_keys_free(&loaded);
    room_keys_free(&grown);
}

static void a_run_is_the_same_whatever_order_its_keys_came_in(void **state)
{
    struct fingerprint rising[] = {{1, 9}, {2, 3}, {2, 4}}, mixed[] = {{2, 4}, {1, 9}, {2, 3}};
    struct room_keys k = {.run_from = 3, .open = rising, .num_open = 3};
    struct room_keys m = {.run_from = 3, .open = mixed, .num_open = 3};
    struct buf a = {0}, b = {0};
    room_keys_encode(&a, &k, 9, 1);
    room_keys_encode(&b, &m, 9, 1);
    assert_true(slice_eq(buf_slice(&a), buf_slice(&b)));
    buf_free(&a);
    buf_free(&b);
}

static void damaged_rows_refuse_to_load(void **state)
{
    struct key k;
    struct buf value = {0};
    struct room_keys keys = {0};
    put_room(ROOM, 20, 10);
    key_log(&k, TENANT, ROOM, 5); /* in a run: not read */
    BUF_LIT(&value, "garbage");
    put_row(KV_LOG, &k, &value);
    assert_int_equal(room_keys_load(&keys, kv, &key, TENANT, ROOM, 0), STATUS_OK);
    room_keys_free(&keys);
    key_log(&k, TENANT, ROOM, 21);
    BUF_LIT(&value, "garbage");
    put_row(KV_LOG, &k, &value);
    assert_int_equal(room_keys_load(&keys, kv, &key, TENANT, ROOM, 0), STATUS_CORRUPT);
    room_keys_free(&keys);

    put_room(ROOM + 1, 20, 10);
    key_idempotency_run(&k, TENANT, ROOM + 1, 11);
    BUF_LIT(&value, "garbage");
    put_row(KV_IDEMPOTENCY, &k, &value);
    assert_int_equal(room_keys_load(&keys, kv, &key, TENANT, ROOM + 1, 0), STATUS_CORRUPT);
    room_keys_free(&keys);
    struct idempotency_run_record backwards = {.last_seq = 10};
    idempotency_run_record_encode(&value, &backwards);
    put_row(KV_IDEMPOTENCY, &k, &value);
    assert_int_equal(room_keys_load(&keys, kv, &key, TENANT, ROOM + 1, 0), STATUS_CORRUPT);
    room_keys_free(&keys);
}

/* --- search -------------------------------------------------------------------------------------- */

/* found_in searches; returns the seq, or 0 when there is none. */
static uint64_t found_in(struct seq_range where, uint64_t room, uint64_t sender, struct slice client_id)
{
    struct log_record row;
    struct buf bytes = {0};
    enum status s = idempotency_search(&row, &bytes, kv, &key, TENANT, room, sender, client_id, where);
    uint64_t seq = 0;
    if (s == STATUS_OK) {
        seq = row.seq;
        assert_true(row.room == room && row.sender == sender && slice_eq(row.client_id, client_id));
        assert_true(slice_is(row.content, "hi") && row.created_ms == seq * 10);
        assert_true(row.content.data > bytes.data && row.content.data < bytes.data + bytes.len);
    } else {
        assert_int_equal(s, STATUS_NOT_FOUND);
    }
    buf_free(&bytes);
    return seq;
}

static uint64_t found(uint64_t room, uint64_t sender, struct slice client_id)
{
    return found_in(everywhere, room, sender, client_id);
}

static void a_search_finds_the_exact_sender_and_client_id(void **state)
{
    char id[32];
    assert_int_equal(put_room(ROOM, 250, 99), 199); /* the first event behind the runs has a client id */
    for (uint64_t seq = 1; seq <= 250; seq++) {
        if (seq % 3 == 0) continue;
        struct slice client_id = numbered(id, ROOM * 1000000 + seq);
        uint64_t sender = seq % 2 ? ANN : BEN;
        assert_int_equal(found(ROOM, sender, client_id), seq);
        assert_int_equal(found(ROOM, sender == ANN ? BEN : ANN, client_id), 0);
        assert_int_equal(found(ROOM, sender, slice_of(client_id.data, client_id.len - 1)), 0);
        assert_int_equal(found(ROOM + 1, sender, client_id), 0);
    }
    struct log_record row;
    struct buf bytes = {0};
    enum status s = idempotency_search(&row, &bytes, kv, &key, TENANT + 1, ROOM, ANN, numbered(id, ROOM * 1000000 + 1),
                                       everywhere);
    assert_int_equal(s, STATUS_NOT_FOUND);
    buf_free(&bytes);
}

static void equal_fingerprints_are_told_apart_by_their_rows(void **state)
{
    uint64_t print = fingerprint_of(&key, ANN, SLICE("c"));
    struct fingerprint prints[] = {{print - 1, 1}, {print, 2}, {print, 3}, {print, 4}, {print + 1, 5}};
    put_event(ROOM, 1, ANN, SLICE("a"));
    put_event(ROOM, 2, BEN, SLICE("c"));
    put_event(ROOM, 3, ANN, SLICE("c"));
    put_event(ROOM, 4, ANN, SLICE("b"));
    put_event(ROOM, 5, ANN, SLICE("d"));
    put_run(ROOM, 1, 5, prints, 5);
    assert_int_equal(found(ROOM, ANN, SLICE("c")), 3);
    put_event(ROOM, 3, BEN, SLICE("z"));
    assert_int_equal(found(ROOM, ANN, SLICE("c")), 0); /* the print alone is no repeat */
}

static void a_key_whose_event_was_removed_is_not_found(void **state)
{
    uint64_t print = fingerprint_of(&key, ANN, SLICE("c"));
    struct fingerprint prints[] = {{print, 2}, {print, 4}};
    put_event(ROOM, 2, ANN, SLICE("c"));
    put_run(ROOM, 1, 5, prints, 2);
    assert_int_equal(found(ROOM, ANN, SLICE("c")), 2); /* event 4 is gone, which ends nothing */
}

static void the_newest_use_of_a_client_id_is_found(void **state)
{
    uint64_t print = fingerprint_of(&key, ANN, SLICE("c"));
    struct fingerprint first[] = {{print, 1}, {print, 3}}, second[] = {{print, 5}};
    put_event(ROOM, 1, ANN, SLICE("c"));
    put_event(ROOM, 3, ANN, SLICE("c"));
    put_run(ROOM, 1, 4, first, 2);
    assert_int_equal(found(ROOM, ANN, SLICE("c")), 3);
    put_event(ROOM, 5, ANN, SLICE("c"));
    put_run(ROOM, 5, 6, second, 1);
    assert_int_equal(found(ROOM, ANN, SLICE("c")), 5);
    put_event(ROOM, 7, ANN, SLICE("c"));
    put_event(ROOM, 8, ANN, SLICE("c"));
    put_event(ROOM, 9, ANN, SLICE("d"));
    assert_int_equal(found(ROOM, ANN, SLICE("c")), 8);
}

static void a_search_finds_a_key_at_any_place_of_its_range(void **state)
{
    char id[32];
    assert_int_equal(put_room(ROOM, 60, 10), 61);
    put_room(ROOM + 1, 58, 10); /* with a log behind the runs */
    for (uint64_t room = ROOM; room <= ROOM + 1; room++) {
        for (uint64_t seq = 1; seq <= 58; seq++) {
            if (seq % 3 == 0) continue;
            struct slice client_id = numbered(id, room * 1000000 + seq);
            uint64_t sender = seq % 2 ? ANN : BEN;
            assert_int_equal(found_in((struct seq_range){seq, seq}, room, sender, client_id), seq);
            assert_int_equal(found_in((struct seq_range){1, seq}, room, sender, client_id), seq);
            assert_int_equal(found_in((struct seq_range){seq, seq + 25}, room, sender, client_id), seq);
            assert_int_equal(found_in((struct seq_range){seq, UINT64_MAX}, room, sender, client_id), seq);
            if (seq > 25) assert_int_equal(found_in((struct seq_range){seq - 25, seq}, room, sender, client_id), seq);
        }
    }
}

/* searched looks for a message that is not there. */
static enum status searched(uint64_t room, struct seq_range where)
{
    struct log_record row;
    struct buf bytes = {0};
    enum status s = idempotency_search(&row, &bytes, kv, &key, TENANT, room, ANN, SLICE("new"), where);
    buf_free(&bytes);
    return s;
}

static void damage(enum kv_cf cf, uint64_t seq)
{
    struct key k;
    struct buf value = {0};
    key_log(&k, TENANT, ROOM, seq); /* a run's key is the same */
    BUF_LIT(&value, "garbage");
    put_row(cf, &k, &value);
}

/* What is damaged is noticed when it is read: so it shows what is read. */
static void a_search_reads_its_range_alone(void **state)
{
    put_room(ROOM, 55, 10); /* runs begin at 1, 11, 21, 31 and 41; the log behind them at 51 */
    damage(KV_IDEMPOTENCY, 11);
    damage(KV_IDEMPOTENCY, 41);
    damage(KV_LOG, 52);
    damage(KV_LOG, 54);
    assert_int_equal(searched(ROOM, (struct seq_range){21, 40}), STATUS_NOT_FOUND);
    assert_int_equal(searched(ROOM, (struct seq_range){25, 31}), STATUS_NOT_FOUND);
    assert_int_equal(searched(ROOM, (struct seq_range){3, 9}), STATUS_NOT_FOUND);
    assert_int_equal(searched(ROOM, (struct seq_range){20, 40}), STATUS_CORRUPT);
    assert_int_equal(searched(ROOM, (struct seq_range){21, 41}), STATUS_CORRUPT);
    put_run(ROOM, 41, 50, NULL, 0);
    assert_int_equal(searched(ROOM, (struct seq_range){21, 51}), STATUS_NOT_FOUND);
    assert_int_equal(searched(ROOM, (struct seq_range){53, 53}), STATUS_NOT_FOUND);
    assert_int_equal(searched(ROOM, (struct seq_range){55, UINT64_MAX}), STATUS_NOT_FOUND);
    assert_int_equal(searched(ROOM, (struct seq_range){21, 52}), STATUS_CORRUPT);
    assert_int_equal(searched(ROOM, (struct seq_range){53, 55}), STATUS_CORRUPT);
}

static void a_search_reports_damage_instead_of_a_new_message(void **state)
{
    struct key k;
    struct buf value = {0};
    put_room(ROOM, 20, 10);
    key_idempotency_run(&k, TENANT, ROOM, 1);
    BUF_LIT(&value, "garbage");
    put_row(KV_IDEMPOTENCY, &k, &value);
    assert_int_equal(searched(ROOM, everywhere), STATUS_CORRUPT);
    put_room(ROOM + 1, 25, 10);
    key_log(&k, TENANT, ROOM + 1, 22);
    BUF_LIT(&value, "garbage");
    put_row(KV_LOG, &k, &value);
    assert_int_equal(searched(ROOM + 1, everywhere), STATUS_CORRUPT);
}

/* --- hashes -------------------------------------------------------------------------------------- */

static void a_fingerprint_depends_on_key_sender_and_client_id(void **state)
{
    static const struct hash_key other = {{1, 2}};
    char longest[256] = {0};
    uint64_t print = fingerprint_of(&key, ANN, SLICE("c"));
    assert_true(print == fingerprint_of(&key, ANN, SLICE("c")));
    assert_true(print != fingerprint_of(&other, ANN, SLICE("c")));
    assert_true(print != fingerprint_of(&key, BEN, SLICE("c")));
    assert_true(print != fingerprint_of(&key, ANN, SLICE("d")));
    assert_true(fingerprint_of(&key, ANN, slice_of(longest, 256)) != fingerprint_of(&key, ANN, slice_of(longest, 255)));
}

static void a_payload_hash_covers_every_part_and_their_bounds(void **state)
{
    uint64_t hash = payload_hash(&key, SLICE("ab"), SLICE("c"), SLICE("text"), 3);
    assert_true(hash == payload_hash(&key, SLICE("ab"), SLICE("c"), SLICE("text"), 3));
    assert_true(hash != payload_hash(&key, SLICE("a"), SLICE("bc"), SLICE("text"), 3));
    assert_true(hash != payload_hash(&key, SLICE("ab"), SLICE("d"), SLICE("text"), 3));
    assert_true(hash != payload_hash(&key, SLICE("ab"), SLICE("c"), SLICE("note"), 3));
    assert_true(hash != payload_hash(&key, SLICE("ab"), SLICE("c"), SLICE("text"), 4));
}

int main(void)
{
#define WITH_KV(test) cmocka_unit_test_setup_teardown(test, open_kv, close_kv)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_found_under_exactly_its_room_and_sender),
        cmocka_unit_test(the_window_drops_its_oldest_keys),
        cmocka_unit_test(a_key_on_its_way_to_the_disk_is_not_dropped),
        cmocka_unit_test(the_filter_denies_no_key_it_holds_and_passes_few_others),
        cmocka_unit_test(small_blocks_pass_no_more_than_large_ones),
        cmocka_unit_test(an_empty_filter_knows_no_key),
        cmocka_unit_test(filter_blocks_grow_from_small_to_large),
        cmocka_unit_test(a_maybe_tells_where_the_key_can_be),
        cmocka_unit_test(filter_blocks_are_dropped_by_age),
        cmocka_unit_test(a_filter_that_may_not_grow_calls_every_key_a_maybe),
        cmocka_unit_test(a_filter_stays_within_its_memory),
        WITH_KV(a_load_finds_every_key_of_the_runs_and_of_the_log_behind_them),
        WITH_KV(a_room_without_rows_loads_empty),
        WITH_KV(runs_past_their_days_are_not_loaded_but_still_stand),
        WITH_KV(a_load_stops_at_the_first_run_past_its_days),
        WITH_KV(a_loaded_filter_knows_where_its_keys_are),
        cmocka_unit_test(a_run_is_the_same_whatever_order_its_keys_came_in),
        WITH_KV(damaged_rows_refuse_to_load),
        WITH_KV(a_search_finds_the_exact_sender_and_client_id),
        WITH_KV(equal_fingerprints_are_told_apart_by_their_rows),
        WITH_KV(a_key_whose_event_was_removed_is_not_found),
        WITH_KV(the_newest_use_of_a_client_id_is_found),
        WITH_KV(a_search_finds_a_key_at_any_place_of_its_range),
        WITH_KV(a_search_reads_its_range_alone),
        WITH_KV(a_search_reports_damage_instead_of_a_new_message),
        cmocka_unit_test(a_fingerprint_depends_on_key_sender_and_client_id),
        cmocka_unit_test(a_payload_hash_covers_every_part_and_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
