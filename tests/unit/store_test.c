#define _GNU_SOURCE /* nftw */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../storage/keys.h"
#include "../../storage/records.h"
#include "../../storage/store.h"

static char base[256], dir[300], why[512];
static struct store_options options;

static int make_dir(void **state)
{
    snprintf(base, sizeof base, "%s/carillon-store-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(base)) return -1;
    snprintf(dir, sizeof dir, "%s/data", base);
    options = (struct store_options){.dir = dir, .cache_bytes = 1 << 20, .write_buffer_bytes = 1 << 20};
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) { return remove(path); }
static int remove_dir(void **state)
{
    umount2(dir, MNT_DETACH); /* left by a test that failed half way */
    return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *path_of(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static struct store open_store(void)
{
    struct store s;
    if (store_open(&s, &options, random_real(), why, sizeof why) != STATUS_OK) fail_msg("%s", why);
    return s;
}

/* assert_refused opens and expects a refusal, in words that hold `word`, with nothing left open. */
static void assert_refused(enum status expected, const char *word)
{
    struct store s;
    assert_int_equal(store_open(&s, &options, random_real(), why, sizeof why), expected);
    assert_null(s.kv);
    assert_null(s.mark);
    if (!strstr(why, word)) fail_msg("\"%s\" does not say \"%s\"", why, word);
}

static void put_meta(struct store *s, const char *name, uint64_t v)
{
    struct key k;
    struct buf value = {0};
    struct kv_batch *b = kv_batch_new(s->kv);
    key_meta(&k, slice_str(name));
    number_record_encode(&value, v);
    s->kv->ops->batch_put(b, KV_META, key_slice(&k), buf_slice(&value));
    assert_int_equal(kv_write(s->kv, b), STATUS_OK);
    s->kv->ops->batch_free(b);
    buf_free(&value);
}

/* make_durable does what the syncer does. */
static void make_durable(struct store *s)
{
    uint64_t sequence = kv_sequence(s->kv);
    assert_int_equal(kv_sync(s->kv), STATUS_OK);
    assert_int_equal(mark_write(s->mark, sequence), STATUS_OK);
    assert_int_equal(mark_sync(s->mark), STATUS_OK);
}

static void replace_file(const char *name, const void *bytes, size_t len)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static void a_new_store_begins_in_epoch_one(void **state)
{
    snprintf(dir, sizeof dir, "%s/parents/are/made/data/", base);
    struct store s = open_store();
    struct stat st;
    assert_int_equal(s.epoch, 1);
    assert_int_equal(s.next_number, 1);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat(path_of("pepper"), &st), 0);
    assert_true((st.st_mode & 0777) == 0600 && st.st_size == 32);
    store_close(&s, true);
    assert_null(s.kv);
    store_close(&s, true); /* closing again does nothing */
}

static void the_epoch_rises_only_after_an_unclean_end(void **state)
{
    static const struct {
        bool clean;
        uint64_t next_epoch;
    } runs[] = {{true, 1}, {true, 1}, {false, 2}, {true, 2}, {false, 3}, {false, 4}, {true, 4}};
    struct store s = open_store();
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        store_close(&s, runs[i].clean);
        s = open_store();
        assert_int_equal(s.was_clean, runs[i].clean);
        assert_int_equal(s.epoch, runs[i].next_epoch);
    }
    store_close(&s, true);
}

static void the_pepper_stays_the_same(void **state)
{
    static const uint8_t zeros[32];
    struct store s = open_store();
    uint8_t first[32];
    memcpy(first, s.pepper, 32);
    assert_memory_not_equal(first, zeros, 32);
    store_close(&s, true);
    s = open_store();
    assert_memory_equal(s.pepper, first, 32);
    store_close(&s, true);
}

static void numbers_go_on_behind_the_highest_of_any_core(void **state)
{
    struct store s = open_store();
    put_meta(&s, "number.0", 17);
    put_meta(&s, "number.1", 41);
    put_meta(&s, "number.10", 40);
    put_meta(&s, "numbers", 1000); /* another name */
    store_close(&s, true);
    s = open_store();
    assert_int_equal(s.next_number, 42);
    store_close(&s, true);
}

static void a_store_in_use_is_locked(void **state)
{
    struct store s = open_store();
    assert_refused(STATUS_LOCKED, "in use by another process");
    int told[2]; /* not by the exit code, which valgrind uses for leaks of a process that has lost its threads */
    assert_int_equal(pipe(told), 0);
    pid_t child = fork(); /* another process is told the same */
    if (child == 0) {
        struct store other;
        close(2);
        enum status answer = store_open(&other, &options, random_real(), why, sizeof why);
        _exit(write(told[1], &answer, sizeof answer) != sizeof answer);
    }
    enum status answer = STATUS_OK;
    close(told[1]);
    assert_int_equal(read(told[0], &answer, sizeof answer), sizeof answer);
    assert_int_equal(answer, STATUS_LOCKED);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(told[0]);
    store_close(&s, true);
    s = open_store();
    store_close(&s, true);
}

static void a_newer_format_is_refused_and_left_alone(void **state)
{
    struct store s = open_store();
    put_meta(&s, "format", STORE_FORMAT + 1);
    store_close(&s, false); /* a clean close would write this format */
    for (int n = 0; n < 2; n++) {
        assert_refused(STATUS_NEWER, "newer version");
        options.read_only = n == 0;
    }
}

static void a_file_in_the_way_is_refused(void **state)
{
    int fd = open(dir, O_WRONLY | O_CREAT, 0600);
    close(fd);
    assert_refused(STATUS_INVALID, "not a directory");
    snprintf(dir, sizeof dir, "%s/data/below", base);
    assert_refused(STATUS_INVALID, "another data directory");
}

static void a_file_that_cannot_be_made_is_refused(void **state)
{
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(mkdir(path_of("LOCK"), 0700), 0);
    assert_refused(STATUS_IO, "LOCK");
    assert_int_equal(rmdir(path_of("LOCK")), 0);
    replace_file("db", "x", 1);
    assert_refused(STATUS_IO, "cannot be opened");
    assert_int_equal(unlink(path_of("db")), 0);
    assert_int_equal(mkdir(path_of("MARK"), 0700), 0);
    assert_refused(STATUS_IO, "MARK");
}

static void a_read_only_file_system_is_refused(void **state)
{
    assert_int_equal(mkdir(dir, 0700), 0);
    if (mount("none", dir, "tmpfs", MS_RDONLY, NULL) != 0) skip(); /* needs the right to mount */
    struct store s;
    enum status got = store_open(&s, &options, random_real(), why, sizeof why);
    assert_int_equal(umount(dir), 0);
    assert_int_equal(got, STATUS_IO);
    assert_non_null(strstr(why, "read-only"));
}

static void a_full_disk_is_refused(void **state)
{
    assert_int_equal(mkdir(dir, 0700), 0);
    if (mount("none", dir, "tmpfs", 0, "size=8m") != 0) skip(); /* needs the right to mount */
    struct store s;
    enum status got = store_open(&s, &options, random_real(), why, sizeof why);
    assert_int_equal(umount(dir), 0);
    assert_int_equal(got, STATUS_NO_SPACE);
    assert_non_null(strstr(why, "make room"));
}

/* remove_newest_wal removes the last write-ahead log file, as a disk that lies about its syncs would. */
static void remove_newest_wal(void)
{
    char newest[300] = "";
    DIR *d = opendir(path_of("db"));
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len > 4 && strcmp(e->d_name + len - 4, ".log") == 0 && strcmp(e->d_name, newest) > 0)
            snprintf(newest, sizeof newest, "%s", e->d_name);
    }
    closedir(d);
    assert_true(*newest);
    char path[700];
    snprintf(path, sizeof path, "%s/db/%s", dir, newest);
    assert_int_equal(unlink(path), 0);
}

