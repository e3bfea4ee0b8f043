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
    assert_int_equal(manifest_look(&watch), STATUS_OK);
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

static bool is_healthy(struct kv *kv) { return kv == NULL; }

static void what_an_ailing_database_wrote_is_not_vouched_for(void **state)
{
    static const struct kv_ops ops = {.healthy = is_healthy};
    struct kv ailing = {&ops};
    struct manifest_print print = a_print();
    watch._kv = &ailing;
    put_text("MANIFEST-000005", O_APPEND, ", a third that its sync lost");
    struct manifest_print later = look();
    assert_memory_equal(&later, &print, sizeof print);
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
        WITH_DIR(a_newer_one_is_accepted_and_an_older_one_refused),
        WITH_DIR(what_is_missing_or_garbled_is_left_to_the_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
