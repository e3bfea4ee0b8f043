/* What stands behind /ws?ticket=. Nothing that was not written with the secret is a ticket; what was is read back, and
 * not when a byte of it is another. The input is read as a text, and as what a ticket says: expiry, nonce, user id. */
#include <stdlib.h>

#include "../src/auth/ticket.h"
#include "../src/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const uint8_t secret[TICKET_SECRET_BYTES] = "a secret of thirty-two bytes ...";

static void text_is_no_ticket(const uint8_t *data, size_t size)
{
    struct ticket t;
    uint8_t bytes[TICKET_BYTES_MAX];
    ASSERT(!ticket_read(&t, bytes, secret, slice_of(data, size)));
}

static void what_is_written_is_read(const uint8_t *data, size_t size)
{
    struct ticket t = {.key_id = SLICE("0123456789ab")}, back;
    char text[TICKET_TEXT_MAX];
    uint8_t bytes[TICKET_BYTES_MAX];
    memcpy(&t.expires_ns, data, 8);
    memcpy(t.nonce, data + 8, TICKET_NONCE_BYTES);
    t.user_id = slice_of(data + 8 + TICKET_NONCE_BYTES, size - 8 - TICKET_NONCE_BYTES);
    size_t len = ticket_write(text, secret, &t);
    ASSERT(len <= sizeof text);
    char *exact = malloc(len);
    ASSERT(exact != NULL);
    memcpy(exact, text, len);
    ASSERT(ticket_read(&back, bytes, secret, slice_of(exact, len)));
    ASSERT(slice_eq(back.user_id, t.user_id) && slice_eq(back.key_id, t.key_id) && back.expires_ns == t.expires_ns &&
           memcmp(back.nonce, t.nonce, sizeof t.nonce) == 0);
    size_t at = data[0] % (len - 1); /* not the last one, which may have bits to spare */
    exact[at] = exact[at] == 'A' ? 'B' : 'A';
    ASSERT(!ticket_read(&back, bytes, secret, slice_of(exact, len)));
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    size_t fixed = 8 + TICKET_NONCE_BYTES;
    text_is_no_ticket(data, len);
    if (len > fixed && len <= fixed + USER_ID_BYTES_MAX) what_is_written_is_read(data, len);
    return 0;
}
