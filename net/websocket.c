#include "websocket.h"

#include <stdlib.h>

#include <openssl/base64.h>
#include <openssl/sha.h>
#include <wslay/wslay.h>

#include "../src/base/assert.h"
#include "../src/base/json.h"
#include "../src/base/limits.h"

#define CLIENT_HEADER_MAX 14u /* bytes: 2, a length of 0, 2 or 8, and the masking key */
#define MASKING_KEY_BYTES 4u
#define CONTROL_PAYLOAD_MAX 125u /* RFC 6455 5.5 */
#define FIN_BIT 0x80u
#define RESERVED_BITS 0x70u
#define OPCODE_BITS 0x0fu
#define MASK_BIT 0x80u
#define LENGTH_BITS 0x7fu

/* A frame of a client as it arrives (RFC 6455 5.2):
 *
 *   byte 0            byte 1            0, 2 or 8 bytes          4 bytes       payload_len bytes
 *   fin|rsv3|opcode   mask|length7      length, big endian,      masking key   payload XOR key
 *                                       if length7 is 126, 127
 *
 * lent: a wslay context and what is known of the frame a connection is inside. wslay reads ahead into its own buffer,
 * so the header is collected here first; from it follows how many bytes are this frame's, and wslay is handed exactly
 * those. Idle ones are linked in the pool. */
struct lent {
    struct lent *next;
    wslay_frame_context_ptr context;
    struct slice *source;   /* the fed bytes, while wslay_frame_recv runs */
    uint64_t payload_len;   /* declared; valid when the header is complete */
    uint64_t payload_taken; /* bytes handed to wslay, and after each wslay_frame_recv also taken from it */
    uint8_t header[CLIENT_HEADER_MAX];
    uint8_t header_len;  /* bytes collected */
    uint8_t header_need; /* bytes of the whole header; valid from the second byte on */
    bool header_handed;
    bool whole; /* the message is this frame, all of it is in the fed bytes: its payload goes to the scratch */
    uint8_t control[CONTROL_PAYLOAD_MAX];
};

struct ws_pool {
    struct lent *idle;
    unsigned num_idle, keep, num_lent;
    struct buf delivered; /* the assembled message whose event was answered last */
    uint8_t scratch[RECV_BUFFER_BYTES + JSON_PADDING];
};

static struct lent *lend(struct ws_pool *pool);
static void give_back(struct ws_in *in, struct ws_pool *pool);
static void discard(struct ws_in *in, struct ws_pool *pool);
static void lent_free(struct lent *lent);
static enum ws_event feed_frame(struct ws_in *in, struct ws_pool *pool, struct slice *data, uint16_t *close_code,
                                struct slice *left, size_t message_bytes_max);
static bool header_complete(const struct lent *lent);
static bool frame_complete(const struct lent *lent);
static unsigned frame_opcode(const struct lent *lent);
static bool frame_final(const struct lent *lent);
static uint16_t take_header(const struct ws_in *in, struct lent *lent, struct slice *left);
static void collect_header(struct lent *lent, struct slice *left, size_t upto);
static uint16_t start_code(const struct ws_in *in, const struct lent *lent);
static uint64_t declared_len(const uint8_t *header);
static uint16_t take_payload(struct ws_in *in, struct ws_pool *pool, struct lent *lent, struct slice *left,
                             size_t message_bytes_max);
static uint16_t open_frame(struct ws_in *in, struct lent *lent, size_t available, size_t message_bytes_max);
static uint8_t *payload_room(struct ws_in *in, struct ws_pool *pool, struct lent *lent, size_t len);
static ssize_t hand_out(uint8_t *out, size_t room, int flags, void *user_data);
static size_t bare_header(uint8_t *out, const struct lent *lent);
static enum ws_event end_message(struct ws_in *in, struct ws_pool *pool, struct slice *data, const struct lent *lent);
static enum ws_event end_control(struct ws_pool *pool, struct slice *data, uint16_t *close_code,
                                 const struct lent *lent);
static uint16_t close_payload_code(struct slice payload);
static void unmask(uint8_t *out, const uint8_t *masked, size_t len, const uint8_t *key, uint64_t offset);
static bool utf8_check(uint32_t *state, const uint8_t *text, size_t len);
static size_t ascii_run(const uint8_t *text, size_t len);
static bool utf8_lead(uint8_t lead, unsigned *missing, unsigned *low, unsigned *high);