static void a_store_that_lost_durable_writes_is_refused(void **state)
{
    struct store s = open_store();
    for (uint64_t n = 1; n <= 10; n++) put_meta(&s, "number.0", n);
    make_durable(&s);
    store_close(&s, false);
    remove_newest_wal();
    assert_refused(STATUS_CORRUPT, "acknowledged writes are lost");
    assert_refused(STATUS_CORRUPT, "acknowledged writes are lost"); /* and stays refused */
}

static void a_manifest_that_ends_early_is_refused_before_tables_are_removed(void **state)
{
    char manifest[700] = "";
    struct store s = open_store();
    store_close(&s, false);
    DIR *d = opendir(path_of("db"));
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, "MANIFEST-")) snprintf(manifest, sizeof manifest, "%s/db/%s", dir, e->d_name);
    closedir(d);
    struct stat st;
    assert_int_equal(stat(manifest, &st), 0);
    assert_int_equal(truncate(manifest, st.st_size - 1), 0); /* RocksDB takes it for a torn last edit */
    for (int n = 0; n < 2; n++) {
        options.read_only = n == 1;
        assert_refused(STATUS_CORRUPT, "is not what it was");
    }
}

static void reading_only_refuses_a_store_that_lost_durable_writes(void **state)
{
    char garbage[8192];
    memset(garbage, 'x', sizeof garbage);
    struct store s = open_store();
    for (uint64_t n = 1; n <= 10; n++) put_meta(&s, "number.0", n);
    make_durable(&s);
    store_close(&s, false);
    remove_newest_wal();
    options.read_only = true;
    assert_refused(STATUS_CORRUPT, "acknowledged writes are lost");
    replace_file("MARK", garbage, sizeof garbage);
    assert_refused(STATUS_CORRUPT, "low-water mark is damaged");
    struct stat before, after;
    assert_int_equal(stat(path_of("MARK"), &before), 0);
    assert_refused(STATUS_CORRUPT, "low-water mark is damaged");
    assert_int_equal(stat(path_of("MARK"), &after), 0);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec); /* whoever only reads writes nothing */
}

