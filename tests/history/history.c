#include "history.h"

#include <stdlib.h>
#include <string.h>

#include "entry.h"

#define ENTRIES_AT_FIRST 256u

static uint32_t number(struct history *h, struct history_text text);
static void add(struct history *h, struct entry e);
static struct entry of_name(struct history *h, enum entry_kind kind, uint64_t t, const struct history_name *name);
static struct entry of_receiver(struct history *h, enum entry_kind kind, uint64_t t, const struct history_receiver *by);
static void users_add(struct history *h, struct entry *e, const struct history_event *event);

struct history *history_new(void)
{
    struct history *h = must(calloc(1, sizeof *h));
    texts_init(&h->texts);
    h->cap = ENTRIES_AT_FIRST;
    h->entries = must(malloc(h->cap * sizeof *h->entries));
    return h;
}

void history_free(struct history *h)
{
    texts_free(&h->texts);
    free(h->entries);
    free(h->users);
    free(h->files);
    free(h);
}

uint32_t history_file(struct history *h, const char *path)
{
    h->files = must(realloc(h->files, (h->num_files + 1) * sizeof *h->files));
    h->files[h->num_files] = number(h, (struct history_text){path, strlen(path)});
    return (uint32_t)h->num_files++;
}

void history_at(struct history *h, uint32_t file, uint32_t line)
{
    h->file = file;
    h->line = line;
}

size_t history_len(const struct history *h)
{
    return h->len;
}

/* --- operations -------------------------------------------------------------------------------------------------- */

void history_room_fast(struct history *h, uint64_t t, struct history_text room)
{
    add(h, (struct entry){.kind = ENTRY_ROOM, .t = t, .room = number(h, room)});
}

void history_member(struct history *h, uint64_t t, struct history_text room, struct history_text user,
                    uint64_t until_seq)
{
    add(h, (struct entry){
               .kind = ENTRY_MEMBER, .t = t, .room = number(h, room), .user = number(h, user), .until_seq = until_seq});
}

void history_left(struct history *h, uint64_t t, struct history_text room, struct history_text user, uint64_t seq)
{
    add(h, (struct entry){.kind = ENTRY_LEFT, .t = t, .room = number(h, room), .user = number(h, user), .seq = seq});
}

void history_invoke(struct history *h, uint64_t t, const struct history_name *name, struct history_text content)
{
    struct entry e = of_name(h, ENTRY_INVOKE, t, name);
    e.content = number(h, content);
    add(h, e);
}

void history_ok(struct history *h, uint64_t t, const struct history_name *name, uint64_t seq,
                struct history_text message_id, struct history_text created_at, uint64_t epoch)
{
    struct entry e = of_name(h, ENTRY_OK, t, name);
    e.seq = seq;
    e.message_id = number(h, message_id);
    e.created_at = number(h, created_at);
    e.epoch = epoch;
    add(h, e);
}

void history_fail(struct history *h, uint64_t t, const struct history_name *name, struct history_text code)
{
    struct entry e = of_name(h, ENTRY_FAIL, t, name);
    e.code = number(h, code);
    add(h, e);
}

void history_unknown(struct history *h, uint64_t t, const struct history_name *name)
{
    add(h, of_name(h, ENTRY_UNKNOWN, t, name));
}

static struct entry of_event(struct history *h, enum entry_kind kind, uint64_t t, const struct history_event *event)
{
    struct entry e = {.kind = kind,
                      .t = t,
                      .room = number(h, event->room),
                      .seq = event->seq,
                      .type = number(h, event->type),
                      .message_id = number(h, event->message_id),
                      .client_id = number(h, event->client_id),
                      .content = number(h, event->content),
                      .created_at = number(h, event->created_at)};
    users_add(h, &e, event);
    return e;
}

void history_export(struct history *h, const struct history_event *event)
{
    struct entry e = of_event(h, ENTRY_EXPORT, 0, event);
    e.user = e.sender = number(h, event->sender);
    add(h, e);
}

void history_receive(struct history *h, uint64_t t, const struct history_receipt *receipt,
                     const struct history_event *event)
{
    struct entry e = of_event(h, ENTRY_RECEIVE, t, event);
    e.room = number(h, receipt->by.room.len ? receipt->by.room : event->room);
    e.user = number(h, receipt->by.user);
    e.device = number(h, receipt->by.device);
    e.connection = number(h, receipt->connection);
    e.sender = number(h, event->sender);
    e.path = receipt->path;
    e.asked = receipt->asked;
    e.epoch = receipt->epoch;
    add(h, e);
}

void history_resumed(struct history *h, uint64_t t, const struct history_position *position)
{
    struct entry e = of_receiver(h, ENTRY_RESUMED, t, &position->by);
    e.connection = number(h, position->connection);
    e.asked_epoch = position->asked_epoch;
    e.asked_seq = position->asked_seq;
    e.epoch = position->epoch;
    e.from = position->from;
    e.head = position->head;
    e.recovered = position->recovered;
    add(h, e);
}

