#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../src/base/assert.h"
#include "../src/base/limits.h"
#include "../src/base/log.h"
#include "backup_engine.h"
#include "kv_rocksdb.h"

#define PATH_BYTES_MAX 4096
#define PEPPER_LEN 32

static enum status prepare(const struct backup_target *target, int *lock_fd, char *why, size_t why_len);
static enum status make_dir(const char *dir, char *why, size_t why_len);
static enum status take_lock(const char *dir, int *lock_fd, char *why, size_t why_len);
static enum status keep_pepper(const struct backup_target *target, char *why, size_t why_len);
static enum status check_space(const struct backup_target *target, char *why, size_t why_len);
static uint64_t bytes_to_copy(const struct backup_target *target);
static rocksdb_backup_engine_t *open_engine(const struct backup_target *target, char *why, size_t why_len);
static enum status failed(char *error, const char *what, const char *dir, char *why, size_t why_len);

static enum status claim(const struct backup_target *target, char *why, size_t why_len)
{
    int lock_fd = -1;
    enum status s = prepare(target, &lock_fd, why, why_len);
    if (lock_fd >= 0) close(lock_fd);
    return s;
}

static enum status create(struct kv *kv, const struct backup_target *target, char *why, size_t why_len)
{
    rocksdb_t *db = kv_rocksdb_handle(kv);
    if (!db) {
        snprintf(why, why_len, "the store has failed: restart the gateway first");
        return STATUS_READ_ONLY;
    }
    int lock_fd = -1;
    enum status s = prepare(target, &lock_fd, why, why_len);
    if (s == STATUS_OK) s = check_space(target, why, why_len);
    rocksdb_backup_engine_t *engine = s == STATUS_OK ? open_engine(target, why, why_len) : NULL;
    if (s == STATUS_OK && !engine) s = STATUS_IO;
    if (engine) {
        /* Flushed first: what is in tables is copied once for all backups, what is in the log each time. */
        char *error = NULL;
        rocksdb_backup_engine_create_new_backup_flush(engine, db, 1, &error);
        if (error) s = failed(error, "the backup into", target->dir, why, why_len);
        rocksdb_backup_engine_close(engine);
        if (s == STATUS_OK) s = backup_accept(target->dir, target->bytes_per_second, why, why_len);
    }
    if (lock_fd >= 0) close(lock_fd);
    return s;
}

static enum status purge(const struct backup_target *target, unsigned keep, char *why, size_t why_len)
{
    int lock_fd = -1;
    enum status s = prepare(target, &lock_fd, why, why_len);
    if (s != STATUS_OK) return s;
    rocksdb_backup_engine_t *engine = open_engine(target, why, why_len);
    if (engine) {
        char *error = NULL;
        rocksdb_backup_engine_purge_old_backups(engine, keep, &error);
        if (error) s = failed(error, "removing old backups from", target->dir, why, why_len);
        rocksdb_backup_engine_close(engine);
    } else {
        s = STATUS_IO;
    }
    close(lock_fd);
    return s;
}

const struct backup_engine backup_engine_rocksdb = {
    .prepare = claim, .create = create, .purge = purge, .list = backup_list};

/* --- the directory ----------------------------------------------------------------------------------------------- */

static enum status prepare(const struct backup_target *target, int *lock_fd, char *why, size_t why_len)
{
    enum status s = make_dir(target->dir, why, why_len);
    if (s == STATUS_OK) s = take_lock(target->dir, lock_fd, why, why_len);
    if (s == STATUS_OK) s = keep_pepper(target, why, why_len);
    if (s != STATUS_OK && *lock_fd >= 0) {
        close(*lock_fd);
        *lock_fd = -1;
    }
    return s;
}

static enum status make_dir(const char *dir, char *why, size_t why_len)
{
    if (mkdir(dir, 0700) == 0 || errno == EEXIST) return STATUS_OK;
    snprintf(why, why_len, "%s cannot be made: %s; make it before, as the gateway's own (install -d -m 700 -o USER %s)",
             dir, strerror(errno), dir);
    return STATUS_IO;
}

static enum status take_lock(const char *dir, int *lock_fd, char *why, size_t why_len)
{
    char path[PATH_BYTES_MAX];
    if (snprintf(path, sizeof path, "%s/LOCK", dir) >= (int)sizeof path) return STATUS_INVALID;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        snprintf(why, why_len, "%s cannot be opened: %s; the gateway must be able to write there", path,
                 strerror(errno));
        return errno == ENOSPC || errno == EDQUOT ? STATUS_NO_SPACE : STATUS_IO;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *lock_fd = fd;
        return STATUS_OK;
    }
    snprintf(why, why_len, "another process is working on the backups in %s: give each gateway a directory of its own",
             dir);
    close(fd);
    return STATUS_LOCKED;
}

/* The pepper says whose backups these are: two stores in one directory would purge each other's. */
static enum status keep_pepper(const struct backup_target *target, char *why, size_t why_len)
{
    char path[PATH_BYTES_MAX], fresh[PATH_BYTES_MAX], bytes[PEPPER_LEN + 1];
    if (snprintf(path, sizeof path, "%s/pepper", target->dir) >= (int)sizeof path) return STATUS_INVALID;
    if (snprintf(fresh, sizeof fresh, "%s/pepper.new", target->dir) >= (int)sizeof fresh) return STATUS_INVALID;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        close(fd);
        if (n == PEPPER_LEN && memcmp(bytes, target->pepper, PEPPER_LEN) == 0) return STATUS_OK;
        snprintf(why, why_len, "%s is not this store's: the backups there are of another store; choose another "
                               "backup.dir", path);
        return STATUS_DENIED;
    }
    int error = 0;
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        error = errno;
    } else {
        ssize_t n = write(fd, target->pepper, PEPPER_LEN);
        if (n != PEPPER_LEN) error = n < 0 ? errno : ENOSPC;
        else if (fsync(fd) != 0) error = errno;
        close(fd);
    }
    if (!error && rename(fresh, path) != 0) error = errno;
    if (!error) return STATUS_OK;
    snprintf(why, why_len, "%s cannot be written: %s", path, strerror(error));
    return error == ENOSPC || error == EDQUOT ? STATUS_NO_SPACE : STATUS_IO;
}

