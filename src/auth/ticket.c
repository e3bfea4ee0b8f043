#include "ticket.h"

#include <openssl/base64.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>

#include "../base/assert.h"

/* ┌─────────┬────────┬────────────┬───────┬─────────┬──────────────────────┐
 * │ version │ key id │ expires_ns │ nonce │ user id │ HMAC-SHA-256         │
 * │ 1       │ 12     │ 8          │ 16    │ 1 … 128 │ 32, of all before it │
 * └─────────┴────────┴────────────┴───────┴─────────┴──────────────────────┘ bytes; numbers big-endian */
#define TICKET_VERSION 1

static void seal(uint8_t out[TICKET_SEAL_BYTES], const uint8_t secret[TICKET_SECRET_BYTES], const uint8_t *bytes,
                 size_t len)
{
    unsigned out_len = TICKET_SEAL_BYTES;
    ASSERT(HMAC(EVP_sha256(), secret, TICKET_SECRET_BYTES, bytes, len, out, &out_len) != NULL &&
           out_len == TICKET_SEAL_BYTES);
}

static size_t ticket_encode(uint8_t out[TICKET_BYTES_MAX], const struct ticket *t)
{
    uint8_t *at = out;
    ASSERT(t->key_id.len == API_KEY_ID_LEN && t->user_id.len > 0 && t->user_id.len <= USER_ID_BYTES_MAX);
    *at++ = TICKET_VERSION;
    memcpy(at, t->key_id.data, API_KEY_ID_LEN);
    at += API_KEY_ID_LEN;
    for (unsigned i = 0; i < 8; i++) *at++ = (uint8_t)(t->expires_ns >> (56 - 8 * i));
    memcpy(at, t->nonce, TICKET_NONCE_BYTES);
    at += TICKET_NONCE_BYTES;
    memcpy(at, t->user_id.data, t->user_id.len);
    return (size_t)(at - out) + t->user_id.len;
}

static void ticket_decode(struct ticket *t, const uint8_t *bytes, size_t len)
{
    const uint8_t *at = bytes + 1;
    *t = (struct ticket){.key_id = slice_of(at, API_KEY_ID_LEN)};
    at += API_KEY_ID_LEN;
    for (unsigned i = 0; i < 8; i++) t->expires_ns = t->expires_ns << 8 | *at++;
    memcpy(t->nonce, at, TICKET_NONCE_BYTES);
    t->user_id = slice_of(bytes + TICKET_HEAD_BYTES, len - TICKET_HEAD_BYTES);
}

size_t ticket_write(char out[TICKET_TEXT_MAX], const uint8_t secret[TICKET_SECRET_BYTES], const struct ticket *t)
{
    uint8_t bytes[TICKET_BYTES_MAX], text[TICKET_TEXT_MAX + 1]; /* EVP_EncodeBlock ends it with a NUL */
    size_t len = ticket_encode(bytes, t);
    seal(bytes + len, secret, bytes, len);
    size_t text_len = EVP_EncodeBlock(text, bytes, len + TICKET_SEAL_BYTES);
    while (text[text_len - 1] == '=') text_len--;
    for (size_t i = 0; i < text_len; i++) out[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : (char)text[i];
    return text_len;
}

/* base64url_decode turns it into the padded form that the library reads. */
static bool base64url_decode(uint8_t bytes[TICKET_BYTES_MAX], size_t *len, struct slice text)
{
    uint8_t padded[TICKET_TEXT_MAX], again[TICKET_TEXT_MAX + 1];
    if (text.len > sizeof padded) return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (c == '+' || c == '/' || c == '=') return false; /* of the other alphabet */
        padded[i] = (uint8_t)(c == '-' ? '+' : c == '_' ? '/' : c);
    }
    size_t padded_len = (text.len + 3) / 4 * 4;
    memset(padded + text.len, '=', padded_len - text.len);
    uint8_t out[TICKET_TEXT_MAX / 4 * 3];
    if (!EVP_DecodeBase64(out, len, sizeof out, padded, padded_len) || *len > TICKET_BYTES_MAX) return false;
    /* The last character may have bits that stand for nothing, and the library ignores them (RFC 4648 section 3.5). */
    if (EVP_EncodeBlock(again, out, *len) != padded_len || memcmp(again, padded, padded_len) != 0) return false;
    memcpy(bytes, out, *len);
    return true;
}

bool ticket_read(struct ticket *t, uint8_t bytes[TICKET_BYTES_MAX], const uint8_t secret[TICKET_SECRET_BYTES],
                 struct slice text)
{
    size_t len;
    uint8_t expected[TICKET_SEAL_BYTES];
    if (!base64url_decode(bytes, &len, text) || len <= TICKET_HEAD_BYTES + TICKET_SEAL_BYTES) return false;
    len -= TICKET_SEAL_BYTES;
    seal(expected, secret, bytes, len);
    if (CRYPTO_memcmp(expected, bytes + len, TICKET_SEAL_BYTES) != 0) return false;
    ASSERT(bytes[0] == TICKET_VERSION); /* nobody else has the secret */
    ticket_decode(t, bytes, len);
    return true;
}
