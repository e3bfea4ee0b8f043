#define _GNU_SOURCE /* strerrordesc_np (glibc 2.32) */
#include "setup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../src/base/buf.h"
#include "../../src/base/json.h"
#include "../../src/base/limits.h"
#include "../client/http_client.h"
#include "plain.h"

#define STATE_BYTES_MAX (16u << 20) /* of a --state file */

/* maker: what making rooms needs at hand. */
struct maker {
    struct setup *setup;
    const struct options *options;
    struct http_client http;
    struct json_parser *parser;
};

static enum status make_plain(struct setup *s, const struct options *o,
                              uint64_t (*members_of)(const struct options *o, uint64_t room));
static enum status make_tenant(struct maker *m);
static enum status make_room(struct maker *m, struct setup_room *room, uint64_t number, uint64_t num_members);
static enum status add_members(struct maker *m, struct setup_room *room, uint64_t number, uint64_t from, uint64_t to);
static enum status call(struct maker *m, struct json_node *answer, const char *target, const char *user,
                        struct slice body);
static bool state_read(struct setup *s, const struct options *o, bool *exists);
static bool state_write(const struct setup *s, const char *path);
static bool member_text(char *out, size_t cap, struct json_node object, const char *name);

enum status setup_make(struct setup *s, const struct options *o,
                       uint64_t (*members_of)(const struct options *o, uint64_t room))
{
    *s = (struct setup){0};
    if (!endpoint_parse(&s->endpoint, o->url)) {
        fprintf(stderr, "carillon-load: --url takes http://HOST:PORT, not '%s'\n", o->url);
        return STATUS_INVALID;
    }
    if (o->dialect) return make_plain(s, o, members_of);
    if (o->key) snprintf(s->key, sizeof s->key, "%s", o->key);
    bool exists = false;
    if (o->state_path && !state_read(s, o, &exists)) return STATUS_INVALID;

    struct maker m = {.setup = s, .options = o, .parser = json_parser_new(STATE_BYTES_MAX)};
    http_client_init(&m.http, &s->endpoint, (unsigned)(o->timeout * 1000));
    enum status status = STATUS_OK;
    if (!exists) {
        if (o->scenario != SCENARIO_REST || o->master_key || o->admin_socket)
            status = s->key[0] ? STATUS_OK : make_tenant(&m);
        s->num_rooms = members_of ? o->rooms : 0;
        s->rooms = calloc(s->num_rooms + 1, sizeof *s->rooms);
        ASSERT(s->rooms != NULL);
    }
    for (uint64_t r = 0; r < s->num_rooms && status == STATUS_OK; r++) {
        uint64_t wanted = members_of(o, r);
        if (!exists) {
            status = make_room(&m, &s->rooms[r], r, wanted);
        } else if (s->rooms[r].num_members < wanted) {
            fprintf(stderr, "carillon-load: %s was made for smaller rooms\n", o->state_path);
            status = STATUS_INVALID;
        }
    }
    if (status == STATUS_OK && o->state_path && !exists && !state_write(s, o->state_path)) status = STATUS_INVALID;
    http_client_close(&m.http);
    json_parser_free(m.parser);
    if (status != STATUS_OK) setup_free(s);
    return status;
}

void setup_free(struct setup *s)
{
    free(s->rooms);
    s->rooms = NULL;
}

size_t setup_user(char out[SETUP_USER_BYTES_MAX], uint64_t room, uint64_t member)
{
    return (size_t)snprintf(out, SETUP_USER_BYTES_MAX, "load-%" PRIu64 "-%" PRIu64, room, member);
}

/* A server that is no gateway knows no rooms but those that somebody is in. */
static enum status make_plain(struct setup *s, const struct options *o,
                              uint64_t (*members_of)(const struct options *o, uint64_t room))
{
    s->num_rooms = members_of ? o->rooms : 0;
    s->rooms = calloc(s->num_rooms + 1, sizeof *s->rooms);
    ASSERT(s->rooms != NULL);
    for (uint64_t r = 0; r < s->num_rooms; r++) {
        plain_room(s->rooms[r].id, sizeof s->rooms[r].id, r);
        s->rooms[r].num_members = members_of(o, r);
    }
    return STATUS_OK;
}

