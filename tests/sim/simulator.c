/* simulator: the production gateway - cores, net, commit pipeline, readers - in one thread from one seed.
 *
 *   simulator --seed N [--trace] [--stats]     one run, in this process
 *   simulator --seeds A..B [--jobs J] [--hashes] [--stats] [--until-failure]
 *                                    one process a run; each failed seed, and why
 *   simulator … --planted NAME       the same with a planted bug on (src/base/planted.h)
 *   simulator --planted list         which bugs there are: name, what it breaks, what it does
 *
 * What a run is, simulation.h says. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "../../src/base/log.h"
#include "../../src/base/planted.h"
#include "counts.h"
#include "disk.h"
#include "simulation.h"
#include "world.h"

#define RUN_SECONDS_MAX 120u /* of real time: a run takes milliseconds, and seconds under a sanitizer */

/* result: what a child leaves for its parent, in shared memory. */
struct result {
    bool done;
    struct outcome outcome;
    struct counts counts;
    char why[512];
};

static struct result *result_of_child;

static void report_failure(const char *text)
{
    if (result_of_child) snprintf(result_of_child->why, sizeof result_of_child->why, "%s", text);
    else fprintf(stderr, "FAILED: %s\n", text);
}

static void result_make(struct result *r, uint64_t seed, bool trace)
{
    world_on_fail(report_failure);
    r->outcome = simulation_run(seed, trace);
    r->counts = *counts_taken();
    r->done = true;
}

struct options {
    uint64_t first, last;
    unsigned jobs;
    bool trace, hashes, stats, single;
    bool until_failure; /* no more seeds are begun behind the first that fails */
    const char *planted; /* NULL: none */
};

static int usage(void)
{
    fprintf(stderr, "usage: simulator --seed N [--trace] [--stats] |\n"
                    "       simulator --seeds A..B [--jobs J] [--hashes] [--stats] [--until-failure] |\n"
                    "       simulator --planted list; with --planted NAME: one planted bug is on\n");
    return 2;
}

static int help(void)
{
    printf("simulator: the production gateway in one thread from one seed, against clients, an operator and faults.\n\n"
           "  simulator --seed N [--trace] [--stats]\n"
           "      One run. --trace prints every step that can be told, up to the failure; a seed repeats itself.\n"
           "  simulator --seeds A..B [--jobs J] [--hashes] [--stats] [--until-failure]\n"
           "      One process a run, J at a time (the number of processors), one line for each failed seed.\n"
           "      --hashes prints what a run came to: the same seed gives the same hash.\n"
           "      --stats prints how often each kind of thing happened over all seeds.\n"
           "      --until-failure begins no more seeds behind the first that fails.\n"
           "      With %u seeds or more, what never happened is a failure.\n"
           "  simulator --planted list\n"
           "      The bugs that can be turned on in the preset \"planted\": name, what it breaks, what it does.\n"
           "  simulator ... --planted NAME\n"
           "      The same with that bug on.\n\n"
           "Exit codes: 0 everything holds, 1 it does not, 2 usage.\n",
           COUNTED_SEEDS_MIN);
    return 0;
}

#if PLANTED_BUILD
static void planted_list(void)
{
    for (unsigned bug = PLANTED_NONE + 1; bug < PLANTED_BUGS; bug++) {
        const struct planted_row *row = planted_row((enum planted)bug);
        printf("%s\t%s\t%s\n", row->name, row->breaks, row->sentence);
    }
}

static bool plant(const char *name)
{
    return planted_choose(name) || (fprintf(stderr, "simulator: no planted bug has the name %s\n", name), false);
}
#else
static void planted_list(void) {}

static bool plant(const char *name)
{
    fprintf(stderr, "simulator: no bugs are planted in this build; the preset \"planted\" has them\n");
    return false;
}
#endif

static bool options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.first = 1, .last = 300, .jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN)};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        int used = 0;
        if (strcmp(argv[i], "--trace") == 0) o->trace = true;
        else if (strcmp(argv[i], "--hashes") == 0) o->hashes = true;
        else if (strcmp(argv[i], "--stats") == 0) o->stats = true;
        else if (strcmp(argv[i], "--until-failure") == 0) o->until_failure = true;
        else if (strcmp(argv[i], "--planted") == 0 && *value) o->planted = argv[++i];
        else if (strcmp(argv[i], "--seed") == 0 && sscanf(value, "%" SCNu64 "%n", &o->first, &used) == 1 &&
                 !value[used]) {
            o->last = o->first;
            o->single = true;
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0 &&
                   sscanf(value, "%" SCNu64 "..%" SCNu64 "%n", &o->first, &o->last, &used) == 2 && !value[used] &&
                   o->first <= o->last && o->last - o->first < 1000000) {
            i++;
        } else if (strcmp(argv[i], "--jobs") == 0 && sscanf(value, "%u%n", &o->jobs, &used) == 1 && o->jobs) {
            i++;
        } else {
            return false;
        }
    }
    return !o->trace || o->single;
}

