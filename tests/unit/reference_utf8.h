/* reference_utf8: whether text is UTF-8 (RFC 3629), decided in another way than the product does: it decodes to numbers
 * and looks at those, slowly. */
#ifndef CARILLON_TESTS_UNIT_REFERENCE_UTF8_H
#define CARILLON_TESTS_UNIT_REFERENCE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../src/base/slice.h"

static inline bool reference_utf8(struct slice text)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t at = 0; at < text.len;) {
        uint8_t lead = (uint8_t)text.data[at];
        size_t len = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
        if (len == 0 || len > text.len - at) return false;
        uint32_t c = len == 1 ? lead : lead & (0x7fu >> len);
        for (size_t i = 1; i < len; i++) {
            if ((text.data[at + i] & 0xc0) != 0x80) return false;
            c = c << 6 | (text.data[at + i] & 0x3f);
        }
        if (len > 1 && (c < smallest[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))) return false;
        at += len;
    }
    return true;
}

#endif
