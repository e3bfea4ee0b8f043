/* agree: the same scripts on the simulator's stores and on the product's, whose answers must be the same: kv_fake and
 * kv_rocksdb, mark_fake and the mark file. See tests/storage/README.md, or --help. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "../../src/base/log.h"
#include "marks.h"
#include "pair.h"

#define STEPS_OF_A_SCRIPT 220u
#define SCRIPT_SECONDS_MAX 120u /* of real time: it takes half a second, and longer under a sanitizer */
#define SEEN_SEEDS_MIN 12u      /* so many scripts meet everything that is counted */

struct options {
    uint64_t first, last;
    const char *dir;
    bool trace;
};

struct seen *seen;
static uint64_t seed_now;
static unsigned step_now;

noreturn void disagree(const char *format, ...)
{
    va_list arguments;
    printf("seed %" PRIu64 " step %u FAILED: ", seed_now, step_now);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n  repeat: store_agree --seed %" PRIu64 " --trace\n", seed_now);
    fflush(stdout);
    _exit(1);
}

/* --- a script -------------------------------------------------------------------------------------------------- */

struct act {
    const char *name;
    unsigned weight;
    void (*on)(struct pair *p);
};

static const struct act acts[] = {
    {"write", 100, pair_write}, {"sync", 22, pair_sync},   {"get", 50, pair_get},     {"walk", 25, pair_walk},
    {"hold", 40, pair_hold},    {"flush", 3, pair_flush},  {"reopen", 2, pair_reopen}, {"crash", 8, pair_crash},
    {"fail", 8, pair_fail},     {"crash between logs", 3, pair_crash_between_logs},
};

static const struct act *act_choose(struct chances *c)
{
    unsigned total = 0;
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) total += acts[i].weight;
    uint64_t at = chances_below(c, total);
    const struct act *a = acts;
    for (; at >= a->weight; a++) at -= a->weight;
    return a;
}

static void script_run(uint64_t seed, const char *dir, bool trace)
{
    struct chances chances = {seed};
    struct pair *p = pair_open(dir, &chances);
    for (step_now = 1; step_now <= STEPS_OF_A_SCRIPT; step_now++) {
        const struct act *a = act_choose(&chances);
        if (trace) printf("step %u: %s\n", step_now, a->name);
        a->on(p);
    }
    pair_crash(p);
    pair_close(p);
    marks_run(dir, &chances);
}

/* --- many ------------------------------------------------------------------------------------------------------ */

static bool seed_run(uint64_t seed, const struct options *o)
{
    char dir[200], command[220];
    snprintf(dir, sizeof dir, "%s/carillon-agree-XXXXXX", o->dir);
    ASSERT(mkdtemp(dir));
    fflush(stdout);
    pid_t pid = fork(); /* an assertion of RocksDB or of the fake fails one seed */
    ASSERT(pid >= 0);
    if (pid == 0) {
        alarm(SCRIPT_SECONDS_MAX);
        seed_now = seed;
        script_run(seed, dir, o->trace);
        exit(0);
    }
    int status;
    ASSERT(waitpid(pid, &status, 0) == pid);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ASSERT(system(command) == 0);
    if (WIFSIGNALED(status))
        printf("seed %" PRIu64 " FAILED: %s\n  repeat: store_agree --seed %" PRIu64 " --trace\n", seed,
               strsignal(WTERMSIG(status)), seed);
    return status == 0;
}

/* what_was_missed: a kind of event that no script met makes the run a failure, since it shows nothing then. */
static unsigned what_was_missed(bool judge)
{
    const struct {
        const char *name;
        unsigned long num;
    } rows[] = {
        {"writes", seen->writes}, {"syncs", seen->syncs}, {"gets", seen->gets}, {"walks", seen->walks},
        {"walks held open", seen->snapshots}, {"flushes", seen->flushes}, {"reopenings", seen->reopenings},
        {"crashes", seen->crashes}, {"that kept no unsynced batch", seen->kept_none},
        {"that kept some", seen->kept_some}, {"that kept all", seen->kept_all}, {"with a torn write", seen->torn},
        {"between two logs", seen->between_logs}, {"failed writes", seen->failed_writes},
        {"that came back", seen->failed_writes_kept}, {"that did not", seen->failed_writes_gone},
        {"failed syncs", seen->failed_syncs}, {"marks", seen->marks}, {"crashes of the mark", seen->mark_crashes},
        {"that lost a mark", seen->marks_lost}, {"that kept one", seen->marks_kept},
        {"failures of the mark", seen->mark_failures},
    };
    unsigned missed = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        printf("%s%lu %s", i ? ", " : "", rows[i].num, rows[i].name);
        missed += rows[i].num == 0;
    }
    printf("\n");
    if (!judge) return 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!rows[i].num) printf("no script met: %s\n", rows[i].name);
    return missed;
}

