/* Fuzzes what clients ask for in JSON, over WebSocket and REST, against a whole gateway in this process (the harness of
 * the unit tests). It holds:
 * - whatever is asked, the answer is JSON of a known shape: a WebSocket request with an id has one answer with that id,
 *   a REST request one with a status that is documented, and none is the server's own failure;
 * - a message that was acknowledged is shown with the content and the very bytes of the meta that were sent;
 * - afterwards nothing is left behind: no operation, session or subscription.
 *
 * Input: requests, separated by the byte 0x1e. The first byte says how one is asked: a letter of `ways`, else it
 * belongs to the text of a WebSocket message. `r_ROOM` stands for the id of a room made for this input, in which alice,
 * who asks, and bob are members; `r_OTHER` for one in which they are not. */
#define _GNU_SOURCE /* memmem */
#include <stdio.h>
#include <stdlib.h>

#include "../src/base/assert.h"
#include "../tests/unit/harness.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
const char *__asan_default_options(void);

/* What an input leaves in the store is no leak, but would be looked for after each: three quarters of the time. The end
 * of a gateway says whether something was left behind. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

#define REQUESTS_MAX 8u      /* of an input */
#define INPUTS_OF_A_RUN 200u /* then a new gateway begins: its store is memory, and nothing of it goes */
#define SEPARATOR 0x1e

static const struct {
    char letter;
    const char *method, *path;
    bool operator; /* whose request it is; else alice's */
} ways[] = {
    {'m', "POST", "/v1/rooms/r_ROOM/messages", false},
    {'r', "POST", "/v1/rooms", false},
    {'a', "POST", "/v1/acks", false},
    {'e', "POST", "/v1/reads", false},
    {'s', "POST", "/v1/sync", false},
    {'j', "POST", "/v1/rooms/r_ROOM/members", false},
    {'p', "PATCH", "/v1/rooms/r_ROOM/members/bob", false},
    {'n', "POST", "/v1/notify", false},
    {'u', "POST", "/v1/users/me/subscriptions", false},
    {'l', "POST", "/v1/rooms/r_ROOM/leave", false},
    {'t', "POST", "/v1/admin/tenants", true},
    {'k', "POST", "/v1/admin/kick", true},
};

static struct harness *h;
static struct client *socket_of_alice, *rest;
static struct person alice, bob, carol;
static struct json_parser *parser, *frame_parser;
static unsigned inputs;
static struct buf given_ids; /* client_ids that this input has used, one behind the other */

static void begin(void);
static void end(void);
static void ask(struct slice request, uint64_t room, uint64_t other);
static void ask_by_socket(struct slice text);
static void ask_by_rest(unsigned route, struct slice body, uint64_t room);
static struct client *rest_client(void);
static void hear_until(const char *pong, struct buf *frames);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    setenv("CMOCKA_TEST_ABORT", "1", 1); /* what the harness asserts ends the program */
    parser = json_parser_new(1u << 20);
    frame_parser = json_parser_new(8u << 20);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (h == NULL) begin();
    harness_advance(h, CURSOR_FLUSH_MS); /* what waits for its time is done; no connection is idle for too long */
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&alice, &bob));
    uint64_t other = harness_room(h, ROOM_GROUP, ROOM_PRIVATE, PEOPLE(&carol));
    struct slice rest_of = slice_of(data, len);
    given_ids.len = 0;
    for (unsigned i = 0; i < REQUESTS_MAX && rest_of.len; i++) {
        const char *separator = memchr(rest_of.data, SEPARATOR, rest_of.len);
        size_t request_len = separator ? (size_t)(separator - rest_of.data) : rest_of.len;
        ask(slice_of(rest_of.data, request_len), room, other);
        rest_of = slice_from(rest_of, request_len + 1);
    }
    if (++inputs % INPUTS_OF_A_RUN == 0) end();
    return 0;
}

static void begin(void)
{
    void *state = NULL;
    ASSERT(harness_setup(&state) == 0);
    h = state;
    harness_open(h, 1);
    alice = harness_person(h, "alice");
    bob = harness_person(h, "bob");
    carol = harness_person(h, "carol");
    socket_of_alice = rest = NULL;
}

static void end(void)
{
    void *state = h;
    ASSERT(harness_teardown(&state) == 0);
    h = NULL;
}

/* replaced puts a room's id where its stand-in is. */
static struct buf replaced(struct slice text, const char *stand_in, uint64_t room)
{
    struct buf out = {0};
    size_t len = strlen(stand_in);
    struct room_name name = room_name(room);
    for (;;) {
        const char *at = text.len ? memmem(text.data, text.len, stand_in, len) : NULL;
        if (!at) break;
        buf_append(&out, text.data, (size_t)(at - text.data));
        buf_printf(&out, "%s", name.text);
        text = slice_from(text, (size_t)(at - text.data) + len);
    }
    buf_slice_append(&out, text);
    return out;
}

