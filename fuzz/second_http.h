/* second_http: one HTTP request read by http-parser 2.9 (Debian's libhttp-parser-dev), with which ours is compared. A
 * module of its own, because both parsers name their methods alike. */
#ifndef CARILLON_FUZZ_SECOND_HTTP_H
#define CARILLON_FUZZ_SECOND_HTTP_H

#include "../src/base/buf.h"

/* more than either parser takes: a head of HTTP_HEADERS_MAX, and a field each 4 bytes of trailers */
#define FIELDS_MAX 2048u

/* field: one header or trailer field, by offset in `text`, which grows. */
struct field {
    size_t name_at, name_len, value_at, value_len;
};

enum reading_result { READING_MORE, READING_DONE, READING_REFUSED };

struct reading {
    enum reading_result result;
    size_t consumed, head_len; /* bytes; 0 before they are known */
    struct buf target, text, body;
    struct field fields[FIELDS_MAX];
    unsigned num_fields, num_head_fields; /* the others are trailers */
    const char *method;
    unsigned major, minor; /* version */
    bool head_done, in_value, keep_alive, upgrade, chunked;
    const char *why; /* of a refusal */
};

void reading_make(struct reading *r, struct slice bytes);
void reading_free(struct reading *r);

struct slice reading_name(const struct reading *r, unsigned i);
/* reading_value is without the white space around it, which that parser keeps. */
struct slice reading_value(const struct reading *r, unsigned i);

#endif
