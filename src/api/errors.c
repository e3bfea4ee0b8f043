#include "errors.h"

const struct error_row error_rows[ERRORS] = {
#define ERROR(id, code, http_status, temporary, title) [ERR_##id] = {code, http_status, temporary, title},
#include "errors.def"
#undef ERROR
};

void error_problem(struct buf *out, const struct error *e, uint64_t request_id)
{
    const struct error_row *row = &error_rows[e->code];
    BUF_LIT(out, "{\"type\":\"about:blank\",\"title\":");
    buf_json_string(out, slice_str(row->title));
    buf_printf(out, ",\"status\":%u,\"status_code\":%u,\"code\":\"%s\",\"detail\":", row->http_status, row->http_status,
               row->code);
    buf_json_string(out, slice_str(e->detail ? e->detail : row->title));
    if (e->field) {
        BUF_LIT(out, ",\"field\":");
        buf_json_string(out, slice_str(e->field));
    }
    buf_printf(out, ",\"request_id\":\"%016llx\"}", (unsigned long long)request_id);
}

void error_frame(struct buf *out, const struct error *e, struct slice re)
{
    const struct error_row *row = &error_rows[e->code];
    BUF_LIT(out, "{\"type\":\"error\"");
    if (re.len) {
        BUF_LIT(out, ",\"re\":");
        buf_slice_append(out, re);
    }
    buf_printf(out, ",\"code\":\"%s\",\"detail\":", row->code);
    buf_json_string(out, slice_str(e->detail ? e->detail : row->title));
    if (e->field) {
        BUF_LIT(out, ",\"field\":");
        buf_json_string(out, slice_str(e->field));
    }
    buf_printf(out, ",\"temporary\":%s}", row->temporary ? "true" : "false");
}
