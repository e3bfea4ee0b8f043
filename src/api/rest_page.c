/* rest_page: the page at the root, a chat client of two users, and the files that it consists of. */
#include "api.h"
#include "page_files.h"

/* What the page may do, told to the browser: load from here, call here, and nothing else. It must not be framed,
 * because whoever frames it could have its buttons pressed. no-cache: kept, and asked for again by its ETag, so that a
 * new version of the server never meets an old page. */
#define PAGE_HEADERS \
    "Cache-Control: no-cache\r\n" \
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src " \
    "'self'; " \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n" \
    "Referrer-Policy: no-referrer\r\n" \
    "X-Content-Type-Options: nosniff\r\n"

static const struct page_file *file_find(struct slice name)
{
    for (unsigned i = 0; i < num_page_files; i++)
        if (slice_is(name, page_files[i].name)) return &page_files[i];
    return NULL;
}

/* etag_matches looks through If-None-Match: a list of tags or "*", compared weakly (RFC 9110 section 13.1.2). */
static bool etag_matches(struct slice field, const char *etag)
{
    while (field.len) {
        const char *comma = memchr(field.data, ',', field.len);
        struct slice tag = {field.data, comma ? (size_t)(comma - field.data) : field.len};
        field = slice_from(field, tag.len + (comma != NULL));
        while (tag.len && tag.data[0] == ' ') tag = slice_from(tag, 1);
        while (tag.len && tag.data[tag.len - 1] == ' ') tag.len--;
        if (slice_starts(tag, SLICE("W/"))) tag = slice_from(tag, 2);
        if (slice_is(tag, etag) || slice_is(tag, "*")) return true;
    }
    return false;
}

void rest_page(struct call *call)
{
    struct core *core = call->core;
    const struct page_file *file = file_find(call->route == ROUTE_INDEX ? SLICE("index.html") : call->params[0]);
    if (!file) {
        call_fail(call, ERR_ROUTE_NOT_FOUND, NULL, NULL);
        return;
    }
    struct slice known = http_header_find(call->request, "If-None-Match");
    unsigned status = known.data && etag_matches(known, file->etag) ? 304 : 200;
    struct buf headers = {0};
    buf_printf(&headers, "ETag: %s\r\n" PAGE_HEADERS, file->etag);
    rest_reply(core, call->conn, call->route, core->now_ns, status, file->content_type, buf_slice(&headers),
               status == 200 ? file->content : (struct slice){0});
    buf_free(&headers);
}
