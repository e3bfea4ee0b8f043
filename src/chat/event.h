/* event: how a durable event looks to clients. Pure functions from a log record to JSON text.
 *
 * A live push, a replay, a row of /events and of sync are the same object, byte for byte; a message in a history page
 * is the message object (no `type`, all members). One encoder makes both, on the room's home for pushes and on a
 * reader thread for everything read back. */
#ifndef CARILLON_CHAT_EVENT_H
#define CARILLON_CHAT_EVENT_H

#include "../../storage/records.h"
#include "../base/buf.h"

enum event_shape {
    EVENT_PUSH,    /* {"type":"message","room_id":…}: pushes, events, sync */
    EVENT_MESSAGE, /* {"message_id":…,…,"deleted_at":null}: history; the record must be a message */
};

#define LOG_REPLY_BY_ID 1u /* log_record.flags: reply_to was given, and is shown, as a message id */
#define LOG_FAST 2u        /* log_record.flags: acknowledged before its fsync, as a repeat of it is told again */

/* event_json_len returns the exact length of what event_json writes; event_json returns the end. */
size_t event_json_len(const struct log_record *r, enum event_shape shape);
char *event_json(char *out, const struct log_record *r, enum event_shape shape);

/* event_frame_len and event_frame: the push as a complete WebSocket text frame. */
size_t event_frame_len(const struct log_record *r);
char *event_frame(char *out, const struct log_record *r);

#endif
