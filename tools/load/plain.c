#include "plain.h"

#include <inttypes.h>
#include <stdio.h>

#include "../../src/base/assert.h"

#define SOCKET_IO_EVENT "42[\"m\"," /* Engine.IO message, Socket.IO event `m` with one argument */

static enum plain_step take_socket_io(struct slice *message, struct session_hub *h, struct session *s,
                                      struct slice text);

bool plain_joins_at_upgrade(enum dialect dialect)
{
    return dialect == DIALECT_WEBSOCKET;
}

enum plain_step plain_take(struct slice *message, struct session_hub *h, struct session *s, struct slice text)
{
    if (h->dialect == DIALECT_SOCKET_IO) return take_socket_io(message, h, s, text);
    *message = text;
    return slice_starts(text, SLICE("{")) ? PLAIN_MESSAGE : PLAIN_NOTHING;
}

static enum plain_step take_socket_io(struct slice *message, struct session_hub *h, struct session *s,
                                      struct slice text)
{
    size_t shell = sizeof SOCKET_IO_EVENT - 1;
    if (LIKELY(text.len > shell && slice_starts(text, SLICE(SOCKET_IO_EVENT)))) {
        *message = slice_of(text.data + shell, text.len - shell - 1);
        return PLAIN_MESSAGE;
    }
    if (slice_starts(text, SLICE("40"))) return PLAIN_JOINED;
    if (slice_starts(text, SLICE("0")))
        session_send(h, s, SLICE("40"));
    else if (slice_is(text, "2"))
        session_send(h, s, SLICE("3"));
    else
        session_fail(h, s, "the server refused the Socket.IO connection");
    return PLAIN_NOTHING;
}

void plain_room(char *out, size_t cap, uint64_t room)
{
    snprintf(out, cap, "peer-%" PRIu64, room);
}

void plain_message(struct buf *out, enum dialect dialect, struct slice head, uint64_t seq, struct slice content,
                   uint64_t frame_bytes)
{
    size_t begin = out->len;
    bool wrapped = dialect == DIALECT_SOCKET_IO;
    if (wrapped) BUF_LIT(out, SOCKET_IO_EVENT);
    buf_slice_append(out, head);
    buf_u64(out, seq);
    BUF_LIT(out, ",\"content\":\"");
    buf_slice_append(out, content); /* letters and digits only: nothing to escape */
    BUF_LIT(out, "\",\"pad\":\"");
    size_t end = wrapped ? 3 : 2, len = out->len - begin + end;
    ASSERT(len <= frame_bytes);
    for (; len < frame_bytes; len++) buf_char(out, '.');
    BUF_LIT(out, "\"}");
    if (wrapped) buf_char(out, ']');
}