/* --- the pool ------------------------------------------------------------------------------------------------- */

enum status ws_pool_open(struct ws_pool **out, unsigned keep)
{
    struct ws_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) return STATUS_NO_MEMORY;
    pool->keep = keep;
    *out = pool;
    return STATUS_OK;
}

void ws_pool_close(struct ws_pool *pool)
{
    if (pool == NULL) return;
    ASSERT(pool->num_lent == 0);
    while (pool->idle) {
        struct lent *lent = pool->idle;
        pool->idle = lent->next;
        lent_free(lent);
    }
    buf_free(&pool->delivered);
    free(pool);
}

unsigned ws_pool_lent(const struct ws_pool *pool) { return pool->num_lent; }

static struct lent *lend(struct ws_pool *pool)
{
    struct lent *lent = pool->idle;
    if (lent) {
        pool->idle = lent->next;
        pool->num_idle--;
    } else {
        lent = calloc(1, sizeof *lent);
        ASSERT(lent != NULL);
        struct wslay_frame_callbacks callbacks = {.recv_callback = hand_out};
        int failed = wslay_frame_context_init(&lent->context, &callbacks, lent);
        ASSERT(!failed);
    }
    pool->num_lent++;
    return lent;
}

/* give_back returns a context whose frame is complete: wslay then expects the next frame, of whichever connection. */
static void give_back(struct ws_in *in, struct ws_pool *pool)
{
    struct lent *lent = in->_lent;
    in->_lent = NULL;
    ASSERT(frame_complete(lent));
    ASSERT(pool->num_lent > 0);
    pool->num_lent--;
    if (pool->num_idle == pool->keep) {
        lent_free(lent);
        return;
    }
    lent->header_len = 0;
    lent->header_handed = false;
    lent->payload_taken = 0;
    lent->next = pool->idle;
    pool->idle = lent;
    pool->num_idle++;
}

/* discard gives up a context in the middle of a frame: wslay has no reset, and a new one costs one allocation. */
static void discard(struct ws_in *in, struct ws_pool *pool)
{
    if (in->_lent == NULL) return;
    ASSERT(pool->num_lent > 0);
    pool->num_lent--;
    lent_free(in->_lent);
    in->_lent = NULL;
}

static void lent_free(struct lent *lent)
{
    wslay_frame_context_free(lent->context);
    free(lent);
}

/* --- receiving ------------------------------------------------------------------------------------------------ */

enum ws_event ws_feed(struct ws_in *in, struct ws_pool *pool, struct slice *data, uint16_t *close_code,
                      size_t *consumed, struct slice bytes, size_t message_bytes_max)
{
    ASSERT(!in->_ended);
    if (pool->delivered.data) buf_free(&pool->delivered);
    *data = (struct slice){0};
    *close_code = 0;
    struct slice left = bytes;
    enum ws_event event = WS_NEED_MORE;
    while (event == WS_NEED_MORE && left.len > 0)
        event = feed_frame(in, pool, data, close_code, &left, message_bytes_max);
    if (event == WS_ERROR || event == WS_CLOSE) ws_in_end(in, pool);
    *consumed = bytes.len - left.len;
    return event;
}

void ws_in_end(struct ws_in *in, struct ws_pool *pool)
{
    discard(in, pool);
    if (in->_message) buf_free(in->_message);
    free(in->_message);
    in->_message = NULL;
    in->_ended = true;
}

size_t ws_in_bytes(const struct ws_in *in)
{
    size_t lent = in->_lent ? WS_LENT_BYTES : 0;
    return lent + (in->_message ? sizeof *in->_message + in->_message->cap : 0);
}

/* feed_frame takes one frame, or as much of it as *left holds. */
static enum ws_event feed_frame(struct ws_in *in, struct ws_pool *pool, struct slice *data, uint16_t *close_code,
                                struct slice *left, size_t message_bytes_max)
{
    if (in->_lent == NULL) in->_lent = lend(pool);
    struct lent *lent = in->_lent;
    *close_code = take_header(in, lent, left);
    if (*close_code == 0 && header_complete(lent)) *close_code = take_payload(in, pool, lent, left, message_bytes_max);
    if (*close_code) return WS_ERROR;
    if (!frame_complete(lent)) return WS_NEED_MORE;

