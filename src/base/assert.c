#include "assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "log.h"

noreturn void assert_failed(const char *condition, const char *file, int line, const char *function)
{
    char text[512];
    log_flush(); /* what was logged before it tells how it came to this */
    int n = snprintf(text, sizeof text,
                     "{\"level\":\"fatal\",\"scope\":\"assert\",\"event\":\"assertion_failed\",\"condition\":\"%s\","
                     "\"file\":\"%s\",\"line\":%d,\"function\":\"%s\"}\n",
                     condition, file, line, function);
    if (n > 0) {
        ssize_t ignored = write(STDERR_FILENO, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
        (void)ignored;
    }
    abort();
}
