#define _GNU_SOURCE /* getline, strerrordesc_np */
#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "entry.h"

/* line: one object, and the first thing that is wrong with it. */
struct line {
    struct history *h;
    json_t *object;
    char *error; /* RECORD_ERROR_MAX; empty: nothing is wrong yet */
};

static void read_operation(struct line *l, enum entry_kind kind);
static void read_row(struct line *l);

bool record_file(struct history *h, char error[RECORD_ERROR_MAX], const char *path)
{
    FILE *in = fopen(path, "r");
    if (!in) {
        snprintf(error, RECORD_ERROR_MAX, "%s: %s", path, strerrordesc_np(errno));
        return false;
    }
    bool ok = record_stream(h, error, in, path);
    fclose(in);
    return ok;
}

bool record_stream(struct history *h, char error[RECORD_ERROR_MAX], FILE *in, const char *path)
{
    uint32_t file = history_file(h, path), number = 0;
    char *text = NULL, why[RECORD_ERROR_MAX];
    size_t cap = 0;
    bool ok = true;
    for (ssize_t len; ok && (len = getline(&text, &cap, in)) >= 0;) {
        history_at(h, file, ++number);
        if (len && text[len - 1] == '\n') len--;
        ok = number < RECORD_LINES_MAX && record_line(h, why, (struct history_text){text, (size_t)len});
        if (!ok) snprintf(error, RECORD_ERROR_MAX, "%s:%" PRIu32 ": %.400s", path, number, why);
    }
    if (ok && ferror(in)) {
        snprintf(error, RECORD_ERROR_MAX, "%s: %s", path, strerrordesc_np(errno));
        ok = false;
    }
    free(text);
    return ok;
}

bool record_line(struct history *h, char error[RECORD_ERROR_MAX], struct history_text line)
{
    json_error_t where;
    struct line l = {.h = h, .error = error};
    error[0] = '\0';
    if (line.len > RECORD_LINE_MAX) {
        snprintf(error, RECORD_ERROR_MAX, "a line of %zu bytes; %u are the most", line.len, RECORD_LINE_MAX);
        return false;
    }
    l.object = json_loadb(line.data, line.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!json_is_object(l.object)) {
        snprintf(error, RECORD_ERROR_MAX, "no JSON object%s%s: %.*s", l.object ? "" : ": ", l.object ? "" : where.text,
                 (int)(line.len < 100 ? line.len : 100), line.data);
        json_decref(l.object);
        return false;
    }
    json_t *op = json_object_get(l.object, "op");
    enum entry_kind kind = ENTRY_KINDS;
    if (json_is_string(op)) kind = entry_kind_of((struct history_text){json_string_value(op), json_string_length(op)});
    if (!op)
        read_row(&l);
    else if (kind == ENTRY_KINDS)
        snprintf(error, RECORD_ERROR_MAX, "no such op");
    else
        read_operation(&l, kind);
    json_decref(l.object);
    return !error[0];
}

/* --- members ----------------------------------------------------------------------------------------------------- */

static void wrong(struct line *l, const char *name, const char *what)
{
    if (!l->error[0]) snprintf(l->error, RECORD_ERROR_MAX, "member \"%s\" %s", name, what);
}

/* text returns a string that may be missing or null. */
static struct history_text text(struct line *l, const char *name)
{
    json_t *value = json_object_get(l->object, name);
    if (!value || json_is_null(value)) return (struct history_text){0};
    if (!json_is_string(value)) {
        wrong(l, name, "is no text");
        return (struct history_text){0};
    }
    return (struct history_text){json_string_value(value), json_string_length(value)};
}

static struct history_text text_needed(struct line *l, const char *name)
{
    struct history_text t = text(l, name);
    if (t.len == 0) wrong(l, name, "is missing");
    return t;
}

static uint64_t integer(struct line *l, const char *name, const json_t *value)
{
    if (json_is_integer(value) && json_integer_value(value) >= 0) return (uint64_t)json_integer_value(value);
    wrong(l, name, "is no integer from 0 on");
    return 0;
}

/* number returns an integer that may be missing or null: 0. */
static uint64_t number(struct line *l, const char *name)
{
    json_t *value = json_object_get(l->object, name);
    return value && !json_is_null(value) ? integer(l, name, value) : 0;
}

static uint64_t number_needed(struct line *l, const char *name)
{
    json_t *value = json_object_get(l->object, name);
    if (!value) wrong(l, name, "is missing");
    return value ? integer(l, name, value) : 0;
}

static uint64_t seq_needed(struct line *l)
{
    uint64_t seq = number_needed(l, "seq");
    if (seq == 0) wrong(l, "seq", "is 0, and the first event is 1");
    return seq;
}

