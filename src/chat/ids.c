#include "ids.h"

#include "../base/buf.h"

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford's base 32: nothing to misread */

#define MIX 0x9e3779b97f4a7c15ULL
#define UNMIX 0xf1de83e19937733dULL /* MIX * UNMIX == 1 modulo 2^64 */

static uint64_t mix(uint64_t v)
{
    v ^= v >> 32;
    v *= MIX;
    return v ^ v >> 32;
}

static uint64_t unmix(uint64_t v)
{
    v ^= v >> 32;
    v *= UNMIX;
    return v ^ v >> 32;
}

/* encode_number writes 13 characters. */
static char *encode_number(char *out, uint64_t number)
{
    uint64_t v = mix(number);
    for (int shift = 60; shift >= 0; shift -= 5) *out++ = alphabet[v >> shift & 31];
    return out;
}

static char *encode(char *out, char letter, uint64_t number)
{
    *out++ = letter;
    *out++ = '_';
    return encode_number(out, number);
}

static int digit(char c)
{
    const char *at = c ? memchr(alphabet, c, 32) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

#define NUMBER_TEXT_LEN 13u

static bool decode_number(const char *text, uint64_t *number)
{
    uint64_t v = 0;
    for (size_t i = 0; i < NUMBER_TEXT_LEN; i++) {
        int d = digit(text[i]);
        if (d < 0 || (i == 0 && d > 15)) return false; /* 13 characters hold 65 bits: the first has only four */
        v = v << 5 | (uint64_t)d;
    }
    *number = unmix(v);
    return true;
}

static bool decode(struct slice text, char letter, uint64_t *number)
{
    if (text.len != ID_TEXT_LEN || text.data[0] != letter || text.data[1] != '_') return false;
    return decode_number(text.data + 2, number);
}

char *room_id_text(char *out, uint64_t room) { return encode(out, 'r', room); }

char *tenant_id_text(char *out, uint32_t tenant) { return encode(out, 't', tenant); }

char *message_id_text(char *out, uint64_t room, uint64_t seq)
{
    out = encode(out, 'm', room);
    *out++ = '_';
    return u64_text(out, seq);
}

bool room_id_parse(struct slice text, uint64_t *room) { return decode(text, 'r', room) && *room != 0; }

bool tenant_id_parse(struct slice text, uint32_t *tenant)
{
    uint64_t v;
    if (!decode(text, 't', &v) || v == 0 || v > UINT32_MAX) return false;
    *tenant = (uint32_t)v;
    return true;
}

bool message_id_parse(struct slice text, uint64_t *room, uint64_t *seq)
{
    if (text.len < ID_TEXT_LEN + 2 || text.data[ID_TEXT_LEN] != '_') return false;
    struct slice number = slice_from(text, ID_TEXT_LEN + 1);
    return decode((struct slice){text.data, ID_TEXT_LEN}, 'm', room) && slice_u64(number, seq) && number.data[0] != '0';
}

char *notification_id_text(char *out, uint64_t number) { return encode(out, 'n', number); }

bool notification_id_parse(struct slice text, uint64_t *number) { return decode(text, 'n', number) && *number != 0; }

char *dead_letter_id_text(char *out, uint32_t tenant, uint64_t number, uint64_t user)
{
    out = encode(out, 'd', tenant);
    out = encode_number(out, number);
    return encode_number(out, user);
}

bool dead_letter_id_parse(struct slice text, uint32_t *tenant, uint64_t *number, uint64_t *user)
{
    uint64_t t;
    if (text.len != DEAD_LETTER_ID_TEXT_LEN || !decode((struct slice){text.data, ID_TEXT_LEN}, 'd', &t)) return false;
    if (t == 0 || t > UINT32_MAX) return false;
    *tenant = (uint32_t)t;
    return decode_number(text.data + ID_TEXT_LEN, number) &&
           decode_number(text.data + ID_TEXT_LEN + NUMBER_TEXT_LEN, user) && *number != 0 && *user != 0;
}
