/* The command line is no library: this part of it is taken in as it is. */
#include "../../src/cli/restore_place.c" /* NOLINT(bugprone-suspicious-include) */

#include <setjmp.h>
#include <cmocka.h>

static char base[RESTORE_PATH_BYTES_MAX], why[512];
static struct restore_place place;

static int make_base(void **state)
{
    char path[] = "/tmp/carillon-place-XXXXXX";
    return mkdtemp(path) && realpath(path, base) ? 0 : -1;
}

static int remove_base(void **state) { return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static const char *at(const char *name)
{
    static char paths[4][RESTORE_PATH_BYTES_MAX + 256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

static bool there(const char *name) { return access(at(name), F_OK) == 0; }

static void write_file(const char *name)
{
    int fd = open(at(name), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
}

/* fill does what a restore does: it makes the parts of a store in `work`. */
static void fill(void)
{
    static const char *const parts[] = {"MARK", "pepper", "LOCK", "rocksdb-log"};
    char path[RESTORE_PATH_BYTES_MAX];
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        assert_true(path_of(path, place.work, parts[i]));
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        assert_true(fd >= 0);
        close(fd);
    }
    assert_true(path_of(path, place.work, "db"));
    assert_int_equal(mkdir(path, 0700), 0);
}

static enum status open_place(const char *name, bool force)
{
    return restore_place_open(&place, at(name), at("backups"), force, why, sizeof why);
}

static void take(void)
{
    if (restore_place_take(&place, 1795184570131, why, sizeof why) != STATUS_OK) fail_msg("%s", why);
    assert_true(restore_place_close(&place));
}

static void a_new_directory_appears_when_it_is_whole(void **state)
{
    assert_int_equal(open_place("data/", false), STATUS_OK);
    fill();
    assert_false(there("data"));
    take();
    assert_true(there("data/db") && !there("data.restoring") && !there("data/restoring"));
    assert_string_equal(place.aside, "");
}

static void an_empty_directory_is_worked_in(void **state)
{
    assert_int_equal(mkdir(at("data"), 0700), 0);
    assert_int_equal(mkdir(at("data/lost+found"), 0700), 0);
    assert_int_equal(open_place("data", false), STATUS_OK);
    assert_true(there("data/" STORE_RESTORE_DIR));
    fill();
    take();
    assert_true(there("data/db") && there("data/MARK") && there("data/lost+found"));
    assert_false(there("data/" STORE_RESTORE_DIR));
}

static void what_was_there_stays_until_the_end(void **state)
{
    assert_int_equal(mkdir(at("data"), 0700), 0);
    write_file("data/old");
    assert_int_equal(open_place("data", false), STATUS_EXISTS);
    assert_false(there("data.restoring"));
    assert_int_equal(open_place("data", true), STATUS_OK);
    fill();
    assert_true(there("data/old"));
    assert_true(restore_place_close(&place)); /* as after a failure */
    assert_true(there("data/old") && !there("data.restoring"));
    assert_int_equal(open_place("data", true), STATUS_OK);
    fill();
    take();
    assert_true(there("data/db") && !there("data/old"));
    assert_true(there("data.before-restore-2026-11-20T14:22:50.131Z/old"));
}

static void whoever_comes_second_is_refused(void **state)
{
    struct restore_place first;
    assert_int_equal(open_place("data", false), STATUS_OK);
    first = place;
    assert_int_equal(open_place("data", false), STATUS_LOCKED);
    assert_true(there("data.restoring/" MARKER));
    place = first;
    fill();
    take();
    assert_int_equal(open_place("data", false), STATUS_EXISTS);
    int fd = open(at("data/LOCK"), O_RDONLY); /* as a gateway does */
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(open_place("data", true), STATUS_LOCKED);
    close(fd);
}

static void a_gateway_that_starts_meanwhile_keeps_its_data(void **state)
{
    assert_int_equal(mkdir(at("data"), 0700), 0);
    write_file("data/old");
    assert_int_equal(open_place("data", true), STATUS_OK);
    fill();
    write_file("data/LOCK");
    int fd = open(at("data/LOCK"), O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(restore_place_take(&place, 0, why, sizeof why), STATUS_LOCKED);
    assert_true(restore_place_close(&place));
    assert_true(there("data/old") && !there("data/db") && !there("data.restoring"));
    close(fd);
}

static void what_no_restore_made_is_left_alone(void **state)
{
    assert_int_equal(mkdir(at("data.restoring"), 0700), 0);
    write_file("data.restoring/precious");
    assert_int_equal(open_place("data", false), STATUS_EXISTS);
    assert_true(there("data.restoring/precious"));
    write_file("data.restoring/" MARKER); /* now it is what a killed restore left */
    assert_int_equal(open_place("data", false), STATUS_OK);
    assert_false(there("data.restoring/precious"));
    assert_true(restore_place_close(&place));
}

static void places_that_cannot_be_used_are_refused(void **state)
{
    write_file("file");
    assert_int_equal(open_place("file", true), STATUS_INVALID);
    assert_int_equal(symlink(at("nowhere"), at("link")), 0);
    assert_int_equal(open_place("link", true), STATUS_INVALID);
    assert_int_equal(open_place("no/parent", true), STATUS_INVALID);
    assert_int_equal(mkdir(at("backups"), 0700), 0);
    write_file("backups/pepper");
    assert_int_equal(open_place("backups", true), STATUS_INVALID);
    assert_non_null(strstr(why, "the backups lie in"));
}

int main(void)
{
#define WITH_BASE(test) cmocka_unit_test_setup_teardown(test, make_base, remove_base)
    const struct CMUnitTest tests[] = {
        WITH_BASE(a_new_directory_appears_when_it_is_whole),
        WITH_BASE(an_empty_directory_is_worked_in),
        WITH_BASE(what_was_there_stays_until_the_end),
        WITH_BASE(whoever_comes_second_is_refused),
        WITH_BASE(a_gateway_that_starts_meanwhile_keeps_its_data),
        WITH_BASE(what_no_restore_made_is_left_alone),
        WITH_BASE(places_that_cannot_be_used_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
