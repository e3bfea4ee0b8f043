#define _GNU_SOURCE /* strerrordesc_np (glibc 2.32) */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void begin(struct record *r, uint64_t now_ns, const char *op);
static void member(struct record *r, const char *name, struct slice text);
static void copy_member(struct record *r, struct json_node from, const char *name, const char *as);
static void key_members(struct record *r, const struct message_key *key);
static void end(struct record *r);

enum status record_open(struct record *r, const char *path)
{
    *r = (struct record){.on = true, ._fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)};
    if (r->_fd >= 0) return STATUS_OK;
    fprintf(stderr, "carillon-load: cannot write %s: %s\n", path, strerrordesc_np(errno));
    r->on = false;
    return STATUS_IO;
}

void record_member(struct record *r, uint64_t now_ns, struct slice room, struct slice user)
{
    if (!r->on) return;
    begin(r, now_ns, "member");
    member(r, "room", room);
    member(r, "user", user);
    end(r);
}

void record_invoke(struct record *r, uint64_t now_ns, const struct message_key *key, struct slice content)
{
    if (!r->on) return;
    begin(r, now_ns, "invoke");
    key_members(r, key);
    member(r, "content", content);
    end(r);
}

void record_ok(struct record *r, uint64_t now_ns, const struct message_key *key, uint64_t seq, struct slice message_id)
{
    if (!r->on) return;
    begin(r, now_ns, "ok");
    key_members(r, key);
    buf_printf(&r->_lines, ",\"seq\":%" PRIu64, seq);
    member(r, "message_id", message_id);
    end(r);
}

void record_fail(struct record *r, uint64_t now_ns, const struct message_key *key, struct slice code)
{
    if (!r->on) return;
    begin(r, now_ns, "fail");
    key_members(r, key);
    member(r, "code", code);
    end(r);
}

void record_unknown(struct record *r, uint64_t now_ns, const struct message_key *key)
{
    if (!r->on) return;
    begin(r, now_ns, "unknown");
    key_members(r, key);
    end(r);
}

void record_receive(struct record *r, uint64_t now_ns, struct slice user, struct slice connection,
                    struct json_node push)
{
    struct json_node seq;
    uint64_t number = 0;
    if (!r->on) return;
    begin(r, now_ns, "receive");
    copy_member(r, push, "room_id", "room");
    member(r, "user", user);
    member(r, "connection", connection);
    copy_member(r, push, "type", "type");
    if (json_get(push, "seq", &seq) && json_u64(seq, &number)) buf_printf(&r->_lines, ",\"seq\":%" PRIu64, number);
    copy_member(r, push, "message_id", "message_id");
    copy_member(r, push, "sender_id", "sender");
    copy_member(r, push, "client_id", "client_id");
    copy_member(r, push, "content", "content");
    copy_member(r, push, "created_at", "created_at");
    end(r);
}

void record_flush(struct record *r, uint64_t now_ns)
{
    if (!r->on || (now_ns < r->_flush_due_ns && r->_lines.len < RECORD_BUFFER_BYTES)) return;
    r->_flush_due_ns = now_ns == UINT64_MAX ? 0 : now_ns + RECORD_FLUSH_NS;
    size_t at = 0;
    while (at < r->_lines.len) {
        ssize_t n = write(r->_fd, r->_lines.data + at, r->_lines.len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            fprintf(stderr, "carillon-load: writing the record failed: %s\n", strerrordesc_np(errno));
            exit(1);
        }
        at += (size_t)n;
    }
    r->_lines.len = 0;
}

void record_close(struct record *r)
{
    if (!r->on) return;
    record_flush(r, UINT64_MAX);
    close(r->_fd);
    buf_free(&r->_lines);
    r->on = false;
}

static void begin(struct record *r, uint64_t now_ns, const char *op)
{
    buf_printf(&r->_lines, "{\"t\":%" PRIu64 ",\"op\":\"%s\"", now_ns, op);
}

static void member(struct record *r, const char *name, struct slice text)
{
    buf_printf(&r->_lines, ",\"%s\":", name);
    buf_json_string(&r->_lines, text);
}

/* copy_member takes over a string member that is there and not null. */
static void copy_member(struct record *r, struct json_node from, const char *name, const char *as)
{
    struct json_node node;
    if (json_get(from, name, &node) && json_type_of(node) == JSON_STRING) member(r, as, json_string(node));
}

static void key_members(struct record *r, const struct message_key *key)
{
    member(r, "room", key->room);
    member(r, "client_id", key->client_id);
    member(r, "sender", key->sender);
}

static void end(struct record *r)
{
    BUF_LIT(&r->_lines, "}\n");
    if (r->_lines.len >= RECORD_BUFFER_BYTES) record_flush(r, 0);
}
