/* record: what the clients of a run did and saw, as JSON lines for tests/fault/check-history.
 *
 * Times are CLOCK_MONOTONIC nanoseconds: comparable between processes of one boot. A line is written
 *
 *   member   {"t","op":"member","room","user"}: may see the room from now on
 *   invoke   {"t","op":"invoke","room","client_id","sender","content"}: before the request can reach the socket
 *   ok       {"t","op":"ok","room","client_id","sender","seq","message_id"}: after the answer was read
 *   fail     {"t","op":"fail","room","client_id","sender","code"}: refused; it must not exist
 *   unknown  {"t","op":"unknown","room","client_id","sender"}: no answer; it may exist once
 *   receive  {"t","op":"receive","room","user","connection","type","seq", and of a message: "message_id","sender",
 *             "client_id","content","created_at"}: a durable push, in the order of arrival on its connection
 *
 * Lines are gathered in memory and handed to the kernel at the latest every RECORD_FLUSH_NS and at the end, so a killed
 * generator loses at most that much. A zeroed struct is a record that is switched off. One thread. */
#ifndef CARILLON_TOOLS_LOAD_RECORD_H
#define CARILLON_TOOLS_LOAD_RECORD_H

#include "../../src/base/buf.h"
#include "../../src/base/json.h"
#include "../../src/base/status.h"

#define RECORD_FLUSH_NS 100000000ull
#define RECORD_BUFFER_BYTES (1u << 20) /* gathered at most before a write */

struct record {
    bool on;
    int _fd;
    uint64_t _flush_due_ns;
    struct buf _lines;
};

/* message_key names one message of this run. */
struct message_key {
    struct slice room, sender, client_id;
};

/* record_open creates or appends to `path`. */
MUST_USE enum status record_open(struct record *r, const char *path);
void record_member(struct record *r, uint64_t now_ns, struct slice room, struct slice user);
void record_invoke(struct record *r, uint64_t now_ns, const struct message_key *key, struct slice content);
void record_ok(struct record *r, uint64_t now_ns, const struct message_key *key, uint64_t seq, struct slice message_id);
void record_fail(struct record *r, uint64_t now_ns, const struct message_key *key, struct slice code);
void record_unknown(struct record *r, uint64_t now_ns, const struct message_key *key);
/* record_receive takes a durable push as parsed. `connection` is unique in the record. */
void record_receive(struct record *r, uint64_t now_ns, struct slice user, struct slice connection,
                    struct json_node push);
/* record_flush writes what is due at `now_ns`; UINT64_MAX writes everything. Exits with a message when the file cannot
 * be written, because a run whose record is incomplete proves nothing. */
void record_flush(struct record *r, uint64_t now_ns);
void record_close(struct record *r);

#endif
