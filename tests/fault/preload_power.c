/* preload_power: keeps a journal of what a process does to the files of one directory, so that a test can work out what
 * a power loss would have left of them. LD_PRELOAD this object into the gateway, kill -9 the gateway, then let
 * power_model.py roll the directory back.
 *
 *   CARILLON_POWER_DIR=D       absolute path of the directory whose files are watched
 *   CARILLON_POWER_JOURNAL=J   the journal, appended to; outside D
 *   CARILLON_POWER_SYNC_MS=N   each sync takes N ms longer (0), so that a cut at a random moment meets unsynced writes
 *
 * Calls are carried out as always: while the process lives it sees what it wrote (the page cache). Each one leaves a
 * record behind it, in one write to J, which survives the process as the page cache does. All integers little-endian:
 *
 *   length:u32  kind:u8  flags:u8  path_len:u16  inode:u64  a:u64  path (path_len bytes, may hold two: P\0Q)  data
 *
 *   OPEN       inode, a: size, flags: 1 it was created, 2 it is a directory; path
 *   WRITE      inode, a: offset; data
 *   TRUNCATE   inode, a: size
 *   EXTEND     inode, a: least size (fallocate)
 *   SYNC       inode, a: ticket; before the fsync or fdatasync
 *   SYNCED     inode, a: ticket; after it succeeded: what was recorded before SYNC is durable
 *   FAILED     inode; a sync failed: what was recorded before is on no disk, and no later sync writes it
 *   RENAME LINK   path: from\0to
 *   UNLINK     path
 *
 * A write is recorded before it returns, so whatever the process knows to be written before it calls fsync stands
 * before SYNC. Not watched: mmap writes, stdio's own calls (RocksDB's LOG), copy_file_range: what holds data here uses
 * none. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, TRUNCATE, EXTEND, SYNC, SYNCED, RENAME, LINK, UNLINK, FAILED };
enum { FLAG_CREATED = 1, FLAG_DIRECTORY = 2 };
#define INODES_MAX 65536u /* watched files of one run; a power of two, never nearly full */

struct __attribute__((packed)) record {
    uint32_t length;
    uint8_t kind, flags;
    uint16_t path_len;
    uint64_t inode, a;
};

static char directory[PATH_MAX];
static size_t directory_len;
static int journal = -1;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER; /* of records, and of a write with its offset */
static _Atomic uint64_t inodes[INODES_MAX];
static _Atomic uint64_t tickets;
static struct timespec sync_delay;

__attribute__((constructor)) static void begin(void)
{
    const char *dir = getenv("CARILLON_POWER_DIR"), *path = getenv("CARILLON_POWER_JOURNAL");
    if (!dir || !path || dir[0] != '/' || strlen(dir) + 2 > sizeof directory) abort();
    directory_len = (size_t)snprintf(directory, sizeof directory, "%s", dir);
    while (directory_len > 1 && directory[directory_len - 1] == '/') directory[--directory_len] = '\0';
    journal = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (journal < 0) abort();
    const char *delay = getenv("CARILLON_POWER_SYNC_MS");
    unsigned long ms = delay ? strtoul(delay, NULL, 10) : 0;
    /* the gateway refuses to start with a CARILLON_ name in its environment that is none of its settings */
    unsetenv("CARILLON_POWER_DIR");
    unsetenv("CARILLON_POWER_JOURNAL");
    unsetenv("CARILLON_POWER_SYNC_MS");
    sync_delay = (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
}

/* note writes one record; a journal that cannot be written ends the process, because the test would prove nothing. */
static void note(uint8_t kind, uint8_t flags, uint64_t inode, uint64_t a, const char *path, size_t path_len,
                 const struct iovec *data, int num_data, size_t data_len)
{
    struct record head = {.kind = kind, .flags = flags, .path_len = (uint16_t)path_len, .inode = inode, .a = a};
    head.length = (uint32_t)(sizeof head + path_len + data_len);
    struct iovec parts[IOV_MAX];
    int num = 0;
    parts[num++] = (struct iovec){&head, sizeof head};
    if (path_len) parts[num++] = (struct iovec){(void *)(uintptr_t)path, path_len};
    size_t left = data_len;
    for (int i = 0; i < num_data && left; i++) { /* of a short write only what was written */
        size_t take = data[i].iov_len < left ? data[i].iov_len : left;
        if (num == IOV_MAX) abort();
        parts[num++] = (struct iovec){data[i].iov_base, take};
        left -= take;
    }
    if (syscall(SYS_writev, journal, parts, num) != (long)head.length) abort();
}

/* --- which files ----------------------------------------------------------------------------------------------- */

static _Atomic uint64_t *inode_slot(uint64_t inode)
{
    size_t i = (inode * 0x9e3779b97f4a7c15ull >> 40) & (INODES_MAX - 1);
    for (unsigned tries = 0; tries < INODES_MAX; tries++, i = (i + 1) & (INODES_MAX - 1)) {
        uint64_t there = atomic_load(&inodes[i]);
        if (there == inode || there == 0) return &inodes[i];
    }
    abort();
}

/* watched gives the inode number of a descriptor of a watched file or directory, 0 for any other descriptor. */
static uint64_t watched(int fd)
{
    struct stat status;
    if (journal < 0 || fstat(fd, &status) != 0 || (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))) return 0;
    return atomic_load(inode_slot(status.st_ino)) ? status.st_ino : 0;
}

