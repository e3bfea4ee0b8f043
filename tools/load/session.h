/* session: WebSocket clients on the engine: upgrade, frames apart, pings answered, and why a connection ended.
 *
 * Call order: session_hub_open; session_open for each; session_send after on_upgraded; session_hub_turn in a loop;
 * session_leave; session_hub_close. A session belongs to the caller, begins zeroed and stays in place until on_lost. */
#ifndef CARILLON_TOOLS_LOAD_SESSION_H
#define CARILLON_TOOLS_LOAD_SESSION_H

#include "../../src/base/slice.h"
#include "../client/ws_client.h"
#include "engine.h"
#include "options.h"
#include "setup.h"

enum session_state {
    SESSION_NEW = 0,   /* no connection */
    SESSION_UPGRADING, /* peer is valid; waiting for the answer to the upgrade */
    SESSION_OPEN,      /* frames flow */
    SESSION_LEAVING,   /* we sent a close frame and wait for the end */
};

struct session {
    struct peer peer; /* first: the engine hands it back */
    enum session_state state;
    bool gone;     /* on_lost was or is being called for an end that we did not ask for */
    struct buf in; /* an incomplete head or frame */
    char why[96];  /* a sentence, once it was lost */
};

struct session_handlers {
    void (*on_upgraded)(void *context, struct session *s, uint64_t now_ns);
    void (*on_text)(void *context, struct session *s, struct slice text, uint64_t now_ns); /* text dies on return */
    /* The session is over; s->gone tells an end that we did not ask for (s->why says how), else we left. */
    void (*on_lost)(void *context, struct session *s, uint64_t now_ns);
    void *context;
};

struct session_hub {
    struct engine *engine;
    struct session_handlers handlers;
    const struct setup *setup;
    const char *subprotocol; /* NULL: none */
    enum dialect dialect;
    char authority[ENDPOINT_HOST_BYTES_MAX + 16];
    /* One key a run: the nonce only has to prove that the server speaks WebSocket, which one answer proves as well. */
    char key[WS_CLIENT_KEY_LEN], accept[WS_ACCEPT_LEN];
    uint64_t mask_state;
};

/* session_hub_open speaks carillon.v1.json with a gateway and no subprotocol with others. */
MUST_USE enum status session_hub_open(struct session_hub *h, const struct session_handlers *handlers,
                                      const struct setup *setup, const struct options *o);
void session_hub_close(struct session_hub *h);

/* session_open starts a connection as `user`, to a server that is no gateway into room number `room`; STATUS_IO when
 * the kernel gives no socket. */
MUST_USE enum status session_open(struct session_hub *h, struct session *s, uint64_t room, struct slice user);
/* session_send queues one text message; it goes out with the turn. */
void session_send(struct session_hub *h, struct session *s, struct slice text);
/* session_leave says goodbye; the server closes. */
void session_leave(struct session_hub *h, struct session *s);
/* session_fail ends the connection at once for a reason of ours. */
void session_fail(struct session_hub *h, struct session *s, const char *why);
void session_free(struct session *s);

#endif
