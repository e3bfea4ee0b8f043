/* websocket: what the receiver makes of a client's bytes, however they are cut, and the encoding of headers. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../net/websocket.h"
#include "../../src/base/json.h"
#include "../../src/base/limits.h"
#include "reference_utf8.h"

#define FIN 0x80u
#define MESSAGE_MAX 65536u

static const uint8_t rfc_key[4] = {0x37, 0xfa, 0x21, 0x3d};

static struct ws_pool *pool;

static int open_pool(void **state)
{
    return ws_pool_open(&pool, 2) == STATUS_OK ? 0 : -1;
}

static int close_pool(void **state)
{
    unsigned lent = ws_pool_lent(pool);
    if (lent == 0) ws_pool_close(pool);
    return lent == 0 ? 0 : -1;
}

/* --- streams and events as bytes ------------------------------------------------------------------------------- */

/* put_frame appends a client's frame: first byte (FIN and opcode), payload masked with key. */
static void put_frame(struct buf *stream, unsigned first, struct slice payload, const uint8_t key[4])
{
    uint8_t header[WS_HEADER_MAX];
    size_t len = ws_header(header, WS_OP_BINARY, payload.len);
    header[0] = (uint8_t)first;
    header[1] |= 0x80;
    buf_append(stream, header, len);
    buf_append(stream, key, 4);
    for (size_t i = 0; i < payload.len; i++) buf_char(stream, (char)(payload.data[i] ^ (char)key[i % 4]));
}

/* put_event appends an event to a log in a form that memory can compare. */
static void put_event(struct buf *log, enum ws_event event, uint16_t close_code, struct slice data)
{
    buf_printf(log, "%d %u %zu:", (int)event, close_code, data.len);
    buf_slice_append(log, data);
    buf_char(log, '\n');
}

/* feed takes a piece of the stream into the log; false when the stream has ended. The piece is a copy of its exact
 * size, so that the address sanitizer sees a read behind it. */
static bool feed(struct ws_in *in, struct buf *log, struct slice piece, size_t message_bytes_max)
{
    char *copy = malloc(piece.len ? piece.len : 1);
    assert_non_null(copy);
    if (piece.len) memcpy(copy, piece.data, piece.len);
    struct slice left = slice_of(copy, piece.len);
    enum ws_event event;
    do {
        struct slice data;
        uint16_t close_code;
        size_t consumed;
        event = ws_feed(in, pool, &data, &close_code, &consumed, left, message_bytes_max);
        assert_true(consumed <= left.len);
        left = slice_from(left, consumed);
        if (event == WS_NEED_MORE) {
            assert_int_equal(left.len, 0);
            assert_int_equal(close_code, 0);
            break;
        }
        if (event == WS_TEXT || event == WS_BINARY)
            for (size_t i = 0; i < JSON_PADDING; i++) assert_int_equal(data.data[data.len + i], 0);
        put_event(log, event, close_code, data);
    } while (left.len > 0 && event != WS_ERROR && event != WS_CLOSE);
    free(copy);
    return event != WS_ERROR && event != WS_CLOSE;
}

/* feed_steps feeds the stream in pieces of `step` bytes and returns how many bytes were fed until it ended. */
static size_t feed_steps(struct buf *log, struct slice stream, size_t step, size_t message_bytes_max)
{
    struct ws_in in = {0};
    size_t at = 0;
    bool open = true;
    while (open && at < stream.len) {
        size_t len = stream.len - at < step ? stream.len - at : step;
        open = feed(&in, log, slice_of(stream.data + at, len), message_bytes_max);
        at += len;
    }
    ws_in_end(&in, pool);
    assert_int_equal(ws_in_bytes(&in), 0);
    assert_int_equal(ws_pool_lent(pool), 0);
    return at;
}

static void assert_same(const struct buf *a, const struct buf *b)
{
    assert_int_equal(a->len, b->len);
    assert_true(slice_eq(buf_slice(a), buf_slice(b)));
}

static void assert_events(struct slice stream, const struct buf *expected, size_t message_bytes_max)
{
    static const size_t steps[] = {1, 2, 3, 5, 7, 13, 64, 1021, 4096, 4097, SIZE_MAX};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct buf log = {0};
        feed_steps(&log, stream, steps[i], message_bytes_max);
        assert_same(&log, expected);
        buf_free(&log);
    }
}

/* --- the RFC's examples (5.7) ------------------------------------------------------------------------------------ */

