#include "../../storage/manifest.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

static char dir[64], why[512];
static struct manifest_watch watch;

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/db/%s", dir, name);
    return path;
}

static void put(const char *name, int flags, const void *bytes, size_t len)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | flags, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static void put_text(const char *name, int flags, const char *text) { put(name, flags, text, strlen(text)); }

static int set_up(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/manifest_test.XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(mkdir(path_of(""), 0700), 0);
    manifest_watch_open(&watch, dir, NULL);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    manifest_watch_close(&watch);
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static struct manifest_print look(void)
{
    manifest_look(&watch);
    return watch.print;
}

static enum status check(const struct manifest_print *print)
{
    return manifest_check(print, dir, why, sizeof why);
}

static struct manifest_print a_print(void)
{
    put_text("CURRENT", O_TRUNC, "MANIFEST-000005\n");
    put_text("MANIFEST-000005", O_TRUNC, "one edit, another edit");
    return look();
}

static void nothing_is_known_where_there_is_no_database(void **state)
{
    struct manifest_print print = look();
    assert_int_equal(print.number, 0);
    assert_int_equal(check(&print), STATUS_OK);
}

static void what_was_seen_and_what_came_behind_it_is_accepted(void **state)
{
    struct manifest_print first = a_print();
    assert_int_equal(first.number, 5);
    assert_int_equal(first.bytes, 22);
    put_text("MANIFEST-000005", O_APPEND, ", a third");
    assert_int_equal(check(&first), STATUS_OK);
    struct manifest_print second = look();
    assert_int_equal(second.bytes, 31);
    assert_memory_not_equal(first.hash, second.hash, sizeof first.hash);
    assert_int_equal(check(&second), STATUS_OK);
}

static void a_print_that_grew_is_that_of_the_whole(void **state)
{
    a_print();
    put_text("MANIFEST-000005", O_APPEND, ", a third");
    struct manifest_print grown = look();
    manifest_watch_close(&watch);
    manifest_watch_open(&watch, dir, NULL);
    struct manifest_print at_once = look();
    assert_memory_equal(&grown, &at_once, sizeof grown);
}

static void a_shorter_one_is_refused(void **state)
{
    struct manifest_print print = a_print();
    for (off_t bytes = 21; bytes >= 0; bytes -= 7) {
        assert_int_equal(truncate(path_of("MANIFEST-000005"), bytes), 0);
        assert_int_equal(check(&print), STATUS_CORRUPT);
        assert_non_null(strstr(why, "MANIFEST-000005 is not what it was"));
    }
}

static void a_changed_byte_and_an_end_of_zeros_are_refused(void **state)
{
    struct manifest_print print = a_print();
    put_text("MANIFEST-000005", O_TRUNC, "one edit, anothEr edit");
    assert_int_equal(check(&print), STATUS_CORRUPT);
    put("MANIFEST-000005", O_TRUNC, "one edit\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22);
    assert_int_equal(check(&print), STATUS_CORRUPT);
    put_text("MANIFEST-000005", O_TRUNC, "one edit, another edit");
    assert_int_equal(check(&print), STATUS_OK);
}

static struct kv_manifest synced; /* what the database says */

static void say_synced(struct kv *kv, struct kv_manifest *out) { *out = synced; }
static const struct kv_ops ops = {.manifest = say_synced};
static struct kv database = {&ops};

static void what_an_ailing_database_wrote_is_not_vouched_for(void **state)
{
    struct manifest_print print = a_print();
    watch._kv = &database;
    synced = (struct kv_manifest){0};
    put_text("MANIFEST-000005", O_APPEND, ", a third that its sync lost");
    struct manifest_print later = look();
    assert_memory_equal(&later, &print, sizeof print);
}

/* RocksDB cuts off again what it appended half-way, when the disk was full. */
static void half_an_edit_may_go_away_again(void **state)
{
    watch._kv = &database;
    put_text("CURRENT", O_TRUNC, "MANIFEST-000005\n");
    put_text("MANIFEST-000005", O_TRUNC, "one edit, another edit");
    synced = (struct kv_manifest){5, 22};
    put_text("MANIFEST-000005", O_APPEND, ", a th");
    struct manifest_print print = look();
    assert_int_equal(print.bytes, 22);
    assert_int_equal(truncate(path_of("MANIFEST-000005"), 22), 0);
    assert_int_equal(check(&print), STATUS_OK);
    assert_int_equal(truncate(path_of("MANIFEST-000005"), 21), 0);
    assert_int_equal(check(&print), STATUS_CORRUPT);
}

static void one_that_current_does_not_name_yet_is_not_vouched_for(void **state)
{
    struct manifest_print print = a_print();
    watch._kv = &database;
    put_text("MANIFEST-000017", O_TRUNC, "new");
    synced = (struct kv_manifest){17, 3};
    struct manifest_print later = look();
    assert_memory_equal(&later, &print, sizeof print);
    put_text("CURRENT", O_TRUNC, "MANIFEST-000017\n");
    assert_int_equal(look().number, 17);
}

static void a_long_one_is_read_in_parts(void **state)
{
    put_text("CURRENT", O_TRUNC, "MANIFEST-000005\n");
    put_text("MANIFEST-000005", O_TRUNC, "");
    assert_int_equal(truncate(path_of("MANIFEST-000005"), (16 << 20) + 5), 0);
    struct manifest_print part = look();
    assert_int_equal(part.bytes, 16 << 20);
    assert_int_equal(check(&part), STATUS_OK);
    assert_int_equal(look().bytes, (16 << 20) + 5);
}

static void a_newer_one_is_accepted_and_an_older_one_refused(void **state)
{
    struct manifest_print print = a_print();
    put_text("CURRENT", O_TRUNC, "MANIFEST-000017\n");
    put_text("MANIFEST-000017", O_TRUNC, "new");
    assert_int_equal(check(&print), STATUS_OK);
    print = look();
    assert_int_equal(print.number, 17);
    assert_int_equal(print.bytes, 3);
    put_text("CURRENT", O_TRUNC, "MANIFEST-000005\n");
    assert_int_equal(check(&print), STATUS_CORRUPT);
}

static void what_is_missing_or_garbled_is_left_to_the_database(void **state)
{
    struct manifest_print print = a_print();
    assert_int_equal(unlink(path_of("MANIFEST-000005")), 0);
    assert_int_equal(check(&print), STATUS_OK);
    struct manifest_print kept = look();
    assert_memory_equal(&kept, &print, sizeof kept);
    put_text("CURRENT", O_TRUNC, "MANIFEST-00000");
    assert_int_equal(check(&print), STATUS_OK);
}

int main(void)
{
#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_DIR(nothing_is_known_where_there_is_no_database),
        WITH_DIR(what_was_seen_and_what_came_behind_it_is_accepted),
        WITH_DIR(a_print_that_grew_is_that_of_the_whole),
        WITH_DIR(a_shorter_one_is_refused),
        WITH_DIR(a_changed_byte_and_an_end_of_zeros_are_refused),
        WITH_DIR(what_an_ailing_database_wrote_is_not_vouched_for),
        WITH_DIR(half_an_edit_may_go_away_again),
        WITH_DIR(one_that_current_does_not_name_yet_is_not_vouched_for),
        WITH_DIR(a_long_one_is_read_in_parts),
        WITH_DIR(a_newer_one_is_accepted_and_an_older_one_refused),
        WITH_DIR(what_is_missing_or_garbled_is_left_to_the_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
