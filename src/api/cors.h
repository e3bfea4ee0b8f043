/* cors: which pages may call from a browser. Answers to pages of listed origins carry what their browser asks for (the
 * Fetch standard, "CORS protocol"); a page that this server serves itself needs none of it. Credentials are headers
 * that a page must set by itself, never cookies, so "*" gives no page what it does not have already. */
#ifndef CARILLON_API_CORS_H
#define CARILLON_API_CORS_H

#include "api.h"

/* cors_note remembers the origin of a request on its connection until it is answered, where that matters. */
void cors_note(struct call *call);
/* cors_headers appends what an answer to the connection's request needs. */
void cors_headers(struct buf *out, struct core *core, struct conn *conn);
/* cors_preflight appends what the answer to a preflight names beside that: methods (bits of enum http_method),
 * headers. */
void cors_preflight(struct buf *out, struct conn *conn, unsigned methods);

/* cors_socket_allowed: may this page open a WebSocket with a ticket? Browsers send Origin with every handshake and
 * check nothing by themselves (RFC 6455 section 10.2). Without it the caller is no browser. The scheme of the server's
 * own pages is left open: a proxy in front may speak TLS. */
bool cors_socket_allowed(const struct call *call);

#endif
