#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../storage/store.h"

static char dir[256], path[300];

static int make_dir(void **state)
{
    snprintf(dir, sizeof dir, "%s/carillon-mark-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/MARK", dir);
    return 0;
}

static int remove_dir(void **state)
{
    unlink(path);
    return rmdir(dir);
}

static struct mark *open_mark(void)
{
    struct mark *m;
    assert_int_equal(mark_open_file(&m, dir, NULL), STATUS_OK);
    return m;
}

static void write_marks(uint64_t first, uint64_t last)
{
    struct mark *m = open_mark();
    for (uint64_t v = first; v <= last; v++) {
        assert_int_equal(mark_write(m, v), STATUS_OK);
        assert_int_equal(mark_sync(m), STATUS_OK);
    }
    mark_close(m);
}

static enum status reread(uint64_t *v)
{
    struct mark *m = open_mark();
    enum status s = mark_read(m, v);
    mark_close(m);
    return s;
}

static void flip(off_t at, unsigned char bits)
{
    int fd = open(path, O_RDWR);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= bits;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void a_new_mark_is_not_found(void **state)
{
    uint64_t v;
    assert_int_equal(reread(&v), STATUS_NOT_FOUND);
    assert_int_equal(reread(&v), STATUS_NOT_FOUND);
}

static void the_last_mark_is_read_back(void **state)
{
    for (uint64_t last = 100; last < 110; last++) {
        uint64_t v = 0;
        write_marks(last == 100 ? 90 : last, last);
        assert_int_equal(reread(&v), STATUS_OK);
        assert_int_equal(v, last);
    }
}

static void the_file_never_changes_its_size(void **state)
{
    struct stat before, after;
    mark_close(open_mark());
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(before.st_size, 8192);
    assert_int_equal(before.st_mode & 0777, 0600);
    write_marks(1, 5);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_int_equal(after.st_blocks, before.st_blocks);
}

/* Whatever single byte goes bad, the mark read is one that was written: the last, or the one before. */
static void any_damaged_byte_leaves_the_other_slot(void **state)
{
    write_marks(41, 43);
    unsigned fell_back = 0;
    for (off_t slot = 0; slot < 8192; slot += 4096) {
        for (off_t at = slot; at < slot + 64; at++) {
            uint64_t v = 0;
            flip(at, 0x10);
            assert_int_equal(reread(&v), STATUS_OK);
            assert_true(v == 43 || v == 42);
            fell_back += v == 42;
            flip(at, 0x10);
        }
    }
    assert_int_equal(fell_back, 64); /* every byte of the newest slot is under the checksum */
}

static void a_torn_first_write_is_a_new_mark(void **state)
{
    uint64_t v;
    write_marks(7, 7);
    flip(20, 1);
    assert_int_equal(reread(&v), STATUS_NOT_FOUND);
}

static void two_damaged_slots_are_corrupt(void **state)
{
    uint64_t v;
    write_marks(1, 2);
    flip(16, 1);
    flip(4096 + 16, 1);
    assert_int_equal(reread(&v), STATUS_CORRUPT);
}

static void writing_goes_on_behind_the_slot_that_holds(void **state)
{
    uint64_t v;
    write_marks(1, 4);   /* counters 3 and 4 remain, 4 in slot 1 */
    flip(4096 + 40, 1);  /* slot 1 is torn */
    write_marks(5, 5);   /* must not overwrite the good slot 0 */
    flip(16, 1);         /* were 5 there, nothing would be left */
    assert_int_equal(reread(&v), STATUS_OK);
    assert_int_equal(v, 5);
}

static void read_slot(char bytes[64], off_t at)
{
    int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, bytes, 64, at), 64);
    close(fd);
}

/* Writes that no sync has made durable may be torn, all of them: what they went over must not be the synced mark. */
static void writes_without_a_sync_leave_the_synced_slot_alone(void **state)
{
    struct mark *m = open_mark();
    for (off_t synced = 0, n = 1; n <= 4; n++, synced ^= 4096) {
        char before[64], after[64], other[64], other_after[64];
        uint64_t v;
        assert_int_equal(mark_write(m, (uint64_t)n * 1000), STATUS_OK);
        assert_int_equal(mark_sync(m), STATUS_OK);
        read_slot(before, synced);
        read_slot(other, synced ^ 4096);
        for (uint64_t i = 1; i <= 100; i++) assert_int_equal(mark_write(m, (uint64_t)n * 1000 + i), STATUS_OK);
        read_slot(after, synced);
        assert_memory_equal(before, after, sizeof before);
        read_slot(other_after, synced ^ 4096);
        assert_memory_not_equal(other, other_after, sizeof other);

        assert_true(reread(&v) == STATUS_OK && v == (uint64_t)n * 1000 + 100);
        flip((synced ^ 4096) + 24, 1);
        assert_true(reread(&v) == STATUS_OK && v == (uint64_t)n * 1000); /* the newest was torn: the synced one holds */
        flip((synced ^ 4096) + 24, 1);
    }
    mark_close(m);
}

