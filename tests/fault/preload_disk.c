/* preload_disk: makes a disk that fails or is slow, on command. LD_PRELOAD this object into the gateway.
 *
 *   CARILLON_DISK_DIR=D    absolute path: only calls on files and directories under D are touched
 *   CARILLON_DISK_PLAN=F   a file of struct plan, which is mapped and shared: the test changes what the disk does while
 *                          the process runs, and reads what it did
 *
 * A failing sync or write does nothing and gives the error. When preload_power.c is loaded behind this object it is
 * told, so that its model drops what the sync should have made durable, as the kernel does: the pages are marked clean
 * and no later sync writes them (Linux since 4.13, "Improved block-layer error handling", LWN 724307).
 *
 * Not touched: mmap, and what stdio and the kernel's own threads do. What holds data here uses neither. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* What a file is to the store; the bit in plan.fail_kinds is 1 << kind. disk_faults.py has the same list. */
enum kind {
    WAL,
    WAL_IN_FLUSH, /* by one of RocksDB's own threads */
    TABLE,
    MANIFEST,
    MARK,
    DIRECTORY,
    BACKUP,
    OTHER,
    KINDS,
    OUTSIDE = KINDS
};
enum call { SYNC, WRITE };

/* All 64 bits wide and little-endian; disk_faults.py has the same list. */
struct plan {
    /* written by the test */
    _Atomic uint64_t fail_kinds;                                    /* 0: nothing fails */
    _Atomic uint64_t fail_call;                                     /* enum call */
    _Atomic uint64_t pass;                                          /* that many matching calls succeed first */
    _Atomic uint64_t fail;                                          /* and that many then fail */
    _Atomic uint64_t error;                                         /* errno of them */
    _Atomic uint64_t read_delay_us, write_delay_us, sync_delay_us;  /* before each call */
    /* written by this object */
    _Atomic uint64_t failed, first_failed_ns; /* calls that failed; CLOCK_MONOTONIC of the first */
    _Atomic uint64_t reads, writes;                                 /* calls, whether delayed or not */
    _Atomic uint64_t on_core;                                       /* reads, writes and syncs by a thread "core/N" */
    _Atomic uint64_t syncs[KINDS];
};

static char directory[PATH_MAX];
static size_t directory_len;
static struct plan *plan;

__attribute__((constructor)) static void begin(void)
{
    const char *dir = getenv("CARILLON_DISK_DIR"), *path = getenv("CARILLON_DISK_PLAN");
    if (!dir || !path || dir[0] != '/') abort(); /* a test without its fault would prove nothing */
    directory_len = (size_t)snprintf(directory, sizeof directory, "%s", dir);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || directory_len >= sizeof directory) abort();
    plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (plan == MAP_FAILED) abort();
    syscall(SYS_close, fd);
    /* the gateway refuses to start with a CARILLON_ name in its environment that is none of its settings */
    unsetenv("CARILLON_DISK_DIR");
    unsetenv("CARILLON_DISK_PLAN");
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static bool thread_is(const char *begin)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    return strncmp(name, begin, strlen(begin)) == 0;
}

static enum kind kind_of(int fd)
{
    char link[64], path[PATH_MAX];
    struct stat info;
    if (!plan || fstat(fd, &info) != 0 || (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))) return OUTSIDE;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return OUTSIDE;
    path[len] = '\0';
    if (strncmp(path, directory, directory_len) != 0) return OUTSIDE;
    const char *inside = path + directory_len;
    if (strstr(inside, "/backups")) return BACKUP;
    if (S_ISDIR(info.st_mode)) return DIRECTORY;
    if (ends_with(inside, ".log")) return thread_is("rocksdb:") ? WAL_IN_FLUSH : WAL;
    if (ends_with(inside, ".sst")) return TABLE;
    if (strstr(inside, "/MANIFEST-") || ends_with(inside, "/CURRENT") || ends_with(inside, ".dbtmp")) return MANIFEST;
    if (ends_with(inside, "/MARK")) return MARK;
    return OTHER;
}

static void note_thread(void)
{
    if (thread_is("core/")) atomic_fetch_add(&plan->on_core, 1);
}

static void delay(uint64_t us)
{
    struct timespec left = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    while (us && nanosleep(&left, &left) < 0 && errno == EINTR) {}
}

/* take lowers a counter that is not yet 0. */
static bool take(_Atomic uint64_t *counter)
{
    uint64_t there = atomic_load(counter);
    while (there && !atomic_compare_exchange_weak(counter, &there, there - 1)) {}
    return there > 0;
}

static bool fails(enum kind kind, enum call call)
{
    bool meant = kind != OUTSIDE && atomic_load(&plan->fail_kinds) >> kind & 1 && atomic_load(&plan->fail_call) == call;
    if (!meant) return false;
    if (take(&plan->pass) || !take(&plan->fail)) return false;
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    if (atomic_fetch_add(&plan->failed, 1) == 0)
        atomic_store(&plan->first_failed_ns, (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec);
    errno = (int)atomic_load(&plan->error);
    return true;
}

/* --- the calls ---------------------------------------------------------------------------------------------------- */

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, #name)

static bool sync_fails(int fd, enum kind kind)
{
    if (kind == OUTSIDE) return false;
    note_thread();
    atomic_fetch_add(&plan->syncs[kind], 1);
    delay(atomic_load(&plan->sync_delay_us));
    if (!fails(kind, SYNC)) return false;
    void (*tell)(int) = NULL;
    *(void **)&tell = dlsym(RTLD_DEFAULT, "preload_power_sync_failed");
    if (tell) tell(fd);
    errno = (int)atomic_load(&plan->error);
    return true;
}

int fsync(int fd)
{
    NEXT(fsync);
    return sync_fails(fd, kind_of(fd)) ? -1 : next(fd);
}

int fdatasync(int fd)
{
    NEXT(fdatasync);
    return sync_fails(fd, kind_of(fd)) ? -1 : next(fd);
}

static bool write_fails(int fd)
{
    enum kind kind = kind_of(fd);
    if (kind == OUTSIDE) return false;
    note_thread();
    atomic_fetch_add(&plan->writes, 1);
    delay(atomic_load(&plan->write_delay_us));
    return fails(kind, WRITE);
}

ssize_t write(int fd, const void *data, size_t len)
{
    NEXT(write);
    return write_fails(fd) ? -1 : next(fd, data, len);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset)
{
    NEXT(pwrite64);
    return write_fails(fd) ? -1 : next(fd, data, len, offset);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return pwrite64(fd, data, len, offset);
}

ssize_t writev(int fd, const struct iovec *data, int num_data)
{
    NEXT(writev);
    return write_fails(fd) ? -1 : next(fd, data, num_data);
}

static void slow_read(int fd)
{
    if (kind_of(fd) == OUTSIDE) return;
    note_thread();
    atomic_fetch_add(&plan->reads, 1);
    delay(atomic_load(&plan->read_delay_us));
}

ssize_t read(int fd, void *data, size_t len)
{
    NEXT(read);
    slow_read(fd);
    return next(fd, data, len);
}

ssize_t pread64(int fd, void *data, size_t len, off64_t offset)
{
    NEXT(pread64);
    slow_read(fd);
    return next(fd, data, len, offset);
}

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
    return pread64(fd, data, len, offset);
}