    enum ws_event event = WS_NEED_MORE;
    if (wslay_is_ctrl_frame(frame_opcode(lent))) {
        event = end_control(pool, data, close_code, lent);
    } else if (frame_final(lent)) {
        event = end_message(in, pool, data, lent);
        if (event == WS_ERROR) *close_code = WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA;
    }
    give_back(in, pool);
    return event;
}

static bool header_complete(const struct lent *lent)
{
    return lent->header_len >= 2 && lent->header_len == lent->header_need;
}

static bool frame_complete(const struct lent *lent)
{
    return lent->header_handed && lent->payload_taken == lent->payload_len;
}

static unsigned frame_opcode(const struct lent *lent) { return lent->header[0] & OPCODE_BITS; }

static bool frame_final(const struct lent *lent) { return lent->header[0] & FIN_BIT; }

/* --- a frame's header ----------------------------------------------------------------------------------------- */

/* take_header collects the header's bytes; returns the code to fail with, as soon as two of them show it, or 0. */
static uint16_t take_header(const struct ws_in *in, struct lent *lent, struct slice *left)
{
    if (header_complete(lent)) return 0;
    if (lent->header_len < 2) {
        collect_header(lent, left, 2);
        if (lent->header_len < 2) return 0;
        uint16_t code = start_code(in, lent);
        if (code) return code;
        unsigned length7 = lent->header[1] & LENGTH_BITS;
        lent->header_need = 2 + (length7 == 126 ? 2 : length7 == 127 ? 8 : 0) + MASKING_KEY_BYTES;
    }
    collect_header(lent, left, lent->header_need);
    if (header_complete(lent)) lent->payload_len = declared_len(lent->header);
    return 0;
}

static void collect_header(struct lent *lent, struct slice *left, size_t upto)
{
    size_t len = upto - lent->header_len;
    if (len > left->len) len = left->len;
    memcpy(lent->header + lent->header_len, left->data, len);
    lent->header_len += (uint8_t)len;
    *left = slice_from(*left, len);
}

/* start_code judges a frame's first two bytes: RFC 6455 5.1 (masked), 5.2 (reserved bits, opcodes), 5.4 (order), 5.5
 * (control frames are short and whole). */
static uint16_t start_code(const struct ws_in *in, const struct lent *lent)
{
    bool good = (lent->header[0] & RESERVED_BITS) == 0 && (lent->header[1] & MASK_BIT) != 0;
    switch (frame_opcode(lent)) {
    case WSLAY_CONTINUATION_FRAME: good = good && in->_opcode != 0; break;
    case WSLAY_TEXT_FRAME:
    case WSLAY_BINARY_FRAME: good = good && in->_opcode == 0; break;
    case WSLAY_CONNECTION_CLOSE:
    case WSLAY_PING:
    case WSLAY_PONG: /* may stand between fragments */
        good = good && frame_final(lent) && (lent->header[1] & LENGTH_BITS) <= CONTROL_PAYLOAD_MAX;
        break;
    default: good = false;
    }
    return good ? 0 : WSLAY_CODE_PROTOCOL_ERROR;
}

static uint64_t declared_len(const uint8_t *header)
{
    unsigned length7 = header[1] & LENGTH_BITS;
    if (length7 < 126) return length7;
    uint64_t len = 0;
    for (size_t i = 2; i < (length7 == 126 ? 4u : 10u); i++) len = len << 8 | header[i];
    return len;
}

/* --- a frame's payload ---------------------------------------------------------------------------------------- */

