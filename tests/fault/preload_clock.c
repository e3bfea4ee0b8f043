/* preload_clock: steps the wall clock of a running process. LD_PRELOAD this object into the gateway.
 *
 *   CARILLON_CLOCK_FILE=F   F holds the step in milliseconds as a signed 64-bit little-endian number; it is mapped, so
 * that a test can step the clock while the process runs
 *
 * clock_gettime of CLOCK_REALTIME and its relatives, gettimeofday and time are stepped; the monotonic clock never is.
 * The calls reach this object and not the vDSO, for it is the C library that calls that, and this stands in front of
 * the library. The kernel's own time is left alone, so a wait until a time of the wall clock (pthread_cond_timedwait
 * and its relatives) is translated to that; a wait that is under way when the clock is stepped ends as if it had not
 * been. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t no_step;
static const volatile int64_t *step_ms = &no_step;

__attribute__((constructor)) static void read_settings(void)
{
    const char *path = getenv("CARILLON_CLOCK_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) abort(); /* a test without its step would prove nothing */
    void *map = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) abort();
    step_ms = map;
    close(fd);
    /* the gateway refuses to start with a CARILLON_ name in its environment that is none of its settings */
    unsetenv("CARILLON_CLOCK_FILE");
}

static struct timespec moved(struct timespec t, int64_t by_ms)
{
    int64_t ns = t.tv_nsec + by_ms % 1000 * 1000000;
    t.tv_sec += by_ms / 1000 + (ns >= 1000000000) - (ns < 0);
    t.tv_nsec = ns >= 1000000000 ? ns - 1000000000 : ns < 0 ? ns + 1000000000 : ns;
    return t;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    int result = (int)syscall(SYS_clock_gettime, clock, out);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
        *out = moved(*out, *step_ms);
    return result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

/* --- waits ------------------------------------------------------------------------------------------------------- */

#define WALL_SECONDS_MIN 1000000000 /* a time beyond it is of the wall clock: the monotonic one counts from the boot */

static struct timespec of_kernel(const struct timespec *until)
{
    return until->tv_sec >= WALL_SECONDS_MIN ? moved(*until, -*step_ms) : *until;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    static __typeof__(pthread_cond_timedwait) *next;
    /* by its version: the C library keeps one for condition variables of another layout under the same name */
    if (!next) *(void **)&next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec kernel = of_kernel(until);
    return next(cond, mutex, &kernel);
}

int pthread_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, clockid_t clock,
                           const struct timespec *restrict until)
{
    static __typeof__(pthread_cond_clockwait) *next;
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    struct timespec kernel = of_kernel(until);
    return next(cond, mutex, clock, &kernel);
}

int pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *until)
{
    static __typeof__(pthread_timedjoin_np) *next;
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "pthread_timedjoin_np");
    struct timespec kernel = of_kernel(until);
    return next(thread, result, &kernel);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until)
{
    static __typeof__(sem_timedwait) *next;
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec kernel = of_kernel(until);
    return next(semaphore, &kernel);
}
