/* preload_sync: makes the disk slow, so that a test can see who waits for it. LD_PRELOAD this object into the gateway.
 *
 * fsync, fdatasync, sync_file_range and msync(MS_SYNC) first sleep, then do their work:
 *
 *   CARILLON_SYNC_DELAY_MS=200   the delay in milliseconds
 *   CARILLON_SYNC_DELAY_FILE=F   F holds the delay as a 32-bit little-endian number instead; it is mapped at the start,
 * so a test can change the delay of a running process (for example from 0, after it is ready)
 *
 * The sleep comes first: until it ends, nothing that was written before the call is durable. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static uint32_t fixed_delay_ms;
static const volatile uint32_t *delay_ms = &fixed_delay_ms;

__attribute__((constructor)) static void read_settings(void)
{
    const char *fixed = getenv("CARILLON_SYNC_DELAY_MS"), *path = getenv("CARILLON_SYNC_DELAY_FILE");
    if (fixed) fixed_delay_ms = (uint32_t)strtoul(fixed, NULL, 10);
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (path && fd < 0) abort(); /* a test without its delay would prove nothing */
    /* the gateway refuses to start with a CARILLON_ name in its environment that is none of its settings */
    unsetenv("CARILLON_SYNC_DELAY_MS");
    unsetenv("CARILLON_SYNC_DELAY_FILE");
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof(uint32_t), PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) abort();
    delay_ms = map;
    close(fd);
}

static void wait_for_the_disk(void)
{
    uint32_t ms = *delay_ms;
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (ms && nanosleep(&left, &left) < 0 && errno == EINTR) {}
}

int fsync(int fd)
{
    static int (*real)(int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    wait_for_the_disk();
    return real(fd);
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    wait_for_the_disk();
    return real(fd);
}

int sync_file_range(int fd, off64_t offset, off64_t count, unsigned flags)
{
    static int (*real)(int, off64_t, off64_t, unsigned);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "sync_file_range");
    wait_for_the_disk();
    return real(fd, offset, count, flags);
}

int msync(void *address, size_t len, int flags)
{
    static int (*real)(void *, size_t, int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "msync");
    if (flags & MS_SYNC) wait_for_the_disk();
    return real(address, len, flags);
}