static bool flag_needed(struct line *l, const char *name)
{
    json_t *value = json_object_get(l->object, name);
    if (!json_is_boolean(value)) wrong(l, name, "is neither true nor false");
    return json_is_true(value);
}

static bool fine(const struct line *l)
{
    return !l->error[0];
}

/* --- rows and receipts ------------------------------------------------------------------------------------------- */

static void read_users(struct line *l, struct history_event *event, struct history_text **users)
{
    json_t *list = json_object_get(l->object, "user_ids");
    *users = NULL;
    if (!json_is_array(list) || json_array_size(list) == 0) return; /* large rooms only count them */
    *users = must(calloc(json_array_size(list), sizeof **users));
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *user = json_array_get(list, i);
        if (json_is_string(user))
            (*users)[i] = (struct history_text){json_string_value(user), json_string_length(user)};
        else
            wrong(l, "user_ids", "has something else than texts");
    }
    event->users = *users;
    event->num_users = json_array_size(list);
}

static struct history_event read_event(struct line *l, const char *room, const char *sender)
{
    return (struct history_event){.room = text_needed(l, room),
                                  .seq = seq_needed(l),
                                  .type = text_needed(l, "type"),
                                  .message_id = text(l, "message_id"),
                                  .sender = text(l, sender),
                                  .client_id = text(l, "client_id"),
                                  .content = text(l, "content"),
                                  .created_at = text(l, "created_at")};
}

static void read_row(struct line *l)
{
    struct history_text *users;
    struct history_event event = read_event(l, "room_id", "sender_id");
    read_users(l, &event, &users);
    if (fine(l)) history_export(l->h, &event);
    free(users);
}

static struct history_receiver read_receiver(struct line *l)
{
    return (struct history_receiver){text_needed(l, "room"), text_needed(l, "user"), text(l, "device")};
}

static enum history_path read_path(struct line *l)
{
    struct history_text path = text(l, "path");
    if (path.len == 0 || strcmp(path.data, "push") == 0) return HISTORY_PUSH;
    if (strcmp(path.data, "events") == 0) return HISTORY_EVENTS;
    if (strcmp(path.data, "messages") == 0) return HISTORY_MESSAGES;
    wrong(l, "path", "is none of push, events, messages");
    return HISTORY_PUSH;
}

static void read_receive(struct line *l, uint64_t t)
{
    struct history_text *users;
    struct history_event event = read_event(l, "room", "sender");
    struct history_receipt receipt = {.by = read_receiver(l),
                                      .connection = text_needed(l, "connection"),
                                      .path = read_path(l),
                                      .asked = number(l, "asked"),
                                      .epoch = number(l, "epoch")};
    read_users(l, &event, &users);
    if (fine(l)) history_receive(l->h, t, &receipt, &event);
    free(users);
}

static void read_resumed(struct line *l, uint64_t t)
{
    json_t *asked = json_object_get(l->object, "asked");
    struct history_position p = {.by = read_receiver(l),
                                 .connection = text_needed(l, "connection"),
                                 .epoch = number_needed(l, "epoch"),
                                 .from = number_needed(l, "from"),
                                 .head = number_needed(l, "head"),
                                 .recovered = flag_needed(l, "recovered")};
    if (p.from == 0) wrong(l, "from", "is 0, and the first event is 1");
    if (json_array_size(asked) == 2) {
        p.asked_epoch = integer(l, "asked", json_array_get(asked, 0));
        p.asked_seq = integer(l, "asked", json_array_get(asked, 1));
    } else if (asked && !json_is_null(asked)) {
        wrong(l, "asked", "is no [epoch, seq]");
    }
    if (fine(l)) history_resumed(l->h, t, &p);
}

/* --- operations -------------------------------------------------------------------------------------------------- */

static void read_send(struct line *l, enum entry_kind kind, uint64_t t)
{
    struct history_name name = {text_needed(l, "room"), text_needed(l, "sender"), text_needed(l, "client_id")};
    uint64_t seq = kind == ENTRY_OK ? seq_needed(l) : 0, epoch = number(l, "epoch");
    struct history_text message_id = kind == ENTRY_OK ? text_needed(l, "message_id") : (struct history_text){0};
    struct history_text content = text(l, "content"), code = text(l, "code");
    if (!fine(l)) return;
    if (kind == ENTRY_INVOKE)
        history_invoke(l->h, t, &name, content);
    else if (kind == ENTRY_OK)
        history_ok(l->h, t, &name, seq, message_id, text(l, "created_at"), epoch);
    else if (kind == ENTRY_FAIL)
        history_fail(l->h, t, &name, code);
    else
        history_unknown(l->h, t, &name);
}

