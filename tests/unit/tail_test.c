#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "../../src/api/admission.h"
#include "../../src/chat/tail.h"

/* What of a room's log is kept in memory for those who are behind: what is found, how it is cut, what goes first. */

#define ROOM 77u
#define TENANT 1u

static struct core *open_core(struct harness *h)
{
    harness_open(h, 1);
    return harness_core(h, 0);
}

/* text_frame is one unmasked text frame of so many payload bytes, all the same letter. */
static size_t text_frame(char *out, char letter, size_t len)
{
    size_t head = len < 126 ? 2 : len < 65536 ? 4 : 10;
    out[0] = (char)0x81;
    out[1] = (char)(len < 126 ? len : len < 65536 ? 126 : 127);
    for (size_t i = 2; i < head; i++) out[i] = (char)(len >> 8 * (head - 1 - i));
    memset(out + head, letter, len);
    return head + len;
}

static char letter_of(uint64_t seq)
{
    return (char)('a' + seq % 26);
}

static struct frame *run_of(uint32_t tenant, uint64_t room, uint64_t first, uint64_t last, size_t event_bytes)
{
    struct frame *f = frame_new(1, (uint32_t)((last - first + 1) * (event_bytes + 10)));
    size_t len = 0;
    for (uint64_t seq = first; seq <= last; seq++) len += text_frame(frame_data(f) + len, letter_of(seq), event_bytes);
    f->len = (uint32_t)len;
    f->tenant = tenant;
    f->room = room;
    f->first_seq = first;
    f->last_seq = last;
    return f;
}

static void append_of(struct core *core, uint64_t room, uint64_t first, uint64_t last, size_t event_bytes)
{
    struct frame *run = run_of(TENANT, room, first, last, event_bytes);
    tail_append(core, run);
    frame_let_go(run);
}

static void append(struct core *core, uint64_t first, uint64_t last)
{
    append_of(core, ROOM, first, last, 20);
}

static void add_page(struct core *core, uint64_t first, uint64_t last, size_t event_bytes)
{
    struct frame *page = run_of(TENANT, ROOM, first, last, event_bytes);
    frame_ref(page, 0);
    tail_add_page(core, TENANT, ROOM, first, last, page);
}

static bool is_here(const struct core *core, uint64_t seq)
{
    struct tail_part part;
    return tail_find(&part, core, TENANT, ROOM, seq, UINT64_MAX);
}

/* expect_events holds a frame against events first … last. */
static void expect_events(struct frame *f, uint64_t first, uint64_t last, size_t event_bytes)
{
    static char event[1 << 20];
    size_t at = 0;
    for (uint64_t seq = first; seq <= last; seq++) {
        size_t len = text_frame(event, letter_of(seq), event_bytes);
        assert_true(at + len <= f->len);
        assert_memory_equal(frame_data(f) + at, event, len);
        at += len;
    }
    assert_int_equal(at, f->len);
}

static void runs_lie_together_and_are_found_from_any_seq(void **state)
{
    struct core *core = open_core(*state);
    for (uint64_t seq = 1; seq <= 30; seq += 3) append(core, seq, seq + 2);
    for (uint64_t seq = 1; seq <= 30; seq++) {
        struct tail_part part;
        assert_true(tail_find(&part, core, TENANT, ROOM, seq, UINT64_MAX));
        assert_int_equal(part.first, seq);
        assert_int_equal(part.last, 30);
        if (seq > 1) expect_events(tail_frame(core, &part), seq, 30, 20);
    }
    assert_false(is_here(core, 31));
    assert_false(tail_find(&(struct tail_part){0}, core, TENANT + 1, ROOM, 1, UINT64_MAX));
    assert_false(tail_find(&(struct tail_part){0}, core, TENANT, ROOM + 1, 1, UINT64_MAX));
}

static void a_part_ends_where_the_reader_may_read_to(void **state)
{
    struct core *core = open_core(*state);
    struct tail_part part;
    append(core, 1, 10);
    assert_true(tail_find(&part, core, TENANT, ROOM, 4, 6));
    assert_int_equal(part.last, 6);
    expect_events(tail_frame(core, &part), 4, 6, 20);
    assert_true(tail_find(&part, core, TENANT, ROOM, 1, 6));
    expect_events(tail_frame(core, &part), 1, 6, 20);
}

static void events_of_every_length_of_header_are_cut_apart(void **state)
{
    struct core *core = open_core(*state);
    const size_t lengths[] = {1, 125, 126, 65535, 65536, 70000};
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct tail_part part;
        append_of(core, ROOM + i, 1, 3, lengths[i]);
        assert_true(tail_find(&part, core, TENANT, ROOM + i, 2, UINT64_MAX));
        expect_events(tail_frame(core, &part), 2, 3, lengths[i]);
    }
}