static void a_cut_off_log_tail_is_refused(void **state)
{
    struct store s = open_store();
    for (uint64_t n = 1; n <= 10; n++) put_meta(&s, "number.0", n);
    make_durable(&s);
    store_close(&s, false);
    char wal[700] = "";
    DIR *d = opendir(path_of("db"));
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, ".log") && strlen(e->d_name) < 20) snprintf(wal, sizeof wal, "%s/db/%s", dir, e->d_name);
    closedir(d);
    struct stat st;
    assert_int_equal(stat(wal, &st), 0);
    assert_int_equal(truncate(wal, st.st_size - 3), 0);
    assert_refused(STATUS_CORRUPT, "acknowledged writes are lost");
}

static void removing_the_mark_accepts_the_loss_in_a_new_history(void **state)
{
    struct store s = open_store();
    store_close(&s, true);
    s = open_store();
    for (uint64_t n = 1; n <= 10; n++) put_meta(&s, "number.0", n);
    make_durable(&s);
    store_close(&s, true);
    remove_newest_wal();
    assert_refused(STATUS_CORRUPT, "remove the file MARK");
    assert_int_equal(unlink(path_of("MARK")), 0);
    s = open_store();
    assert_false(s.was_clean);
    assert_true(s.epoch > 1ull << 32 && s.next_number > 1ull << 40);
    assert_false(store_epoch_given_up(&s, 1)); /* what is there is still there */
    assert_true(store_epoch_given_up(&s, 2) && store_epoch_given_up(&s, s.epoch - 1));
    uint64_t epoch = s.epoch;
    store_close(&s, true);
    s = open_store();
    assert_int_equal(s.epoch, epoch);
    store_close(&s, true);
}

static void a_store_that_lost_everything_and_its_mark_is_not_a_new_one(void **state)
{
    struct store s = open_store();
    uint8_t pepper[32];
    memcpy(pepper, s.pepper, sizeof pepper);
    store_close(&s, false);
    remove_newest_wal();
    assert_refused(STATUS_CORRUPT, "remove the file MARK");
    assert_int_equal(truncate(path_of("MARK"), 10), 0);
    assert_refused(STATUS_INVALID, "cut short");
    assert_int_equal(unlink(path_of("MARK")), 0);
    s = open_store();
    assert_memory_equal(s.pepper, pepper, sizeof pepper);
    assert_true(s.epoch > 1ull << 32 && s.next_number > 1ull << 40);
    for (uint64_t epoch = 1; epoch < 5; epoch++) assert_true(store_epoch_given_up(&s, epoch));
    store_close(&s, true);
}