static void add_cursor(struct history *h, enum entry_kind kind, uint64_t t, const struct history_receiver *by,
                       uint64_t asked, uint64_t seq)
{
    struct entry e = of_receiver(h, kind, t, by);
    e.asked = asked;
    e.seq = seq;
    add(h, e);
}

void history_device(struct history *h, uint64_t t, const struct history_receiver *by, uint64_t after_seq)
{
    add_cursor(h, ENTRY_DEVICE, t, by, 0, after_seq);
}

void history_ack(struct history *h, uint64_t t, const struct history_receiver *by, uint64_t seq)
{
    add_cursor(h, ENTRY_ACK, t, by, 0, seq);
}

void history_acked(struct history *h, uint64_t t, const struct history_receiver *by, uint64_t asked, uint64_t seq)
{
    add_cursor(h, ENTRY_ACKED, t, by, asked, seq);
}

void history_cursor(struct history *h, uint64_t t, const struct history_receiver *by, uint64_t asked, uint64_t seq)
{
    add_cursor(h, ENTRY_CURSOR, t, by, asked, seq);
}

void history_notify(struct history *h, uint64_t t, struct history_text key, struct history_text user,
                    struct history_text content)
{
    add(h, (struct entry){.kind = ENTRY_NOTIFY,
                          .t = t,
                          .key = number(h, key),
                          .user = number(h, user),
                          .content = number(h, content)});
}

void history_notify_ok(struct history *h, uint64_t t, struct history_text key, struct history_text notification_id)
{
    add(h, (struct entry){
               .kind = ENTRY_NOTIFY_OK, .t = t, .key = number(h, key), .notification_id = number(h, notification_id)});
}

void history_notified(struct history *h, uint64_t t, struct history_text user, struct history_text connection,
                      struct history_text notification_id, struct history_text content)
{
    add(h, (struct entry){.kind = ENTRY_NOTIFIED,
                          .t = t,
                          .user = number(h, user),
                          .connection = number(h, connection),
                          .notification_id = number(h, notification_id),
                          .content = number(h, content)});
}

void history_dead_letter(struct history *h, uint64_t t, const struct history_receiver *by,
                         struct history_text notification_id, uint64_t seq)
{
    struct entry e = of_receiver(h, ENTRY_DEAD_LETTER, t, by);
    e.notification_id = number(h, notification_id);
    e.seq = seq;
    add(h, e);
}

void history_crash(struct history *h, uint64_t t, bool power)
{
    add(h, (struct entry){.kind = ENTRY_CRASH, .t = t, .power = power});
}

void history_forgotten(struct history *h, uint64_t t)
{
    add(h, (struct entry){.kind = ENTRY_FORGOTTEN, .t = t});
}

void history_healed(struct history *h, uint64_t t, uint64_t within_ns)
{
    add(h, (struct entry){.kind = ENTRY_HEALED, .t = t, .within_ns = within_ns});
}

/* --- how it is kept ---------------------------------------------------------------------------------------------- */

static uint32_t number(struct history *h, struct history_text text)
{
    return texts_number(&h->texts, text);
}

static void add(struct history *h, struct entry e)
{
    if (h->len == HISTORY_ENTRIES_MAX) {
        fprintf(stderr, "history: more than %u operations\n", HISTORY_ENTRIES_MAX);
        abort();
    }
    if (h->len == h->cap) h->entries = must(realloc(h->entries, (h->cap *= 2) * sizeof *h->entries));
    e.file = h->file;
    e.line = h->line;
    h->entries[h->len++] = e;
}

static struct entry of_name(struct history *h, enum entry_kind kind, uint64_t t, const struct history_name *name)
{
    return (struct entry){.kind = kind,
                          .t = t,
                          .room = number(h, name->room),
                          .user = number(h, name->sender),
                          .client_id = number(h, name->client_id)};
}

static struct entry of_receiver(struct history *h, enum entry_kind kind, uint64_t t, const struct history_receiver *by)
{
    return (struct entry){.kind = kind,
                          .t = t,
                          .room = number(h, by->room),
                          .user = number(h, by->user),
                          .device = number(h, by->device)};
}

static void users_add(struct history *h, struct entry *e, const struct history_event *event)
{
    e->users_at = (uint32_t)h->num_users;
    e->num_users = (uint32_t)event->num_users;
    if (h->num_users + event->num_users > h->cap_users) {
        h->cap_users = (h->num_users + event->num_users) * 2;
        h->users = must(realloc(h->users, h->cap_users * sizeof *h->users));
    }
    for (size_t i = 0; i < event->num_users; i++) h->users[h->num_users++] = number(h, event->users[i]);
}