/* block_in_queue appends seqs 1 and 2, and returns their block as a send queue holds it. */
static struct frame *block_in_queue(struct core *core)
{
    struct tail_part part;
    append(core, 1, 2);
    assert_true(tail_find(&part, core, TENANT, ROOM, 1, UINT64_MAX));
    struct frame *given = tail_frame(core, &part);
    frame_ref(given, 0);
    return given;
}

static void what_was_handed_out_whole_stays_as_it_is(void **state)
{
    struct core *core = open_core(*state);
    struct tail_part part;
    struct frame *given = block_in_queue(core);
    append(core, 3, 4);
    expect_events(given, 1, 2, 20);
    assert_true(tail_find(&part, core, TENANT, ROOM, 1, UINT64_MAX));
    assert_int_equal(part.last, 2);
    assert_ptr_equal(tail_frame(core, &part), given); /* the same bytes for everybody */
    assert_true(tail_find(&part, core, TENANT, ROOM, 3, UINT64_MAX));
    expect_events(tail_frame(core, &part), 3, 4, 20);
    frame_unref(given, 0);
}

static void the_same_part_is_copied_once_a_turn(void **state)
{
    struct core *core = open_core(*state);
    struct tail_part part;
    append(core, 1, 10);
    assert_true(tail_find(&part, core, TENANT, ROOM, 3, UINT64_MAX));
    struct frame *copy = tail_frame(core, &part);
    assert_ptr_equal(tail_frame(core, &part), copy);
    assert_int_equal(atomic_load(&core->frames_bytes), copy->charged);
    tails_fit(core);
    assert_int_equal(atomic_load(&core->frames_bytes), 0);
}

static void parts_that_begin_alike_end_where_they_were_asked_to(void **state)
{
    struct core *core = open_core(*state);
    struct tail_part part;
    append(core, 1, 10);
    for (uint64_t last = 4; last <= 9; last++) {
        assert_true(tail_find(&part, core, TENANT, ROOM, 3, last));
        expect_events(tail_frame(core, &part), 3, last, 20);
    }
}

/* Another block may come to lie where the one was that the part is of. */
static void a_part_goes_with_its_block(void **state)
{
    struct core *core = open_core(*state);
    struct tail_part part;
    core->tail_bytes_max = 2 * TAIL_BLOCK_BYTES_MIN;
    append_of(core, ROOM, 1, 10, 100);
    assert_true(tail_find(&part, core, TENANT, ROOM, 3, UINT64_MAX));
    assert_int_equal(atomic_load(&core->frames_bytes), tail_frame(core, &part)->charged);
    append_of(core, ROOM + 1, 1, 10, 100);
    assert_false(is_here(core, 3));
    assert_int_equal(atomic_load(&core->frames_bytes), 0);
}

static void a_gap_is_no_run(void **state)
{
    struct core *core = open_core(*state);
    append(core, 1, 3);
    append(core, 10, 12); /* nobody was subscribed here meanwhile */
    struct tail_part part;
    assert_true(tail_find(&part, core, TENANT, ROOM, 2, UINT64_MAX));
    assert_int_equal(part.last, 3);
    for (uint64_t seq = 4; seq <= 9; seq++) assert_false(is_here(core, seq));
    assert_int_equal(tail_next(core, TENANT, ROOM, 4), 10);
    assert_int_equal(tail_next(core, TENANT, ROOM, 12), UINT64_MAX);
    add_page(core, 4, 9, 20);
    for (uint64_t seq = 1; seq <= 12; seq++) assert_true(is_here(core, seq));
}

static void the_oldest_go_when_there_is_too_much(void **state)
{
    struct core *core = open_core(*state);
    core->tail_bytes_max = 2 * 8 * TAIL_BLOCK_BYTES_MIN;
    for (uint64_t seq = 1; seq <= 1000; seq++) append_of(core, ROOM, seq, seq, 1000);
    tails_fit(core);
    assert_true(tails_bytes(core) <= core->tail_bytes_max / 2);
    assert_false(is_here(core, 1));
    uint64_t oldest = tail_next(core, TENANT, ROOM, 0);
    assert_true(oldest > 900);
    for (uint64_t seq = oldest; seq <= 1000; seq++) assert_true(is_here(core, seq));
}

