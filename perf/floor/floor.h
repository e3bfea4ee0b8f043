/* floor: what the programs of this folder share. Each measures one thing that kernel, disk or library cost by
 * themselves, once, and prints one object; perf/floors runs them in turns and makes medians.
 *
 * Call order: floor_begin, the measurement, then floor_text and floor_number for each figure, floor_end. A program that
 * cannot go on ends at once: exit code 1 (it failed or counted wrongly), 2 (usage), 77 (this machine cannot run it). */
#ifndef CARILLON_PERF_FLOOR_H
#define CARILLON_PERF_FLOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define FLOOR_SECONDS_MAX 60.0 /* of one measurement */
#define FLOOR_SETUP_S 30u      /* beside the measured time; beyond both the program fails */
#define FLOOR_SECOND_NS 1000000000ull

/* One option, --name VALUE; `value` holds its default. A table ends with a row without a name. */
struct floor_option {
    const char *name;
    enum { FLOOR_COUNT, FLOOR_REAL, FLOOR_TEXT, FLOOR_CHOICE } kind; /* uint64_t, double, const char *, unsigned */
    void *value;
    double min, max;            /* of a number */
    const char *const *choices; /* names, ending with NULL; the value is the index */
    const char *help;
};

struct floor_program {
    const char *name;    /* "floor-fanout" */
    const char *about;   /* one line */
    const char *figures; /* what is measured and how its figures read */
    const char *examples;
    const struct floor_option *options;
    const double *seconds; /* how long it measures, for the time limit; one of the options */
};

/* floor_begin reads the command line; --help and --json belong to every program. Starts the time limit. */
void floor_begin(const struct floor_program *program, int argc, char **argv);
void floor_text(const char *name, const char *value);
void floor_number(const char *name, double value);
void floor_end(void);

/* floor_fail ends the program: exit code 1 and a sentence. */
_Noreturn void floor_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* floor_absent: exit code 77, since the machine lacks something. */
_Noreturn void floor_absent(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* floor_must returns `result`, or fails with errno's words when it is negative; floor_must_ring is for calls that
 * return -errno, as liburing's do. */
long floor_must(long result, const char *what);
int floor_must_ring(int result, const char *what);

static inline uint64_t floor_clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * FLOOR_SECOND_NS + (uint64_t)now.tv_nsec;
}

static inline uint64_t floor_now_ns(void)
{
    return floor_clock_ns(CLOCK_MONOTONIC);
}
/* floor_cpu_ns is the CPU time of all threads of this process. */
static inline uint64_t floor_cpu_ns(void)
{
    return floor_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* floor_cpu returns the first or second CPU (0, 1) that this process may use; where there is one, it is both. */
int floor_cpu(unsigned which);
/* floor_pin moves the calling thread to one CPU. */
void floor_pin(int cpu);
/* floor_descriptors raises the soft limit to the hard one and fails when that is below `needed`. */
void floor_descriptors(uint64_t needed);
/* floor_with_parent: the calling child of `parent` is killed when that ends, however it ends. */
void floor_with_parent(pid_t parent);

/* Samples of a duration; what comes after `capacity` of them replaces a random earlier one, so that memory is bounded
 * and every sample is as likely to count (reservoir sampling, algorithm R). */
struct floor_samples {
    uint64_t *ns;
    uint64_t capacity, seen, random;
};
void floor_samples_init(struct floor_samples *s, uint64_t capacity);
void floor_sample(struct floor_samples *s, uint64_t ns);
/* floor_percentile sorts what was kept and returns the nearest-rank percentile in µs; 0 without samples. */
double floor_percentile_us(struct floor_samples *s, double percent);
void floor_samples_free(struct floor_samples *s);

#endif