static void receiver_reads_the_rfc_examples(void **state)
{
    static const uint8_t hello[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58};
    struct buf stream = {0}, expected = {0}, large = {0};
    buf_append(&stream, hello, sizeof hello);
    put_event(&expected, WS_TEXT, 0, SLICE("Hello"));

    put_frame(&stream, WS_OP_TEXT, SLICE("Hel"), rfc_key); /* a fragmented text, then ping, 256 bytes, 64 KiB */
    put_frame(&stream, FIN, SLICE("lo"), rfc_key);
    put_event(&expected, WS_TEXT, 0, SLICE("Hello"));

    buf_append(&stream, hello, sizeof hello);
    stream.data[stream.len - sizeof hello] = (char)(FIN | WS_OP_PING);
    put_event(&expected, WS_PING, 0, SLICE("Hello"));

    for (unsigned i = 0; i < 65536; i++) buf_char(&large, (char)(i * 7));
    put_frame(&stream, FIN | WS_OP_BINARY, slice_of(large.data, 256), rfc_key);
    put_event(&expected, WS_BINARY, 0, slice_of(large.data, 256));
    put_frame(&stream, FIN | WS_OP_BINARY, buf_slice(&large), rfc_key);
    put_event(&expected, WS_BINARY, 0, buf_slice(&large));

    assert_events(buf_slice(&stream), &expected, MESSAGE_MAX);
    buf_free(&stream);
    buf_free(&expected);
    buf_free(&large);
}

/* --- cuts ----------------------------------------------------------------------------------------------------------
 */

/* put_mixed_stream writes one of everything, with controls between fragments, and the events it must give. */
static void put_mixed_stream(struct buf *stream, struct buf *expected)
{
    static const uint8_t key[4] = {0xff, 0x00, 0xa5, 0x3c};
    char middling[130];
    memset(middling, 'm', sizeof middling);
    put_frame(stream, WS_OP_TEXT, SLICE("h\xc3"), key); /* the cut is inside a character */
    put_frame(stream, FIN | WS_OP_PING, SLICE(""), rfc_key);
    put_event(expected, WS_PING, 0, SLICE(""));
    put_frame(stream, 0, SLICE(""), key);
    put_frame(stream, FIN | WS_OP_PONG, SLICE("p\xff"), key);
    put_event(expected, WS_PONG, 0, SLICE("p\xff"));
    put_frame(stream, FIN, SLICE("\xa9!"), rfc_key);
    put_event(expected, WS_TEXT, 0, SLICE("h\xc3\xa9!"));
    put_frame(stream, FIN | WS_OP_TEXT, SLICE(""), key);
    put_event(expected, WS_TEXT, 0, SLICE(""));
    put_frame(stream, WS_OP_BINARY, SLICE(""), key);
    put_frame(stream, FIN, SLICE(""), key);
    put_event(expected, WS_BINARY, 0, SLICE(""));
    put_frame(stream, FIN | WS_OP_BINARY, slice_of(middling, sizeof middling), key);
    put_event(expected, WS_BINARY, 0, slice_of(middling, sizeof middling));
    put_frame(stream, FIN | WS_OP_TEXT, SLICE("{\"type\":\"ping\"}"), key);
    put_event(expected, WS_TEXT, 0, SLICE("{\"type\":\"ping\"}"));
    put_frame(stream, WS_OP_TEXT, SLICE("never ended"), key);
    put_frame(stream, FIN | WS_OP_CLOSE, SLICE("\x03\xe9gone \xe2\x82\xac"), key);
    put_event(expected, WS_CLOSE, 1001, SLICE("gone \xe2\x82\xac"));
}

static void receiver_gives_the_same_events_at_every_pair_of_cuts(void **state)
{
    struct buf stream = {0}, expected = {0};
    put_mixed_stream(&stream, &expected);
    assert_events(buf_slice(&stream), &expected, MESSAGE_MAX);
    for (size_t first = 0; first <= stream.len; first++) {
        for (size_t second = first; second <= stream.len; second++) {
            struct ws_in in = {0};
            struct buf log = {0};
            bool open = feed(&in, &log, slice_of(stream.data, first), MESSAGE_MAX);
            if (open) open = feed(&in, &log, slice_of(stream.data + first, second - first), MESSAGE_MAX);
            if (open) open = feed(&in, &log, slice_of(stream.data + second, stream.len - second), MESSAGE_MAX);
            assert_false(open);
            assert_same(&log, &expected);
            ws_in_end(&in, pool);
            buf_free(&log);
        }
    }
    assert_int_equal(ws_pool_lent(pool), 0);
    buf_free(&stream);
    buf_free(&expected);
}

