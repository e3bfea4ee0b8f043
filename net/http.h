/* http: a strict HTTP/1.1 request parser (RFC 9112) and the names of statuses. Pure: bytes in, structures out; no IO.
 *
 * By hand because the packaged parser (http-parser) is archived upstream. What RFC 9112 calls ambiguous is refused:
 * both Content-Length and Transfer-Encoding, obs-fold, bare CR or LF, space before the colon, repeated or differing
 * Content-Length, any transfer coding but a single final `chunked`, bad chunk framing.
 *
 * Call order: http_parse_head on the connection's bytes until it is not HTTP_NEED_MORE; then, when the request has
 * a body, http_body_init and http_body_feed until HTTP_DONE. The request's slices borrow the head's bytes, so when
 * those bytes move, the head is parsed again. */
#ifndef CARILLON_NET_HTTP_H
#define CARILLON_NET_HTTP_H

#include "../src/base/buf.h"
#include "../src/base/slice.h"

enum http_result {
    HTTP_NEED_MORE, /* incomplete, nothing wrong so far */
    HTTP_DONE,
    HTTP_ERROR,     /* `error` says which; the connection is closed after the answer */
};

/* http_error: what was wrong; http_error_status gives the HTTP status, http_error_code the stable dotted code. */
enum http_error {
    HTTP_OK = 0,
    HTTP_BAD_REQUEST_LINE,    /* 400 http.request_line */
    HTTP_BAD_TARGET,          /* 400 http.target */
    HTTP_BAD_VERSION,         /* 505 http.version: not HTTP/1.0 or HTTP/1.1 */
    HTTP_BAD_HEADER,          /* 400 http.header: name, colon, obs-fold, control bytes, bare CR/LF */
    HTTP_BAD_HOST,            /* 400 http.host: missing, repeated or malformed in HTTP/1.1 */
    HTTP_BAD_LENGTH,          /* 400 http.content_length */
    HTTP_AMBIGUOUS_LENGTH,    /* 400 http.ambiguous_length: both lengths */
    HTTP_BAD_TRANSFER_CODING, /* 501 http.transfer_coding (400 when chunked is not last or in HTTP/1.0) */
    HTTP_BAD_CHUNK,           /* 400 http.chunk */
    HTTP_TARGET_TOO_LONG,     /* 414 http.target_too_long */
    HTTP_HEADERS_TOO_LARGE,   /* 431 http.headers_too_large: bytes or count */
    HTTP_BODY_TOO_LARGE,      /* 413 http.body_too_large */
    HTTP_BAD_EXPECT,          /* 417 http.expect: anything but 100-continue */
    HTTP_BAD_METHOD,          /* 501 http.method: a valid token that the gateway does not know */
    HTTP_ERRORS
};

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OPTIONS, HTTP_METHODS };

struct http_header {
    struct slice name, value; /* value without surrounding white space */
};

#define HTTP_HEADERS_MAX 64u /* fields a request; browsers behind two proxies send about 30 */

/* http_request: a parsed head. Slices borrow the bytes given to http_parse_head. */
struct http_request {
    enum http_method method;
    uint8_t minor_version;     /* 0 or 1 */
    bool keep_alive;
    bool chunked;              /* after HTTP_BAD_TRANSFER_CODING: chunked was there, once and last */
    bool has_length;
    bool expect_continue;
    bool upgrade_websocket;    /* Connection has `upgrade` and Upgrade has `websocket` */
    uint64_t content_length;   /* 0 unless has_length */
    struct slice target;       /* as sent */
    struct slice path, query;  /* of the target; query without '?' ; absolute-form targets are reduced to these */
    struct slice host;         /* authority of an absolute-form target, else the Host field; empty when neither */
    size_t head_len;           /* bytes of the head, with the empty line */
    unsigned num_headers;
    struct http_header headers[HTTP_HEADERS_MAX];
    struct slice body;         /* set by the connection when the whole body is there */
};

struct http_limits {
    size_t head_bytes_max;   /* request line and fields together */
    size_t target_bytes_max;
    size_t body_bytes_max;
};