static void ask(struct slice request, uint64_t room, uint64_t other)
{
    unsigned route = 0;
    while (route < sizeof ways / sizeof *ways && request.len && request.data[0] != ways[route].letter) route++;
    bool by_rest = request.len && route < sizeof ways / sizeof *ways;
    struct buf named = replaced(by_rest ? slice_from(request, 1) : request, "r_ROOM", room);
    struct buf text = replaced(buf_slice(&named), "r_OTHER", other);
    if (socket_of_alice && (socket_of_alice->ended || socket_of_alice->close_code)) {
        client_close(socket_of_alice);
        socket_of_alice = NULL;
    }
    if (!socket_of_alice) socket_of_alice = socket_open(h, 0, "alice", "{\"type\":\"hello\",\"rooms\":\"all\"}");
    if (by_rest)
        ask_by_rest(route, buf_slice(&text), room);
    else if (text.len < 65536 && json_utf8_valid(buf_slice(&text)))
        ask_by_socket(buf_slice(&text));
    buf_free(&named);
    buf_free(&text);
}

/* --- WebSocket --------------------------------------------------------------------------------------------------- */

/* frames: what was heard, each with a NUL behind it. */
struct frames {
    struct buf texts;
    size_t num_answers;       /* with our id */
    struct buf room, message; /* ids, of an answer that acknowledges a message */
};

static void say(struct slice text)
{
    struct buf frame = {0};
    buf_char(&frame, (char)0x81);
    if (text.len < 126)
        buf_char(&frame, (char)(0x80 | text.len));
    else
        buf_printf(&frame, "%c%c%c", 0x80 | 126, (int)(text.len >> 8), (int)(text.len & 255));
    BUF_LIT(&frame, "\0\0\0\0"); /* the mask, which changes nothing */
    buf_slice_append(&frame, text);
    client_send(socket_of_alice, buf_slice(&frame));
    buf_free(&frame);
}

static struct json_node parsed(struct json_parser *p, struct slice text)
{
    struct json_node root;
    ASSERT(json_parse_copy(p, &root, text) == JSON_OK && json_type_of(root) == JSON_OBJECT);
    return root;
}

static bool text_member(struct json_node object, const char *name, struct slice *out)
{
    struct json_node n;
    *out = (struct slice){0};
    if (!json_get(object, name, &n) || json_type_of(n) != JSON_STRING) return false;
    *out = json_string(n);
    return true;
}

static bool code_known(struct slice code)
{
    for (unsigned i = 1; i < ERRORS; i++)
        if (slice_is(code, error_rows[i].code)) return true;
    return false;
}

static void check_error(struct json_node frame)
{
    struct slice code, detail;
    struct json_node temporary;
    ASSERT(text_member(frame, "code", &code) && text_member(frame, "detail", &detail) && detail.len > 0);
    ASSERT(json_get(frame, "temporary", &temporary) && json_type_of(temporary) == JSON_BOOL);
    ASSERT(code_known(code));
}

/* check_frames looks at all that came between a request and the pong behind it. */
static void check_frames(struct frames *frames, struct slice id)
{
    for (size_t at = 0; at < frames->texts.len;) {
        struct slice text = slice_str(frames->texts.data + at), type, room, message;
        at += text.len + 1;
        struct json_node root = parsed(frame_parser, text);
        ASSERT(text_member(root, "type", &type));
        if (slice_is(type, "error")) check_error(root);
        struct slice re = json_raw_member(text, "re");
        if (!re.data || !slice_eq(re, id)) continue;
        frames->num_answers++;
        if (!slice_is(type, "ok") || !text_member(root, "message_id", &message)) continue;
        ASSERT(text_member(root, "room_id", &room));
        buf_slice_append(&frames->room, room);
        buf_slice_append(&frames->message, message);
    }
}

/* repeats says whether the request has a client_id that this input had already: it is answered with the first one's
 * message. */
static bool repeats(struct json_node request)
{
    struct slice id;
    if (!text_member(request, "client_id", &id) || id.len == 0) return false;
    if (given_ids.len && memmem(given_ids.data, given_ids.len, id.data, id.len)) return true;
    buf_slice_append(&given_ids, id);
    return false;
}