static void feed_consumes_exactly_one_frame_an_event(void **state)
{
    struct buf stream = {0};
    put_frame(&stream, FIN | WS_OP_TEXT, SLICE("one"), rfc_key);
    size_t first_len = stream.len;
    put_frame(&stream, FIN | WS_OP_PING, SLICE("two"), rfc_key);
    size_t second_len = stream.len - first_len;
    put_frame(&stream, FIN | WS_OP_TEXT, SLICE("three"), rfc_key);
    stream.len -= 1;

    struct ws_in in = {0};
    struct slice data, left = buf_slice(&stream);
    uint16_t code;
    size_t consumed;
    assert_int_equal(ws_feed(&in, pool, &data, &code, &consumed, left, MESSAGE_MAX), WS_TEXT);
    assert_int_equal(consumed, first_len);
    assert_null(in._lent);
    left = slice_from(left, consumed);
    assert_int_equal(ws_feed(&in, pool, &data, &code, &consumed, left, MESSAGE_MAX), WS_PING);
    assert_int_equal(consumed, second_len);
    assert_int_equal(ws_pool_lent(pool), 0);
    left = slice_from(left, consumed);
    assert_int_equal(ws_feed(&in, pool, &data, &code, &consumed, left, MESSAGE_MAX), WS_NEED_MORE);
    assert_int_equal(consumed, left.len);
    assert_int_equal(ws_pool_lent(pool), 1);
    assert_int_equal(ws_feed(&in, pool, &data, &code, &consumed, slice_of(NULL, 0), MESSAGE_MAX), WS_NEED_MORE);
    assert_int_equal(consumed, 0);
    left = slice_of(stream.data + stream.len, 1);
    assert_int_equal(ws_feed(&in, pool, &data, &code, &consumed, left, MESSAGE_MAX), WS_TEXT);
    assert_true(slice_is(data, "three"));
    assert_int_equal(ws_pool_lent(pool), 0);
    ws_in_end(&in, pool);
    buf_free(&stream);
}

/* --- memory ----------------------------------------------------------------------------------------------------------
 */

static void whole_frame_lies_in_the_pools_scratch(void **state)
{
    struct buf stream = {0};
    put_frame(&stream, FIN | WS_OP_PING, SLICE("x"), rfc_key);
    put_frame(&stream, FIN | WS_OP_TEXT, SLICE("{\"type\":\"typing.start\"}"), rfc_key);
    struct ws_in in = {0};
    struct slice ping, text;
    uint16_t code;
    size_t consumed;
    assert_int_equal(ws_feed(&in, pool, &ping, &code, &consumed, buf_slice(&stream), MESSAGE_MAX), WS_PING);
    struct slice left = slice_from(buf_slice(&stream), consumed);
    assert_int_equal(ws_feed(&in, pool, &text, &code, &consumed, left, MESSAGE_MAX), WS_TEXT);
    assert_ptr_equal(ping.data, text.data); /* controls always lie there, so the text was not allocated */
    assert_int_equal(ws_in_bytes(&in), 0);
    ws_in_end(&in, pool);
    buf_free(&stream);
}

static void connection_between_frames_holds_no_context_and_no_delivered_message(void **state)
{
    struct buf stream = {0}, log = {0};
    char *large = calloc(1, 20000);
    assert_non_null(large);
    put_frame(&stream, FIN | WS_OP_BINARY, slice_of(large, 20000), rfc_key);
    struct ws_in in = {0};
    feed(&in, &log, slice_of(stream.data, 10000), MESSAGE_MAX);
    assert_int_equal(ws_pool_lent(pool), 1);
    assert_true(ws_in_bytes(&in) >= 9000);
    feed(&in, &log, slice_of(stream.data + 10000, stream.len - 10000), MESSAGE_MAX);
    assert_int_equal(ws_pool_lent(pool), 0);
    assert_int_equal(ws_in_bytes(&in), 0);
    ws_in_end(&in, pool);
    buf_free(&stream);
    buf_free(&log);
    free(large);
}

static void declared_length_alone_allocates_little(void **state)
{
    struct ws_in in = {0};
    struct buf log = {0};
    static const uint8_t header[] = {0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4, 'a'}; /* 16 MiB, and one byte */
    assert_true(feed(&in, &log, slice_of(header, sizeof header), ECHO_MESSAGE_BYTES_MAX));
    assert_in_range(ws_in_bytes(&in), 1, 4 * RECV_BUFFER_BYTES);
    ws_in_end(&in, pool);
    buf_free(&log);
}

/* A context in the middle of a frame must not carry that frame into another connection. */
static void connection_ended_inside_a_frame_leaves_nothing_behind(void **state)
{
    struct buf stream = {0}, expected = {0};
    put_mixed_stream(&stream, &expected);
    for (size_t cut = 0; cut < stream.len; cut++) {
        struct ws_in ended[4] = {0}, next = {0};
        struct buf ignored = {0}, log = {0};
        for (unsigned i = 0; i < 4; i++) feed(&ended[i], &ignored, slice_of(stream.data, cut), MESSAGE_MAX);
        assert_in_range(ws_pool_lent(pool), 0, 4);
        for (unsigned i = 0; i < 4; i++) {
            ws_in_end(&ended[i], pool);
            ws_in_end(&ended[i], pool);
        }
        assert_int_equal(ws_pool_lent(pool), 0);
        feed(&next, &log, buf_slice(&stream), MESSAGE_MAX);
        assert_same(&log, &expected);
        ws_in_end(&next, pool);
        buf_free(&ignored);
        buf_free(&log);
    }
    buf_free(&stream);
    buf_free(&expected);
}

