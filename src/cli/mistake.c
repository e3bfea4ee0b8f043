#include "mistake.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "nearest.h"

/* known_by_value: getopt_long sets optopt to the option's val when it knows the option, else to 0. */
static const struct option *known_by_value(const struct option *known, int value)
{
    for (; known->name; known++)
        if (value && known->val == value) return known;
    return NULL;
}

void mistake_print(const char *program, char *const argv[], const struct option *known)
{
    const char *word = argv[optind - 1], *nearest = NULL;
    const struct option *option = known_by_value(known, optopt);
    unsigned distance = UINT_MAX;
    char name[NEAREST_NAME_BYTES_MAX + 2];
    if (option && option->has_arg == required_argument) {
        fprintf(stderr, "%s: --%s needs a value\n", program, option->name);
        return;
    }
    if (option) {
        fprintf(stderr, "%s: --%s takes no value\n", program, option->name);
        return;
    }
    if (optopt) { /* a letter: optind may not be past its word yet */
        fprintf(stderr, "%s: there is no option -%c\n", program, optopt);
        return;
    }
    int len = (int)strcspn(word, "=");
    snprintf(name, sizeof name, "%.*s", len > 2 ? len - 2 : 0, len > 2 ? word + 2 : "");
    for (const struct option *o = known; o->name; o++)
        if (nearest_better(name, o->name, &distance)) nearest = o->name;
    fprintf(stderr, "%s: there is no option %.*s", program, len, word);
    if (nearest) fprintf(stderr, "; did you mean --%s?", nearest);
    fputc('\n', stderr);
}
