/* plain: servers that are no gateway, loaded by the same client code, so that both are compared fairly: whatever a
 * publisher sends is broadcast as it is to all who are connected to the room, the publisher too.
 *
 * A room is a path of the server. Such a server numbers nothing, so its publishers do: a message's seq is the
 * publisher's own number times the publishers of the room, plus the publisher's index among them. Messages are padded
 * to the length of the gateway's pushes (--frame), so that both servers send the same bytes. */
#ifndef CARILLON_TOOLS_LOAD_PLAIN_H
#define CARILLON_TOOLS_LOAD_PLAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/buf.h"
#include "../../src/base/slice.h"
#include "session.h"

#define PLAIN_SHELL_BYTES_MAX 160u /* of a message without its content and padding */

enum plain_step {
    PLAIN_NOTHING, /* nothing that concerns the caller: pings, answers to what was published */
    PLAIN_JOINED,  /* the server has taken the session into its room */
    PLAIN_MESSAGE, /* what a publisher of the room has sent */
};

/* plain_joins_at_upgrade tells whether the upgrade is all of the greeting; else plain_take says PLAIN_JOINED. */
bool plain_joins_at_upgrade(enum dialect dialect);

/* plain_take tells what a text of the server is, and answers it when it is part of a greeting or a ping. *message is
 * set with PLAIN_MESSAGE. Socket.IO: protocol 5 over Engine.IO protocol 4, WebSocket alone. */
enum plain_step plain_take(struct slice *message, struct session_hub *h, struct session *s, struct slice text);

/* plain_room writes the room_id that stands in the messages of a room, NUL-terminated. */
void plain_room(char *out, size_t cap, uint64_t room);

/* plain_message appends a message whose frame has a payload of exactly `frame_bytes` (at least the content and
 * PLAIN_SHELL_BYTES_MAX). `head` is {"type":"message","room_id":"…","seq": */
void plain_message(struct buf *out, enum dialect dialect, struct slice head, uint64_t seq, struct slice content,
                   uint64_t frame_bytes);

#endif