static void connections_in_turn_do_not_mix(void **state)
{
    enum { CONNECTIONS = 5 };
    struct buf streams[CONNECTIONS] = {0}, expected[CONNECTIONS] = {0}, logs[CONNECTIONS] = {0};
    struct ws_in in[CONNECTIONS] = {0};
    for (size_t i = 0; i < CONNECTIONS; i++) {
        char own[40];
        memset(own, 'a' + (int)i, sizeof own);
        put_frame(&streams[i], FIN | WS_OP_TEXT, slice_of(own, sizeof own), rfc_key);
        put_event(&expected[i], WS_TEXT, 0, slice_of(own, sizeof own));
        put_frame(&streams[i], FIN | WS_OP_PING, slice_of(own, sizeof own), rfc_key);
        put_event(&expected[i], WS_PING, 0, slice_of(own, sizeof own));
        put_mixed_stream(&streams[i], &expected[i]);
    }
    for (size_t at = 0; at < streams[0].len; at++)
        for (size_t i = 0; i < CONNECTIONS; i++) feed(&in[i], &logs[i], slice_of(streams[i].data + at, 1), MESSAGE_MAX);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        assert_same(&logs[i], &expected[i]);
        ws_in_end(&in[i], pool);
        buf_free(&streams[i]);
        buf_free(&expected[i]);
        buf_free(&logs[i]);
    }
    assert_int_equal(ws_pool_lent(pool), 0);
}

/* glibc counts the heap; under a sanitizer's allocator that count stands still and this shows nothing. */
static void pool_keeps_no_more_idle_contexts_than_asked(void **state)
{
    enum { CONNECTIONS = 50 };
    struct ws_in in[CONNECTIONS] = {0};
    struct slice frame = SLICE("\x81\x80\0\0\0\0"), data;
    uint16_t code;
    size_t consumed, before = mallinfo2().uordblks;
    for (size_t i = 0; i < CONNECTIONS; i++) {
        enum ws_event event = ws_feed(&in[i], pool, &data, &code, &consumed, slice_of(frame.data, 1), MESSAGE_MAX);
        assert_int_equal(event, WS_NEED_MORE);
    }
    assert_int_equal(ws_pool_lent(pool), CONNECTIONS);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        enum ws_event event = ws_feed(&in[i], pool, &data, &code, &consumed, slice_from(frame, 1), MESSAGE_MAX);
        assert_int_equal(event, WS_TEXT);
        ws_in_end(&in[i], pool);
    }
    assert_true(mallinfo2().uordblks < before + 10 * (size_t)RECV_BUFFER_BYTES);
}

static void largest_echo_message_is_assembled(void **state)
{
    struct buf stream = {0}, log = {0}, expected = {0}, large = {0};
    for (uint32_t i = 0; i < ECHO_MESSAGE_BYTES_MAX / 4; i++) buf_append(&large, &i, sizeof i);
    put_frame(&stream, FIN | WS_OP_BINARY, buf_slice(&large), rfc_key);
    put_event(&expected, WS_BINARY, 0, buf_slice(&large));
    assert_int_equal(feed_steps(&log, buf_slice(&stream), RECV_BUFFER_BYTES, ECHO_MESSAGE_BYTES_MAX), stream.len);
    assert_same(&log, &expected);
    buf_free(&stream);
    buf_free(&log);
    buf_free(&expected);
    buf_free(&large);
}

/* --- refusals --------------------------------------------------------------------------------------------------------
 */

#define KEY0 "\0\0\0\0" /* masks nothing: the payload is readable here */