/* take_payload hands wslay what *left holds of the frame; returns the code to fail with, or 0. */
static uint16_t take_payload(struct ws_in *in, struct ws_pool *pool, struct lent *lent, struct slice *left,
                             size_t message_bytes_max)
{
    do {
        bool opens = !lent->header_handed;
        size_t available = left->len;
        struct wslay_frame_iocb part = {0};
        lent->source = left;
        ssize_t len = wslay_frame_recv(lent->context, &part);
        lent->source = NULL;
        if (len == WSLAY_ERR_PROTO) return WSLAY_CODE_PROTOCOL_ERROR;
        uint16_t code = opens ? open_frame(in, lent, available, message_bytes_max) : 0;
        if (code) return code;
        if (len == WSLAY_ERR_WANT_READ) break;
        /* Both sides of the border agree on the frame, so what is counted here is what wslay took. */
        ASSERT(len >= 0 && (size_t)len == part.data_length && part.payload_length == lent->payload_len);
        ASSERT(part.opcode == frame_opcode(lent) && (uint64_t)len <= lent->payload_taken);

        uint8_t *room = payload_room(in, pool, lent, (size_t)len);
        uint64_t offset = lent->payload_taken - (uint64_t)len;
        unmask(room, part.data, (size_t)len, lent->header + lent->header_need - MASKING_KEY_BYTES, offset);
        bool text = !wslay_is_ctrl_frame(part.opcode) && in->_opcode == WSLAY_TEXT_FRAME;
        if (text && !utf8_check(&in->_utf8, room, (size_t)len)) return WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA;
    } while (!frame_complete(lent) && left->len > 0);
    return 0;
}

/* open_frame decides once a frame, when wslay has accepted its header, where the payload goes; returns 0 or 1009.
 * `available` is how many bytes of payload, and of what follows it, are at hand. */
static uint16_t open_frame(struct ws_in *in, struct lent *lent, size_t available, size_t message_bytes_max)
{
    unsigned opcode = frame_opcode(lent);
    if (wslay_is_ctrl_frame(opcode)) {
        ASSERT(lent->payload_len <= CONTROL_PAYLOAD_MAX);
        return 0;
    }
    size_t assembled = in->_message ? in->_message->len : 0;
    if (assembled > message_bytes_max || lent->payload_len > message_bytes_max - assembled)
        return WSLAY_CODE_MESSAGE_TOO_BIG;
    if (opcode != WSLAY_CONTINUATION_FRAME) in->_opcode = (uint8_t)opcode;
    lent->whole = frame_final(lent) && in->_message == NULL && lent->payload_len <= RECV_BUFFER_BYTES &&
                  lent->payload_len <= available;
    return 0;
}

/* payload_room returns where the last `len` bytes that wslay took are unmasked to. */
static uint8_t *payload_room(struct ws_in *in, struct ws_pool *pool, struct lent *lent, size_t len)
{
    uint64_t offset = lent->payload_taken - len;
    if (wslay_is_ctrl_frame(frame_opcode(lent))) return lent->control + offset;
    if (lent->whole) return pool->scratch + offset;

    if (in->_message == NULL) {
        in->_message = calloc(1, sizeof *in->_message);
        ASSERT(in->_message != NULL);
    }
    /* A small frame's room is taken at once; a large one's grows as its bytes come, so that a header alone cannot
     * make the gateway allocate what it declares. */
    uint64_t rest = lent->payload_len - offset;
    size_t ahead = rest < RECV_BUFFER_BYTES ? (size_t)rest : RECV_BUFFER_BYTES;
    buf_reserve(in->_message, (ahead > len ? ahead : len) + JSON_PADDING);
    uint8_t *room = (uint8_t *)in->_message->data + in->_message->len;
    in->_message->len += len;
    return room;
}

/* hand_out is wslay's recv callback: first the header, then this frame's payload and nothing behind it. Of wslay
 * 1.1.1's frame layer: any answer that is not positive becomes WSLAY_ERR_WANT_READ, and the next call goes on. */
static ssize_t hand_out(uint8_t *out, size_t room, int flags, void *user_data)
{
    struct lent *lent = user_data;
    size_t len = 0;
    if (!lent->header_handed) {
        ASSERT(room >= CLIENT_HEADER_MAX);
        len = bare_header(out, lent);
        lent->header_handed = true;
    }
    uint64_t rest = lent->payload_len - lent->payload_taken;
    size_t part = room - len;
    if (part > lent->source->len) part = lent->source->len;
    if (part > rest) part = (size_t)rest;
    if (part > 0) memcpy(out + len, lent->source->data, part);
    *lent->source = slice_from(*lent->source, part);
    lent->payload_taken += part;
    return len + part > 0 ? (ssize_t)(len + part) : -1;
}

