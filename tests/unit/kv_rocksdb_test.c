#define _GNU_SOURCE /* nftw */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <rocksdb/c.h>

#include "../../storage/keys.h"
#include "../../storage/kv_rocksdb.h"
#include "../../storage/store.h"
#include "next_random.h"

static char dir[256], why[512];
static struct store_options options;

static int make_dir(void **state)
{
    snprintf(dir, sizeof dir, "%s/carillon-kv-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    options = (struct store_options){.dir = dir, .cache_bytes = 1 << 20, .write_buffer_bytes = 1 << 20};
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) { return remove(path); }
static int remove_dir(void **state)
{
    umount2(dir, MNT_DETACH); /* left by a test that failed half way */
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct kv *open_kv(void)
{
    struct kv *kv;
    enum status s = kv_rocksdb_open(&kv, &options, why, sizeof why);
    if (s != STATUS_OK) fail_msg("%s", why);
    return kv;
}

static void write_one(struct kv *kv, enum kv_cf cf, struct slice key, struct slice value)
{
    struct kv_batch *b = kv_batch_new(kv);
    kv->ops->batch_put(b, cf, key, value);
    assert_int_equal(kv_write(kv, b), STATUS_OK);
    kv->ops->batch_free(b);
}

static const char *db_path(const char *name)
{
    static char path[700];
    snprintf(path, sizeof path, "%s/db/%s", dir, name);
    return path;
}

/* --- the same script on RocksDB and on the fake ------------------------------------------------------------------- */

/* Keys of few rooms and few seqs, so that writes, deletes and ranges meet. */
static void some_key(struct key *k) { key_log(k, 1 + next_random() % 2, next_random() % 5, next_random() % 40); }

static void some_bound(struct key *k)
{
    switch (next_random() % 4) {
    case 0: k->len = 0; return; /* none */
    case 1: key_tenant(k, (uint32_t)(next_random() % 4)); return;
    case 2: key_room(k, (uint32_t)(next_random() % 4), next_random() % 6); return;
    case 3: some_key(k); return;
    }
}

static void write_some_batch(struct kv *const kv[2])
{
    static const enum kv_cf families[] = {KV_LOG, KV_MEMBERS, KV_META};
    struct kv_batch *b[2] = {kv_batch_new(kv[0]), kv_batch_new(kv[1])};
    unsigned num_ops = (unsigned)(next_random() % 12);
    for (unsigned n = 0; n < num_ops; n++) {
        enum kv_cf cf = families[next_random() % 3];
        struct key k, to;
        char value[64];
        size_t value_len = next_random() % sizeof value;
        for (size_t i = 0; i < value_len; i++) value[i] = (char)next_random();
        unsigned op = (unsigned)(next_random() % 8);
        some_key(&k);
        some_key(&to);
        if (op == 1 && cf == KV_LOG) k.len = next_random() % 4 ? KV_LOG_RANGE_FROM_MAX : 4;
        bool is_range = op == 1 && kv_range_valid(cf, key_slice(&k), key_slice(&to));
        for (int i = 0; i < 2; i++) {
            if (op == 0) kv[i]->ops->batch_delete(b[i], cf, key_slice(&k));
            else if (is_range) kv[i]->ops->batch_delete_range(b[i], cf, key_slice(&k), key_slice(&to));
            else kv[i]->ops->batch_put(b[i], cf, key_slice(&k), slice_of(value, value_len));
        }
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kv_write(kv[i], b[i]), STATUS_OK);
        kv[i]->ops->batch_free(b[i]);
    }
}

static void compare_some_get(struct kv *const kv[2])
{
    struct key k;
    struct buf value[2] = {0};
    some_key(&k);
    enum status s[2];
    for (int i = 0; i < 2; i++) s[i] = kv_get(kv[i], KV_LOG, key_slice(&k), &value[i]);
    assert_int_equal(s[0], s[1]);
    assert_true(slice_eq(buf_slice(&value[0]), buf_slice(&value[1])));
    for (int i = 0; i < 2; i++) buf_free(&value[i]);
}

/* A walk between random bounds, which turns round at random and may go on after writes. */
static void compare_some_walk(struct kv *const kv[2])
{
    struct key lower, upper;
    some_bound(&lower);
    some_bound(&upper);
    struct kv_iter *it[2];
    for (int i = 0; i < 2; i++) it[i] = kv_iter_open(kv[i], KV_LOG, key_slice(&lower), key_slice(&upper));
    bool on[2], from_first = next_random() % 2;
    for (int i = 0; i < 2; i++) on[i] = from_first ? kv_iter_first(kv[i], it[i]) : kv_iter_last(kv[i], it[i]);
    for (int steps = 0;; steps++) {
        assert_int_equal(on[0], on[1]);
        if (!on[0] || steps > 500) break;
        assert_true(slice_eq(kv_iter_key(kv[0], it[0]), kv_iter_key(kv[1], it[1])));
        assert_true(slice_eq(kv_iter_value(kv[0], it[0]), kv_iter_value(kv[1], it[1])));
        if (next_random() % 20 == 0) write_some_batch(kv);
        bool turn = next_random() % 8 == 0;
        for (int i = 0; i < 2; i++)
            on[i] = from_first != turn ? kv_iter_next(kv[i], it[i]) : kv_iter_prev(kv[i], it[i]);
    }
    for (int i = 0; i < 2; i++) assert_int_equal(kv_iter_close(kv[i], it[i]), STATUS_OK);
}

static void a_random_script_gives_the_same_on_rocksdb_and_on_the_fake(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        random_state = seed * 0x9e3779b97f4a7c15ULL;
        print_message("seed %llu\n", (unsigned long long)seed);
        struct kv *kv[2] = {open_kv(), kv_fake_new()};
        for (int n = 0; n < 600; n++) {
            write_some_batch(kv);
            compare_some_get(kv);
            if (n % 5 == 0) compare_some_walk(kv);
            assert_int_equal(kv_sequence(kv[0]), kv_sequence(kv[1]));
            if (n % 50 == 0)
                for (int i = 0; i < 2; i++) assert_int_equal(kv_sync(kv[i]), STATUS_OK);
            if (n % 150 == 149) { /* what was in memtables comes back from table files */
                kv_close(kv[0]);
                kv[0] = open_kv();
            }
        }
        kv_close(kv[0]);
        kv_close(kv[1]);
        assert_int_equal(remove_dir(NULL), 0);
        assert_int_equal(mkdir(dir, 0700), 0);
    }
}

