#include "style.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool memory_is_stdout;

void style_memory(void) { memory_is_stdout = true; }

static bool coloured(FILE *out)
{
    const char *none = getenv("NO_COLOR"), *term = getenv("TERM");
    int fd = fileno(out); /* -1: memory */
    if (fd < 0 && memory_is_stdout) fd = STDOUT_FILENO;
    return fd >= 0 && isatty(fd) && (!none || !*none) && (!term || strcmp(term, "dumb") != 0);
}

const char *style(FILE *out, enum style s)
{
    static const char *const codes[STYLES] = {
        [STYLE_END] = "\033[0m",      [STYLE_HEAD] = "\033[1m",       [STYLE_FAINT] = "\033[2m",
        [STYLE_GOOD] = "\033[32m",    [STYLE_WARNING] = "\033[33m",   [STYLE_BAD] = "\033[31m",
    };
    return coloured(out) ? codes[s] : "";
}

const char *style_person(FILE *out, const char *name, size_t len)
{
    static const char *const codes[] = {"\033[36m", "\033[35m", "\033[34m", "\033[32m", "\033[33m", "\033[31m"};
    uint32_t hash = 2166136261u; /* FNV-1a: any spread will do */
    for (size_t i = 0; i < len; i++) hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    return coloured(out) ? codes[hash % (sizeof codes / sizeof *codes)] : "";
}