static const struct refusal {
    const char *name;
    struct slice stream;
    size_t seen_at; /* bytes of the stream at which the error must show */
    uint16_t code;
} refusals[] = {
    {"unmasked frame", SLICE("\x81\x05Hello"), 2, 1002},
    {"unmasked close", SLICE("\x88\x00"), 2, 1002},
    {"reserved bit 1", SLICE("\xc1\x80" KEY0), 2, 1002},
    {"reserved bit 2", SLICE("\xa1\x80" KEY0), 2, 1002},
    {"reserved bit 3", SLICE("\x91\x80" KEY0), 2, 1002},
    {"reserved bit of a control", SLICE("\xc9\x80" KEY0), 2, 1002},
    {"opcode 3", SLICE("\x83\x80" KEY0), 2, 1002},
    {"opcode 7", SLICE("\x87\x80" KEY0), 2, 1002},
    {"opcode 11", SLICE("\x8b\x80" KEY0), 2, 1002},
    {"opcode 15", SLICE("\x8f\x80" KEY0), 2, 1002},
    {"continuation of nothing", SLICE("\x80\x80" KEY0), 2, 1002},
    {"continuation of nothing, not final", SLICE("\x00\x80" KEY0), 2, 1002},
    {"text inside a message", SLICE("\x01\x81" KEY0 "a\x81\x80" KEY0), 9, 1002},
    {"binary inside an empty message", SLICE("\x02\x80" KEY0 "\x82\x80" KEY0), 8, 1002},
    {"fragmented ping", SLICE("\x09\x80" KEY0), 2, 1002},
    {"fragmented close", SLICE("\x08\x82" KEY0 "\x03\xe8"), 2, 1002},
    {"ping of 126 bytes", SLICE("\x89\xfe\x00\x7e" KEY0), 2, 1002},
    {"pong with a 64-bit length", SLICE("\x8a\xff\0\0\0\0\0\0\0\1" KEY0), 2, 1002},
    {"16-bit length of 125", SLICE("\x82\xfe\x00\x7d" KEY0), 8, 1002},
    {"16-bit length of 0", SLICE("\x82\xfe\x00\x00" KEY0), 8, 1002},
    {"64-bit length of 65535", SLICE("\x82\xff\0\0\0\0\0\0\xff\xff" KEY0), 14, 1002},
    {"length of 2^63", SLICE("\x82\xff\x80\0\0\0\0\0\0\0" KEY0), 14, 1002},
    {"length of 2^64 - 1", SLICE("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" KEY0), 14, 1002},
    {"length of 2^63 - 1", SLICE("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" KEY0), 14, 1009},
    {"message above the bound", SLICE("\x82\xff\0\0\0\0\0\1\0\1" KEY0), 14, 1009},
    {"fragments above the bound", SLICE("\x01\x81" KEY0 "a\x80\xff\0\0\0\0\0\1\0\0" KEY0), 21, 1009},
    {"fragments whose lengths overflow", SLICE("\x01\x82" KEY0 "ab\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff" KEY0), 22,
     1009},
    {"bad byte in a whole text",
     SLICE("\x81\x83" KEY0 "a\xff"
           "b"),
     8, 1007},
    {"bad byte in the first fragment", SLICE("\x01\x83" KEY0 "ab\xc0\x80\x80" KEY0), 9, 1007},
    {"bad byte early in a long text",
     SLICE("\x81\xfe\x10\x00" KEY0 "ab\xed\xa0"
           "cd"),
     12, 1007},
    {"bad byte after a cut character", SLICE("\x01\x81" KEY0 "\xe2\x80\x81" KEY0 "a"), 14, 1007},
    {"text that ends inside a character", SLICE("\x81\x82" KEY0 "a\xc3"), 8, 1007},
    {"fragments that end inside a character", SLICE("\x01\x82" KEY0 "a\xc3\x80\x80" KEY0), 14, 1007},
    {"close payload of one byte", SLICE("\x88\x81" KEY0 "\x03"), 7, 1002},
    {"close code 999", SLICE("\x88\x82" KEY0 "\x03\xe7"), 8, 1002},
    {"close code 1005", SLICE("\x88\x82" KEY0 "\x03\xed"), 8, 1002},
    {"close code 5000", SLICE("\x88\x82" KEY0 "\x13\x88"), 8, 1002},
    {"bad code and bad reason", SLICE("\x88\x83" KEY0 "\x03\xed\xff"), 9, 1002},
    {"close reason with a bad byte", SLICE("\x88\x84" KEY0 "\x03\xe8\xff!"), 10, 1007},
    {"close reason that ends inside a character", SLICE("\x88\x85" KEY0 "\x03\xe8\xce\xba\xe1"), 11, 1007},
};

/* Each must be refused with its code, wherever the stream is cut, and as soon as the bytes show it. */
static void receiver_refuses_with_the_code_and_at_the_byte(void **state)
{
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *r = &refusals[i];
        struct buf expected = {0}, log = {0};
        struct slice whole_frame = SLICE("\x82\x81" KEY0 "!");
        put_event(&expected, WS_ERROR, r->code, slice_of(NULL, 0));
        size_t seen_at = feed_steps(&log, r->stream, 1, MESSAGE_MAX);
        if (seen_at != r->seen_at || !slice_eq(buf_slice(&log), buf_slice(&expected)))
            fail_msg("%s: at byte %zu: %.*s", r->name, seen_at, SLICE_FMT(buf_slice(&log)));
        assert_events(r->stream, &expected, MESSAGE_MAX);

        struct buf behind = {0}; /* the same behind a good message and before one, in one call */
        buf_slice_append(&behind, whole_frame);
        buf_slice_append(&behind, r->stream);
        buf_slice_append(&behind, whole_frame);
        expected.len = 0;
        put_event(&expected, WS_BINARY, 0, SLICE("!"));
        put_event(&expected, WS_ERROR, r->code, slice_of(NULL, 0));
        assert_events(buf_slice(&behind), &expected, MESSAGE_MAX);
        buf_free(&behind);
        buf_free(&expected);
        buf_free(&log);
    }
}

