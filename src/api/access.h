/* access: one log line for each request and each WebSocket, as log.access asks for it (docs/OPERATING.md has the
 * shapes).
 *
 * What a line tells and an answer no longer knows (path, who was calling) is kept from the request on in a record of
 * the connection's slot, since an HTTP connection has one request at a time. While log.access is off there are no
 * records, and a request costs one look at the setting. Never the query string, a credential or a body.
 *
 * Owner: the core. Call order for a request: access_begin, access_caller, access_end once it is answered. */
#ifndef CARILLON_API_ACCESS_H
#define CARILLON_API_ACCESS_H

#include "api.h"

struct session;

void access_begin(struct call *call);
/* access_caller adds who is calling once that is known. */
void access_caller(const struct call *call);
/* access_end writes the line, if the setting wants it. `code` is ERR_NONE for a success; `bytes` is the answer's body.
 * Status 101 opens a WebSocket, 499 is a client that left before its answer. */
void access_end(struct core *core, struct conn_ref conn, uint16_t route, unsigned status, enum error_code code,
                size_t bytes);
/* access_refused tells of what could not be read as a request. */
void access_refused(struct core *core, struct conn *conn, unsigned status, const char *code);
/* access_websocket_closed tells how a WebSocket with a session ended. */
void access_websocket_closed(struct core *core, const struct conn *conn, const struct session *s);
void access_free(struct core *core);

/* access_route writes a route's pattern as logs and metrics show it: "/rooms/:room" rather than "/rooms/{room}", which
 * breaks simple readers of the Prometheus text format; "none" when no route matched. */
#define ROUTE_TEXT_MAX 96u
const char *access_route(unsigned route, char out[ROUTE_TEXT_MAX]);

#endif
