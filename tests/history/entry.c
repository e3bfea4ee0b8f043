#include "entry.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_SHOWN_MAX 80u /* bytes of a text, so that a violation fits on a screen */

static const char *const ops[] = {
#define OP(id, name, members, text) [ENTRY_##id] = name,
#include "ops.def"
#undef OP
};

const char *entry_op(enum entry_kind kind)
{
    return ops[kind];
}

enum entry_kind entry_kind_of(struct history_text op)
{
    enum entry_kind kind = ENTRY_ROOM;
    for (; kind < ENTRY_KINDS; kind++)
        if (strlen(ops[kind]) == op.len && memcmp(ops[kind], op.data, op.len) == 0) break;
    return kind;
}

/* --- as the line of a record ------------------------------------------------------------------------------------- */

static void put_text(FILE *out, const struct history *h, const char *name, uint32_t number)
{
    struct history_text text = entry_text(h, number);
    if (number == 0) return;
    fprintf(out, ",\"%s\":\"", name);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.data[i];
        if (i >= TEXT_SHOWN_MAX && (byte & 0xc0) != 0x80) break; /* between two characters */
        if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else if (byte < 0x20)
            fprintf(out, "\\u%04x", byte);
        else
            fputc(byte, out);
    }
    fputs(text.len > TEXT_SHOWN_MAX ? "…\"" : "\"", out);
}

static void put_number(FILE *out, const char *name, uint64_t number)
{
    if (number) fprintf(out, ",\"%s\":%" PRIu64, name, number);
}

static void put_users(FILE *out, const struct history *h, const struct entry *e)
{
    for (uint32_t i = 0; i < e->num_users && i < HISTORY_PLACES; i++)
        put_text(out, h, "user_id", h->users[e->users_at + i]);
}

static void put_operation(FILE *out, const struct history *h, const struct entry *e)
{
    static const char *const paths[] = {"push", "events", "messages"};
    fprintf(out, "{\"t\":%" PRIu64 ",\"op\":\"%s\"", e->t, entry_op(e->kind));
    if (e->kind == ENTRY_CRASH) fprintf(out, ",\"power\":%s", e->power ? "true" : "false");
    if (e->kind == ENTRY_RECEIVE && e->path != HISTORY_PUSH) fprintf(out, ",\"path\":\"%s\"", paths[e->path]);
    if (e->kind == ENTRY_RESUMED)
        fprintf(out, ",\"recovered\":%s,\"asked\":[%" PRIu64 ",%" PRIu64 "]", e->recovered ? "true" : "false",
                e->asked_epoch, e->asked_seq);
    else
        put_number(out, "asked", e->asked);
    put_text(out, h, "room", e->room);
    bool sends = e->kind == ENTRY_INVOKE || e->kind == ENTRY_OK || e->kind == ENTRY_FAIL || e->kind == ENTRY_UNKNOWN;
    put_text(out, h, sends ? "sender" : "user", e->user);
    put_text(out, h, "sender", e->sender);
}

char *entry_describe(const struct history *h, const struct entry *e)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = must(open_memstream(&text, &len));
    if (e->file < h->num_files && e->line)
        fprintf(out, "%s:%" PRIu32 ": ", entry_text(h, h->files[e->file]).data, e->line);
    if (e->kind == ENTRY_EXPORT) {
        fputs("{\"log\":true", out);
        put_text(out, h, "room_id", e->room);
        put_text(out, h, "sender_id", e->sender);
    } else {
        put_operation(out, h, e);
    }
    put_text(out, h, "client_id", e->client_id);
    put_text(out, h, "device", e->device);
    put_text(out, h, "connection", e->connection);
    put_text(out, h, "type", e->type);
    put_number(out, "seq", e->seq);
    put_number(out, "until_seq", e->until_seq);
    put_number(out, "epoch", e->epoch);
    put_number(out, "from", e->from);
    put_number(out, "head", e->head);
    put_number(out, "within_ns", e->within_ns);
    put_text(out, h, "message_id", e->message_id);
    put_text(out, h, "key", e->key);
    put_text(out, h, "notification_id", e->notification_id);
    put_text(out, h, "content", e->content);
    put_text(out, h, "code", e->code);
    put_text(out, h, "created_at", e->created_at);
    put_users(out, h, e);
    fputs("}", out);
    fclose(out);
    return must(text);
}