/* differences_print writes the table of tests/sim/README.md. */
static void differences_print(void)
{
    printf("| what | the fake | the product's | why that is no loss |\n| --- | --- | --- | --- |\n");
#define DIFFERENCE(what, fake, product, why) printf("| %s | %s | %s | %s |\n", what, fake, product, why);
#include "differences.def"
#undef DIFFERENCE
}

static const char help[] =
    "usage: store_agree [--seeds A..B | --seed N [--trace]] [--dir DIR] | --differences\n"
    "\n"
    "Runs seeded scripts on kv_fake and RocksDB, and on mark_fake and the mark file, side by side: writes,\n"
    "syncs, gets, walks, snapshots, flushes, reopenings, crashes and errors. Every answer must be the same;\n"
    "after a crash RocksDB must hold a prefix of whole batches with everything synced in it, and the fake\n"
    "crashed to it the same rows.\n"
    "\n"
    "  --seeds A..B   scripts to run (1..12)\n"
    "  --seed N       one of them; --trace tells each step\n"
    "  --dir DIR      where the databases are made ($TMPDIR, or /dev/shm: a memory file system makes it ten times\n"
    "                 faster)\n"
    "  --differences  what the fakes do otherwise on purpose, as a table\n"
    "\n"
    "A seed repeats its script; RocksDB's threads have a timing of their own, so that some failures need\n"
    "several tries.\n"
    "\n"
    "Prints PASS or FAIL in the last line. Exit codes: 0 all agree, 1 one does not, 2 usage.\n"
    "Example: store_agree --seeds 1..500\n";

static bool options_parse(struct options *o, int argc, char **argv)
{
    const char *dir = getenv("TMPDIR");
    *o = (struct options){1, SEEN_SEEDS_MIN, dir ? dir : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", false};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        int used = 0;
        if (strcmp(argv[i], "--trace") == 0) {
            o->trace = true;
        } else if (strcmp(argv[i], "--dir") == 0 && *value && strlen(value) < 100) {
            o->dir = argv[++i];
        } else if (strcmp(argv[i], "--seed") == 0 && sscanf(value, "%" SCNu64 "%n", &o->first, &used) == 1 &&
                   !value[used]) {
            o->last = o->first;
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0 &&
                   sscanf(value, "%" SCNu64 "..%" SCNu64 "%n", &o->first, &o->last, &used) == 2 && !value[used] &&
                   o->first <= o->last) {
            i++;
        } else {
            return false;
        }
    }
    return true;
}

static void line_dropped(struct slice line) {}

int main(int argc, char **argv)
{
    static const struct log_sink nowhere = {.line = line_dropped};
    struct options o;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--differences") == 0) {
        differences_print();
        return 0;
    }
    if (!options_parse(&o, argc, argv)) {
        fputs(help, stderr);
        return 2;
    }
    if (o.trace) setvbuf(stdout, NULL, _IOLBF, 0); /* an abort must not swallow the last step */
    log_set_sink(&nowhere); /* errors are what is asked for here */
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(seen != MAP_FAILED);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    uint64_t failed = 0, num = o.last - o.first + 1;
    for (uint64_t seed = o.first; seed <= o.last; seed++) failed += !seed_run(seed, &o);
    clock_gettime(CLOCK_MONOTONIC, &end);
    unsigned missed = what_was_missed(!failed && num >= SEEN_SEEDS_MIN);
    bool good = !failed && !missed;
    printf("store_agree: %s, %" PRIu64 " scripts, %" PRIu64 " failed, %.1f s\n", good ? "PASS" : "FAIL", num, failed,
           (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
    return good ? 0 : 1;
}
