#define _GNU_SOURCE
#include "power.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../src/base/assert.h"

/* noted: a write that no sync has covered yet, as what it takes to undo it. With len 0: a truncation to `offset`. */
struct noted {
    ino_t inode;
    off_t offset, size_before;
    size_t len;
    char *before; /* what it went over, or cut off; NULL: it was behind the end */
};

static struct power {
    pthread_mutex_t lock; /* over everything here, and held while a watched file changes */
    char dir[PATH_MAX];
    struct noted *noted;
    size_t num, cap;
    enum power_failure fails;
    char suffix[16];
    pthread_t owner; /* who watches */
    struct chances chances; /* of failures */
} power = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define SLOW_MS_MAX 60u /* a writer that waits for the sync must get on in the end */

static _Atomic bool slow;

static bool cut_file(const char *from, const char *to, enum power_loss loss, struct chances *chances);

/* the lock is this thread's: an assertion that fails in here must be able to say so */
static _Thread_local bool inside;

static void power_lock(void)
{
    pthread_mutex_lock(&power.lock);
    inside = true;
}

static void power_unlock(void)
{
    inside = false;
    pthread_mutex_unlock(&power.lock);
}

static void forget(size_t at)
{
    free(power.noted[at].before);
    memmove(power.noted + at, power.noted + at + 1, (--power.num - at) * sizeof *power.noted);
}

static void forget_inode(ino_t inode)
{
    for (size_t i = power.num; i-- > 0;)
        if (power.noted[i].inode == inode) forget(i);
}

void power_watch(const char *dir)
{
    power_lock();
    while (power.num) forget(power.num - 1);
    ASSERT(snprintf(power.dir, sizeof power.dir, "%s/", dir) < (int)sizeof power.dir);
    power.fails = POWER_FAILS_NOTHING;
    power.owner = pthread_self();
    power_unlock();
}

void power_fail(enum power_failure what, const char *suffix, struct chances *chances)
{
    power_lock();
    power.fails = what;
    power.chances.state = chances_next(chances);
    snprintf(power.suffix, sizeof power.suffix, "%s", suffix);
    power_unlock();
}

void power_slow(bool now) { atomic_store(&slow, now); }

/* --- the copy ------------------------------------------------------------------------------------------------ */

bool power_cut(const char *from, const char *to, enum power_loss loss, struct chances *chances)
{
    bool torn = false;
    struct dirent **files;
    power_lock();
    int num = scandir(from, &files, NULL, alphasort); /* in order, so that a seed does the same again */
    ASSERT(num >= 0);
    for (int i = 0; i < num; i++) {
        char source[PATH_MAX], copy[PATH_MAX];
        ASSERT(snprintf(source, sizeof source, "%s/%s", from, files[i]->d_name) < (int)sizeof source);
        ASSERT(snprintf(copy, sizeof copy, "%s/%s", to, files[i]->d_name) < (int)sizeof copy);
        if (files[i]->d_type == DT_REG) torn |= cut_file(source, copy, loss, chances);
        free(files[i]);
    }
    free(files);
    power_unlock();
    return torn;
}

static void put_bytes(int fd, const void *bytes, size_t len, off_t offset)
{
    ASSERT(syscall(SYS_pwrite64, fd, bytes, len, offset) == (long)len);
}

static void copy_bytes(int to, int from)
{
    static char block[1 << 16];
    off_t at = 0;
    for (ssize_t n; (n = pread(from, block, sizeof block, at)) > 0; at += n) put_bytes(to, block, (size_t)n, at);
}

/* undo takes back all of a write but its first `keep` bytes, or a truncation. */
static void undo(int fd, const struct noted *w, size_t keep)
{
    if (!w->len) {
        put_bytes(fd, w->before, (size_t)(w->size_before - w->offset), w->offset);
        return;
    }
    size_t over = w->size_before > w->offset ? (size_t)(w->size_before - w->offset) : 0; /* bytes that were there */
    if (over > w->len) over = w->len;
    if (keep < over) put_bytes(fd, w->before + keep, over - keep, w->offset + (off_t)keep);
    off_t size = w->offset + (off_t)keep;
    if (size < w->size_before) size = w->size_before;
    if (w->offset + (off_t)w->len > w->size_before) ASSERT(syscall(SYS_ftruncate, fd, size) == 0);
}

static bool cut_file(const char *from, const char *to, enum power_loss loss, struct chances *chances)
{
    int source = open(from, O_RDONLY | O_CLOEXEC), copy = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct stat st;
    ASSERT(source >= 0 && copy >= 0 && fstat(source, &st) == 0);
    copy_bytes(copy, source);
    close(source);

    size_t unsynced = 0, keep = 0, torn_len = 0;
    for (size_t i = 0; i < power.num; i++) unsynced += power.noted[i].inode == st.st_ino;
    if (loss == POWER_LOSES_NOTHING) keep = unsynced;
    if (loss == POWER_LOSES_SOME) keep = chances_below(chances, unsynced + 1);
    bool tear = loss == POWER_LOSES_SOME && keep < unsynced && chances_one_in(chances, 2);
    size_t nth = unsynced;
    for (size_t i = power.num; i-- > 0;) { /* newest first */
        const struct noted *w = &power.noted[i];
        if (w->inode != st.st_ino || nth-- <= keep) continue;
        if (tear && nth == keep && w->len) torn_len = chances_below(chances, w->len);
        undo(copy, w, nth == keep ? torn_len : 0);
    }
    close(copy);
    return torn_len > 0;
}