/* bare_header writes the header as that of an unmasked frame. wslay unmasks byte by byte through memory, 0.6 ns a
 * byte; told that there is nothing to unmask it leaves that to the copy out of its buffer, which does eight at a
 * time. */
static size_t bare_header(uint8_t *out, const struct lent *lent)
{
    size_t len = lent->header_need - MASKING_KEY_BYTES;
    memcpy(out, lent->header, len);
    out[1] &= (uint8_t)~MASK_BIT;
    return len;
}

static void unmask(uint8_t *out, const uint8_t *masked, size_t len, const uint8_t *key, uint64_t offset)
{
    uint8_t turned[8]; /* the key twice, beginning with the byte for `offset` */
    for (size_t i = 0; i < sizeof turned; i++) turned[i] = key[(offset + i) % MASKING_KEY_BYTES];
    uint64_t wide_key;
    memcpy(&wide_key, turned, sizeof wide_key);
    size_t at = 0;
    for (; len - at >= sizeof wide_key; at += sizeof wide_key) {
        uint64_t word;
        memcpy(&word, masked + at, sizeof word);
        word ^= wide_key;
        memcpy(out + at, &word, sizeof word);
    }
    for (; at < len; at++) out[at] = masked[at] ^ turned[at % sizeof turned];
}

/* --- the end of a frame --------------------------------------------------------------------------------------- */

/* end_message answers the message that the frame completes; WS_ERROR when its text ends inside a character. What a
 * reader may see past its end is zeroed, so that it is never another message. */
static enum ws_event end_message(struct ws_in *in, struct ws_pool *pool, struct slice *data, const struct lent *lent)
{
    if (in->_utf8 != 0) return WS_ERROR;
    if (lent->whole) {
        *data = slice_of(pool->scratch, lent->payload_len);
        memset(pool->scratch + lent->payload_len, 0, JSON_PADDING);
    } else {
        /* The pool frees it at the next ws_feed: an idle connection holds no message. */
        ASSERT(in->_message != NULL && pool->delivered.data == NULL);
        pool->delivered = *in->_message;
        free(in->_message);
        in->_message = NULL;
        buf_reserve(&pool->delivered, JSON_PADDING);
        memset(pool->delivered.data + pool->delivered.len, 0, JSON_PADDING);
        *data = buf_slice(&pool->delivered);
    }
    enum ws_event event = in->_opcode == WSLAY_TEXT_FRAME ? WS_TEXT : WS_BINARY;
    in->_opcode = 0;
    return event;
}

/* end_control answers a control frame. Its payload moves to the scratch, because the context goes back to the pool. */
static enum ws_event end_control(struct ws_pool *pool, struct slice *data, uint16_t *close_code,
                                 const struct lent *lent)
{
    memcpy(pool->scratch, lent->control, lent->payload_len);
    struct slice payload = slice_of(pool->scratch, lent->payload_len);
    if (frame_opcode(lent) == WSLAY_CONNECTION_CLOSE) {
        *close_code = close_payload_code(payload);
        if (*close_code) return WS_ERROR;
        *close_code = WSLAY_CODE_NO_STATUS_RCVD;
        if (payload.len > 0) *close_code = (uint16_t)((uint8_t)payload.data[0] << 8 | (uint8_t)payload.data[1]);
        *data = slice_from(payload, 2);
        return WS_CLOSE;
    }
    *data = payload;
    return frame_opcode(lent) == WSLAY_PING ? WS_PING : WS_PONG;
}

/* close_payload_code judges a close frame's payload, empty or (RFC 6455 5.5.1)
 *
 *   code, 2 bytes big endian | reason, UTF-8, the rest
 *
 * and returns the code to fail with, or 0. */
static uint16_t close_payload_code(struct slice payload)
{
    if (payload.len == 0) return 0;
    const uint8_t *bytes = (const uint8_t *)payload.data;
    if (payload.len == 1) return WSLAY_CODE_PROTOCOL_ERROR;
    if (!ws_close_code_valid((uint16_t)(bytes[0] << 8 | bytes[1]))) return WSLAY_CODE_PROTOCOL_ERROR;
    uint32_t state = 0;
    bool good = utf8_check(&state, bytes + 2, payload.len - 2) && state == 0;
    return good ? 0 : WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA;
}