/* http_parse_head parses one request head at the start of `bytes` (RFC 9112 sections 2 to 6). One empty line before
 * the request line is skipped (section 2.2) and is part of head_len.
 *
 * HTTP_NEED_MORE: call again with the same bytes and more behind them. HTTP_DONE: `request` is whole. HTTP_ERROR: of
 * `request` only what http_error_status reads is meaningful. The first fault in the order of the bytes decides, as
 * soon as it is certain: a byte that may not stand where it stands at that byte, a part that is wrong as a whole (a
 * target's escape, a field's value) at the part's end, a bound when it is passed. So more bytes never change a verdict
 * other than HTTP_NEED_MORE.
 *
 * A target keeps to RFC 3986, and has room for what browsers do not escape: of the bytes that it does not allow in a
 * path or query, [ ] ^ ` { | } may stand there as they are: browsers leave all of them in a query, and [ ] | in a path
 * (URL Standard, percent-encode sets). All others must be escaped, and every '%' is an escape. An empty path of an
 * absolute-form target is "/" (RFC 9110 section 4.2.3), for OPTIONS without query "*" (RFC 9112 section 3.2.4); these
 * two do not borrow. A Content-Length above limits->body_bytes_max is HTTP_BODY_TOO_LARGE here, before anyone is told
 * to continue. Upgrade in HTTP/1.0 is ignored (RFC 9110 section 7.8). */
enum http_result http_parse_head(struct http_request *request, enum http_error *error, struct slice bytes,
                                 const struct http_limits *limits);

/* http_header_find returns the first field of that name (ASCII case ignored), or an empty slice with data NULL. */
struct slice http_header_find(const struct http_request *request, const char *name);
/* http_header_count counts fields of that name. */
unsigned http_header_count(const struct http_request *request, const char *name);

/* http_token_len returns how many bytes at the front are a token's (RFC 9110 section 5.6.2). */
size_t http_token_len(struct slice text);

/* http_query_find finds the first `name` in a query string (`a=b&c=d`) and decodes its value into `out`: escapes, and
 * `+` for a space, as forms and URLSearchParams write it. Names are compared as sent. `out` gets no NUL at its end.
 * Returns 1 found, 0 absent, -1 malformed escape, escaped NUL, or longer than out_cap. */
int http_query_find(struct slice query, const char *name, char *out, size_t out_cap, size_t *out_len);
/* http_percent_decode decodes a path segment; false on a malformed escape, a NUL, or when out_cap is too small. `out`
 * gets no NUL at its end and may be in.data itself. */
bool http_percent_decode(struct slice in, char *out, size_t out_cap, size_t *out_len);

/* http_body: the incremental body reader, for both framings. Zeroed by http_body_init. */
struct http_body {
    uint8_t _state;
    bool _chunked;
    uint64_t _left;            /* bytes left of the length or chunk */
    uint64_t _total;           /* bytes delivered so far */
    uint32_t _line_bytes;      /* digits of the chunk size, or bytes of the trailer section */
    uint32_t _extension_bytes; /* chunk extensions of the whole body */
};

void http_body_init(struct http_body *body, const struct http_request *request);
/* http_body_feed takes bytes, appends decoded body bytes to `out`, sets *consumed. HTTP_DONE: the body is whole and
 * the rest of `bytes` belongs to the next request; feeding again changes nothing. More than limits->body_bytes_max:
 * HTTP_BODY_TOO_LARGE, for a chunk as soon as its size says so. After HTTP_ERROR it must not be called again. Chunk
 * extensions and trailer fields (RFC 9112 sections 7.1.1 and 7.1.2) are checked, bounded and dropped. */
enum http_result http_body_feed(struct http_body *body, struct buf *out, size_t *consumed, enum http_error *error,
                                struct slice bytes, const struct http_limits *limits);

/* http_error_status returns the status to answer with; `request` is the one that failed, or NULL. */
unsigned http_error_status(enum http_error error, const struct http_request *request);
/* http_error_code returns the stable dotted code, http_error_detail a sentence for people. "" for HTTP_OK. */
const char *http_error_code(enum http_error error);
const char *http_error_detail(enum http_error error);
const char *http_method_name(enum http_method method);
/* http_reason returns the reason phrase of RFC 9110 section 15, of RFC 6585 (428, 429, 431) or RFC 4918 (507), or ""
 * for a code it does not know. */
const char *http_reason(unsigned status);

#endif