/* --- in front of libc ---------------------------------------------------------------------------------------- */

/* watched: the descriptor is of a regular file under the directory; fills *st. */
static bool watched(int fd, struct stat *st, bool *suffix)
{
    char link[64], path[PATH_MAX];
    if (!power.dir[0] || fstat(fd, st) != 0 || !S_ISREG(st->st_mode)) return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return false;
    path[len] = '\0';
    size_t suffix_len = strlen(power.suffix);
    *suffix = (size_t)len >= suffix_len && strcmp(path + len - suffix_len, power.suffix) == 0;
    return strncmp(path, power.dir, strlen(power.dir)) == 0;
}

static void note(int fd, const struct stat *st, off_t offset, size_t len)
{
    if (power.num == power.cap) {
        power.cap = power.cap ? power.cap * 2 : 64;
        power.noted = realloc(power.noted, power.cap * sizeof *power.noted);
        ASSERT(power.noted);
    }
    struct noted *w = &power.noted[power.num++];
    *w = (struct noted){.inode = st->st_ino, .offset = offset, .size_before = st->st_size, .len = len};
    if (offset >= st->st_size) return;
    size_t before_len = len ? len : (size_t)(st->st_size - offset);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd); /* the descriptor itself may be for writing only */
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    w->before = calloc(1, before_len);
    ASSERT(reader >= 0 && w->before && pread(reader, w->before, before_len, offset) > 0);
    close(reader);
}

static ssize_t watched_write(int fd, const void *bytes, size_t len, off_t offset,
                             long (*call)(int, const void *, size_t, off_t))
{
    struct stat st;
    bool suffix;
    if (inside) return call(fd, bytes, len, offset);
    power_lock();
    if (!watched(fd, &st, &suffix) || !len) {
        power_unlock();
        return call(fd, bytes, len, offset);
    }
    bool fails = power.fails == POWER_FAILS_WRITES && suffix;
    size_t part = len;
    if (fails && chances_one_in(&power.chances, 2)) part = chances_below(&power.chances, len);
    if (offset < 0) offset = lseek(fd, 0, SEEK_CUR);
    if (part) note(fd, &st, offset, part);
    ssize_t n = part ? call(fd, bytes, part, offset) : 0;
    ASSERT(n == (ssize_t)part); /* no watched disk is full */
    if (fails) errno = EIO;
    power_unlock();
    return fails ? -1 : n;
}

static int watched_sync(int fd, long call)
{
    struct stat st;
    bool suffix;
    for (unsigned ms = 0; ms < SLOW_MS_MAX && atomic_load(&slow) && !pthread_equal(pthread_self(), power.owner); ms++)
        usleep(1000);
    power_lock();
    bool is_watched = watched(fd, &st, &suffix);
    bool fails = is_watched && power.fails == POWER_FAILS_SYNCS && suffix;
    if (is_watched && !fails) forget_inode(st.st_ino);
    power_unlock();
    if (!fails) return (int)syscall(call, fd);
    errno = EIO;
    return -1;
}

static long call_write(int fd, const void *bytes, size_t len, off_t offset)
{
    return syscall(SYS_write, fd, bytes, len);
}
static long call_pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    return syscall(SYS_pwrite64, fd, bytes, len, offset);
}

ssize_t write(int fd, const void *bytes, size_t len) { return watched_write(fd, bytes, len, -1, call_write); }
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    return watched_write(fd, bytes, len, offset, call_pwrite);
}
int fsync(int fd) { return watched_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return watched_sync(fd, SYS_fdatasync); }

/* A file whose last name goes takes its notes along: its inode's number may come again. */
static int losing_name(const char *lost, long call, const char *a, const char *b)
{
    struct stat st;
    power_lock();
    bool last = lost && lstat(lost, &st) == 0 && st.st_nlink == 1;
    int result = (int)syscall(call, a, b);
    int error = errno;
    if (result == 0 && last) forget_inode(st.st_ino);
    power_unlock();
    errno = error;
    return result;
}

int unlink(const char *path) { return losing_name(path, SYS_unlink, path, NULL); }
int rename(const char *from, const char *to) { return losing_name(to, SYS_rename, from, to); }

/* RocksDB truncates a file to the length that it has, to give back what was preallocated, and to what it had before a
 * write that failed. */
int ftruncate(int fd, off_t len)
{
    struct stat st;
    bool suffix;
    power_lock();
    if (watched(fd, &st, &suffix) && len < st.st_size) note(fd, &st, len, 0);
    int result = (int)syscall(SYS_ftruncate, fd, len);
    power_unlock();
    return result;
}