static void a_damaged_mark_is_refused(void **state)
{
    char garbage[8192];
    memset(garbage, 'x', sizeof garbage);
    struct store s = open_store();
    store_close(&s, true);
    replace_file("MARK", garbage, sizeof garbage);
    assert_refused(STATUS_CORRUPT, "low-water mark is damaged");
}

static void a_damaged_or_missing_pepper_is_refused(void **state)
{
    static const char bytes[33];
    struct store s = open_store();
    store_close(&s, true);
    replace_file("pepper", bytes, 31);
    assert_refused(STATUS_CORRUPT, "32 bytes");
    replace_file("pepper", bytes, 33);
    assert_refused(STATUS_CORRUPT, "32 bytes");
    assert_int_equal(unlink(path_of("pepper")), 0);
    assert_refused(STATUS_CORRUPT, "missing");
    assert_int_not_equal(access(path_of("pepper"), F_OK), 0);
}

static void a_pepper_with_a_changed_bit_is_refused_until_it_is_put_back(void **state)
{
    uint8_t pepper[32];
    struct store s = open_store();
    memcpy(pepper, s.pepper, sizeof pepper);
    store_close(&s, true);
    for (int n = 0; n < 2; n++) {
        pepper[17] ^= 4;
        replace_file("pepper", pepper, sizeof pepper);
        assert_refused(STATUS_CORRUPT, "pepper is damaged");
        options.read_only = true;
        assert_refused(STATUS_CORRUPT, "pepper is damaged");
        options.read_only = false;
        pepper[17] ^= 4;
        replace_file("pepper", pepper, sizeof pepper);
        s = open_store();
        store_close(&s, n == 0);
    }
    assert_int_equal(unlink(path_of("pepper")), 0); /* reading alone needs none */
    options.read_only = true;
    assert_int_equal(store_open(&s, &options, random_real(), why, sizeof why), STATUS_OK);
    store_close(&s, true);
}

static void a_store_of_before_the_print_of_its_pepper_gets_one(void **state)
{
    struct key k;
    struct buf value = {0};
    struct store s = open_store();
    key_meta(&k, SLICE("pepper"));
    for (int n = 0; n < 2; n++) {
        assert_int_equal(kv_get(s.kv, KV_META, key_slice(&k), &value), STATUS_OK);
        struct kv_batch *b = kv_batch_new(s.kv);
        s.kv->ops->batch_delete(b, KV_META, key_slice(&k));
        assert_int_equal(kv_write(s.kv, b), STATUS_OK);
        s.kv->ops->batch_free(b);
        store_close(&s, true);
        s = open_store();
    }
    store_close(&s, true);
    buf_free(&value);
}

static void reading_only_takes_no_lock_and_raises_no_epoch(void **state)
{
    struct store s = open_store(), reader;
    put_meta(&s, "number.0", 5);
    options.read_only = true;
    assert_int_equal(store_open(&reader, &options, random_real(), why, sizeof why), STATUS_OK);
    assert_int_equal(reader.epoch, 1);
    assert_int_equal(reader.next_number, 6);
    assert_null(reader.mark);
    store_close(&reader, true);
    store_close(&s, false);
    for (int n = 0; n < 2; n++) {
        assert_int_equal(store_open(&reader, &options, random_real(), why, sizeof why), STATUS_OK);
        assert_int_equal(reader.epoch, 1);
        assert_false(reader.was_clean);
        store_close(&reader, true);
    }
}

static void reading_only_finds_no_store_in_an_empty_place(void **state)
{
    struct store s;
    options.read_only = true;
    assert_int_not_equal(store_open(&s, &options, random_real(), why, sizeof why), STATUS_OK);
    assert_true(*why);
    assert_int_not_equal(access(dir, F_OK), 0);
}

