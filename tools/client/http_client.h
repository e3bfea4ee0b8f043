/* http_client: a blocking HTTP/1.1 client for command line tools: one request at a time on one kept-alive connection.
 *
 * Call order: http_client_init, any number of http_client_request, http_client_close. An answer borrows the client and
 * dies at its next request. A request is never sent twice: after STATUS_IO the caller decides, because only it knows
 * whether repeating is safe; the next request opens a new connection. */
#ifndef CARILLON_TOOLS_CLIENT_HTTP_CLIENT_H
#define CARILLON_TOOLS_CLIENT_HTTP_CLIENT_H

#include "../../src/base/buf.h"
#include "../../src/base/slice.h"
#include "../../src/base/status.h"
#include "endpoint.h"

#define HTTP_CLIENT_HEAD_BYTES_MAX (64u << 10) /* status line and fields of an answer */
#define HTTP_CLIENT_BODY_BYTES_MAX (64u << 20) /* an answer's body */

struct http_client {
    struct endpoint endpoint;
    unsigned timeout_ms; /* of each receive and send */
    char why[256];       /* after a failed request: a sentence for people */
    int _fd;             /* -1: not connected */
    struct buf _in;      /* received bytes: the last answer's head, then what follows it */
    struct buf _body;    /* the last answer's decoded body */
};

struct http_answer {
    unsigned status;     /* 200 … 599 */
    struct slice fields; /* the header lines, each ending in CRLF */
    struct slice body;
};

void http_client_init(struct http_client *c, const struct endpoint *endpoint, unsigned timeout_ms);
void http_client_close(struct http_client *c);

/* http_client_request sends `method target` with `fields` (complete lines, each ending in CRLF, may be empty) and reads
 * the whole answer. A body is sent with Content-Type application/json when body.data is not NULL.
 * STATUS_OK for any HTTP status; STATUS_IO: no connection, cut off or timed out; STATUS_INVALID: not HTTP/1.1 as in
 * RFC 9112. c->why says more. */
MUST_USE enum status http_client_request(struct http_client *c, struct http_answer *answer, const char *method,
                                         const char *target, struct slice fields, struct slice body);

/* http_status_line reads the status, 100 to 599, of an answer's head (RFC 9112 section 4); false when it begins with no
 * status line of HTTP/1.0 or HTTP/1.1. */
bool http_status_line(struct slice head, unsigned *status);

/* http_answer_field returns the value of the first field of that name (case ignored), data NULL when absent. */
struct slice http_answer_field(const struct http_answer *answer, const char *name);

#endif