static void read_membership(struct line *l, enum entry_kind kind, uint64_t t)
{
    struct history_text room = text_needed(l, "room"), user = text_needed(l, "user");
    uint64_t until_seq = number(l, "until_seq"), seq = number(l, "seq");
    if (!fine(l)) return;
    if (kind == ENTRY_MEMBER)
        history_member(l->h, t, room, user, until_seq);
    else
        history_left(l->h, t, room, user, seq);
}

static void read_cursor(struct line *l, enum entry_kind kind, uint64_t t)
{
    struct history_receiver by = read_receiver(l);
    uint64_t seq = number_needed(l, kind == ENTRY_DEVICE ? "after_seq" : "seq"), asked = number(l, "asked");
    if (kind == ENTRY_DEVICE && by.device.len == 0) wrong(l, "device", "is missing");
    if (!fine(l)) return;
    if (kind == ENTRY_DEVICE)
        history_device(l->h, t, &by, seq);
    else if (kind == ENTRY_ACK)
        history_ack(l->h, t, &by, seq);
    else if (kind == ENTRY_ACKED)
        history_acked(l->h, t, &by, asked, seq);
    else
        history_cursor(l->h, t, &by, asked, seq);
}

static void read_notify(struct line *l, enum entry_kind kind, uint64_t t)
{
    bool answer = kind == ENTRY_NOTIFY_OK, asked = kind == ENTRY_NOTIFY;
    struct history_text key = kind == ENTRY_NOTIFIED ? text(l, "key") : text_needed(l, "key");
    struct history_text id = asked ? text(l, "notification_id") : text_needed(l, "notification_id");
    struct history_text user = answer ? text(l, "user") : text_needed(l, "user");
    struct history_text content = text(l, "content"), connection = text(l, "connection");
    if (!fine(l)) return;
    if (asked)
        history_notify(l->h, t, key, user, content);
    else if (answer)
        history_notify_ok(l->h, t, key, id);
    else
        history_notified(l->h, t, user, connection, id, content);
}

static void read_dead_letter(struct line *l, uint64_t t)
{
    struct history_receiver by = {text(l, "room"), text(l, "user"), text(l, "device")};
    struct history_text id = text(l, "notification_id");
    uint64_t seq = number(l, "seq");
    if (id.len == 0 && (seq == 0 || by.room.len == 0)) wrong(l, "notification_id", "is missing, or room and seq are");
    if (fine(l)) history_dead_letter(l->h, t, &by, id, seq);
}

static void read_room(struct line *l, uint64_t t)
{
    struct history_text room = text_needed(l, "room"), durability = text_needed(l, "durability");
    if (!fine(l)) return;
    if (strcmp(durability.data, "fast") == 0)
        history_room_fast(l->h, t, room);
    else if (strcmp(durability.data, "fsync") != 0)
        wrong(l, "durability", "is neither fast nor fsync");
}

static void read_operation(struct line *l, enum entry_kind kind)
{
    uint64_t t = number_needed(l, "t");
    switch (kind) {
    case ENTRY_INVOKE:
    case ENTRY_OK:
    case ENTRY_FAIL:
    case ENTRY_UNKNOWN: read_send(l, kind, t); return;
    case ENTRY_RECEIVE: read_receive(l, t); return;
    case ENTRY_MEMBER:
    case ENTRY_LEFT: read_membership(l, kind, t); return;
    case ENTRY_RESUMED: read_resumed(l, t); return;
    case ENTRY_DEVICE:
    case ENTRY_ACK:
    case ENTRY_ACKED:
    case ENTRY_CURSOR: read_cursor(l, kind, t); return;
    case ENTRY_NOTIFY:
    case ENTRY_NOTIFY_OK:
    case ENTRY_NOTIFIED: read_notify(l, kind, t); return;
    case ENTRY_DEAD_LETTER: read_dead_letter(l, t); return;
    case ENTRY_ROOM: read_room(l, t); return;
    case ENTRY_CRASH: {
        bool power = flag_needed(l, "power");
        if (fine(l)) history_crash(l->h, t, power);
        return;
    }
    case ENTRY_FORGOTTEN:
        if (fine(l)) history_forgotten(l->h, t);
        return;
    case ENTRY_HEALED: {
        uint64_t within_ns = number_needed(l, "within_ns");
        if (fine(l)) history_healed(l->h, t, within_ns);
        return;
    }
    case ENTRY_EXPORT:
    case ENTRY_KINDS: break;
    }
    abort();
}