static int run_single(const struct options *o)
{
    struct result r = {0};
    result_make(&r, o->first, o->trace);
    printf("seed %" PRIu64 " hash %016" PRIx64 ": %" PRIu64 " steps, %u crashes, %u messages\n", o->first,
           r.outcome.hash, r.outcome.steps, r.outcome.crashes, r.outcome.messages);
    if (o->stats) counts_print(&r.counts);
    return 0;
}

static pid_t child_start(uint64_t seed, struct result *r)
{
    fflush(stdout);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid > 0) return pid;
    result_of_child = r;
    alarm(RUN_SECONDS_MAX); /* a loop without a step in it cannot be seen from inside */
    result_make(r, seed, false);
    exit(0);
}

struct totals {
    uint64_t seeds, failed, steps, messages, crashes;
    struct counts counts;
};

static void result_count(struct totals *t, const struct options *o, uint64_t seed, const struct result *r, int status)
{
    t->seeds++;
    t->steps += r->outcome.steps;
    t->messages += r->outcome.messages;
    t->crashes += r->outcome.crashes;
    counts_add(&t->counts, &r->counts);
    if (r->done && status == 0) {
        if (o->hashes) printf("seed %" PRIu64 " hash %016" PRIx64 "\n", seed, r->outcome.hash);
        return;
    }
    t->failed++;
    const char *why = r->why[0] ? r->why : WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "the sanitizer's report";
    printf("seed %" PRIu64 " FAILED: %s\n  replay: %s --seed %" PRIu64 " --trace\n", seed, why, disk_program, seed);
}

static int run_many(const struct options *o)
{
    size_t num = o->last - o->first + 1;
    struct result *results =
        mmap(NULL, num * sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t *children = calloc(num, sizeof *children);
    ASSERT(results != MAP_FAILED && children);
    struct totals t = {0};
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (size_t started = 0; t.seeds < num;) {
        if (o->until_failure && t.failed && t.seeds == started) break;
        if (started < num && started - t.seeds < o->jobs && !(o->until_failure && t.failed)) {
            children[started] = child_start(o->first + started, &results[started]);
            started++;
            continue;
        }
        int status;
        pid_t pid = wait(&status);
        ASSERT(pid > 0);
        for (size_t i = 0; i < started; i++) {
            if (children[i] != pid) continue;
            children[i] = 0; /* the number may be given to another child */
            result_count(&t, o, o->first + i, &results[i], status);
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("sim: %" PRIu64 " seeds, %" PRIu64 " failed, %" PRIu64 " steps, %" PRIu64 " crashes, %" PRIu64
           " messages, %.1f s, %.0f seeds/s\n",
           t.seeds, t.failed, t.steps, t.crashes, t.messages, seconds, (double)t.seeds / seconds);
    munmap(results, num * sizeof *results);
    free(children);
    if (o->stats) counts_print(&t.counts);
    unsigned missing = t.seeds >= COUNTED_SEEDS_MIN ? counts_missing(&t.counts) : 0;
    if (missing) printf("sim: FAILED: %u of what the scenarios and faults are about never happened\n", missing);
    return t.failed || missing ? 1 : 0;
}

static void line_dropped(struct slice line) {}

int main(int argc, char **argv)
{
    static const struct log_sink nowhere = {.line = line_dropped};
    struct options o;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) return help();
    if (!options_parse(&o, argc, argv)) return usage();
    if (o.planted && strcmp(o.planted, "list") == 0) {
        planted_list();
        return 0;
    }
    if (o.planted && !plant(o.planted)) return 2;
    if (!o.trace) log_set_sink(&nowhere); /* what the operator does has its line whatever the level */
    mallopt(M_MMAP_THRESHOLD, 64 << 20); /* big blocks come and go with every gateway */
    log_set_level(LOG_ERROR);
    atomic_store(&log_level_now, o.trace ? (int)LOG_INFO : (int)LOG_ERROR + 1);
    return o.single ? run_single(&o) : run_many(&o);
}