/* --- RocksDB alone ------------------------------------------------------------------------------------------------ */

static void rows_and_sequence_survive_a_reopening(void **state)
{
    struct kv *kv = open_kv();
    assert_int_equal(kv_sequence(kv), 0);
    for (unsigned cf = 0; cf < KV_CFS; cf++) write_one(kv, cf, SLICE("key"), slice_str(kv_cf_name(cf)));
    assert_int_equal(kv_sync(kv), STATUS_OK);
    assert_int_equal(kv_sequence(kv), KV_CFS);
    kv_close(kv);
    kv = open_kv();
    assert_true(kv_sequence(kv) >= KV_CFS);
    struct buf value = {0};
    for (unsigned cf = 0; cf < KV_CFS; cf++) {
        assert_int_equal(kv_get(kv, cf, SLICE("key"), &value), STATUS_OK);
        assert_true(slice_is(buf_slice(&value), kv_cf_name(cf)));
    }
    buf_free(&value);
    kv_close(kv);
}

static void walks_see_every_prefix_in_table_files(void **state)
{
    struct kv *kv = open_kv();
    char value[200] = {0};
    struct kv_batch *b = kv_batch_new(kv);
    for (uint64_t seq = 1; seq <= 30; seq++) {
        for (uint64_t room = 1; room <= 300; room++) {
            struct key k;
            key_log(&k, 1, room, seq);
            kv->ops->batch_put(b, KV_LOG, key_slice(&k), slice_of(value, sizeof value));
        }
        assert_int_equal(kv_write(kv, b), STATUS_OK);
        kv->ops->batch_clear(b);
    }
    kv->ops->batch_free(b);
    kv_close(kv);
    kv = open_kv(); /* the recovery writes the memtables out */
    assert_true(kv_rocksdb_property(kv, "rocksdb.total-sst-files-size") > 0);
    struct slice none = {NULL, 0};
    struct kv_iter *i = kv_iter_open(kv, KV_LOG, none, none);
    unsigned rows = 0;
    for (bool on = kv_iter_first(kv, i); on; on = kv_iter_next(kv, i)) rows++;
    assert_int_equal(kv_iter_close(kv, i), STATUS_OK);
    assert_int_equal(rows, 30 * 300);
    for (uint64_t room = 1; room <= 300; room += 7) { /* each room's head from behind */
        struct key prefix, end, head;
        key_room(&prefix, 1, room);
        key_prefix_end(&end, key_slice(&prefix));
        key_log(&head, 1, room, 30);
        i = kv_iter_open(kv, KV_LOG, key_slice(&prefix), key_slice(&end));
        assert_true(kv_iter_last(kv, i));
        assert_true(slice_eq(kv_iter_key(kv, i), key_slice(&head)));
        assert_int_equal(kv_iter_close(kv, i), STATUS_OK);
    }
    kv_close(kv);
}

static void a_second_opener_is_told_that_it_is_locked(void **state)
{
    struct kv *first = open_kv(), *second;
    assert_int_equal(kv_rocksdb_open(&second, &options, why, sizeof why), STATUS_LOCKED);
    assert_null(second);
    assert_non_null(strstr(why, "another process"));
    kv_close(first);
}

