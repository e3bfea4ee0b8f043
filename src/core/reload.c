#include "reload.h"

#include <string.h>

static void lines_json(struct buf *out, const char *name, struct slice lines)
{
    buf_printf(out, "\"%s\":[", name);
    for (bool first = true; lines.len; first = false) {
        const char *end = memchr(lines.data, '\n', lines.len);
        size_t len = end ? (size_t)(end - lines.data) : lines.len;
        if (!first) buf_char(out, ',');
        buf_json_string(out, slice_of(lines.data, len));
        lines = slice_from(lines, end ? len + 1 : len);
    }
    buf_char(out, ']');
}

void reload_report_json(struct buf *out, const struct reload_report *report)
{
    buf_char(out, '{');
    lines_json(out, "applied", buf_slice(&report->applied));
    buf_char(out, ',');
    lines_json(out, "needs_restart", buf_slice(&report->unchanged_needs_restart));
    buf_char(out, ',');
    lines_json(out, "problems", buf_slice(&report->problems));
    buf_char(out, '}');
}