static enum status make_tenant(struct maker *m)
{
    const struct options *o = m->options;
    struct endpoint admin;
    if (o->admin_socket) {
        if (!endpoint_unix(&admin, o->admin_socket)) {
            fprintf(stderr, "carillon-load: --admin-socket: the path is too long\n");
            return STATUS_INVALID;
        }
        http_client_close(&m->http);
        http_client_init(&m->http, &admin, (unsigned)(o->timeout * 1000));
    }
    struct json_node answer;
    enum status status = call(m, &answer, "/v1/admin/tenants", NULL, SLICE("{\"name\":\"carillon-load\"}"));
    if (status == STATUS_OK && !member_text(m->setup->key, sizeof m->setup->key, answer, "api_key")) {
        fprintf(stderr, "carillon-load: the new tenant came without an api_key\n");
        status = STATUS_INVALID;
    }
    if (o->admin_socket) {
        http_client_close(&m->http);
        http_client_init(&m->http, &m->setup->endpoint, (unsigned)(o->timeout * 1000));
    }
    return status;
}

/* members_json appends the array of the users from … to - 1. */
static void members_json(struct buf *out, uint64_t room, uint64_t from, uint64_t to)
{
    char user[SETUP_USER_BYTES_MAX];
    for (uint64_t i = from; i < to; i++) {
        size_t len = setup_user(user, room, i);
        buf_char(out, i == from ? '[' : ',');
        buf_json_string(out, slice_of(user, len));
    }
    buf_char(out, ']');
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static enum status make_room(struct maker *m, struct setup_room *room, uint64_t number, uint64_t num_members)
{
    char creator[SETUP_USER_BYTES_MAX];
    setup_user(creator, number, 0);
    uint64_t first = least(num_members, MEMBERS_PER_REQUEST_MAX);
    struct buf body = {0};
    buf_printf(&body, "{\"type\":\"group\",\"name\":\"load %" PRIu64 "\",\"members\":", number);
    members_json(&body, number, 0, first);
    BUF_LIT(&body, "}");
    struct json_node answer;
    enum status status = call(m, &answer, "/v1/rooms", creator, buf_slice(&body));
    buf_free(&body);
    if (status != STATUS_OK) return status;
    if (!member_text(room->id, sizeof room->id, answer, "room_id")) {
        fprintf(stderr, "carillon-load: the new room came without a room_id\n");
        return STATUS_INVALID;
    }
    room->num_members = num_members;
    for (uint64_t from = first; from < num_members && status == STATUS_OK; from += MEMBERS_PER_REQUEST_MAX)
        status = add_members(m, room, number, from, least(num_members, from + MEMBERS_PER_REQUEST_MAX));
    return status;
}

static enum status add_members(struct maker *m, struct setup_room *room, uint64_t number, uint64_t from, uint64_t to)
{
    char creator[SETUP_USER_BYTES_MAX], target[ROOM_ID_BYTES_MAX + 32];
    setup_user(creator, number, 0);
    snprintf(target, sizeof target, "/v1/rooms/%s/members", room->id);
    struct buf body = {0};
    BUF_LIT(&body, "{\"members\":");
    members_json(&body, number, from, to);
    BUF_LIT(&body, "}");
    struct json_node answer;
    enum status status = call(m, &answer, target, creator, buf_slice(&body));
    buf_free(&body);
    return status;
}

/* call posts JSON and parses the answer; `user` NULL: as the operator. */
static enum status call(struct maker *m, struct json_node *answer, const char *target, const char *user,
                        struct slice body)
{
    struct buf fields = {0};
    if (user)
        buf_printf(&fields, "X-API-Key: %s\r\nX-User-Id: %s\r\n", m->setup->key, user);
    else if (m->options->master_key)
        buf_printf(&fields, "X-Master-Key: %s\r\n", m->options->master_key);
    struct http_answer got = {0};
    enum status status = http_client_request(&m->http, &got, "POST", target, buf_slice(&fields), body);
    buf_free(&fields);
    if (status != STATUS_OK) {
        fprintf(stderr, "carillon-load: POST %s: %s\n", target, m->http.why);
        return STATUS_IO;
    }
    if (got.status / 100 != 2 || json_parse_copy(m->parser, answer, got.body) != JSON_OK) {
        fprintf(stderr, "carillon-load: POST %s was answered with %u: %.*s\n", target, got.status,
                (int)least(got.body.len, 500), got.body.data);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

/* A --state file: {"key":"…","rooms":[{"room_id":"…","members":N},…]}. */
static bool state_parse(struct setup *s, const struct options *o, struct json_node root)
{
    struct json_node rooms, room, members;
    if (!member_text(s->key, sizeof s->key, root, "key") || !json_get(root, "rooms", &rooms) ||
        json_type_of(rooms) != JSON_ARRAY || json_array_len(rooms) < o->rooms)
        return false;
    s->num_rooms = o->rooms;
    s->rooms = calloc(s->num_rooms + 1, sizeof *s->rooms);
    ASSERT(s->rooms != NULL);
    struct json_iter each = json_array(rooms);
    for (uint64_t i = 0; i < s->num_rooms && json_array_next(&each, &room); i++)
        if (!member_text(s->rooms[i].id, sizeof s->rooms[i].id, room, "room_id") ||
            !json_get(room, "members", &members) || !json_u64(members, &s->rooms[i].num_members))
            return false;
    return true;
}

static bool state_read(struct setup *s, const struct options *o, bool *exists)
{
    FILE *file = fopen(o->state_path, "re");
    if (!file && errno == ENOENT) return true;
    struct buf text = {0};
    if (file) {
        buf_reserve(&text, STATE_BYTES_MAX);
        text.len = fread(text.data, 1, STATE_BYTES_MAX, file);
        fclose(file);
    }
    struct json_parser *parser = json_parser_new(STATE_BYTES_MAX);
    struct json_node root;
    *exists = json_parse_copy(parser, &root, buf_slice(&text)) == JSON_OK && state_parse(s, o, root);
    if (!*exists) fprintf(stderr, "carillon-load: %s is no state of %" PRIu64 " rooms\n", o->state_path, o->rooms);
    json_parser_free(parser);
    buf_free(&text);
    if (!*exists) setup_free(s);
    return *exists;
}

static bool state_write(const struct setup *s, const char *path)
{
    struct buf text = {0};
    BUF_LIT(&text, "{\"key\":");
    buf_json_string(&text, slice_str(s->key));
    BUF_LIT(&text, ",\"rooms\":[");
    for (uint64_t i = 0; i < s->num_rooms; i++) {
        buf_printf(&text, "%s{\"room_id\":", i ? "," : "");
        buf_json_string(&text, slice_str(s->rooms[i].id));
        buf_printf(&text, ",\"members\":%" PRIu64 "}", s->rooms[i].num_members);
    }
    BUF_LIT(&text, "]}\n");
    FILE *file = fopen(path, "we");
    bool written = file && fwrite(text.data, 1, text.len, file) == text.len;
    if (file && fclose(file) != 0) written = false;
    if (!written) fprintf(stderr, "carillon-load: cannot write %s: %s\n", path, strerrordesc_np(errno));
    buf_free(&text);
    return written;
}

static bool member_text(char *out, size_t cap, struct json_node object, const char *name)
{
    struct json_node node;
    if (!json_get(object, name, &node) || json_type_of(node) != JSON_STRING) return false;
    struct slice text = json_string(node);
    if (text.len == 0 || text.len >= cap) return false;
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
    return true;
}