static void pages_do_not_push_out_runs(void **state)
{
    struct core *core = open_core(*state);
    core->tail_bytes_max = 2 * 4 * TAIL_BLOCK_BYTES_MIN;
    append(core, 1001, 1003);
    for (uint64_t seq = 1; seq <= 1000; seq += 10) add_page(core, seq, seq + 9, 20);
    tails_fit(core);
    assert_true(is_here(core, 1001));
    assert_true(is_here(core, 1000));
    assert_false(is_here(core, 1));
    assert_int_equal(tails_bytes(core), 5 * TAIL_BLOCK_BYTES_MIN); /* a short page counts as a block */
}

static void a_block_that_has_gone_counts_until_the_queues_have_let_go(void **state)
{
    struct core *core = open_core(*state);
    struct frame *given = block_in_queue(core);
    assert_int_equal(atomic_load(&core->frames_bytes), 0);
    core->tail_bytes_max = 0;
    tails_fit(core);
    assert_int_equal(tails_bytes(core), 0);
    assert_int_equal(atomic_load(&core->frames_bytes), given->charged);
    frame_unref(given, 0);
    assert_int_equal(atomic_load(&core->frames_bytes), 0);
}

static void a_run_longer_than_there_is_room_is_not_kept(void **state)
{
    struct core *core = open_core(*state);
    core->tail_bytes_max = 64 << 10;
    append_of(core, ROOM, 1, 1, 40000);
    assert_int_equal(tails_bytes(core), 0);
    append_of(core, ROOM, 2, 2, 20000);
    assert_true(is_here(core, 2));
}

static void while_memory_is_short_nothing_is_kept(void **state)
{
    struct core *core = open_core(*state);
    append(core, 1, 2);
    core->guards = GUARD_MEMORY;
    append(core, 3, 4);
    assert_false(is_here(core, 3));
    assert_true(is_here(core, 2));
    tails_fit(core);
    assert_int_equal(tails_bytes(core), 0);
}

static void a_small_machine_keeps_little(void **state)
{
    struct harness *h = *state;
    h->config.limits_memory = 64 << 20;
    struct core *core = open_core(h);
    assert_int_equal(core->tail_bytes_max, (64 << 20) / MEMORY_SHARES / TAIL_PART);
}

static void a_large_machine_keeps_no_more_than_the_bound(void **state)
{
    struct harness *h = *state;
    h->config.limits_memory = 64ull << 30;
    assert_int_equal(open_core(h)->tail_bytes_max, TAIL_BYTES_MAX);
}

static void blocks_grow_with_what_a_room_says(void **state)
{
    struct core *core = open_core(*state);
    uint32_t longest = 0;
    for (uint64_t seq = 1; seq <= 2000; seq++) append_of(core, ROOM, seq, seq, 200);
    for (uint64_t seq = 1; seq <= 2000;) {
        struct tail_part part;
        assert_true(tail_find(&part, core, TENANT, ROOM, seq, UINT64_MAX));
        uint32_t len = tail_frame(core, &part)->len;
        assert_true(seq > 1 || len <= TAIL_BLOCK_BYTES_MIN);
        assert_true(len <= TAIL_BLOCK_BYTES_MAX);
        if (len > longest) longest = len;
        seq = part.last + 1;
    }
    assert_true(longest > TAIL_BLOCK_BYTES_MAX * 3 / 4);
}

static void many_rooms_share_the_bound(void **state)
{
    struct core *core = open_core(*state);
    for (uint64_t room = 1; room <= 10000; room++) append_of(core, room, 1, 1, 20);
    assert_true(tails_bytes(core) <= core->tail_bytes_max);
    struct tail_part part;
    assert_true(tail_find(&part, core, TENANT, 10000, 1, UINT64_MAX));
    assert_false(tail_find(&part, core, TENANT, 1, 1, UINT64_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(runs_lie_together_and_are_found_from_any_seq),
        TEST(a_part_ends_where_the_reader_may_read_to),
        TEST(events_of_every_length_of_header_are_cut_apart),
        TEST(what_was_handed_out_whole_stays_as_it_is),
        TEST(the_same_part_is_copied_once_a_turn),
        TEST(parts_that_begin_alike_end_where_they_were_asked_to),
        TEST(a_part_goes_with_its_block),
        TEST(a_gap_is_no_run),
        TEST(the_oldest_go_when_there_is_too_much),
        TEST(pages_do_not_push_out_runs),
        TEST(a_block_that_has_gone_counts_until_the_queues_have_let_go),
        TEST(a_run_longer_than_there_is_room_is_not_kept),
        TEST(while_memory_is_short_nothing_is_kept),
        TEST(a_small_machine_keeps_little),
        TEST(a_large_machine_keeps_no_more_than_the_bound),
        TEST(blocks_grow_with_what_a_room_says),
        TEST(many_rooms_share_the_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
