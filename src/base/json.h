/* json: reading JSON with simdjson (RFC 8259, UTF-8 checked, strict), through a small C++ shim.
 *
 * A parser is reused and belongs to one core; a document lives in its parser until the next parse. The text must be
 * followed by JSON_PADDING readable bytes (simdjson reads past the end); json_parse_copy copies when it is not.
 * Nodes and slices borrow the parser and die at its next parse. */
#ifndef CARILLON_BASE_JSON_H
#define CARILLON_BASE_JSON_H

#ifdef __cplusplus
/* The shim is the one C++ file: it takes the type alone, because slice.h's functions are C (void pointers convert). */
#include <cstddef>
#include <cstdint>
struct slice {
    const char *data;
    size_t len;
};
extern "C" {
#else
#include "slice.h"
#endif

#define JSON_PADDING 64u
#define JSON_DEPTH_MAX 64u /* nested arrays and objects (an empty innermost one is free); deeper is refused */

struct json_parser;

enum json_error {
    JSON_OK = 0,
    JSON_MALFORMED, /* not RFC 8259, or a \u escape that is half a surrogate pair: it names no character */
    JSON_BAD_UTF8,
    JSON_TOO_DEEP,
    JSON_TOO_LARGE, /* longer than the parser's bound */
};

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_node {
    const void *_document;
    size_t _index;
};

struct json_iter {
    const void *_document;
    size_t _at, _end;
};

/* json_parser_new makes a parser for texts of at most `bytes_max` bytes (< 4 GiB). Its memory grows with the largest
 * text seen. NULL may be freed. */
struct json_parser *json_parser_new(size_t bytes_max);
void json_parser_free(struct json_parser *p);

/* json_parse reads a whole text; on anything but JSON_OK `root` is not written. Numbers of any size are accepted, as
 * the grammar has it; one that does not fit 64 bits reads as a number that is no integer. */
enum json_error json_parse(struct json_parser *p, struct json_node *root, struct slice padded_text);
enum json_error json_parse_copy(struct json_parser *p, struct json_node *root, struct slice text);

enum json_type json_type_of(struct json_node n);
/* json_string returns the unescaped text of a string node (UTF-8, may hold NUL bytes). */
struct slice json_string(struct json_node n);
/* json_u64 takes a non-negative integer node ≤ UINT64_MAX (no fraction, no exponent); false for anything else. */
bool json_u64(struct json_node n, uint64_t *out);
bool json_bool(struct json_node n, bool *out);

/* json_object and json_array start a walk over a node of that type; _next returns false at the end. */
struct json_iter json_object(struct json_node n);
bool json_object_next(struct json_iter *i, struct slice *key, struct json_node *value);
struct json_iter json_array(struct json_node n);
bool json_array_next(struct json_iter *i, struct json_node *value);
size_t json_array_len(struct json_node n);
/* json_get finds a member; false when the node is no object or has no such member. The first of repeated names. */
bool json_get(struct json_node object, const char *name, struct json_node *out);

/* json_raw_member returns the exact text of a top-level member's value in `text`, which must be a valid JSON object
 * (just parsed): what `meta` needs to go back as it came. `name` is ASCII; the first of repeated names, escaped or
 * not. data NULL when absent. */
struct slice json_raw_member(struct slice text, const char *name);
/* json_raw_at is the same for the member that a walk comes to as number `index`, from 0, whatever its name. */
struct slice json_raw_at(struct slice text, size_t index);

/* json_valid says whether a text is RFC 8259, exactly by its grammar: numbers of any size, any depth, surrogate
 * escapes without their pair. Texts of 4 GiB and more are refused. It takes memory of its own, a multiple of
 * the text's. */
bool json_valid(struct slice text);

/* json_utf8_valid checks bytes for UTF-8 (RFC 3629), json_utf8_chars counts the characters of valid UTF-8. */
bool json_utf8_valid(struct slice s);
size_t json_utf8_chars(struct slice s);

#ifdef __cplusplus
}
#endif

#endif
