#define _GNU_SOURCE /* sched_setaffinity */
#include "floor.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../src/base/assert.h"

#define OPTIONS_MAX 16

static struct {
    const struct floor_program *program;
    bool json;
    unsigned figures;
} this;

static void too_late(int signal);
static void help(const struct floor_program *program);
static void option_help(const struct floor_option *o);
static void option_set(const struct floor_option *o, const char *text);
static void option_choose(const struct floor_option *o, const char *text);
static int compare(const void *a, const void *b);

/* --- the command line ------------------------------------------------------------------------------------------ */

void floor_begin(const struct floor_program *program, int argc, char **argv)
{
    this.program = program;
    struct option table[OPTIONS_MAX + 3] = {{"help", no_argument, NULL, 'h'}, {"json", no_argument, NULL, 'j'}};
    int rows = 0;
    for (; program->options[rows].name; rows++) {
        ASSERT(rows < OPTIONS_MAX);
        table[rows + 2] = (struct option){program->options[rows].name, required_argument, NULL, 256 + rows};
    }
    int choice;
    while ((choice = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        if (choice == '?') exit(2); /* getopt has said why */
        if (choice == 'h') {
            help(program);
            exit(0);
        }
        if (choice == 'j')
            this.json = true;
        else
            option_set(&program->options[choice - 256], optarg);
    }
    if (optind < argc) {
        fprintf(stderr, "%s: unexpected argument '%s' (see --help)\n", program->name, argv[optind]);
        exit(2);
    }
    signal(SIGALRM, too_late);
    alarm(FLOOR_SETUP_S + (unsigned)*program->seconds);
}

static void too_late(int signal)
{
    static const char sentence[] = "floor: it took too long, so something that was waited for did not come\n";
    ssize_t ignored = write(STDERR_FILENO, sentence, sizeof sentence - 1);
    (void)ignored;
    _exit(1);
}

static void help(const struct floor_program *program)
{
    printf("%s: %s\n\n%s\n\nusage: %s [--option VALUE]…\n\n", program->name, program->about, program->figures,
           program->name);
    for (const struct floor_option *o = program->options; o->name; o++) option_help(o);
    printf("  --json                 one JSON object instead of lines\n\nexamples:\n%s\n"
           "exit code: 0 measured, 1 something failed or was counted wrongly, 2 usage, 77 this machine cannot run it\n",
           program->examples);
}

static void option_help(const struct floor_option *o)
{
    char shown[32];
    snprintf(shown, sizeof shown, "--%s %s", o->name,
             o->kind == FLOOR_COUNT  ? "N"
             : o->kind == FLOOR_REAL ? "X"
                                     : "NAME");
    printf("  %-22s %s", shown, o->help);
    switch (o->kind) {
    case FLOOR_COUNT: printf(" (%llu)\n", (unsigned long long)*(uint64_t *)o->value); break;
    case FLOOR_REAL: printf(" (%g)\n", *(double *)o->value); break;
    case FLOOR_TEXT: printf(" (%s)\n", *(const char **)o->value); break;
    case FLOOR_CHOICE:
        printf(":");
        for (unsigned i = 0; o->choices[i]; i++) printf(" %s", o->choices[i]);
        printf(" (%s)\n", o->choices[*(unsigned *)o->value]);
        break;
    }
}

static void option_set(const struct floor_option *o, const char *text)
{
    if (o->kind == FLOOR_TEXT) {
        *(const char **)o->value = text;
        return;
    }
    if (o->kind == FLOOR_CHOICE) {
        option_choose(o, text);
        return;
    }
    char *end;
    errno = 0;
    double number = strtod(text, &end);
    bool whole = o->kind == FLOOR_REAL || number == floor(number);
    if (end == text || *end || errno || !whole || !(number >= o->min && number <= o->max)) {
        fprintf(stderr, "%s: --%s takes a number from %g to %g, not '%s'\n", this.program->name, o->name, o->min,
                o->max, text);
        exit(2);
    }
    if (o->kind == FLOOR_COUNT)
        *(uint64_t *)o->value = (uint64_t)number;
    else
        *(double *)o->value = number;
}

static void option_choose(const struct floor_option *o, const char *text)
{
    for (unsigned i = 0; o->choices[i]; i++) {
        if (strcmp(o->choices[i], text) != 0) continue;
        *(unsigned *)o->value = i;
        return;
    }
    fprintf(stderr, "%s: --%s is one of:", this.program->name, o->name);
    for (unsigned i = 0; o->choices[i]; i++) fprintf(stderr, " %s", o->choices[i]);
    fprintf(stderr, "; not '%s'\n", text);
    exit(2);
}

/* --- what it says ---------------------------------------------------------------------------------------------- */

void floor_text(const char *name, const char *value)
{
    if (this.json)
        printf("%s\"%s\": \"%s\"", this.figures++ ? ", " : "{", name, value);
    else
        printf("%-24s %s\n", name, value);
}

void floor_number(const char *name, double value)
{
    if (!isfinite(value)) floor_fail("%s is not a number: nothing was measured", name);
    if (this.json)
        printf("%s\"%s\": %.10g", this.figures++ ? ", " : "{", name, value);
    else
        printf("%-24s %.6g\n", name, value);
}

void floor_end(void)
{
    if (this.json) printf("}\n");
    if (fflush(stdout) != 0) floor_fail("the result could not be written: %s", strerror(errno));
}

static void __attribute__((format(printf, 1, 0))) complain(const char *format, va_list arguments)
{
    fprintf(stderr, "%s: ", this.program ? this.program->name : "floor");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

void floor_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain(format, arguments);
    va_end(arguments);
    exit(1);
}

void floor_absent(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain(format, arguments);
    va_end(arguments);
    exit(77);
}

long floor_must(long result, const char *what)
{
    if (result < 0) floor_fail("%s: %s", what, strerror(errno));
    return result;
}

int floor_must_ring(int result, const char *what)
{
    if (result == -ENOSYS || result == -EPERM)
        floor_absent("%s: %s; io_uring must be allowed (sysctl kernel.io_uring_disabled)", what, strerror(-result));
    if (result < 0) floor_fail("%s: %s", what, strerror(-result));
    return result;
}

/* --- where it runs --------------------------------------------------------------------------------------------- */

int floor_cpu(unsigned which)
{
    static cpu_set_t usable;
    static bool known;
    if (!known) floor_must(sched_getaffinity(0, sizeof usable, &usable), "sched_getaffinity"); /* before anybody pins */
    known = true;
    int found = -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &usable)) continue;
        found = cpu;
        if (which-- == 0) break;
    }
    return found;
}