static void unknown_families_are_of_a_newer_version(void **state)
{
    struct kv *kv;
    kv_close(open_kv());
    rocksdb_options_t *o = rocksdb_options_create();
    const char *names[KV_CFS + 1];
    const rocksdb_options_t *family_options[KV_CFS + 1];
    rocksdb_column_family_handle_t *handles[KV_CFS + 1], *fresh;
    for (unsigned i = 0; i <= KV_CFS; i++) {
        names[i] = i < KV_CFS ? kv_cf_name(i) : "default";
        family_options[i] = o;
    }
    char *error = NULL;
    rocksdb_t *db = rocksdb_open_column_families(o, db_path(""), KV_CFS + 1, names, family_options, handles, &error);
    assert_null(error);
    fresh = rocksdb_create_column_family(db, o, "holograms", &error);
    assert_null(error);
    rocksdb_column_family_handle_destroy(fresh);
    for (unsigned i = 0; i <= KV_CFS; i++) rocksdb_column_family_handle_destroy(handles[i]);
    rocksdb_close(db);
    rocksdb_options_destroy(o);
    assert_int_equal(kv_rocksdb_open(&kv, &options, why, sizeof why), STATUS_NEWER);
    assert_non_null(strstr(why, "holograms"));
}

static char listing[8192];

static int list_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    size_t len = strlen(listing);
    snprintf(listing + len, sizeof listing - len, "%s %lld %lld\n", path, (long long)st->st_size,
             (long long)st->st_mtim.tv_nsec);
    return 0;
}

static void reading_only_sees_the_rows_and_changes_no_file(void **state)
{
    struct kv *kv = open_kv();
    write_one(kv, KV_META, SLICE("a"), SLICE("1"));
    kv_close(kv);
    *listing = '\0';
    assert_int_equal(nftw(dir, list_one, 16, FTW_PHYS), 0);
    char before[sizeof listing];
    strcpy(before, listing);

    options.read_only = true;
    kv = open_kv();
    struct buf value = {0};
    assert_int_equal(kv_get(kv, KV_META, SLICE("a"), &value), STATUS_OK);
    assert_true(slice_is(buf_slice(&value), "1"));
    struct kv_batch *b = kv_batch_new(kv);
    kv->ops->batch_put(b, KV_META, SLICE("b"), SLICE("2"));
    assert_int_not_equal(kv_write(kv, b), STATUS_OK);
    kv->ops->batch_free(b);
    buf_free(&value);
    kv_close(kv);
    *listing = '\0';
    assert_int_equal(nftw(dir, list_one, 16, FTW_PHYS), 0);
    assert_string_equal(listing, before);
}

static void reading_only_does_not_create_a_store(void **state)
{
    struct kv *kv;
    options.read_only = true;
    assert_int_not_equal(kv_rocksdb_open(&kv, &options, why, sizeof why), STATUS_OK);
    assert_null(kv);
    assert_int_not_equal(access(db_path("CURRENT"), F_OK), 0);
}

static void overwrite(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "garbage.garbage.garbage.", 24, at), 24);
    close(fd);
}

static void damaged_files_are_corrupt(void **state)
{
    struct kv *kv;
    kv_close(open_kv());
    DIR *d = opendir(db_path(""));
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, "MANIFEST-", 9) == 0) overwrite(db_path(e->d_name), 0);
    closedir(d);
    assert_int_equal(kv_rocksdb_open(&kv, &options, why, sizeof why), STATUS_CORRUPT);
    assert_non_null(strstr(why, "backup"));
}

static void a_damaged_block_fails_the_read_instead_of_lying(void **state)
{
    struct kv *kv = open_kv();
    for (char c = 'a'; c < 'z'; c++) write_one(kv, KV_META, slice_of(&c, 1), SLICE("some value of a row"));
    kv_close(kv);
    kv_close(open_kv()); /* now in a table file */
    DIR *d = opendir(db_path(""));
    unsigned tables = 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len < 4 || strcmp(e->d_name + len - 4, ".sst") != 0) continue;
        overwrite(db_path(e->d_name), 100);
        tables++;
    }
    closedir(d);
    assert_int_equal(tables, 1);
    kv = open_kv();
    struct slice none = {NULL, 0};
    struct kv_iter *i = kv_iter_open(kv, KV_META, none, none);
    assert_false(kv_iter_first(kv, i));
    assert_int_equal(kv_iter_close(kv, i), STATUS_CORRUPT);
    struct buf value = {0};
    assert_int_equal(kv_get(kv, KV_META, SLICE("k"), &value), STATUS_CORRUPT);
    buf_free(&value);
    kv_close(kv);
}

static void the_info_log_lies_outside_the_database(void **state)
{
    char path[400];
    kv_close(open_kv());
    assert_int_not_equal(access(db_path("LOG"), F_OK), 0);
    snprintf(path, sizeof path, "%s/rocksdb-log", dir);
    DIR *d = opendir(path);
    assert_non_null(d);
    unsigned logs = 0;
    for (struct dirent *e; (e = readdir(d));) logs += strstr(e->d_name, "LOG") != NULL;
    closedir(d);
    assert_int_equal(logs, 1);
}