/* inside makes `path` absolute and tells whether it lies in the directory; `out` then holds it relative to it ("." for
 * the directory itself). The gateway's paths have no ".." in them. */
static bool inside(char out[PATH_MAX], int at_fd, const char *path)
{
    char whole[2 * PATH_MAX], base[PATH_MAX];
    if (journal < 0) return false;
    if (path[0] == '/') {
        snprintf(whole, sizeof whole, "%s", path);
    } else {
        char link[64];
        if (at_fd == AT_FDCWD)
            snprintf(link, sizeof link, "/proc/self/cwd");
        else
            snprintf(link, sizeof link, "/proc/self/fd/%d", at_fd);
        ssize_t len = readlink(link, base, sizeof base - 1);
        if (len < 0) return false;
        base[len] = '\0';
        snprintf(whole, sizeof whole, "%s/%s", base, path);
    }
    char *to = whole; /* "//" and "/./" say nothing */
    for (const char *from = whole; *from;) {
        if (from[0] == '/' && from[1] == '/')
            from++;
        else if (from[0] == '/' && from[1] == '.' && (from[2] == '/' || from[2] == '\0'))
            from += 2;
        else
            *to++ = *from++;
    }
    while (to > whole + 1 && to[-1] == '/') to--;
    *to = '\0';
    if (strncmp(whole, directory, directory_len) != 0) return false;
    if (whole[directory_len] == '\0') return snprintf(out, PATH_MAX, ".") > 0;
    return whole[directory_len] == '/' && snprintf(out, PATH_MAX, "%s", whole + directory_len + 1) < PATH_MAX;
}

/* --- open --------------------------------------------------------------------------------------------------------- */

static int watched_open(int at_fd, const char *path, int flags, mode_t mode)
{
    char name[PATH_MAX];
    if (!inside(name, at_fd, path)) return (int)syscall(SYS_openat, at_fd, path, flags, mode);
    pthread_mutex_lock(&order);
    bool existed = !(flags & O_CREAT) || faccessat(at_fd, path, F_OK, 0) == 0;
    int fd = (int)syscall(SYS_openat, at_fd, path, flags, mode), error = errno;
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) {
        atomic_store(inode_slot(status.st_ino), status.st_ino);
        note(OPEN, (uint8_t)((existed ? 0 : FLAG_CREATED) | (S_ISDIR(status.st_mode) ? FLAG_DIRECTORY : 0)),
             status.st_ino, (uint64_t)status.st_size, name, strlen(name), NULL, 0, 0);
        if (existed && (flags & O_TRUNC)) note(TRUNCATE, 0, status.st_ino, 0, NULL, 0, NULL, 0, 0);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return fd;
}

#define MODE_ARGUMENT(flags, mode) \
    mode_t mode = 0; \
    if (((flags)&O_CREAT) || ((flags)&O_TMPFILE) == O_TMPFILE) { \
        va_list args; \
        va_start(args, flags); \
        mode = va_arg(args, mode_t); \
        va_end(args); \
    }