static void message_bound_is_exact(void **state)
{
    for (size_t first = 0; first <= 100; first += 50) { /* bytes in a fragment before */
        for (size_t total = 100; total <= 101; total++) {
            char payload[101] = {0};
            struct buf stream = {0}, expected = {0};
            put_frame(&stream, WS_OP_BINARY, slice_of(payload, first), rfc_key);
            put_frame(&stream, FIN, slice_of(payload, total - first), rfc_key);
            if (total == 100)
                put_event(&expected, WS_BINARY, 0, slice_of(payload, total));
            else
                put_event(&expected, WS_ERROR, 1009, slice_of(NULL, 0));
            assert_events(buf_slice(&stream), &expected, 100);
            buf_free(&stream);
            buf_free(&expected);
        }
    }
}

static void controls_pass_whatever_the_message_bound(void **state)
{
    struct buf stream = {0}, expected = {0};
    char payload[125];
    memset(payload, 'c', sizeof payload);
    put_frame(&stream, FIN | WS_OP_PING, slice_of(payload, sizeof payload), rfc_key);
    put_event(&expected, WS_PING, 0, slice_of(payload, sizeof payload));
    put_frame(&stream, FIN | WS_OP_CLOSE, SLICE(""), rfc_key);
    put_event(&expected, WS_CLOSE, 1005, SLICE(""));
    assert_events(buf_slice(&stream), &expected, 0);
    buf_free(&stream);
    buf_free(&expected);
}

/* --- UTF-8 -----------------------------------------------------------------------------------------------------------
 */

static size_t put_code_point(char out[4], uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(0xf00u >> len | c);
    return len;
}

/* text_event sends the text as one frame and returns what it gave. */
static enum ws_event text_event(struct slice text)
{
    struct buf stream = {0};
    struct ws_in in = {0};
    struct slice data;
    uint16_t code;
    size_t consumed;
    put_frame(&stream, FIN | WS_OP_TEXT, text, rfc_key);
    enum ws_event event = ws_feed(&in, pool, &data, &code, &consumed, buf_slice(&stream), stream.len);
    if (event == WS_TEXT) assert_true(slice_eq(data, text));
    if (event == WS_ERROR) assert_int_equal(code, 1007);
    ws_in_end(&in, pool);
    buf_free(&stream);
    return event;
}

static void text_takes_every_code_point_and_no_surrogate(void **state)
{
    struct buf all = {0};
    char bytes[4];
    for (uint32_t c = 0; c <= 0x10ffff; c++)
        if (c < 0xd800 || c > 0xdfff) buf_append(&all, bytes, put_code_point(bytes, c));
    assert_int_equal(text_event(buf_slice(&all)), WS_TEXT);
    buf_free(&all);
    for (uint32_t c = 0xd800; c <= 0xdfff; c++)
        assert_int_equal(text_event(slice_of(bytes, put_code_point(bytes, c))), WS_ERROR);
    for (uint32_t c = 0x110000; c <= 0x1fffff; c += 0xfff)
        assert_int_equal(text_event(slice_of(bytes, put_code_point(bytes, c))), WS_ERROR);
}

