/* websocket_fuzz: a stream fed at once and the same stream in pieces give the same events, whatever the bytes.
 *
 * Input: byte 0 seeds the sizes of the pieces, byte 1 chooses the message bound, the rest is the client's stream. */
#include <stdlib.h>

#include "../net/websocket.h"
#include "../src/base/assert.h"
#include "../src/base/buf.h"
#include "../src/base/json.h"
#include "../tests/unit/reference_utf8.h"

static const size_t message_bounds[] = {0, 5, 125, 1000, 70000};

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);
static void run(struct buf *log, struct ws_pool *pool, struct slice stream, size_t message_bytes_max, uint8_t seed);
static bool feed_piece(struct ws_in *in, struct buf *log, struct ws_pool *pool, struct slice piece,
                       size_t message_bytes_max);
static void feed_neighbour(struct ws_in *neighbour, struct ws_pool *pool);
static void check_event(enum ws_event event, uint16_t close_code, struct slice data, size_t message_bytes_max);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    static struct ws_pool *pool;
    if (pool == NULL) {
        enum status opened = ws_pool_open(&pool, 1);
        ASSERT(opened == STATUS_OK);
    }
    if (len < 2) return 0;
    size_t bound = message_bounds[input[1] % (sizeof message_bounds / sizeof *message_bounds)];
    struct slice stream = slice_of(input + 2, len - 2);
    struct buf at_once = {0}, in_pieces = {0}, in_bytes = {0};
    run(&at_once, pool, stream, bound, 0);
    run(&in_pieces, pool, stream, bound, input[0] | 2);
    run(&in_bytes, pool, stream, bound, 1);
    ASSERT(slice_eq(buf_slice(&at_once), buf_slice(&in_pieces)));
    ASSERT(slice_eq(buf_slice(&at_once), buf_slice(&in_bytes)));
    buf_free(&at_once);
    buf_free(&in_pieces);
    buf_free(&in_bytes);
    return 0;
}

/* run writes the stream's events to log. Seed 0 feeds it at once, 1 byte by byte, others in pieces of 1 to 256. Between
 * pieces another connection uses the pool: nothing of this one's may lie where that one writes. */
static void run(struct buf *log, struct ws_pool *pool, struct slice stream, size_t message_bytes_max, uint8_t seed)
{
    struct ws_in in = {0}, neighbour = {0};
    uint32_t draw = seed;
    bool open = true;
    while (open && stream.len > 0) {
        draw = draw * 1664525u + 1013904223u;
        size_t len = seed == 0 ? stream.len : seed == 1 ? 1 : 1 + (draw >> 24) % ((size_t)seed + 1);
        if (len > stream.len) len = stream.len;
        open = feed_piece(&in, log, pool, slice_of(stream.data, len), message_bytes_max);
        stream = slice_from(stream, len);
        feed_neighbour(&neighbour, pool);
    }
    ASSERT(ws_in_bytes(&in) <= 4 * (message_bytes_max + 8192));
    ws_in_end(&in, pool);
    ws_in_end(&neighbour, pool);
    ASSERT(ws_pool_lent(pool) == 0);
}

/* feed_piece feeds a copy of exact size, so that reading behind it is seen; false when the stream has ended. */
static bool feed_piece(struct ws_in *in, struct buf *log, struct ws_pool *pool, struct slice piece,
                       size_t message_bytes_max)
{
    char *copy = malloc(piece.len);
    ASSERT(copy != NULL);
    memcpy(copy, piece.data, piece.len);
    struct slice left = slice_of(copy, piece.len);
    enum ws_event event = WS_NEED_MORE;
    while (left.len > 0 && event != WS_ERROR && event != WS_CLOSE) {
        struct slice data;
        uint16_t close_code;
        size_t consumed;
        event = ws_feed(in, pool, &data, &close_code, &consumed, left, message_bytes_max);
        ASSERT(consumed > 0 && consumed <= left.len);
        left = slice_from(left, consumed);
        if (event == WS_NEED_MORE) {
            ASSERT(left.len == 0);
            break;
        }
        check_event(event, close_code, data, message_bytes_max);
        buf_printf(log, "%d %u %zu:", (int)event, close_code, data.len);
        buf_slice_append(log, data);
    }
    free(copy);
    return event != WS_ERROR && event != WS_CLOSE;
}

static void feed_neighbour(struct ws_in *neighbour, struct ws_pool *pool)
{
    static const uint8_t ping[] = {0x89, 0x88, 0, 0, 0, 0, '!', '!', '!', '!', '!', '!', '!', '!'};
    struct slice data;
    uint16_t close_code;
    size_t consumed;
    enum ws_event event = ws_feed(neighbour, pool, &data, &close_code, &consumed, slice_of(ping, sizeof ping), 0);
    ASSERT(event == WS_PING && consumed == sizeof ping && slice_is(data, "!!!!!!!!"));
}

static void check_event(enum ws_event event, uint16_t close_code, struct slice data, size_t message_bytes_max)
{
    switch (event) {
    case WS_TEXT:
    case WS_BINARY:
        ASSERT(close_code == 0 && data.len <= message_bytes_max);
        ASSERT(event == WS_BINARY || reference_utf8(data));
        for (size_t i = 0; i < JSON_PADDING; i++) ASSERT(data.data[data.len + i] == 0);
        break;
    case WS_PING:
    case WS_PONG: ASSERT(close_code == 0 && data.len <= 125); break;
    case WS_CLOSE:
        ASSERT(close_code == 1005 ? data.len == 0 : ws_close_code_valid(close_code));
        ASSERT(data.len <= 123 && reference_utf8(data));
        break;
    case WS_ERROR:
        ASSERT(close_code == 1002 || close_code == 1007 || close_code == 1009);
        ASSERT(data.len == 0);
        break;
    case WS_NEED_MORE: UNREACHABLE();
    }
}