/* --- over fakes --------------------------------------------------------------------------------------------------- */

static void a_crash_while_opening_leaves_a_store_that_opens(void **state)
{
    for (size_t keep = 0; keep <= 1; keep++) {
        struct kv *kv = kv_fake_new();
        struct mark *mark = mark_fake_new();
        struct store s;
        kv_fake_fail(kv, false, true); /* the open state is written, but never synced */
        assert_int_equal(store_open_with(&s, kv, mark, random_real(), why, sizeof why), STATUS_IO);
        assert_null(s.kv);
        kv_fake_fail(kv, false, false);
        kv_fake_crash(kv, keep, false);
        mark_fake_crash(mark, true);
        assert_int_equal(store_open_with(&s, kv, mark, random_real(), why, sizeof why), STATUS_OK);
        /* with the state and no mark nobody knows what else there was: a new history, which is always safe */
        assert_true(keep ? s.epoch > 1ull << 32 : s.epoch == 1);
        store_close(&s, false);
    }
}

static void the_open_state_is_durable_before_the_store_serves(void **state)
{
    struct kv *kv = kv_fake_new();
    struct mark *mark = mark_fake_new();
    kv_fake_hold(kv);
    mark_fake_hold(mark);
    struct store s;
    assert_int_equal(store_open_with(&s, kv, mark, random_real(), why, sizeof why), STATUS_OK);
    store_close(&s, true);
    kv_fake_crash(kv, 0, true); /* a clean close is durable, too */
    mark_fake_crash(mark, true);
    kv_fake_hold(kv);
    mark_fake_hold(mark);
    assert_int_equal(store_open_with(&s, kv, mark, random_real(), why, sizeof why), STATUS_OK);
    assert_true(s.was_clean && s.epoch == 1);
    assert_int_equal(kv_fake_unsynced(kv), 0);
    store_close(&s, false);
    kv_fake_crash(kv, 0, true);
    mark_fake_crash(mark, true);
    assert_int_equal(store_open_with(&s, kv, mark, random_real(), why, sizeof why), STATUS_OK);
    assert_true(!s.was_clean && s.epoch == 2);
    store_close(&s, false);
}

static void a_mark_ahead_of_a_fake_is_refused(void **state)
{
    struct kv *kv = kv_fake_new();
    struct mark *mark = mark_fake_new();
    struct store s;
    assert_int_equal(mark_write(mark, 1), STATUS_OK);
    assert_int_equal(store_open_with(&s, kv, mark, random_real(), why, sizeof why), STATUS_CORRUPT);
    assert_non_null(strstr(why, "acknowledged writes are lost"));
    kv_close(kv);
    mark_close(mark);
}

static void rows_without_a_format_are_refused(void **state)
{
    struct kv *kv = kv_fake_new();
    struct mark *mark = mark_fake_new();
    struct store s = {.kv = kv};
    put_meta(&s, "number.0", 5);
    assert_int_equal(store_open_with(&s, kv, mark, random_real(), why, sizeof why), STATUS_CORRUPT);
    assert_non_null(strstr(why, "format"));
    kv_close(kv);
    mark_close(mark);
}

static void a_new_history_outruns_the_one_it_gave_up(void **state)
{
    struct store s = open_store();
    put_meta(&s, "number.0", 17);
    store_close(&s, false); /* as in a backup: the gateway was running */
    s = open_store();
    assert_int_equal(s.epoch, 2);
    assert_int_equal(store_begin_history(&s, random_real()), STATUS_OK);
    uint64_t epoch = s.epoch, number = s.next_number;
    store_close(&s, true);
    s = open_store();
    assert_int_equal(s.epoch, epoch);
    assert_int_equal(s.next_number, number);
    assert_true(epoch > 1ull << 32 && epoch < 1ull << 53 && number > 1ull << 40);
    assert_false(store_epoch_given_up(&s, 1)); /* the backup's own */
    assert_true(store_epoch_given_up(&s, 2));  /* what the gateway that was backed up may have gone on to */
    assert_true(store_epoch_given_up(&s, epoch - 1));
    assert_false(store_epoch_given_up(&s, epoch));
    assert_false(store_epoch_given_up(&s, epoch + 1));
    uint64_t rows = 0;
    assert_int_equal(store_verify(s.kv, NULL, NULL, &rows), 0);
    store_close(&s, true);
}