/* The cases of the Autobahn suite's section 6, by hand. */
static void text_follows_the_utf8_table(void **state)
{
    static const struct {
        struct slice text;
        bool valid;
    } cases[] = {
        {SLICE("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"), true},
        {SLICE("\x00"), true}, /* first and last of each length */
        {SLICE("\xc2\x80"), true},
        {SLICE("\xe0\xa0\x80"), true},
        {SLICE("\xf0\x90\x80\x80"), true},
        {SLICE("\x7f"), true},
        {SLICE("\xdf\xbf"), true},
        {SLICE("\xef\xbf\xbf"), true},
        {SLICE("\xf4\x8f\xbf\xbf"), true},
        {SLICE("\xed\x9f\xbf"), true},
        {SLICE("\xee\x80\x80"), true},
        {SLICE("\xef\xbf\xbd"), true},
        {SLICE("\xef\xbf\xbe"), true},          /* noncharacters are characters here */
        {SLICE("\xf8\x88\x80\x80\x80"), false}, /* five and six bytes */
        {SLICE("\xfc\x84\x80\x80\x80\x80"), false},
        {SLICE("\xf7\xbf\xbf\xbf"), false},
        {SLICE("\xf4\x90\x80\x80"), false}, /* U+110000 */
        {SLICE("\x80"), false},             /* continuations alone */
        {SLICE("\xbf"), false},
        {SLICE("\x80\xbf\x80"), false},
        {SLICE("\xc0 \xc1 "), false}, /* leads alone */
        {SLICE("\xe0 "), false},
        {SLICE("\xf0 "), false},
        {SLICE("\xfe"), false},
        {SLICE("\xff"), false},
        {SLICE("\xc3"), false}, /* the last continuation missing */
        {SLICE("\xe0\xa0"), false},
        {SLICE("\xf0\x90\x80"), false},
        {SLICE("\xc0\xaf"), false}, /* overlong */
        {SLICE("\xe0\x80\xaf"), false},
        {SLICE("\xf0\x80\x80\xaf"), false},
        {SLICE("\xc1\xbf"), false},
        {SLICE("\xe0\x9f\xbf"), false},
        {SLICE("\xf0\x8f\xbf\xbf"), false},
        {SLICE("\xed\xa0\x80"), false}, /* surrogates, single and paired */
        {SLICE("\xed\xbf\xbf"), false},
        {SLICE("\xed\xa0\x80\xed\xb0\x80"), false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t place = 0; place < 34; place++) { /* behind ASCII of every alignment, at the end and before some */
            size_t before = place / 2;
            struct buf text = {0};
            for (size_t j = 0; j < before; j++) buf_char(&text, 'a');
            buf_slice_append(&text, cases[i].text);
            if (place % 2) BUF_LIT(&text, "tail of text");
            bool valid = text_event(buf_slice(&text)) == WS_TEXT;
            if (valid != cases[i].valid) fail_msg("case %zu behind %zu bytes", i, before);
            assert_int_equal(reference_utf8(buf_slice(&text)), valid);
            buf_free(&text);
        }
    }
}

/* --- random streams
 * --------------------------------------------------------------------------------------------------- */

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
    random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = random_state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % below;
}

static void text_agrees_with_the_reference_on_random_bytes(void **state)
{
    static const uint8_t telling[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf,
                                      0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};
    random_state = 7;
    unsigned valid = 0;
    for (unsigned i = 0; i < 200000; i++) {
        char text[6];
        size_t len = 1 + draw(sizeof text);
        for (size_t j = 0; j < len; j++) text[j] = (char)telling[draw(sizeof telling)];
        bool expected = reference_utf8(slice_of(text, len));
        if ((text_event(slice_of(text, len)) == WS_TEXT) != expected) fail_msg("draw %u", i);
        valid += expected;
    }
    assert_in_range(valid, 1000, 199000);
}

/* put_random_message writes a message in 1 to 6 frames with pings between them, and the events it must give. */
static void put_random_message(struct buf *stream, struct buf *expected)
{
    static const char pattern[] = "chat \xc3\xa9\xe2\x82\xac\xf0\x9f\x94\x94 ";
    bool text = draw(2);
    struct buf payload = {0};
    size_t len = draw(3) ? draw(300) : draw(10000);
    while (payload.len < len) {
        if (text)
            buf_append(&payload, pattern, sizeof pattern - 1);
        else
            buf_char(&payload, (char)draw(256));
    }
    unsigned opcode = text ? WS_OP_TEXT : WS_OP_BINARY;
    size_t at = 0;
    for (unsigned fragments = (unsigned)draw(6); fragments > 0; fragments--) {
        uint8_t key[4] = {(uint8_t)draw(256), (uint8_t)draw(256), (uint8_t)draw(256), (uint8_t)draw(256)};
        size_t part = draw(payload.len - at + 1);
        put_frame(stream, opcode, slice_of(payload.data + at, part), key);
        at += part;
        opcode = 0;
        if (draw(3)) continue;
        struct slice ping = slice_of(payload.data, draw(payload.len < 125 ? payload.len + 1 : 126));
        put_frame(stream, FIN | WS_OP_PING, ping, key);
        put_event(expected, WS_PING, 0, ping);
    }
    put_frame(stream, FIN | opcode, slice_from(buf_slice(&payload), at), rfc_key);
    put_event(expected, text ? WS_TEXT : WS_BINARY, 0, buf_slice(&payload));
    buf_free(&payload);
}

static void random_messages_arrive_whole_however_fragmented_and_cut(void **state)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        random_state = seed;
        struct buf stream = {0}, expected = {0}, log = {0};
        for (unsigned i = 0; i < 12; i++) put_random_message(&stream, &expected);
        struct ws_in in = {0};
        for (size_t at = 0; at < stream.len;) {
            size_t len = 1 + draw(draw(2) ? 20 : 6000);
            if (len > stream.len - at) len = stream.len - at;
            assert_true(feed(&in, &log, slice_of(stream.data + at, len), MESSAGE_MAX));
            at += len;
        }
        if (!slice_eq(buf_slice(&log), buf_slice(&expected))) fail_msg("seed %u", (unsigned)seed);
        assert_int_equal(ws_in_bytes(&in), 0);
        assert_int_equal(ws_pool_lent(pool), 0);
        ws_in_end(&in, pool);
        buf_free(&stream);
        buf_free(&expected);
        buf_free(&log);
    }
}

