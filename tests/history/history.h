/* history: what the clients of a run did, were told and saw, and what the gateway kept; and the rules that both have to
 * satisfy together. It is a library of its own and links nothing of the product, so that it shares none of its
 * mistakes.
 *
 *   struct history *h = history_new();
 *   history_member(h, t, room, user, 0); history_invoke(h, t, &name, content); … in the order of arrival
 *   history_export(h, &event);           … each row of each room's log, in the order of the export
 *   struct history_report report;
 *   if (history_check(h, NULL, &report)) history_report_print(&report, stdout);
 *   history_report_free(&report); history_free(h);
 *
 * Times `t` are nanoseconds of one clock that never goes back. The order of calls matters only among the receipts of
 * one connection (their order of arrival) and among the rows of one room's log. Texts are copied; an empty text means
 * that there is none. Checking takes O(n log n) time and memory in proportion to what was added. Out of memory ends the
 * process. One thread. */
#ifndef CARILLON_TESTS_HISTORY_H
#define CARILLON_TESTS_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define HISTORY_NEVER UINT64_MAX
#define HISTORY_ENTRIES_MAX (1u << 26) /* operations and rows; 8 GiB of them: a record that is larger is a mistake */

struct history;

struct history_text {
    const char *data;
    size_t len;
};

#define HISTORY_TEXT(literal) ((struct history_text){"" literal, sizeof(literal) - 1})

struct history *history_new(void);
void history_free(struct history *h);
/* history_at names the place in a file that what is added from now on comes from; violations show it. `file` is the
 * number that history_file gave. */
uint32_t history_file(struct history *h, const char *path);
void history_at(struct history *h, uint32_t file, uint32_t line);
/* history_len counts what was added. */
size_t history_len(const struct history *h);

/* --- rooms and members ------------------------------------------------------------------------------------------- */

/* history_room_fast: the room's durability is `fast`: it may lose its newest events when the power fails. */
void history_room_fast(struct history *h, uint64_t t, struct history_text room);
/* history_member: from now on the user may see the room: called before whoever adds them asks for it. With until_seq
 * (0: none) up to that event only. */
void history_member(struct history *h, uint64_t t, struct history_text room, struct history_text user,
                    uint64_t until_seq);
/* history_left: the user is no member any more: called when the removal was acknowledged, and only when no join of
 * theirs was under way meanwhile. `seq` is that of the event which tells it, 0 when it is not known. */
void history_left(struct history *h, uint64_t t, struct history_text room, struct history_text user, uint64_t seq);

/* --- sending ------------------------------------------------------------------------------------------------------ */

/* history_name names a message; sending it again under the same name is the same message. */
struct history_name {
    struct history_text room, sender, client_id;
};

/* history_invoke is called before the request can leave the client, each time it is sent. */
void history_invoke(struct history *h, uint64_t t, const struct history_name *name, struct history_text content);
/* history_ok: it was acknowledged. `epoch` is the room's epoch that the connection was told, 0 when it is not known;
 * `created_at` may be empty. */
void history_ok(struct history *h, uint64_t t, const struct history_name *name, uint64_t seq,
                struct history_text message_id, struct history_text created_at, uint64_t epoch);
/* history_fail: it was refused. history_unknown: there was no answer, as for an invoke without an outcome. */
void history_fail(struct history *h, uint64_t t, const struct history_name *name, struct history_text code);
void history_unknown(struct history *h, uint64_t t, const struct history_name *name);

/* --- seeing ------------------------------------------------------------------------------------------------------- */

/* history_event: one event of a room's log, as a reader was shown it or as the export has it. */
struct history_event {
    struct history_text room;
    uint64_t seq;
    struct history_text type; /* "message", "user_joined" … */
    struct history_text message_id, sender, client_id, content, created_at;
    const struct history_text *users; /* whom a user_joined or user_left names */
    size_t num_users;
};

/* history_export adds a row of the log that the gateway kept. */
void history_export(struct history *h, const struct history_event *event);

/* history_receiver: who reads. A device is one over all its connections; empty: the user's own. */
struct history_receiver {
    struct history_text room, user, device;
};

enum history_path {
    HISTORY_PUSH,     /* live, or replayed on a socket */
    HISTORY_EVENTS,   /* a page of the whole log, or a sync */
    HISTORY_MESSAGES, /* a page of messages: other events are left out */
};