/* --- space ------------------------------------------------------------------------------------------------------- */

/* A backup that does not fit is not begun: on the store's own disk it would take the last space from the store. */
static enum status check_space(const struct backup_target *target, char *why, size_t why_len)
{
    struct statvfs disk;
    if (statvfs(target->dir, &disk) != 0) {
        snprintf(why, why_len, "the disk of %s cannot be asked for its space: %s", target->dir, strerror(errno));
        return STATUS_IO;
    }
    uint64_t free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize, needed = bytes_to_copy(target);
    if (free_bytes >= needed && free_bytes - needed >= target->reserve_bytes) return STATUS_OK;
    snprintf(why, why_len,
             "the backup may need %" PRIu64 " bytes and %" PRIu64 " are free in %s, of which %" PRIu64
             " are kept free (store.reserve): make room there, or keep fewer backups (backup.keep)",
             needed, free_bytes, target->dir, target->reserve_bytes);
    return STATUS_NO_SPACE;
}

struct file_size {
    uint64_t number, bytes;
};

struct file_sizes {
    struct file_size *rows;
    size_t num, cap;
};

static int file_size_order(const void *a, const void *b)
{
    const struct file_size *x = a, *y = b;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* list_sizes reads a directory's files that begin with a number and end in `suffix`. */
static void list_sizes(struct file_sizes *out, const char *dir, const char *suffix)
{
    DIR *files = opendir(dir);
    for (struct dirent *entry; files && (entry = readdir(files));) {
        char *rest;
        struct stat info;
        size_t len = strlen(entry->d_name), suffix_len = strlen(suffix);
        uint64_t number = strtoull(entry->d_name, &rest, 10);
        if (rest == entry->d_name || len < suffix_len || strcmp(entry->d_name + len - suffix_len, suffix) != 0)
            continue;
        if (fstatat(dirfd(files), entry->d_name, &info, 0) != 0) continue;
        if (out->num == out->cap) {
            out->cap = out->cap ? 2 * out->cap : 256;
            out->rows = realloc(out->rows, out->cap * sizeof *out->rows);
            ASSERT(out->rows);
        }
        out->rows[out->num++] = (struct file_size){number, (uint64_t)info.st_size};
    }
    if (files) closedir(files);
}

/* bytes_to_copy: table files that no backup has yet (the engine names them NUMBER_…_SIZE.sst), the log, which is
 * flushed into new ones and may be copied as well, and what is small. */
static uint64_t bytes_to_copy(const struct backup_target *target)
{
    char path[PATH_BYTES_MAX];
    struct file_sizes have = {0}, tables = {0}, logs = {0};
    uint64_t bytes = STORE_OPEN_BYTES_MIN;
    ASSERT(snprintf(path, sizeof path, "%s/shared_checksum", target->dir) < (int)sizeof path);
    list_sizes(&have, path, ".sst");
    if (have.num) qsort(have.rows, have.num, sizeof *have.rows, file_size_order);
    ASSERT(snprintf(path, sizeof path, "%s/db", target->store_dir) < (int)sizeof path);
    list_sizes(&tables, path, ".sst");
    list_sizes(&logs, path, ".log");
    for (size_t i = 0; i < tables.num; i++)
        if (!have.num || !bsearch(&tables.rows[i], have.rows, have.num, sizeof *have.rows, file_size_order))
            bytes += tables.rows[i].bytes;
    for (size_t i = 0; i < logs.num; i++) bytes += 2 * logs.rows[i].bytes;
    free(have.rows);
    free(tables.rows);
    free(logs.rows);
    return bytes;
}

/* --- the engine -------------------------------------------------------------------------------------------------- */

static rocksdb_backup_engine_t *open_engine(const struct backup_target *target, char *why, size_t why_len)
{
    char *error = NULL;
    rocksdb_env_t *env = rocksdb_create_default_env();
    rocksdb_backup_engine_options_t *options = rocksdb_backup_engine_options_create(target->dir);
    rocksdb_backup_engine_options_set_backup_rate_limit(options, target->bytes_per_second);
    rocksdb_backup_engine_options_set_sync(options, 1);
    rocksdb_backup_engine_options_set_share_table_files(options, 1);
    rocksdb_backup_engine_t *engine = rocksdb_backup_engine_open_opts(options, env, &error);
    rocksdb_backup_engine_options_destroy(options);
    rocksdb_env_destroy(env);
    if (!error) return engine;
    (void)failed(error, "the directory of backups", target->dir, why, why_len);
    return NULL;
}

/* failed tells RocksDB's text, and frees it. */
static enum status failed(char *error, const char *what, const char *dir, char *why, size_t why_len)
{
    enum status s = strstr(error, "No space left on device") ? STATUS_NO_SPACE : STATUS_IO;
    snprintf(why, why_len, "%s %s failed (%s)%s", what, dir, error, s == STATUS_NO_SPACE ? ": make room there" : "");
    rocksdb_free(error);
    return s;
}