void floor_pin(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    floor_must(sched_setaffinity(0, sizeof one, &one), "sched_setaffinity");
}

void floor_descriptors(uint64_t needed)
{
    struct rlimit limit;
    floor_must(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    floor_must(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
    if (limit.rlim_max < needed)
        floor_absent("%llu descriptors are needed and a process may have %llu (ulimit -Hn)", (unsigned long long)needed,
                     (unsigned long long)limit.rlim_max);
}

void floor_with_parent(pid_t parent)
{
    floor_must(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
    if (getppid() != parent) exit(1);                        /* it ended before this was asked for */
    alarm(FLOOR_SETUP_S + (unsigned)*this.program->seconds); /* alarms are not inherited, fork(2) */
}

/* --- samples --------------------------------------------------------------------------------------------------- */

void floor_samples_init(struct floor_samples *s, uint64_t capacity)
{
    *s = (struct floor_samples){
        .ns = calloc(capacity, sizeof *s->ns), .capacity = capacity, .random = 88172645463325252u};
    ASSERT(s->ns != NULL);
}

void floor_sample(struct floor_samples *s, uint64_t ns)
{
    uint64_t place = s->seen++;
    if (place >= s->capacity) {
        s->random ^= s->random << 13; /* xorshift64 */
        s->random ^= s->random >> 7;
        s->random ^= s->random << 17;
        place = s->random % s->seen;
    }
    if (place < s->capacity) s->ns[place] = ns;
}

double floor_percentile_us(struct floor_samples *s, double percent)
{
    uint64_t kept = s->seen < s->capacity ? s->seen : s->capacity;
    if (kept == 0) return 0;
    qsort(s->ns, kept, sizeof *s->ns, compare);
    uint64_t rank = (uint64_t)ceil((double)kept * percent / 100);
    return (double)s->ns[rank > 0 ? rank - 1 : 0] / 1000;
}

static int compare(const void *a, const void *b)
{
    uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;
    return (one > other) - (one < other);
}

void floor_samples_free(struct floor_samples *s)
{
    free(s->ns);
    s->ns = NULL;
}