static void the_durability_settings_are_the_ones_that_were_proved(void **state)
{
    static const char *const wanted[] = {
        "manual_wal_flush=false", "track_and_verify_wals_in_manifest=false", "recycle_log_file_num=0",
        "atomic_flush=false",     "wal_recovery_mode=kPointInTimeRecovery",  "allow_concurrent_memtable_write=false",
        "max_open_files=512",     "info_log_level=FATAL_LEVEL",
    };
    kv_close(open_kv());
    DIR *d = opendir(db_path(""));
    char newest[300] = "";
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, "OPTIONS-", 8) == 0 && strcmp(e->d_name, newest) > 0)
            snprintf(newest, sizeof newest, "%s", e->d_name);
    closedir(d);
    static char text[1 << 18];
    FILE *f = fopen(db_path(newest), "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strstr(text, wanted[i])) fail_msg("no %s", wanted[i]);
    const char *log = strstr(text, "[CFOptions \"log\"]");
    const char *hint = log ? strstr(log, "memtable_insert_with_hint_prefix_extractor=") : NULL;
    assert_non_null(hint);
    assert_non_null(strstr(hint, "rocksdb.FixedPrefix.13"));
    assert_true(strstr(hint, "rocksdb.FixedPrefix.13") < strchr(hint, '\n'));
}

static void properties_are_summed_over_families(void **state)
{
    struct kv *kv = open_kv();
    write_one(kv, KV_META, SLICE("a"), SLICE("1"));
    write_one(kv, KV_LOG, SLICE("a"), SLICE("1"));
    write_one(kv, KV_LOG, SLICE("b"), SLICE("1"));
    assert_int_equal(kv_rocksdb_property(kv, "rocksdb.estimate-num-keys"), 3);
    assert_int_equal(kv_rocksdb_property(kv, "rocksdb.is-write-stopped"), 0);
    assert_int_equal(kv_rocksdb_property(kv, "rocksdb.block-cache-capacity"), options.cache_bytes);
    assert_int_equal(kv_rocksdb_property(kv, "rocksdb.no-such-property"), 0);
    kv_close(kv);
}

/* Writes until the small disk is full: the error comes back as one, nothing is tried again, and what was synced is
 * there when there is room again. */
static void a_full_disk_fails_the_write_and_keeps_what_was_synced(void **state)
{
    if (mount("none", dir, "tmpfs", 0, "size=24m") != 0) skip(); /* needs the right to mount */
    struct kv *kv = open_kv();
    static char value[10000];
    struct kv_batch *b = kv_batch_new(kv);
    enum status s = STATUS_OK;
    uint64_t seq = 0, synced = 0;
    while (s == STATUS_OK && seq < 10000) {
        struct key k;
        key_log(&k, 1, 1, ++seq);
        for (size_t i = 0; i < sizeof value; i++) value[i] = (char)(seq * 31 + i * i); /* hard to compress */
        kv->ops->batch_clear(b);
        kv->ops->batch_put(b, KV_LOG, key_slice(&k), slice_of(value, sizeof value));
        s = kv_write(kv, b);
        if (s != STATUS_OK || seq % 10 != 0) continue;
        s = kv_sync(kv);
        if (s == STATUS_OK) synced = seq;
    }
    assert_true(s == STATUS_NO_SPACE || s == STATUS_READ_ONLY); /* a flush may have met the end of the disk before */
    assert_true(synced > 0);
    assert_int_equal(kv_sync(kv), STATUS_READ_ONLY);
    assert_int_equal(kv_write(kv, b), STATUS_READ_ONLY);
    kv->ops->batch_free(b);
    kv_close(kv);
    assert_int_equal(mount("none", dir, "tmpfs", MS_REMOUNT, "size=64m"), 0);
    kv = open_kv();
    struct buf row = {0};
    for (uint64_t at = 1; at <= synced; at++) {
        struct key k;
        key_log(&k, 1, 1, at);
        assert_int_equal(kv_get(kv, KV_LOG, key_slice(&k), &row), STATUS_OK);
    }
    buf_free(&row);
    kv_close(kv);
    assert_int_equal(umount(dir), 0);
}

/* --- a MANIFEST that cannot be written or synced ------------------------------------------------------------------ */

/* RocksDB calls these instead of libc's. While one of them is armed, the next such call of a MANIFEST fails, once. */
static _Atomic bool write_fails, sync_fails, sync_failed;
static _Atomic off_t synced_bytes; /* of the MANIFEST */

static bool is_manifest(int fd)
{
    char link[64], path[700] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof path - 1) > 0 && strstr(path, "/MANIFEST-");
}

static void wait_for(_Atomic bool *event)
{
    for (unsigned i = 0; i < 2000 && !atomic_load(event); i++) usleep(1000);
}