static void histories_of_one_backup_do_not_meet(void **state)
{
    uint64_t epochs[8], numbers[8];
    for (unsigned i = 0; i < 8; i++) {
        struct store s;
        assert_int_equal(store_open_with(&s, kv_fake_new(), mark_fake_new(), random_real(), why, sizeof why),
                         STATUS_OK);
        assert_int_equal(store_begin_history(&s, random_real()), STATUS_OK);
        epochs[i] = s.epoch;
        numbers[i] = s.next_number;
        store_close(&s, true);
        for (unsigned j = 0; j < i; j++) {
            uint64_t apart = epochs[i] > epochs[j] ? epochs[i] - epochs[j] : epochs[j] - epochs[i];
            uint64_t numbers_apart = numbers[i] > numbers[j] ? numbers[i] - numbers[j] : numbers[j] - numbers[i];
            assert_true(apart > 1000 && numbers_apart > 1000000); /* once in ten million runs they are nearer */
        }
    }
}

static void an_epoch_beyond_exact_json_is_refused(void **state)
{
    struct store s = open_store();
    put_meta(&s, "epoch", (1ull << 53) - 2);
    store_close(&s, false);
    s = open_store();
    assert_int_equal(store_begin_history(&s, random_real()), STATUS_FULL);
    store_close(&s, true);
}

static void many_restores_are_remembered_as_one_range_at_worst(void **state)
{
    uint64_t epochs[2 * STORE_HISTORIES_MAX + 1];
    struct store s = open_store();
    for (unsigned i = 1; i <= 2 * STORE_HISTORIES_MAX; i++) {
        assert_int_equal(store_begin_history(&s, random_real()), STATUS_OK);
        epochs[i] = s.epoch;
        store_close(&s, true);
        s = open_store();
        assert_int_equal(s.num_histories, i < STORE_HISTORIES_MAX ? i : STORE_HISTORIES_MAX);
        assert_false(store_epoch_given_up(&s, 1));
        for (unsigned j = 1; j <= i; j++) assert_true(store_epoch_given_up(&s, epochs[j] - 1));
        assert_false(store_epoch_given_up(&s, s.epoch));
    }
    assert_false(store_epoch_given_up(&s, s.histories[STORE_HISTORIES_MAX - 1].from));
    store_close(&s, true);
}

static void a_damaged_history_is_refused(void **state)
{
    struct store s = open_store();
    put_meta(&s, "history.00000000000000000007", 7); /* from < to */
    make_durable(&s);
    store_close(&s, true);
    assert_refused(STATUS_CORRUPT, "histories");
}

static void a_mark_cut_short_is_refused_as_often_as_it_is_tried(void **state)
{
    struct store s = open_store();
    store_close(&s, true);
    assert_int_equal(truncate(path_of("MARK"), 10), 0);
    assert_refused(STATUS_INVALID, "cut short");
    assert_refused(STATUS_INVALID, "cut short");
    assert_int_equal(unlink(path_of("MARK")), 0);
    s = open_store();
    assert_true(s.epoch > 1ull << 32);
    store_close(&s, true);
}

static void a_first_start_cut_off_while_making_the_mark_is_no_loss(void **state)
{
    mkdir(dir, 0700);
    replace_file("MARK", "", 0);
    struct store s = open_store();
    assert_int_equal(s.epoch, 1);
    store_close(&s, true);
    s = open_store();
    assert_true(s.was_clean);
    store_close(&s, true);
}

