#include "second_http.h"

#include <http_parser.h>

#include "../src/base/assert.h"

static int on_url(http_parser *p, const char *at, size_t len)
{
    struct reading *r = p->data;
    buf_append(&r->target, at, len);
    return 0;
}

static int on_field(http_parser *p, const char *at, size_t len)
{
    struct reading *r = p->data;
    if (r->in_value || r->num_fields == 0) {
        if (r->num_fields == FIELDS_MAX) return 1;
        r->fields[r->num_fields++] = (struct field){.name_at = r->text.len};
        r->in_value = false;
    }
    buf_append(&r->text, at, len);
    struct field *f = &r->fields[r->num_fields - 1];
    f->name_len += len;
    f->value_at = r->text.len;
    return 0;
}

static int on_value(http_parser *p, const char *at, size_t len)
{
    struct reading *r = p->data;
    ASSERT(r->num_fields > 0);
    r->in_value = true;
    buf_append(&r->text, at, len);
    r->fields[r->num_fields - 1].value_len += len;
    return 0;
}

static int on_head(http_parser *p)
{
    struct reading *r = p->data;
    r->head_done = true;
    r->num_head_fields = r->num_fields;
    r->method = http_method_str((enum http_method)p->method);
    r->major = p->http_major;
    r->minor = p->http_minor;
    r->upgrade = p->upgrade;
    r->chunked = p->flags & F_CHUNKED;
    r->keep_alive = http_should_keep_alive(p);
    http_parser_pause(p, 1);
    return 0;
}

static int on_body(http_parser *p, const char *at, size_t len)
{
    struct reading *r = p->data;
    buf_append(&r->body, at, len);
    return 0;
}

static int on_complete(http_parser *p)
{
    struct reading *r = p->data;
    r->result = READING_DONE;
    http_parser_pause(p, 1);
    return 0;
}

/* The parser is stopped behind the head, of which it does not count the last byte, and behind the message. */
void reading_make(struct reading *r, struct slice bytes)
{
    static const http_parser_settings settings = {.on_url = on_url,
                                                  .on_header_field = on_field,
                                                  .on_header_value = on_value,
                                                  .on_headers_complete = on_head,
                                                  .on_body = on_body,
                                                  .on_message_complete = on_complete};
    memset(r, 0, sizeof *r);
    http_parser p;
    http_parser_init(&p, HTTP_REQUEST);
    p.data = r;
    size_t at = http_parser_execute(&p, &settings, bytes.data, bytes.len);
    if (r->head_done && HTTP_PARSER_ERRNO(&p) == HPE_PAUSED) {
        r->head_len = at + 1;
        http_parser_pause(&p, 0);
        at += http_parser_execute(&p, &settings, bytes.data + at, bytes.len - at);
    }
    r->consumed = at;
    if (r->result == READING_DONE || HTTP_PARSER_ERRNO(&p) == HPE_OK) return;
    r->result = READING_REFUSED;
    r->why = http_errno_description(HTTP_PARSER_ERRNO(&p));
}

void reading_free(struct reading *r)
{
    buf_free(&r->target);
    buf_free(&r->text);
    buf_free(&r->body);
}

struct slice reading_name(const struct reading *r, unsigned i)
{
    return slice_of(r->text.data + r->fields[i].name_at, r->fields[i].name_len);
}

struct slice reading_value(const struct reading *r, unsigned i)
{
    struct slice text = slice_of(r->text.data + r->fields[i].value_at, r->fields[i].value_len);
    while (text.len && (text.data[0] == ' ' || text.data[0] == '\t')) text = slice_from(text, 1);
    while (text.len && (text.data[text.len - 1] == ' ' || text.data[text.len - 1] == '\t')) text.len--;
    return text;
}