/* The log that is written, and whether another was begun while its end was not synced. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_path[700];
static bool log_unsynced, log_left_unsynced;
static bool log_left_unnamed;        /* another was begun while a power loss could take the name of the one before */
static unsigned long logs_named;     /* the last log that was there when the directory was last synced */
static unsigned logs_begun;
static _Atomic pthread_t log_writer; /* the thread that writes rows: RocksDB's own sync directories meanwhile … */
static unsigned writer_names_synced; /* … and how often it synced their directory */
static _Atomic bool slow_turns;      /* a log's first bytes take as long as a flush, and its closing even longer */
static _Atomic unsigned slow_closes;

/* Two threads sync the log that ends, and the kernel tells one of them of an error: the one that writes, or the other.
 */
enum told { TOLD_NOBODY, TOLD_WRITER, TOLD_OTHER };
static _Atomic enum told told;
static _Atomic bool beside, at_end;      /* the other one syncs, and the one that writes does */
static _Atomic bool turn_failed;
static _Thread_local bool synced_behind; /* this thread has synced that log, and heard that all is well */
static _Atomic bool begun_behind;        /* the next log has got rows, or the MANIFEST has */
static char turned_log[700];
static _Atomic bool log_write_fails;     /* the next one, once */

static bool log_of(int fd, char path[700])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, 699);
    if (n < 0) return false;
    path[n] = '\0';
    return n > 4 && strcmp(path + n - 4, ".log") == 0 && strstr(path, "/db/");
}

static unsigned long log_number(const char *path) { return strtoul(strrchr(path, '/') + 1, NULL, 10); }

static unsigned long last_log(int dir_fd)
{
    char link[64];
    unsigned long last = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir_fd);
    DIR *d = opendir(link);
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        unsigned long number = len > 4 && strcmp(e->d_name + len - 4, ".log") == 0 ? strtoul(e->d_name, NULL, 10) : 0;
        if (number > last) last = number;
    }
    if (d) closedir(d);
    return last;
}

static void note_log(int fd, bool is_sync)
{
    char path[700];
    if (!log_of(fd, path)) return;
    pthread_mutex_lock(&log_lock);
    bool same = strcmp(path, log_path) == 0;
    if (is_sync && same) log_unsynced = false;
    if (!is_sync && !same) {
        log_left_unsynced |= log_unsynced;
        log_left_unnamed |= logs_begun && log_number(log_path) > logs_named;
        logs_begun++;
        snprintf(log_path, sizeof log_path, "%s", path);
    }
    if (!is_sync) log_unsynced = true;
    pthread_mutex_unlock(&log_lock);
}

static bool is_turned(const char *path)
{
    pthread_mutex_lock(&log_lock);
    if (!atomic_load(&turn_failed)) snprintf(turned_log, sizeof turned_log, "%s", path);
    bool turned = strcmp(path, turned_log) == 0;
    pthread_mutex_unlock(&log_lock);
    return turned;
}

/* fails_turn: the kernel tells of an error once, and whoever syncs the log meanwhile or later hears nothing of it. The
 * other thread's sync goes on until the log ends, and who is told is slow to come back. */
static bool fails_turn(int fd)
{
    char path[700];
    enum told who = atomic_load(&told);
    if (who == TOLD_NOBODY || !log_of(fd, path) || !is_turned(path)) return false;
    bool writes = pthread_equal(pthread_self(), log_writer);
    if (!atomic_load(&turn_failed)) atomic_store(writes ? &at_end : &beside, true);
    if (!writes) wait_for(&at_end);
    if ((who == TOLD_WRITER) == writes && !atomic_load(&turn_failed)) {
        atomic_store(&turn_failed, true);
        usleep(200 * 1000);
        return true;
    }
    wait_for(&turn_failed);
    synced_behind = true;
    return false;
}

int fsync(int fd)
{
    struct stat st;
    bool is_dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    unsigned long last = is_dir ? last_log(fd) : 0;
    int result = (int)syscall(SYS_fsync, fd);
    pthread_mutex_lock(&log_lock);
    if (result == 0 && last > logs_named) logs_named = last;
    writer_names_synced += is_dir && pthread_equal(pthread_self(), log_writer);
    pthread_mutex_unlock(&log_lock);
    return result;
}

/* Half of it arrives, as at the end of a disk. */
ssize_t write(int fd, const void *bytes, size_t len)
{
    static _Atomic bool half_written;
    if (atomic_load(&write_fails) && is_manifest(fd)) {
        if (!atomic_exchange(&half_written, true)) return syscall(SYS_write, fd, bytes, len / 2);
        atomic_store(&half_written, false);
        atomic_store(&write_fails, false);
        errno = ENOSPC;
        return -1;
    }
    char path[700];
    bool is_log = log_of(fd, path);
    if (is_log && atomic_exchange(&log_write_fails, false)) {
        errno = EIO;
        return -1;
    }
    note_log(fd, false);
    bool begun = is_log ? strcmp(path, turned_log) != 0 : is_manifest(fd);
    if (atomic_load(&turn_failed) && begun) atomic_store(&begun_behind, true);
    return syscall(SYS_write, fd, bytes, len);
}

