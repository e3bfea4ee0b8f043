/* wire: the protocols as a client speaks them: HTTP/1.1 answers, WebSocket frames (RFC 6455), and as much JSON as it
 * takes to read the gateway's objects. Written apart from the production's parsers, so that a mistake of theirs is not
 * shared. What the gateway sends must be well-formed; anything else fails the run. */
#ifndef CARILLON_TESTS_SIM_WIRE_H
#define CARILLON_TESTS_SIM_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/buf.h"
#include "../../src/base/slice.h"

struct http_answer {
    unsigned status;
    bool close;
    struct slice body;
};

/* wire_answer reads one answer from the front of `bytes`; returns its length, 0 while it is incomplete. */
size_t wire_answer(struct http_answer *out, struct slice bytes);

enum wire_opcode {
    WIRE_CONTINUATION = 0,
    WIRE_TEXT = 1,
    WIRE_BINARY = 2,
    WIRE_CLOSE = 8,
    WIRE_PING = 9,
    WIRE_PONG = 10
};

/* wire_frame reads one unmasked, final frame from the front of `bytes`; returns its length, 0 while incomplete. */
size_t wire_frame(enum wire_opcode *opcode, struct slice *payload, struct slice bytes);
/* wire_send appends one masked frame. */
void wire_send(struct buf *out, enum wire_opcode opcode, bool final, struct slice payload, uint32_t mask);

/* json_member finds a member's value of an object's text: the raw text, a string without its quotes (and still
 * escaped); false when there is none or it is null. */
bool json_member(struct slice object, const char *name, struct slice *value);
/* json_number is json_member for an unsigned number; absent is 0. */
uint64_t json_number(struct slice object, const char *name);
/* json_element takes the next element's raw text off an array's text (which keeps its brackets at first). */
bool json_element(struct slice *array, struct slice *element);

#endif