/* --- sending and the handshake
 * ------------------------------------------------------------------------------------------ */

static void header_takes_the_shortest_length(void **state)
{
    static const struct {
        uint64_t payload_len;
        struct slice header;
    } cases[] = {
        {0, SLICE("\x81\x00")},
        {125, SLICE("\x81\x7d")},
        {126, SLICE("\x81\x7e\x00\x7e")},
        {65535, SLICE("\x81\x7e\xff\xff")},
        {65536, SLICE("\x81\x7f\0\0\0\0\0\1\0\0")},
        {0x0102030405060708, SLICE("\x81\x7f\1\2\3\4\5\6\7\x08")},
        {INT64_MAX, SLICE("\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t header[WS_HEADER_MAX];
        size_t len = ws_header(header, WS_OP_TEXT, cases[i].payload_len);
        assert_true(slice_eq(slice_of(header, len), cases[i].header));
        assert_int_equal(ws_header_len(cases[i].payload_len), len);
    }
    uint8_t header[WS_HEADER_MAX];
    assert_int_equal(ws_header(header, WS_OP_CLOSE, 2), 2);
    assert_int_equal(header[0], 0x88);
}

static void accept_key_is_the_rfc_example(void **state)
{
    char accept[WS_ACCEPT_LEN];
    assert_true(ws_accept_key(accept, SLICE("dGhlIHNhbXBsZSBub25jZQ==")));
    assert_true(slice_is(slice_of(accept, sizeof accept), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

static void accept_key_refuses_what_is_not_sixteen_bytes(void **state)
{
    static const struct slice keys[] = {
        {NULL, 0},
        SLICE("dGhlIHNhbXBsZSBub25jZQ"),    /* no padding */
        SLICE("dGhlIHNhbXBsZSBub25jZSE="),  /* 17 bytes */
        SLICE("dGhlIHNhbXBsZSBub24="),      /* 14 */
        SLICE("dGhlIHNhbXBsZSBub25jZQ== "), /* a space behind */
        SLICE("dGhlIHNhbXBsZSBub25j\nZQ="), /* a line break */
        SLICE("dGhlIHNhbXBsZSBub25jZ!=="),  /* not base64 */
        SLICE("dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ=="),
    };
    char accept[WS_ACCEPT_LEN];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) assert_false(ws_accept_key(accept, keys[i]));
}

static void close_codes_are_the_registered_ones(void **state)
{
    static const struct {
        unsigned first, last;
    } valid[] = {{1000, 1003}, {1007, 1014}, {3000, 4999}};
    for (unsigned code = 0; code <= UINT16_MAX; code++) {
        bool expected = false;
        for (size_t i = 0; i < 3; i++) expected = expected || (code >= valid[i].first && code <= valid[i].last);
        assert_int_equal(ws_close_code_valid((uint16_t)code), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(receiver_reads_the_rfc_examples),
        cmocka_unit_test(receiver_gives_the_same_events_at_every_pair_of_cuts),
        cmocka_unit_test(feed_consumes_exactly_one_frame_an_event),
        cmocka_unit_test(whole_frame_lies_in_the_pools_scratch),
        cmocka_unit_test(connection_between_frames_holds_no_context_and_no_delivered_message),
        cmocka_unit_test(declared_length_alone_allocates_little),
        cmocka_unit_test(connection_ended_inside_a_frame_leaves_nothing_behind),
        cmocka_unit_test(connections_in_turn_do_not_mix),
        cmocka_unit_test(pool_keeps_no_more_idle_contexts_than_asked),
        cmocka_unit_test(largest_echo_message_is_assembled),
        cmocka_unit_test(receiver_refuses_with_the_code_and_at_the_byte),
        cmocka_unit_test(message_bound_is_exact),
        cmocka_unit_test(controls_pass_whatever_the_message_bound),
        cmocka_unit_test(text_takes_every_code_point_and_no_surrogate),
        cmocka_unit_test(text_follows_the_utf8_table),
        cmocka_unit_test(text_agrees_with_the_reference_on_random_bytes),
        cmocka_unit_test(random_messages_arrive_whole_however_fragmented_and_cut),
        cmocka_unit_test(header_takes_the_shortest_length),
        cmocka_unit_test(accept_key_is_the_rfc_example),
        cmocka_unit_test(accept_key_refuses_what_is_not_sixteen_bytes),
        cmocka_unit_test(close_codes_are_the_registered_ones),
    };
    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