/* What was acknowledged is read back by REST: the content, and the very bytes of the meta. */
static void check_kept(struct slice sent, struct slice room, struct slice message)
{
    struct slice content, shown, meta = json_raw_member(sent, "meta");
    struct json_node request = parsed(parser, sent);
    if (repeats(request)) return;
    char path[128];
    ASSERT(text_member(request, "content", &content) && room.len + message.len < 100);
    snprintf(path, sizeof path, "/v1/rooms/%.*s/messages/%.*s", SLICE_FMT(room), SLICE_FMT(message));
    ASSERT(client_call(rest_client(), "GET", path, "alice", "", NULL) == 200);
    struct slice text = buf_slice(&rest->text);
    ASSERT(text_member(parsed(frame_parser, text), "content", &shown) && slice_eq(shown, content));
    struct slice meta_shown = json_raw_member(text, "meta");
    bool none = !meta.data || slice_is(meta, "null");
    ASSERT(none ? !meta_shown.data || slice_is(meta_shown, "null") : slice_eq(meta_shown, meta));
}

/* A first pong says that the request was looked at, a second one that what it set going is done. */
static bool hear_all(struct frames *frames)
{
    say(SLICE("{\"type\":\"ping\",\"id\":\"~ looked at\"}"));
    hear_until("{\"type\":\"pong\",\"re\":\"~ looked at\"}", &frames->texts);
    if (socket_of_alice->close_code || socket_of_alice->ended) return false;
    harness_settle(h);
    say(SLICE("{\"type\":\"ping\",\"id\":\"~ done\"}"));
    hear_until("{\"type\":\"pong\",\"re\":\"~ done\"}", &frames->texts);
    return !socket_of_alice->close_code && !socket_of_alice->ended;
}

/* request_id is the text of an id that a request may have; empty when it has none. */
static struct slice request_id(struct slice text)
{
    struct json_node root, id;
    if (json_parse_copy(parser, &root, text) != JSON_OK || !json_get(root, "id", &id)) return (struct slice){0};
    struct slice raw = json_raw_member(text, "id");
    bool number = json_type_of(id) == JSON_NUMBER && raw.len <= 20 && !memchr(raw.data, '.', raw.len) &&
                  !memchr(raw.data, 'e', raw.len) && !memchr(raw.data, 'E', raw.len);
    bool short_text = json_type_of(id) == JSON_STRING && json_string(id).len <= REQUEST_ID_BYTES_MAX &&
                      raw.len <= REQUEST_ID_BYTES_MAX * 6;
    return number || short_text ? raw : (struct slice){0};
}

static void ask_by_socket(struct slice text)
{
    struct frames frames = {0};
    struct slice id = request_id(text);
    say(text);
    if (hear_all(&frames) && id.len && !slice_is(id, "\"~ looked at\"") && !slice_is(id, "\"~ done\"")) {
        check_frames(&frames, id);
        ASSERT(frames.num_answers == 1);
        if (frames.message.len) check_kept(text, buf_slice(&frames.room), buf_slice(&frames.message));
    } else {
        check_frames(&frames, SLICE("none"));
    }
    buf_free(&frames.texts);
    buf_free(&frames.room);
    buf_free(&frames.message);
}

/* hear_until takes frames up to that pong, or up to the end of the connection. */
static void hear_until(const char *pong, struct buf *frames)
{
    for (;;) {
        const char *heard = client_hear_or_end(socket_of_alice);
        if (!heard || strcmp(heard, pong) == 0) return;
        buf_append(frames, heard, strlen(heard) + 1);
    }
}

/* --- REST -------------------------------------------------------------------------------------------------------- */

static struct client *rest_client(void)
{
    if (rest && rest->ended) {
        client_close(rest);
        rest = NULL;
    }
    if (!rest) rest = client_open(h, 0);
    return rest;
}

static void ask_by_rest(unsigned route, struct slice body, uint64_t room)
{
    struct buf request = {0};
    struct buf path = replaced(slice_str(ways[route].path), "r_ROOM", room);
    buf_printf(&request, "%s %.*s HTTP/1.1\r\nHost: bells\r\n", ways[route].method, SLICE_FMT(buf_slice(&path)));
    if (ways[route].operator)
        buf_printf(&request, "X-Master-Key: %s\r\n", MASTER_KEY);
    else
        buf_printf(&request, "X-API-Key: %s\r\nX-User-Id: alice\r\n", h->api_key);
    buf_printf(&request, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", body.len);
    buf_slice_append(&request, body);
    client_send(rest_client(), buf_slice(&request));
    unsigned status = client_answer(rest);
    ASSERT((status >= 200 && status < 300) || (status >= 400 && status < 500) || status == 503);
    if (rest->text.len) {
        struct json_node root = parsed(frame_parser, buf_slice(&rest->text));
        struct slice code;
        if (status >= 400) ASSERT(text_member(root, "code", &code) && code_known(code));
    }
    buf_free(&request);
    buf_free(&path);
}
