/* push: reading what a load generator needs out of a server frame without parsing it as JSON.
 *
 * A receiver of two million frames a second cannot afford a parser: the gateway writes its frames without white space
 * and with the type first, so a few comparisons find the fields. What does not match is left to the caller's parser:
 * these functions never guess. The needles hold unescaped quotes, which cannot occur inside a JSON string. */
#ifndef CARILLON_TOOLS_LOAD_PUSH_H
#define CARILLON_TOOLS_LOAD_PUSH_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/slice.h"

enum push_kind { PUSH_MESSAGE, PUSH_OK, PUSH_OTHER };

enum push_kind push_kind_of(struct slice frame);
/* push_number finds `needle` (such as "\"seq\":") and reads the decimal digits behind it. *hint is where it was found
 * last: frames of one kind put it at the same place; it is tried first. */
bool push_number(uint64_t *out, struct slice frame, struct slice needle, uint32_t *hint);
/* push_has tells whether the frame holds `needle`. */
bool push_has(struct slice frame, struct slice needle, uint32_t *hint);
/* push_text returns the text between `needle` (ending in an opening quote) and the next quote: only for values that
 * never hold an escape, such as ids that the gateway made. data NULL when absent. */
struct slice push_text(struct slice frame, struct slice needle);

/* A stamp opens every content: which run, publisher and message it is, and when it was due; fixed-width lower-case hex:
 *
 *   run:8 publisher:6 number:10 intended_ns:16
 */
#define STAMP_LEN 40u
struct stamp {
    uint32_t run, publisher;
    uint64_t number, intended_ns;
};
void stamp_write(char out[STAMP_LEN], const struct stamp *stamp);
/* stamp_read finds the stamp in a message frame; false when its content has none. */
bool stamp_read(struct stamp *out, struct slice frame);

#endif
