#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../src/chat/user_state.h"
#include "next_random.h"

/* The rooms a user is in and its devices' cursors in them, against a table that says the same without any order. */

#define ROOMS 8u
#define DEVICES 7u

/* Names of which one begins with the other, and some that hold a NUL or a byte above ASCII: order is by bytes. */
static const struct slice names[DEVICES] = {
    {"a", 1}, {"ab", 2}, {"abc", 3}, {"b", 1}, {"a\0", 2}, {"\xc3\xa4", 2}, {"z", 1}};

static struct user user;
static struct {
    bool in;
    uint64_t joined_seq, delivered[DEVICES];
    bool known[DEVICES];
} model[ROOMS];

/* Rooms are numbered so that they lie on both sides of what 32 bits hold. */
static uint64_t number_of(unsigned room) { return (uint64_t)(room + 1) * 0x40000001u; }

static int begin(void **state)
{
    memset(&user, 0, sizeof user);
    memset(model, 0, sizeof model);
    return 0;
}

static int end(void **state)
{
    free(user.rooms);
    free(user.devices);
    return 0;
}

static void change(unsigned room, unsigned device)
{
    struct user_room *own = user_room(&user, number_of(room));
    switch (next_random() % 8) {
    case 0: /* out of a room: its cursors go with it */
        if (own) user_room_remove(&user, own);
        user_devices_forget(&user, number_of(room));
        memset(&model[room], 0, sizeof model[room]);
        break;
    case 1:
    case 2:
        if (own) break;
        model[room].in = true;
        model[room].joined_seq = next_random();
        user_room_add(&user, number_of(room), model[room].joined_seq);
        break;
    default: {
        struct device_room *d = user_device(&user, names[device], number_of(room));
        if (!d) d = user_device_add(&user, names[device], number_of(room));
        model[room].known[device] = true;
        model[room].delivered[device] = d->delivered = next_random();
    }
    }
}

static void expect_the_model(void)
{
    uint32_t num_rooms = 0, num_devices = 0;
    for (unsigned room = 0; room < ROOMS; room++) {
        const struct user_room *own = user_room(&user, number_of(room));
        assert_int_equal(own != NULL, model[room].in);
        if (own) assert_int_equal(own->joined_seq, model[room].joined_seq);
        num_rooms += model[room].in;
        for (unsigned device = 0; device < DEVICES; device++) {
            const struct device_room *d = user_device(&user, names[device], number_of(room));
            assert_int_equal(d != NULL, model[room].known[device]);
            if (d) assert_int_equal(d->delivered, model[room].delivered[device]);
            num_devices += model[room].known[device];
        }
    }
    assert_int_equal(user.num_rooms, num_rooms);
    assert_int_equal(user.num_devices, num_devices);
}

static void each_room_and_each_device_has_its_own_cursor_whatever_came_before(void **state)
{
    for (unsigned step = 0; step < 20000; step++) {
        change((unsigned)(next_random() % ROOMS), (unsigned)(next_random() % DEVICES));
        expect_the_model();
    }
}

static void rooms_are_listed_by_their_number(void **state)
{
    for (unsigned i = 0; i < ROOMS; i++) user_room_add(&user, number_of(i * 3 % ROOMS), i);
    for (unsigned i = 0; i < ROOMS; i++) assert_int_equal(user.rooms[i].room, number_of(i));
}

static void a_room_begins_with_everything_before_the_join_read(void **state)
{
    user_room_add(&user, 7, 41);
    assert_int_equal(user_room(&user, 7)->delivered, 41);
    assert_int_equal(user_room(&user, 7)->read, 41);
    assert_false(user_room(&user, 7)->dirty);
}

#define ROOMS_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROOMS_TEST(each_room_and_each_device_has_its_own_cursor_whatever_came_before),
        ROOMS_TEST(rooms_are_listed_by_their_number),
        ROOMS_TEST(a_room_begins_with_everything_before_the_join_read),
    };
    return cmocka_run_group_tests_name("user_rooms", tests, NULL, NULL);
}