/* history_receipt: `connection` names the socket, or one page of its own. `asked` is when a page was asked for. */
struct history_receipt {
    struct history_receiver by;
    struct history_text connection;
    enum history_path path;
    uint64_t asked; /* of a page; 0: not known */
    uint64_t epoch; /* of the room, as the connection was told; 0: not known */
};

void history_receive(struct history *h, uint64_t t, const struct history_receipt *receipt,
                     const struct history_event *event);

/* history_position: `resumed`, the answer to a position [asked_epoch, asked_seq]; asked_epoch 0: none was named. */
struct history_position {
    struct history_receiver by;
    struct history_text connection;
    uint64_t asked_epoch, asked_seq;
    uint64_t epoch, from, head;
    bool recovered;
};

void history_resumed(struct history *h, uint64_t t, const struct history_position *position);

/* --- devices and their cursors ------------------------------------------------------------------------------------ */

/* history_device: the device follows the room from the event behind after_seq on, over all its connections: it is owed
 * every one of them, be it after a resume. */
void history_device(struct history *h, uint64_t t, const struct history_receiver *by, uint64_t after_seq);
/* history_ack is called before an ack can leave the client, history_acked when it was acknowledged. */
void history_ack(struct history *h, uint64_t t, const struct history_receiver *by, uint64_t seq);
/* `asked` is when the ack, or whatever showed the cursor, was asked for; 0: nobody asked, it was pushed. */
void history_acked(struct history *h, uint64_t t, const struct history_receiver *by, uint64_t asked, uint64_t seq);
/* history_cursor: a cursor was shown. */
void history_cursor(struct history *h, uint64_t t, const struct history_receiver *by, uint64_t asked, uint64_t seq);

/* --- notifications ------------------------------------------------------------------------------------------------ */

/* history_notify: a notification is about to be asked for; `key` is its Idempotency-Key. One call for each user that it
 * is for. */
void history_notify(struct history *h, uint64_t t, struct history_text key, struct history_text user,
                    struct history_text content);
void history_notify_ok(struct history *h, uint64_t t, struct history_text key, struct history_text notification_id);
void history_notified(struct history *h, uint64_t t, struct history_text user, struct history_text connection,
                      struct history_text notification_id, struct history_text content);
/* history_dead_letter: the operator's list has it: a notification by its id, or an event of a room by its seq. */
void history_dead_letter(struct history *h, uint64_t t, const struct history_receiver *by,
                         struct history_text notification_id, uint64_t seq);

/* --- faults ------------------------------------------------------------------------------------------------------- */

/* history_crash: the gateway was killed; with `power`, everything that was not synced may be gone. */
void history_crash(struct history *h, uint64_t t, bool power);
/* history_forgotten: so much time has passed that the gateway may have forgotten the client ids and keys of what was
 * sent before t: sent again from t on, under the same name, it may rightly be done again. */
void history_forgotten(struct history *h, uint64_t t);
/* history_healed: no more faults from t on, and the run has gone on for at least within_ns: by then everything that was
 * acknowledged before t had to arrive. */
void history_healed(struct history *h, uint64_t t, uint64_t within_ns);

/* --- the verdict -------------------------------------------------------------------------------------------------- */

enum history_rule {
#define RULE(id, name, text) HISTORY_##id,
#include "rules.def"
#undef RULE
    HISTORY_RULES
};

struct history_options {
    uint64_t up_to; /* the log is of an older state: what was known at up_to or later may be missing; default: never */
};

#define HISTORY_SHOWN 5u /* violations that are kept of each rule; all are counted */
#define HISTORY_PLACES 6u

struct history_violation {
    enum history_rule rule;
    char *sentence;
    char *places[HISTORY_PLACES]; /* "file:line: the operation as a line of a record" */
    size_t num_places;
};

struct history_report {
    uint64_t found[HISTORY_RULES];
    struct history_violation *violations;
    size_t num_violations;
    uint64_t total;
    /* what was judged: a verdict over nothing proves nothing */
    uint64_t rooms, events, messages, acknowledged, refused, open, receipts;
};

/* history_check fills `out` and returns how many violations there are. options NULL: the defaults. */
uint64_t history_check(const struct history *h, const struct history_options *options, struct history_report *out);
void history_report_free(struct history_report *r);
/* history_report_print writes a table of the rules and the first violations of each; _json one JSON object. */
void history_report_print(const struct history_report *r, FILE *out);
void history_report_json(const struct history_report *r, FILE *out);
/* history_rule_name returns the name that stands in reports ("ok.lost"), history_rule_text what it says. */
const char *history_rule_name(enum history_rule rule);
const char *history_rule_text(enum history_rule rule);

#endif
