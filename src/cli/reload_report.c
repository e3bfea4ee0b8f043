#include "reload_report.h"

void reload_report_add(struct buf *list, const char *text)
{
    if (list->len) buf_char(list, ',');
    buf_json_string(list, slice_str(text));
}

void reload_report_json(struct buf *out, const struct reload_report *r)
{
    buf_printf(out, "{\"applied\":[%.*s],\"needs_restart\":[%.*s],\"problems\":[%.*s]}", SLICE_FMT(buf_slice(&r->applied)),
               SLICE_FMT(buf_slice(&r->needs_restart)), SLICE_FMT(buf_slice(&r->problems)));
}

void reload_report_free(struct reload_report *r)
{
    buf_free(&r->applied);
    buf_free(&r->needs_restart);
    buf_free(&r->problems);
}
