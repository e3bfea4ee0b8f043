/* Fuzzes the texts that name what the server numbers (src/chat/ids.h). The input is read as a text, and as the numbers
 * of an id:
 * - a text that a parser takes is, byte for byte, what the writer makes of the numbers that were read;
 * - what a writer makes is read back by its own parser and by no other one, and not when a byte of it is another. */
#include <stdlib.h>

#include "../src/base/assert.h"
#include "../src/base/buf.h"
#include "../src/chat/ids.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum kind { ROOM, TENANT, MESSAGE, NOTIFICATION, DEAD_LETTER, KINDS };

#define TEXT_MAX 64u /* longer than any id */

/* An id's numbers, as many as its kind has. */
struct numbers {
    uint64_t a, b, c;
};

static bool parse(enum kind kind, struct numbers *n, struct slice text)
{
    uint32_t tenant = 0;
    bool good = false;
    *n = (struct numbers){0};
    switch (kind) {
    case ROOM: return room_id_parse(text, &n->a);
    case TENANT: good = tenant_id_parse(text, &tenant); break;
    case MESSAGE: return message_id_parse(text, &n->a, &n->b);
    case NOTIFICATION: return notification_id_parse(text, &n->a);
    case DEAD_LETTER: good = dead_letter_id_parse(text, &tenant, &n->b, &n->c); break;
    case KINDS: UNREACHABLE();
    }
    n->a = tenant;
    return good;
}

static size_t write(enum kind kind, char *out, const struct numbers *n)
{
    switch (kind) {
    case ROOM: return (size_t)(room_id_text(out, n->a) - out);
    case TENANT: return (size_t)(tenant_id_text(out, (uint32_t)n->a) - out);
    case MESSAGE: return (size_t)(message_id_text(out, n->a, n->b) - out);
    case NOTIFICATION: return (size_t)(notification_id_text(out, n->a) - out);
    case DEAD_LETTER: return (size_t)(dead_letter_id_text(out, (uint32_t)n->a, n->b, n->c) - out);
    case KINDS: break;
    }
    UNREACHABLE();
}

static void text_is_what_is_written(struct slice text)
{
    unsigned taken = 0;
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct numbers n;
        if (!parse(kind, &n, text)) continue;
        char again[TEXT_MAX];
        size_t len = write(kind, again, &n);
        ASSERT(slice_eq(text, slice_of(again, len)));
        taken++;
    }
    ASSERT(taken <= 1);
}

static void what_is_written_is_read(enum kind kind, const struct numbers *given, uint8_t byte)
{
    struct numbers n = *given, back;
    if (kind == TENANT || kind == DEAD_LETTER) n.a = (uint32_t)n.a;
    if (kind != MESSAGE && kind != DEAD_LETTER) n.b = 0;
    if (kind != DEAD_LETTER) n.c = 0;
    bool given_once = n.a && (n.b || (kind != MESSAGE && kind != DEAD_LETTER)) && (n.c || kind != DEAD_LETTER);
    char text[TEXT_MAX];
    size_t len = write(kind, text, &n);
    char *exact = malloc(len);
    ASSERT(exact != NULL && len <= sizeof text);
    memcpy(exact, text, len);
    struct slice id = slice_of(exact, len);
    /* a number zero is nobody's; a message's room is not looked at, since its seq is checked in the room that was asked
     */
    bool read = parse(kind, &back, id);
    ASSERT(read == given_once || (kind == MESSAGE && n.b));
    if (read) ASSERT(back.a == n.a && back.b == n.b && back.c == n.c);
    text_is_what_is_written(id);
    ASSERT(!parse(kind, &back, slice_of(exact, len - 1)) || kind == MESSAGE);

    size_t at = byte % len;
    exact[at] = (char)(exact[at] ^ (1 + byte % 127));
    if (parse(kind, &back, id)) ASSERT(back.a != n.a || back.b != n.b || back.c != n.c);
    text_is_what_is_written(id);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct numbers n = {0};
    char *exact = malloc(len ? len : 1);
    ASSERT(exact != NULL);
    if (len) memcpy(exact, data, len);
    text_is_what_is_written(slice_of(exact, len));
    free(exact);
    if (len < 2) return 0;
    size_t numbers_len = len - 2 < sizeof n ? len - 2 : sizeof n;
    memcpy(&n, data + 2, numbers_len);
    what_is_written_is_read(data[0] % KINDS, &n, data[1]);
    return 0;
}
