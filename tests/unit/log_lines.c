#include "log_lines.h"

#include "../../src/base/log.h"

static struct buf caught;

static void catch_line(struct slice line) { buf_slice_append(&caught, line); }

void lines_catch(void)
{
    static const struct log_sink sink = {catch_line, NULL};
    log_set_sink(&sink);
    caught.len = 0;
}

const char *lines(void)
{
    buf_char(&caught, '\0');
    caught.len--;
    return caught.data;
}

void lines_forget(void) { caught.len = 0; }

int lines_teardown(void **state)
{
    log_set_sink(NULL);
    buf_free(&caught);
    return harness_teardown(state);
}