bool ws_close_code_valid(uint16_t code)
{
    if (code >= 3000) return code <= 4999;
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
}

/* --- UTF-8 (RFC 3629 section 4, Unicode table 3-7) ------------------------------------------------------------- */

/* utf8_check goes on in a text whose earlier bytes left *state; false at the first byte that no valid text has there.
 * *state is 0 between characters, else
 *
 *   bits 0–7   continuation bytes missing, 1–3
 *   bits 8–15  the lowest and
 *   bits 16–23 the highest byte allowed next: narrower than 80–BF where a lead byte excludes overlong forms,
 *              surrogates and what is above U+10FFFF */
static bool utf8_check(uint32_t *state, const uint8_t *text, size_t len)
{
    unsigned missing = *state & 0xff, low = *state >> 8 & 0xff, high = *state >> 16;
    size_t at = 0;
    while (at < len) {
        if (missing > 0) {
            if (text[at] < low || text[at] > high) return false;
            missing--;
            low = 0x80;
            high = 0xbf;
            at++;
        } else if (text[at] < 0x80) {
            at += ascii_run(text + at, len - at);
        } else {
            if (!utf8_lead(text[at], &missing, &low, &high)) return false;
            at++;
        }
    }
    *state = missing > 0 ? missing | low << 8 | high << 16 : 0;
    return true;
}

/* ascii_run counts the ASCII bytes that text begins with, eight at a time where it can; text begins with one. */
static size_t ascii_run(const uint8_t *text, size_t len)
{
    size_t at = 0;
    for (; len - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, text + at, sizeof word);
        if (word & 0x8080808080808080u) break;
    }
    while (at < len && text[at] < 0x80) at++;
    return at;
}

/* utf8_lead reads a byte that begins a character of two to four bytes. */
static bool utf8_lead(uint8_t lead, unsigned *missing, unsigned *low, unsigned *high)
{
    if (lead < 0xc2 || lead > 0xf4) return false; /* a continuation, an overlong form, or above U+10FFFF */
    *missing = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    *low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;  /* shorter forms exist below */
    *high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf; /* surrogates; above U+10FFFF */
    return true;
}

/* --- sending and the handshake -------------------------------------------------------------------------------- */

size_t ws_header_len(uint64_t payload_len) { return payload_len < 126 ? 2 : payload_len <= UINT16_MAX ? 4 : 10; }

/* An unmasked FIN frame's header: the client's above, without mask bit and key. */
size_t ws_header(uint8_t out[WS_HEADER_MAX], enum ws_opcode opcode, uint64_t payload_len)
{
    ASSERT(payload_len <= INT64_MAX);
    ASSERT(!wslay_is_ctrl_frame(opcode) || payload_len <= CONTROL_PAYLOAD_MAX);
    size_t len = ws_header_len(payload_len);
    out[0] = (uint8_t)(FIN_BIT | opcode);
    out[1] = (uint8_t)(len == 2 ? payload_len : len == 4 ? 126 : 127);
    for (size_t i = 2; i < len; i++) out[i] = (uint8_t)(payload_len >> 8 * (len - 1 - i));
    return len;
}

bool ws_accept_key(char out[WS_ACCEPT_LEN], struct slice key)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 1.3 */
    uint8_t nonce[18];
    size_t nonce_len = 0;
    if (key.len != 24) return false;
    if (!EVP_DecodeBase64(nonce, &nonce_len, sizeof nonce, (const uint8_t *)key.data, key.len)) return false;
    if (nonce_len != 16) return false;

    SHA_CTX sha;
    uint8_t digest[SHA_DIGEST_LENGTH], text[WS_ACCEPT_LEN + 1];
    SHA1_Init(&sha);
    SHA1_Update(&sha, key.data, key.len);
    SHA1_Update(&sha, guid, sizeof guid - 1);
    SHA1_Final(digest, &sha);
    size_t len = EVP_EncodeBlock(text, digest, sizeof digest);
    ASSERT(len == WS_ACCEPT_LEN);
    memcpy(out, text, WS_ACCEPT_LEN);
    return true;
}