static void a_sync_without_a_write_moves_nothing(void **state)
{
    uint64_t v;
    struct mark *m = open_mark();
    assert_int_equal(mark_write(m, 1), STATUS_OK);
    for (int i = 0; i < 2; i++) assert_int_equal(mark_sync(m), STATUS_OK);
    assert_int_equal(mark_write(m, 2), STATUS_OK); /* over slot 0, were the second sync counted */
    mark_close(m);
    flip(4096 + 16, 1);
    assert_true(reread(&v) == STATUS_OK && v == 1);
}

static void a_short_file_is_completed(void **state)
{
    uint64_t v;
    write_marks(1, 2);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(reread(&v), STATUS_OK);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 8192);
}

static void a_file_cut_short_without_a_good_slot_is_left_alone_until_the_next_write(void **state)
{
    uint64_t v;
    struct stat st;
    write_marks(1, 2);
    assert_int_equal(truncate(path, 10), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(reread(&v), STATUS_INVALID);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, 10);
    }
    struct mark *m = open_mark();
    assert_int_equal(mark_write(m, 7), STATUS_OK);
    assert_int_equal(mark_sync(m), STATUS_OK);
    mark_close(m);
    assert_true(reread(&v) == STATUS_OK && v == 7);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 8192);
}

static void a_mark_that_goes_back_aborts(void **state)
{
    write_marks(9, 9);
    pid_t child = fork();
    if (child == 0) {
        close(2);
        struct mark *m = NULL;
        if (mark_open_file(&m, dir, NULL) == STATUS_OK) (void)!mark_write(m, 8);
        _exit(0);
    }
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGABRT);
}

static void a_missing_directory_is_an_error(void **state)
{
    struct mark *m;
    char missing[300];
    snprintf(missing, sizeof missing, "%s/missing", dir);
    assert_int_equal(mark_open_file(&m, missing, NULL), STATUS_IO);
    assert_null(m);
}

static void the_fake_forgets_what_was_not_synced(void **state)
{
    struct mark *m = mark_fake_new();
    uint64_t v;
    assert_int_equal(mark_read(m, &v), STATUS_NOT_FOUND);
    assert_int_equal(mark_write(m, 5), STATUS_OK);
    mark_fake_crash(m, true);
    assert_int_equal(mark_read(m, &v), STATUS_NOT_FOUND);
    assert_int_equal(mark_write(m, 5), STATUS_OK);
    assert_int_equal(mark_sync(m), STATUS_OK);
    assert_int_equal(mark_write(m, 6), STATUS_OK);
    mark_fake_crash(m, true);
    assert_true(mark_read(m, &v) == STATUS_OK && v == 5);
    assert_int_equal(mark_write(m, 6), STATUS_OK);
    mark_fake_crash(m, false);
    mark_fake_crash(m, true);
    assert_true(mark_read(m, &v) == STATUS_OK && v == 6);
    mark_fake_fail(m, true, true);
    assert_int_equal(mark_write(m, 7), STATUS_IO);
    mark_fake_fail(m, false, false);
    assert_int_equal(mark_sync(m), STATUS_READ_ONLY); /* the first error is final */
    assert_int_equal(mark_write(m, 7), STATUS_READ_ONLY);
    assert_true(mark_read(m, &v) == STATUS_OK && v == 6);
    mark_close(m);
}

int main(void)
{
#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        WITH_DIR(a_new_mark_is_not_found),
        WITH_DIR(the_last_mark_is_read_back),
        WITH_DIR(the_file_never_changes_its_size),
        WITH_DIR(any_damaged_byte_leaves_the_other_slot),
        WITH_DIR(a_torn_first_write_is_a_new_mark),
        WITH_DIR(two_damaged_slots_are_corrupt),
        WITH_DIR(writing_goes_on_behind_the_slot_that_holds),
        WITH_DIR(writes_without_a_sync_leave_the_synced_slot_alone),
        WITH_DIR(a_sync_without_a_write_moves_nothing),
        WITH_DIR(a_short_file_is_completed),
        WITH_DIR(a_file_cut_short_without_a_good_slot_is_left_alone_until_the_next_write),
        WITH_DIR(a_mark_that_goes_back_aborts),
        WITH_DIR(a_missing_directory_is_an_error),
        cmocka_unit_test(the_fake_forgets_what_was_not_synced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
