/* websocket: the receiving half of RFC 6455 and the encoding of frames. Pure: bytes in, events out; no IO.
 *
 * wslay's frame layer takes frames apart and refuses bad lengths; what it does not check, or only once the whole header
 * has come, is checked here: that client frames are masked, reserved bits, unknown opcodes, continuation order, control
 * frames that are long or fragmented, UTF-8 of text incrementally (fail at the first bad byte, RFC 6455 8.1), close
 * payloads and codes (7.4), the message bound.
 *
 * A wslay context holds a 4 KiB buffer, so contexts live in a small pool per core and are lent to a connection only
 * while it is inside a frame; between frames a connection's state is `struct ws_in` alone, with the message under
 * assembly if it is inside a fragmented one. No byte of a following frame ever stays in a lent context.
 *
 * Call order: ws_feed with received bytes until *consumed covers them, handling one event a call. An event's slice is
 * valid until the next ws_feed with the same pool, whichever connection that serves: a core handles one at a time.
 * After WS_ERROR or WS_CLOSE nothing more may be fed. */
#ifndef CARILLON_NET_WEBSOCKET_H
#define CARILLON_NET_WEBSOCKET_H

#include "../src/base/buf.h"
#include "../src/base/slice.h"
#include "../src/base/status.h"

struct ws_pool; /* lent wslay contexts of one core, and the scratch in which its events lie */

/* ws_pool_open makes a pool that keeps at most `keep` idle contexts; more are lent when needed, and freed when they
 * come back. STATUS_NO_MEMORY. */
MUST_USE enum status ws_pool_open(struct ws_pool **out, unsigned keep);
/* ws_pool_close frees the pool (NULL: nothing); every connection must have been ended. */
void ws_pool_close(struct ws_pool *pool);
/* ws_pool_lent counts contexts that are lent out now, for metrics and leak tests. */
unsigned ws_pool_lent(const struct ws_pool *pool);

/* ws_in: what a connection keeps between frames. Zeroed is the start state. Must be ended with ws_in_end. */
struct ws_in {
    void *_lent;            /* a lent context while inside a frame, else NULL */
    struct buf *_message;   /* payload of the message under assembly, else NULL */
    uint32_t _utf8;         /* incremental UTF-8 state of a text message; 0 between characters */
    uint8_t _opcode;        /* of the message under assembly: 0 none, 1 text, 2 binary */
    bool _ended;            /* WS_ERROR or WS_CLOSE was answered */
};

enum ws_event {
    WS_NEED_MORE, /* all bytes consumed, nothing complete */
    WS_TEXT,      /* a whole message in *data, valid UTF-8 */
    WS_BINARY,
    WS_PING,      /* payload in *data, ≤ 125 bytes: answer with a pong of the same payload */
    WS_PONG,
    WS_CLOSE,     /* the peer closes: *close_code is its code (1005 when it sent none), *data the reason */
    WS_ERROR,     /* protocol error: *close_code is the code to fail with (1002, 1003, 1007, 1009) */
};

/* ws_feed takes bytes of the client's stream up to the next event and says in *consumed how many; WS_NEED_MORE means
 * all of them. A message passes message_bytes_max → 1009 as soon as a frame's header declares it, before its memory
 * is allocated; the setting may differ from call to call. *data of WS_TEXT and WS_BINARY is followed by JSON_PADDING
 * readable bytes (zeros), as json_parse needs. *data and *close_code are empty and 0 where the event has none. The
 * events do not depend on how the stream is cut into calls. RFC 6455 5 and 7.4, wslay 1.1.1. */
MUST_USE enum ws_event ws_feed(struct ws_in *in, struct ws_pool *pool, struct slice *data, uint16_t *close_code,
                               size_t *consumed, struct slice bytes, size_t message_bytes_max);
/* ws_in_end gives back what the connection holds, at any point of its stream; doing it twice is harmless. The struct
 * must be zeroed before another connection begins in it. */
void ws_in_end(struct ws_in *in, struct ws_pool *pool);
/* ws_in_bytes: heap bytes this connection's assembly holds, for the memory account, with the context that is lent to
 * it: that belongs to the pool, but it was made because this connection is inside a frame. */
#define WS_LENT_BYTES 4608u /* wslay's context with its buffer, and what stands beside it */
size_t ws_in_bytes(const struct ws_in *in);

enum ws_opcode { WS_OP_TEXT = 1, WS_OP_BINARY = 2, WS_OP_CLOSE = 8, WS_OP_PING = 9, WS_OP_PONG = 10 };

#define WS_HEADER_MAX 10u /* bytes of a server frame's header: 2, 4 or 10 (RFC 6455 5.2) */
/* ws_header_len returns the header's length for a payload of that length. */
size_t ws_header_len(uint64_t payload_len);
/* ws_header writes an unmasked FIN frame's header and returns its length; payload_len < 2^63, ≤ 125 for controls. */
size_t ws_header(uint8_t out[WS_HEADER_MAX], enum ws_opcode opcode, uint64_t payload_len);

#define WS_ACCEPT_LEN 28u
/* ws_accept_key computes Sec-WebSocket-Accept (RFC 6455 4.2.2) from the client's key; false when the key is not the
 * base64 of 16 bytes. `out` is not NUL-terminated. */
bool ws_accept_key(char out[WS_ACCEPT_LEN], struct slice key);

/* ws_close_code_valid: may a peer send this code in a close frame (RFC 6455 7.4 and IANA's registry: 1000–1003,
 * 1007–1014, 3000–4999)? */
bool ws_close_code_valid(uint16_t code);

#endif
