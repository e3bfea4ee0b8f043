/* admin_client: one HTTP/1.1 request to the gateway's own admin socket, for what the program itself asks of it
 * (`carillon dev`). Blocking, so never from a core's thread. It reads only what the gateway writes: a length, never
 * chunks. */
#ifndef CARILLON_CLI_ADMIN_CLIENT_H
#define CARILLON_CLI_ADMIN_CLIENT_H

#include "../base/buf.h"
#include "../base/status.h"

struct admin_request {
    const char *method, *target;
    const char *api_key, *user_id; /* NULL: as the operator */
    struct slice body;             /* JSON; empty: none */
};

/* admin_client_call sends it and replaces *body by the answer's. *http_status is 200 … 599. STATUS_IO: no connection,
 * no answer within ADMIN_TIMEOUT_MS, or cut off; STATUS_INVALID: not an answer that the gateway would give. */
MUST_USE enum status admin_client_call(unsigned *http_status, struct buf *body, const char *socket_path,
                                       const struct admin_request *request);

#endif
