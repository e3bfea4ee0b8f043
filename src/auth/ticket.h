/* ticket: what a browser opens its WebSocket with, because it cannot set headers there. A signed text names the key on
 * whose authority it was given out, the user, when it ends, and a nonce; so any core can tell whether a ticket is real
 * without asking another. That it is used once is decided at one place, the user's home, which remembers what was
 * used (used_tickets.h).
 *
 * The secret is of the process: with the memory of used tickets every ticket ends. Times are monotonic, so a clock that
 * is set back revives nothing. */
#ifndef CARILLON_AUTH_TICKET_H
#define CARILLON_AUTH_TICKET_H

#include "../base/limits.h"
#include "../base/slice.h"
#include "directory.h"

#define TICKET_SECRET_BYTES 32u
#define TICKET_NONCE_BYTES 16u
#define TICKET_HEAD_BYTES (1u + API_KEY_ID_LEN + 8u + TICKET_NONCE_BYTES)
#define TICKET_SEAL_BYTES 32u
#define TICKET_BYTES_MAX (TICKET_HEAD_BYTES + USER_ID_BYTES_MAX + TICKET_SEAL_BYTES)
#define TICKET_TEXT_MAX ((TICKET_BYTES_MAX + 2u) / 3u * 4u)

struct ticket {
    struct slice key_id;  /* API_KEY_ID_LEN bytes */
    struct slice user_id; /* 1 to USER_ID_BYTES_MAX bytes */
    uint64_t expires_ns;  /* mono */
    uint8_t nonce[TICKET_NONCE_BYTES];
};

/* ticket_write writes a ticket as base64url without padding (RFC 4648 section 5), returns its length. */
size_t ticket_write(char out[TICKET_TEXT_MAX], const uint8_t secret[TICKET_SECRET_BYTES], const struct ticket *t);
/* ticket_read takes a text apart when it was written with this secret; false for anything else. Slices of *t borrow
 * `bytes`. Neither the end of its life nor an earlier use is looked at. */
bool ticket_read(struct ticket *t, uint8_t bytes[TICKET_BYTES_MAX], const uint8_t secret[TICKET_SECRET_BYTES],
                 struct slice text);

#endif