static void tables_without_their_list_are_not_taken_for_a_new_store(void **state)
{
    struct store s = open_store();
    put_meta(&s, "number.0", 17);
    store_close(&s, true);
    s = open_store(); /* what was in the log is now in a table */
    store_close(&s, true);
    assert_int_equal(unlink(path_of("db/CURRENT")), 0);
    assert_refused(STATUS_CORRUPT, "CURRENT is missing");
    options.read_only = true;
    assert_refused(STATUS_CORRUPT, "CURRENT is missing");
}

static void an_older_format_than_is_read_is_refused(void **state)
{
    struct store s = open_store();
    put_meta(&s, "format", STORE_FORMAT_OLDEST - 1);
    make_durable(&s);
    store_close(&s, false);
    assert_refused(STATUS_INVALID, "reads 1 and newer");
}

static void the_holder_of_a_store_is_named(void **state)
{
    char pid[32];
    struct store s = open_store();
    snprintf(pid, sizeof pid, "pid %d;", (int)getpid());
    assert_refused(STATUS_LOCKED, pid);
    store_close(&s, true);
}

static void a_restore_that_was_cut_off_is_refused(void **state)
{
    mkdir(dir, 0700);
    mkdir(path_of("restore.tmp"), 0700);
    assert_refused(STATUS_CORRUPT, "did not come to its end");
    assert_int_equal(access(path_of("db"), F_OK), -1);
}

int main(void)
{
#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        WITH_DIR(a_new_store_begins_in_epoch_one),
        WITH_DIR(the_epoch_rises_only_after_an_unclean_end),
        WITH_DIR(the_pepper_stays_the_same),
        WITH_DIR(numbers_go_on_behind_the_highest_of_any_core),
        WITH_DIR(a_store_in_use_is_locked),
        WITH_DIR(a_newer_format_is_refused_and_left_alone),
        WITH_DIR(a_file_in_the_way_is_refused),
        WITH_DIR(a_file_that_cannot_be_made_is_refused),
        WITH_DIR(a_read_only_file_system_is_refused),
        WITH_DIR(a_full_disk_is_refused),
        WITH_DIR(a_store_that_lost_durable_writes_is_refused),
        WITH_DIR(a_manifest_that_ends_early_is_refused_before_tables_are_removed),
        WITH_DIR(reading_only_refuses_a_store_that_lost_durable_writes),
        WITH_DIR(a_cut_off_log_tail_is_refused),
        WITH_DIR(removing_the_mark_accepts_the_loss_in_a_new_history),
        WITH_DIR(a_store_that_lost_everything_and_its_mark_is_not_a_new_one),
        WITH_DIR(a_damaged_mark_is_refused),
        WITH_DIR(a_damaged_or_missing_pepper_is_refused),
        WITH_DIR(a_pepper_with_a_changed_bit_is_refused_until_it_is_put_back),
        WITH_DIR(a_store_of_before_the_print_of_its_pepper_gets_one),
        WITH_DIR(reading_only_takes_no_lock_and_raises_no_epoch),
        WITH_DIR(reading_only_finds_no_store_in_an_empty_place),
        WITH_DIR(a_new_history_outruns_the_one_it_gave_up),
        WITH_DIR(an_epoch_beyond_exact_json_is_refused),
        WITH_DIR(many_restores_are_remembered_as_one_range_at_worst),
        WITH_DIR(a_damaged_history_is_refused),
        WITH_DIR(a_mark_cut_short_is_refused_as_often_as_it_is_tried),
        WITH_DIR(a_first_start_cut_off_while_making_the_mark_is_no_loss),
        WITH_DIR(tables_without_their_list_are_not_taken_for_a_new_store),
        WITH_DIR(an_older_format_than_is_read_is_refused),
        WITH_DIR(the_holder_of_a_store_is_named),
        WITH_DIR(a_restore_that_was_cut_off_is_refused),
        cmocka_unit_test(histories_of_one_backup_do_not_meet),
        cmocka_unit_test(a_crash_while_opening_leaves_a_store_that_opens),
        cmocka_unit_test(the_open_state_is_durable_before_the_store_serves),
        cmocka_unit_test(a_mark_ahead_of_a_fake_is_refused),
        cmocka_unit_test(rows_without_a_format_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