int fdatasync(int fd)
{
    if (atomic_load(&sync_fails) && is_manifest(fd)) {
        atomic_store(&sync_fails, false);
        atomic_store(&sync_failed, true);
        errno = EIO;
        return -1;
    }
    if (fails_turn(fd)) {
        errno = EIO;
        return -1;
    }
    struct stat st;
    note_log(fd, true);
    if (is_manifest(fd) && !atomic_load(&sync_failed) && fstat(fd, &st) == 0) atomic_store(&synced_bytes, st.st_size);
    return (int)syscall(SYS_fdatasync, fd);
}

/* RocksDB reserves a log's blocks right before its first bytes, and the flush of what the log before holds is under
 * way. */
int fallocate(int fd, int mode, off_t offset, off_t len)
{
    char path[700];
    if (atomic_load(&slow_turns) && log_of(fd, path)) usleep(200 * 1000);
    return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

int close(int fd)
{
    char path[700];
    bool slow = atomic_load(&slow_turns) && log_of(fd, path);
    int result = (int)syscall(SYS_close, fd);
    if (slow) {
        atomic_fetch_add(&slow_closes, 1);
        usleep(400 * 1000);
    }
    return result;
}

static enum status write_long_row(struct kv *kv, uint64_t seq)
{
    static char value[2000];
    struct kv_batch *b = kv_batch_new(kv);
    struct key k;
    key_log(&k, 1, 1, seq);
    for (size_t i = 0; i < sizeof value; i++) value[i] = (char)(seq * 31 + i * i);
    kv->ops->batch_put(b, KV_LOG, key_slice(&k), slice_of(value, sizeof value));
    enum status s = kv_write(kv, b);
    kv->ops->batch_free(b);
    return s;
}

/* write_until_refused returns how many rows were written: at most 20 MB, which is many flushes. */
static uint64_t write_until_refused(struct kv *kv, uint64_t seq)
{
    for (uint64_t end = seq + 10000; seq < end; seq++)
        if (write_long_row(kv, seq) != STATUS_OK) break;
    return seq;
}

static off_t length_of(uint64_t manifest)
{
    char name[64];
    struct stat st;
    snprintf(name, sizeof name, "MANIFEST-%06llu", (unsigned long long)manifest);
    return stat(db_path(name), &st) == 0 ? st.st_size : -1;
}

static unsigned count_manifests(void)
{
    unsigned count = 0;
    DIR *d = opendir(db_path(""));
    for (struct dirent *e; (e = readdir(d));) count += strncmp(e->d_name, "MANIFEST-", 9) == 0;
    closedir(d);
    return count;
}

static void a_manifest_that_fails_is_the_last_one(_Atomic bool *failing)
{
    options.write_buffer_bytes = 256 << 10;
    struct kv *kv = open_kv();
    struct kv_manifest before = kv_manifest(kv);
    assert_int_equal(before.bytes, length_of(before.number));
    atomic_store(failing, true);
    uint64_t seq = write_until_refused(kv, 1);
    assert_false(atomic_load(failing));
    assert_true(seq < 10000);
    assert_int_equal(kv_manifest(kv).number, 0);
    assert_int_equal(kv_sync(kv), STATUS_READ_ONLY);
    usleep(1500 * 1000); /* RocksDB tries again each second (bgerror_resume_retry_interval) */
    assert_int_equal(count_manifests(), 1);
    kv_close(kv);
    assert_true(length_of(before.number) >= (off_t)before.bytes);
    kv = open_kv();
    assert_true(kv_manifest(kv).number > before.number);
    assert_true(kv_sequence(kv) + 1 >= seq);
    kv_close(kv);
}

static void after_a_manifest_that_the_disk_had_no_room_for_none_is_begun(void **state)
{
    a_manifest_that_fails_is_the_last_one(&write_fails);
}

static void after_a_manifest_that_failed_to_sync_none_is_begun(void **state)
{
    a_manifest_that_fails_is_the_last_one(&sync_fails);
}

/* What a failed sync covered is lost, though a later sync of the same file succeeds: the mark must not vouch for it. */
static void the_mark_knows_nothing_of_an_edit_whose_sync_failed(void **state)
{
    options.write_buffer_bytes = 256 << 10;
    struct kv *kv = open_kv();
    struct mark *mark;
    struct manifest_print print;
    uint64_t sequence;
    char path[300];
    atomic_store(&sync_failed, false);
    assert_int_equal(mark_open_file(&mark, dir, kv), STATUS_OK);
    assert_int_equal(mark_write(mark, 1), STATUS_OK);
    uint64_t seq = 1;
    for (unsigned i = 0; i < 3; i++) { /* the print grows with the MANIFEST */
        for (uint64_t before = kv_manifest(kv).bytes; kv_manifest(kv).bytes == before;) {
            struct key k;
            key_log(&k, 1, 2, seq++);
            write_one(kv, KV_LOG, key_slice(&k), slice_of(why, sizeof why));
        }
        assert_int_equal(mark_sync(mark), STATUS_OK);
    }
    atomic_store(&sync_fails, true);
    write_until_refused(kv, seq);
    assert_true(atomic_load(&sync_failed));
    assert_int_equal(mark_sync(mark), STATUS_OK);
    mark_close(mark);
    kv_close(kv);
    assert_int_equal(mark_look_file(&sequence, &print, dir), STATUS_OK);
    snprintf(path, sizeof path, "MANIFEST-%06llu", (unsigned long long)print.number);
    assert_true(length_of(print.number) > synced_bytes);
    assert_int_equal(truncate(db_path(path), synced_bytes), 0);
    if (manifest_check(&print, dir, why, sizeof why) != STATUS_OK) fail_msg("%s", why);
}

/* A power loss may keep what was written later and lose what was written before: not across two logs. */
static void no_log_is_begun_before_the_one_before_it_is_on_disk(void **state)
{
    options.write_buffer_bytes = 256 << 10;
    logs_named = 0;
    struct kv *kv = open_kv();
    log_unsynced = log_left_unsynced = log_left_unnamed = false;
    logs_begun = 0;
    log_writer = pthread_self();
    write_until_refused(kv, 1);
    kv_close(kv);
    assert_true(logs_begun > 3);
    assert_false(log_left_unsynced);
    assert_false(log_left_unnamed); /* nor may the whole of it be lost with its name */
}

/* All writes wait while a log is begun: names that a sync has put on disk are not synced again. */
static void a_log_that_is_begun_syncs_no_names_that_are_on_disk(void **state)
{
    options.write_buffer_bytes = 256 << 10;
    logs_named = 0;
    struct kv *kv = open_kv();
    logs_begun = writer_names_synced = 0;
    log_left_unnamed = false;
    for (uint64_t seq = 1; seq <= 10000 && logs_begun <= 3; seq++) {
        log_writer = pthread_self();
        assert_int_equal(write_long_row(kv, seq), STATUS_OK);
        log_writer = 0; /* a sync's own are right */
        assert_int_equal(kv_sync(kv), STATUS_OK);
    }
    kv_close(kv);
    assert_true(logs_begun > 3);
    assert_int_equal(writer_names_synced, 0);
    assert_false(log_left_unnamed);
}

/* A flush may end while the next log is begun, and RocksDB closes the log before, which nobody needs any more. */
static void a_log_that_is_being_closed_is_not_synced(void **state)
{
    options.write_buffer_bytes = 256 << 10;
    struct kv *kv = open_kv();
    atomic_store(&slow_closes, 0);
    atomic_store(&slow_turns, true);
    for (uint64_t seq = 1; seq <= 10000 && slow_closes < 3; seq++)
        assert_int_equal(write_long_row(kv, seq), STATUS_OK);
    atomic_store(&slow_turns, false);
    assert_true(slow_closes >= 3);
    assert_int_equal(kv_sync(kv), STATUS_OK);
    kv_close(kv);
}

/* sync_beside returns whether a sync was refused before one succeeded that came behind the failure. */
static void *sync_beside(void *context)
{
    while (true) {
        synced_behind = false;
        enum status s = kv_sync(context);
        if (s != STATUS_OK) return (void *)true;
        if (synced_behind) return (void *)false;
    }
}

static void a_log_ends_with_two_syncs_one_of_which_fails(enum told who)
{
    options.write_buffer_bytes = 256 << 10;
    struct kv *kv = open_kv();
    assert_int_equal(write_long_row(kv, 1), STATUS_OK);
    assert_int_equal(kv_sync(kv), STATUS_OK); /* of the log's name, too, which takes turns with the log's end */
    log_writer = pthread_self();
    beside = at_end = turn_failed = begun_behind = false;
    told = who;
    pthread_t syncer;
    assert_int_equal(pthread_create(&syncer, NULL, sync_beside, kv), 0);
    wait_for(&beside);
    assert_true(write_until_refused(kv, 2) < 10000);
    void *refused = NULL;
    pthread_join(syncer, &refused);
    assert_true(turn_failed && at_end && beside);
    told = TOLD_NOBODY;
    turn_failed = false;
    assert_true(refused);
    assert_false(begun_behind);
    kv_close(kv);
}

static void a_sync_beside_one_that_failed_is_no_success(void **state)
{
    a_log_ends_with_two_syncs_one_of_which_fails(TOLD_WRITER);
}

static void no_log_is_begun_beside_a_sync_of_the_one_before_it_that_fails(void **state)
{
    a_log_ends_with_two_syncs_one_of_which_fails(TOLD_OTHER);
}

/* It would repair itself, or abort when another thread meets the file. What it does then is in memory alone. */
static void rocksdb_is_not_told_of_a_log_that_failed_and_changes_nothing_more(void **state)
{
    struct kv *kv = open_kv();
    rocksdb_t *db = kv_rocksdb_handle(kv);
    struct kv_manifest before = kv_manifest(kv);
    assert_int_equal(write_long_row(kv, 1), STATUS_OK);
    atomic_store(&log_write_fails, true);
    assert_int_equal(write_long_row(kv, 2), STATUS_IO);
    assert_false(log_write_fails);
    assert_int_equal(write_long_row(kv, 3), STATUS_READ_ONLY);
    assert_int_equal(kv_sync(kv), STATUS_READ_ONLY);

    char *error = NULL;
    rocksdb_writeoptions_t *writing = rocksdb_writeoptions_create();
    rocksdb_put(db, writing, "a", 1, "b", 1, &error);
    rocksdb_writeoptions_destroy(writing);
    assert_null(error);
    rocksdb_flush_wal(db, 1, &error);
    assert_null(error);
    rocksdb_flushoptions_t *flushing = rocksdb_flushoptions_create();
    rocksdb_flush(db, flushing, &error);
    rocksdb_flushoptions_destroy(flushing);
    assert_non_null(error);
    rocksdb_free(error);
    assert_int_equal(length_of(before.number), before.bytes);
    kv_close(kv);
    kv = open_kv();
    assert_int_equal(kv_sequence(kv), 1);
    kv_close(kv);
}

static void what_is_synced_of_the_manifest_is_whole_edits(void **state)
{
    options.write_buffer_bytes = 256 << 10;
    struct kv *kv = open_kv();
    struct kv_manifest first = kv_manifest(kv);
    write_until_refused(kv, 1);
    struct kv_manifest later = kv_manifest(kv);
    assert_int_equal(later.number, first.number);
    assert_true(later.bytes > first.bytes);
    assert_true((off_t)later.bytes <= length_of(later.number));
    kv_close(kv);
    assert_true((off_t)later.bytes <= length_of(later.number));
}

static _Atomic int syncing;

static void *sync_until_told(void *context)
{
    while (atomic_load(&syncing)) assert_int_equal(kv_sync(context), STATUS_OK);
    return NULL;
}

static void syncs_run_beside_writes(void **state)
{
    options.write_buffer_bytes = 256 << 10; /* many WAL files come and go under the syncs */
    struct kv *kv = open_kv();
    pthread_t syncer;
    atomic_store(&syncing, 1);
    assert_int_equal(pthread_create(&syncer, NULL, sync_until_told, kv), 0);
    char value[400] = {0};
    for (uint64_t seq = 1; seq <= 5000; seq++) {
        struct key k;
        key_log(&k, 1, seq % 7, seq);
        write_one(kv, KV_LOG, key_slice(&k), slice_of(value, sizeof value));
    }
    atomic_store(&syncing, 0);
    pthread_join(syncer, NULL);
    assert_int_equal(kv_sync(kv), STATUS_OK);
    kv_close(kv);
    kv = open_kv();
    assert_true(kv_sequence(kv) >= 5000);
    kv_close(kv);
}

int main(void)
{
#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        WITH_DIR(a_random_script_gives_the_same_on_rocksdb_and_on_the_fake),
        WITH_DIR(rows_and_sequence_survive_a_reopening),
        WITH_DIR(walks_see_every_prefix_in_table_files),
        WITH_DIR(a_second_opener_is_told_that_it_is_locked),
        WITH_DIR(unknown_families_are_of_a_newer_version),
        WITH_DIR(reading_only_sees_the_rows_and_changes_no_file),
        WITH_DIR(reading_only_does_not_create_a_store),
        WITH_DIR(damaged_files_are_corrupt),
        WITH_DIR(a_damaged_block_fails_the_read_instead_of_lying),
        WITH_DIR(the_info_log_lies_outside_the_database),
        WITH_DIR(the_durability_settings_are_the_ones_that_were_proved),
        WITH_DIR(properties_are_summed_over_families),
        WITH_DIR(a_full_disk_fails_the_write_and_keeps_what_was_synced),
        WITH_DIR(after_a_manifest_that_the_disk_had_no_room_for_none_is_begun),
        WITH_DIR(after_a_manifest_that_failed_to_sync_none_is_begun),
        WITH_DIR(the_mark_knows_nothing_of_an_edit_whose_sync_failed),
        WITH_DIR(no_log_is_begun_before_the_one_before_it_is_on_disk),
        WITH_DIR(a_log_that_is_begun_syncs_no_names_that_are_on_disk),
        WITH_DIR(a_log_that_is_being_closed_is_not_synced),
        WITH_DIR(a_sync_beside_one_that_failed_is_no_success),
        WITH_DIR(no_log_is_begun_beside_a_sync_of_the_one_before_it_that_fails),
        WITH_DIR(rocksdb_is_not_told_of_a_log_that_failed_and_changes_nothing_more),
        WITH_DIR(what_is_synced_of_the_manifest_is_whole_edits),
        WITH_DIR(syncs_run_beside_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