int open(const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return watched_open(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return watched_open(AT_FDCWD, path, flags, mode);
}

int openat(int at_fd, const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return watched_open(at_fd, path, flags, mode);
}

int openat64(int at_fd, const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return watched_open(at_fd, path, flags, mode);
}

int creat(const char *path, mode_t mode)
{
    return watched_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode)
{
    return watched_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* --- contents ------------------------------------------------------------------------------------------------------
 */

static ssize_t watched_write(int fd, uint64_t inode, const struct iovec *data, int num_data, off64_t offset)
{
    pthread_mutex_lock(&order);
    ssize_t n =
        offset < 0 ? syscall(SYS_writev, fd, data, num_data) : syscall(SYS_pwritev, fd, data, num_data, offset, 0);
    int error = errno;
    if (n > 0) {
        uint64_t at = (uint64_t)(offset < 0 ? lseek64(fd, 0, SEEK_CUR) - n : offset);
        note(WRITE, 0, inode, at, NULL, 0, data, num_data, (size_t)n);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return n;
}

ssize_t write(int fd, const void *data, size_t len)
{
    uint64_t inode = watched(fd);
    const struct iovec one = {(void *)(uintptr_t)data, len};
    return inode ? watched_write(fd, inode, &one, 1, -1) : syscall(SYS_write, fd, data, len);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset)
{
    uint64_t inode = watched(fd);
    const struct iovec one = {(void *)(uintptr_t)data, len};
    return inode ? watched_write(fd, inode, &one, 1, offset) : syscall(SYS_pwrite64, fd, data, len, offset);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return pwrite64(fd, data, len, offset);
}

ssize_t writev(int fd, const struct iovec *data, int num_data)
{
    uint64_t inode = watched(fd);
    return inode ? watched_write(fd, inode, data, num_data, -1) : syscall(SYS_writev, fd, data, num_data);
}

ssize_t pwritev64(int fd, const struct iovec *data, int num_data, off64_t offset)
{
    uint64_t inode = watched(fd);
    return inode ? watched_write(fd, inode, data, num_data, offset)
                 : syscall(SYS_pwritev, fd, data, num_data, offset, 0);
}

ssize_t pwritev(int fd, const struct iovec *data, int num_data, off_t offset)
{
    return pwritev64(fd, data, num_data, offset);
}

static int resized(int fd, uint8_t kind, uint64_t size, int result)
{
    uint64_t inode = result == 0 ? watched(fd) : 0;
    if (!inode) return result;
    pthread_mutex_lock(&order);
    note(kind, 0, inode, size, NULL, 0, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return result;
}

int ftruncate64(int fd, off64_t size)
{
    return resized(fd, TRUNCATE, (uint64_t)size, (int)syscall(SYS_ftruncate, fd, size));
}
int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
    int result = (int)syscall(SYS_fallocate, fd, mode, offset, len);
    return mode == 0 ? resized(fd, EXTEND, (uint64_t)(offset + len), result)
                     : result; /* KEEP_SIZE changes no content */
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    return fallocate64(fd, mode, offset, len);
}

int posix_fallocate64(int fd, off64_t offset, off64_t len)
{
    return fallocate64(fd, 0, offset, len) == 0 ? 0 : errno;
}
int posix_fallocate(int fd, off_t offset, off_t len)
{
    return posix_fallocate64(fd, offset, len);
}

static int watched_sync(int fd, long call)
{
    uint64_t inode = watched(fd), ticket = atomic_fetch_add(&tickets, 1);
    if (inode) {
        pthread_mutex_lock(&order);
        note(SYNC, 0, inode, ticket, NULL, 0, NULL, 0, 0);
        pthread_mutex_unlock(&order);
    }
    if (inode) nanosleep(&sync_delay, NULL);
    int result = (int)syscall(call, fd), error = errno;
    if (inode && result == 0) {
        pthread_mutex_lock(&order);
        note(SYNCED, 0, inode, ticket, NULL, 0, NULL, 0, 0);
        pthread_mutex_unlock(&order);
    }
    errno = error;
    return result;
}

/* preload_power_sync_failed is called by preload_disk.c, which let a sync of this descriptor fail. */
void preload_power_sync_failed(int fd);
void preload_power_sync_failed(int fd)
{
    uint64_t inode = watched(fd);
    if (!inode) return;
    pthread_mutex_lock(&order);
    note(FAILED, 0, inode, 0, NULL, 0, NULL, 0, 0);
    pthread_mutex_unlock(&order);
}

int fsync(int fd)
{
    return watched_sync(fd, SYS_fsync);
}
int fdatasync(int fd)
{
    return watched_sync(fd, SYS_fdatasync);
}

/* --- names -----------------------------------------------------------------------------------------------------------
 */

static int moved(uint8_t kind, int from_fd, const char *from, int to_fd, const char *to, long call, unsigned flags)
{
    char names[2 * PATH_MAX + 1], target[PATH_MAX];
    bool both = inside(names, from_fd, from) && inside(target, to_fd, to);
    pthread_mutex_lock(&order);
    int result = (int)syscall(call, from_fd, from, to_fd, to, flags), error = errno;
    if (both && result == 0) {
        size_t len = strlen(names) + 1;
        memcpy(names + len, target, strlen(target));
        note(kind, 0, 0, 0, names, len + strlen(target), NULL, 0, 0);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}

int rename(const char *from, const char *to)
{
    return moved(RENAME, AT_FDCWD, from, AT_FDCWD, to, SYS_renameat2, 0);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return moved(RENAME, from_fd, from, to_fd, to, SYS_renameat2, 0);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    return moved(RENAME, from_fd, from, to_fd, to, SYS_renameat2, flags);
}

int link(const char *from, const char *to)
{
    return moved(LINK, AT_FDCWD, from, AT_FDCWD, to, SYS_linkat, 0);
}

int unlinkat(int at_fd, const char *path, int flags)
{
    char name[PATH_MAX];
    bool ours = !(flags & AT_REMOVEDIR) && inside(name, at_fd, path);
    pthread_mutex_lock(&order);
    int result = (int)syscall(SYS_unlinkat, at_fd, path, flags), error = errno;
    if (ours && result == 0) note(UNLINK, 0, 0, 0, name, strlen(name), NULL, 0, 0);
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}
