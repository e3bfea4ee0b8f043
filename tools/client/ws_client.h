/* ws_client: the client half of WebSocket (RFC 6455): handshake and framing as pure functions, which carillon-load
 * drives from its own ring, and a small blocking client on top of them for command line tools.
 *
 * By hand, and not by the code in net/: a client that checked the server with the server's own code would agree with
 * its mistakes. Frames are expected whole (FIN set): the gateway never fragments what it sends. */
#ifndef CARILLON_TOOLS_CLIENT_WS_CLIENT_H
#define CARILLON_TOOLS_CLIENT_WS_CLIENT_H

#include "../../net/websocket.h"
#include "../../src/base/buf.h"
#include "../../src/base/slice.h"
#include "../../src/base/status.h"
#include "endpoint.h"

/* --- pure ---------------------------------------------------------------------------------------------------- */

#define WS_CLIENT_KEY_LEN 24u                 /* base64 of 16 bytes */
#define WS_CLIENT_FRAME_BYTES_MAX (16u << 20) /* a longer frame from the server is refused */

/* ws_client_key makes a fresh Sec-WebSocket-Key and the Sec-WebSocket-Accept that must answer it; neither is
 * NUL-terminated. */
void ws_client_key(char key[WS_CLIENT_KEY_LEN], char accept[WS_ACCEPT_LEN]);

/* ws_client_request appends an upgrade request. `fields` are complete lines ending in CRLF; `subprotocol` may be NULL.
 */
void ws_client_request(struct buf *out, const char *authority, const char *target, const char *key,
                       const char *subprotocol, struct slice fields);

/* ws_client_answer looks at the received bytes for the answer to an upgrade. STATUS_FULL: more bytes are needed;
 * STATUS_OK: *head_len bytes are the head, what follows are frames; STATUS_DENIED: another status than 101, given in
 * *http_status; STATUS_INVALID: not an answer, or one that does not accept this key or subprotocol. */
MUST_USE enum status ws_client_answer(size_t *head_len, unsigned *http_status, struct slice bytes, const char *accept,
                                      const char *subprotocol);

/* ws_client_frame appends one masked FIN frame (RFC 6455 5.3). */
void ws_client_frame(struct buf *out, enum ws_opcode opcode, struct slice payload, uint32_t mask);

/* ws_client_header reads a server frame's header. Returns its length (2, 4 or 10), 0 when more bytes are needed, -1
 * when the frame is masked, fragmented, has reserved bits or is longer than WS_CLIENT_FRAME_BYTES_MAX. */
int ws_client_header(const char *bytes, size_t len, unsigned *opcode, size_t *payload_len);

/* --- blocking ------------------------------------------------------------------------------------------------ */

struct ws_client {
    char why[256];       /* after a failure: a sentence for people */
    uint16_t close_code; /* after STATUS_NOT_FOUND: the peer's code, 1005 without one, 1006 without a close frame */
    unsigned http_status; /* after STATUS_DENIED: what the upgrade was answered with */
    int _fd;
    struct buf _in;
    size_t _taken; /* bytes of _in that belong to the frame handed out last */
};

/* ws_client_open connects and upgrades; `timeout_ms` bounds each wait. STATUS_IO, STATUS_DENIED or STATUS_INVALID with
 * w->why set. ws_client_close is due in every case. */
MUST_USE enum status ws_client_open(struct ws_client *w, const struct endpoint *endpoint, const char *target,
                                    const char *subprotocol, struct slice fields, unsigned timeout_ms);
MUST_USE enum status ws_client_send(struct ws_client *w, struct slice text);
/* ws_client_receive returns the next text message; it borrows the client and dies at the next call. Pings are answered
 * on the way. STATUS_FULL: nothing within `timeout_ms` (0: what is there already); STATUS_NOT_FOUND: the peer closed;
 * STATUS_IO and STATUS_INVALID as they say. */
MUST_USE enum status ws_client_receive(struct ws_client *w, struct slice *text, unsigned timeout_ms);
/* ws_client_fd gives the descriptor for poll(2); call ws_client_receive with 0 until STATUS_FULL after it is readable.
 */
int ws_client_fd(const struct ws_client *w);
/* ws_client_close says goodbye (code 1000) without waiting and frees. */
void ws_client_close(struct ws_client *w);

#endif
