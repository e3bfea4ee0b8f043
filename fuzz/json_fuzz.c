/* Fuzzes src/base/json.h with one text. What holds:
 * - json_valid is the grammar of RFC 8259, written down here a second time as a state machine over bytes;
 * - json_parse takes what the grammar takes, but for half surrogate pairs and deep nesting, and says the reason for
 *   anything else; whatever stands in the padding, and whether the text was copied;
 * - yajl 2.1 (Debian's libyajl-dev), a parser by others, takes the same but for the rules below, and reads the same
 *   values in the same order;
 * - what was read, written with buf_json_string and read again, is the same, and so is what json_raw_member cuts out.
 */
#include <stdio.h>
#include <stdlib.h>
#include <yajl/yajl_parse.h>

#include "../src/base/assert.h"
#include "../src/base/buf.h"
#include "../src/base/json.h"
#include "rules.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT_BYTES_MAX (1u << 20)

/* verdict: what the grammar says of a text. The three reasons are those of the bytes up to the first fault. */
struct verdict {
    bool grammar;        /* a JSON text, UTF-8 apart */
    bool half_surrogate; /* \uD800 … \uDFFF without its other half */
    bool text_behind;    /* behind the value stands a string without an end */
    size_t depth;        /* nested containers that hold something */
};

/* What yajl takes and we refuse. */
enum { RULE_UTF8, RULE_HALF_SURROGATE, RULE_DEPTH, RULE_TEXT_BEHIND, RULE_SPACE, RULES };
static struct rule rules[RULES] = {
    [RULE_UTF8] = {"utf8", "RFC 3629 section 4", "bytes that are longer than they need be, surrogates, too large", 0},
    [RULE_HALF_SURROGATE] = {"half_surrogate", "RFC 8259 section 8.2", "an escape that names no character", 0},
    [RULE_DEPTH] = {"depth", "RFC 8259 section 9", "nested deeper than JSON_DEPTH_MAX", 0},
    [RULE_TEXT_BEHIND] = {"text_behind", "RFC 8259 section 2", "behind the value a string without an end", 0},
    [RULE_SPACE] = {"space", "RFC 8259 section 2", "vertical tab and form feed as white space", 0},
};

static struct verdict judge(struct slice text);
static bool utf8_valid(struct slice text);
static void describe(struct buf *out, struct json_node node);
static bool second_reading(struct buf *out, struct slice text);
static void check_parse(struct json_parser *p, struct slice text, const struct verdict *verdict, bool utf8);
static void check_again(struct json_node root, struct slice description);
static void check_raw_members(struct json_node root, struct slice text);

static struct json_parser *parser_of(size_t which)
{
    static struct json_parser *parsers[3];
    if (parsers[which] == NULL) parsers[which] = json_parser_new(TEXT_BYTES_MAX);
    return parsers[which];
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    rules_begin(rules, RULES);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > TEXT_BYTES_MAX) return 0;
    char *exact = malloc(size ? size : 1); /* not a byte to spare, so that a read past the end is seen */
    ASSERT(exact != NULL);
    if (size) memcpy(exact, data, size);
    struct slice text = slice_of(exact, size);
    struct verdict verdict = judge(text);
    bool utf8 = utf8_valid(text);
    ASSERT(json_utf8_valid(text) == utf8);
    ASSERT(json_valid(text) == (verdict.grammar && utf8));
    check_parse(parser_of(0), text, &verdict, utf8);
    free(exact);
    return 0;
}

/* odd_space says whether the text is JSON, or nearly, once spaces stand where it has vertical tabs and form feeds. */
static bool odd_space(struct slice text)
{
    char *copy = malloc(text.len + 1);
    ASSERT(copy != NULL);
    bool any = false;
    for (size_t i = 0; i < text.len; i++) {
        bool odd = text.data[i] == '\v' || text.data[i] == '\f';
        any = any || odd;
        copy[i] = odd ? ' ' : text.data[i];
    }
    struct verdict verdict = judge(slice_of(copy, text.len));
    free(copy);
    return any && (verdict.grammar || verdict.text_behind);
}

static bool excused(struct slice text, const struct verdict *verdict, bool utf8)
{
    const bool holds[RULES] = {
        [RULE_UTF8] = !utf8,
        [RULE_HALF_SURROGATE] = verdict->half_surrogate,
        [RULE_DEPTH] = verdict->depth > JSON_DEPTH_MAX,
        [RULE_TEXT_BEHIND] = verdict->text_behind,
        [RULE_SPACE] = odd_space(text),
    };
    bool any = false;
    for (unsigned i = 0; i < RULES; i++) {
        rules[i].times_needed += holds[i];
        any = any || holds[i];
    }
    return any;
}

static void check_parse(struct json_parser *p, struct slice text, const struct verdict *verdict, bool utf8)
{
    struct json_node root, padded_root;
    enum json_error error = json_parse_copy(p, &root, text);
    bool expected = verdict->grammar && utf8 && !verdict->half_surrogate && verdict->depth <= JSON_DEPTH_MAX;
    ASSERT((error == JSON_OK) == expected);
    ASSERT(error != JSON_TOO_LARGE);
    ASSERT(error != JSON_BAD_UTF8 || !utf8);
    ASSERT(error != JSON_TOO_DEEP || verdict->depth > JSON_DEPTH_MAX);

    /* what follows the text is readable and means nothing */
    static const char follows[] = "\"]}0123456789.e+-,:true[{";
    char *padded = malloc(text.len + JSON_PADDING);
    ASSERT(padded != NULL);
    if (text.len) memcpy(padded, text.data, text.len);
    size_t from = text.len % (sizeof follows - 1);
    for (size_t i = 0; i < JSON_PADDING; i++) padded[text.len + i] = follows[(from + i) % (sizeof follows - 1)];
    ASSERT(json_parse(parser_of(1), &padded_root, slice_of(padded, text.len)) == error);

    struct buf ours = {0}, from_padded = {0}, second = {0};
    bool taken = second_reading(&second, text);
    if (error == JSON_OK) {
        describe(&ours, root);
        describe(&from_padded, padded_root);
        ASSERT(slice_eq(buf_slice(&ours), buf_slice(&from_padded)));
        ASSERT(taken && slice_eq(buf_slice(&ours), buf_slice(&second)));
        check_again(root, buf_slice(&ours));
        check_raw_members(root, text);
    } else {
        ASSERT(!taken || excused(text, verdict, utf8));
    }
    buf_free(&ours);
    buf_free(&from_padded);
    buf_free(&second);
    free(padded);
}

/* --- what was read, as bytes to compare ------------------------------------------------------------------------- */

static void describe_text(struct buf *out, char kind, struct slice text)
{
    buf_printf(out, "%c%zu:", kind, text.len); /* text may hold anything, so its length stands before it */
    buf_slice_append(out, text);
}

static void describe(struct buf *out, struct json_node node)
{
    bool flag = false;
    uint64_t number = 0;
    struct slice key;
    struct json_node value;
    struct json_iter i;
    switch (json_type_of(node)) {
    case JSON_NULL: buf_char(out, 'n'); return;
    case JSON_BOOL:
        ASSERT(json_bool(node, &flag));
        buf_char(out, flag ? 't' : 'f');
        return;
    case JSON_NUMBER:
        if (json_u64(node, &number))
            buf_printf(out, "u%llu;", (unsigned long long)number);
        else
            buf_char(out, 'x');
        return;
    case JSON_STRING: describe_text(out, 's', json_string(node)); return;
    case JSON_ARRAY: {
        size_t len = 0;
        buf_char(out, '[');
        for (i = json_array(node); json_array_next(&i, &value); len++) describe(out, value);
        ASSERT(len == json_array_len(node));
        buf_char(out, ']');
        return;
    }
    case JSON_OBJECT:
        buf_char(out, '{');
        for (i = json_object(node); json_object_next(&i, &key, &value);) {
            describe_text(out, 'k', key);
            describe(out, value);
        }
        buf_char(out, '}');
        return;
    }
    UNREACHABLE();
}

static int on_null(void *out)
{
    buf_char(out, 'n');
    return 1;
}

static int on_boolean(void *out, int value)
{
    buf_char(out, value ? 't' : 'f');
    return 1;
}

static int on_number(void *out, const char *text, size_t len)
{
    struct slice number = slice_of(text, len);
    uint64_t value = 0;
    char *terminated = strndup(text, len);
    ASSERT(terminated != NULL);
    /* of any length, since leading zeros are no JSON; minus zero is an integer that is not negative */
    if (slice_is(number, "-0") || (strspn(terminated, "0123456789") == len && slice_u64(number, &value)))
        buf_printf(out, "u%llu;", (unsigned long long)value);
    else
        buf_char(out, 'x');
    free(terminated);
    return 1;
}

static int on_string(void *out, const unsigned char *text, size_t len)
{
    describe_text(out, 's', slice_of(text, len));
    return 1;
}

static int on_key(void *out, const unsigned char *text, size_t len)
{
    describe_text(out, 'k', slice_of(text, len));
    return 1;
}

static int on_object(void *out)
{
    buf_char(out, '{');
    return 1;
}

static int on_object_end(void *out)
{
    buf_char(out, '}');
    return 1;
}

static int on_array(void *out)
{
    buf_char(out, '[');
    return 1;
}

static int on_array_end(void *out)
{
    buf_char(out, ']');
    return 1;
}

static bool second_reading(struct buf *out, struct slice text)
{
    static const yajl_callbacks callbacks = {on_null,   on_boolean, NULL,          NULL,     on_number,   on_string,
                                             on_object, on_key,     on_object_end, on_array, on_array_end};
    yajl_handle parser = yajl_alloc(&callbacks, NULL, out);
    ASSERT(parser != NULL);
    bool taken = yajl_parse(parser, (const unsigned char *)text.data, text.len) == yajl_status_ok &&
                 yajl_complete_parse(parser) == yajl_status_ok;
    yajl_free(parser);
    return taken;
}

/* --- written and read again -------------------------------------------------------------------------------------- */

static void encode(struct buf *out, struct json_node node)
{
    uint64_t number;
    struct slice key;
    struct json_node value;
    struct json_iter i;
    const char *between = "";
    switch (json_type_of(node)) {
    case JSON_STRING: buf_json_string(out, json_string(node)); return;
    case JSON_ARRAY:
        buf_char(out, '[');
        for (i = json_array(node); json_array_next(&i, &value); between = ",") {
            buf_printf(out, "%s", between);
            encode(out, value);
        }
        buf_char(out, ']');
        return;
    case JSON_OBJECT:
        buf_char(out, '{');
        for (i = json_object(node); json_object_next(&i, &key, &value); between = ",") {
            buf_printf(out, "%s", between);
            buf_json_string(out, key);
            buf_char(out, ':');
            encode(out, value);
        }
        buf_char(out, '}');
        return;
    case JSON_NUMBER:
        if (json_u64(node, &number))
            buf_u64(out, number);
        else
            buf_printf(out, "-1.5");
        return;
    case JSON_NULL: buf_printf(out, "null"); return;
    case JSON_BOOL: {
        bool flag = false;
        ASSERT(json_bool(node, &flag));
        buf_printf(out, "%s", flag ? "true" : "false");
        return;
    }
    }
    UNREACHABLE();
}

static void check_again(struct json_node root, struct slice description)
{
    struct buf text = {0}, again = {0};
    struct json_node same;
    encode(&text, root);
    ASSERT(json_parse_copy(parser_of(2), &same, buf_slice(&text)) == JSON_OK);
    describe(&again, same);
    ASSERT(slice_eq(buf_slice(&again), description));
    buf_free(&text);
    buf_free(&again);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* reads_as holds a member's text, cut out of `text`, against its value. */
static void reads_as(struct slice raw, struct json_node value, struct slice text)
{
    struct json_node again;
    struct buf expected = {0}, actual = {0};
    ASSERT(raw.data >= text.data && raw.len > 0 && raw.data + raw.len <= text.data + text.len);
    ASSERT(!is_space(raw.data[0]) && !is_space(raw.data[raw.len - 1]));
    ASSERT(json_parse_copy(parser_of(2), &again, raw) == JSON_OK);
    describe(&expected, value);
    describe(&actual, again);
    ASSERT(slice_eq(buf_slice(&expected), buf_slice(&actual)));
    buf_free(&expected);
    buf_free(&actual);
}

/* A member is found by its name or its place, and its text reads as its value does. */
static void check_raw_members(struct json_node root, struct slice text)
{
    struct slice key;
    struct json_node value, found;
    if (json_type_of(root) != JSON_OBJECT) return;
    struct json_iter i = json_object(root);
    for (unsigned num = 0; num < 16 && json_object_next(&i, &key, &value); num++) {
        reads_as(json_raw_at(text, num), value, text);
        char name[64];
        bool ascii = key.len < sizeof name;
        for (size_t at = 0; at < key.len; at++) ascii = ascii && key.data[at] > 0;
        if (!ascii) continue;
        if (key.len) memcpy(name, key.data, key.len);
        name[key.len] = '\0';
        ASSERT(json_get(root, name, &found));
        reads_as(json_raw_member(text, name), found, text);
    }
    ASSERT((json_raw_member(text, "meta").data != NULL) == json_get(root, "meta", &found));
}

/* --- the grammar, once more -------------------------------------------------------------------------------------- */

/* reader: a place in a text. Each take_ function passes one thing, or returns false where it is not there. */
struct reader {
    const char *at, *end;
    struct verdict *verdict;
};

static void skip_space(struct reader *r)
{
    while (r->at < r->end && is_space(*r->at)) r->at++;
}

static bool take(struct reader *r, char c)
{
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

static bool take_word(struct reader *r, const char *word)
{
    for (; *word; word++)
        if (!take(r, *word)) return false;
    return true;
}

static bool take_digits(struct reader *r)
{
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > from;
}

static bool take_number(struct reader *r)
{
    take(r, '-');
    if (!take(r, '0') && !take_digits(r)) return false;
    if (take(r, '.') && !take_digits(r)) return false;
    if (!take(r, 'e') && !take(r, 'E')) return true;
    if (!take(r, '+')) take(r, '-');
    return take_digits(r);
}

static bool take_hex(struct reader *r, unsigned *code)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    *code = 0;
    for (unsigned i = 0; i < 4; i++, r->at++) {
        const char *digit = r->at < r->end && *r->at ? strchr(digits, *r->at) : NULL;
        if (!digit) return false;
        *code = *code << 4 | (unsigned)((digit - digits) % 16);
    }
    return true;
}

/* take_escape passes what stands behind a backslash; *high is a first half that waits for its second. */
static bool take_escape(struct reader *r, bool *high)
{
    bool waiting = *high;
    *high = false;
    if (r->at < r->end && *r->at && strchr("\"\\/bfnrt", *r->at)) {
        r->verdict->half_surrogate |= waiting;
        r->at++;
        return true;
    }
    unsigned code;
    if (!take(r, 'u') || !take_hex(r, &code)) return false;
    bool low = code >= 0xdc00 && code <= 0xdfff;
    r->verdict->half_surrogate |= waiting != low;
    *high = code >= 0xd800 && code <= 0xdbff;
    return true;
}

static bool take_string(struct reader *r)
{
    bool high = false;
    if (!take(r, '"')) return false;
    for (;;) {
        if (r->at == r->end || (unsigned char)*r->at < 0x20) return false;
        if (take(r, '\\')) {
            if (!take_escape(r, &high)) return false;
            continue;
        }
        r->verdict->half_surrogate |= high;
        high = false;
        if (take(r, '"')) return true;
        r->at++;
    }
}

static bool take_scalar(struct reader *r)
{
    if (r->at == r->end) return false;
    switch (*r->at) {
    case '"': return take_string(r);
    case 't': return take_word(r, "true");
    case 'f': return take_word(r, "false");
    case 'n': return take_word(r, "null");
    default: return take_number(r);
    }
}

static bool take_name(struct reader *r)
{
    skip_space(r);
    if (!take_string(r)) return false;
    skip_space(r);
    return take(r, ':');
}

/* take_value passes a value with all that is in it; `open` is the stack of the containers around the place. */
static bool take_value(struct reader *r, char *open)
{
    size_t depth = 0;
    for (;;) { /* at the beginning of a value */
        skip_space(r);
        char closing = r->at == r->end ? 0 : *r->at == '{' ? '}' : *r->at == '[' ? ']' : 0;
        if (closing) {
            r->at++;
            skip_space(r);
            if (!take(r, closing)) {
                open[depth++] = closing;
                if (depth > r->verdict->depth) r->verdict->depth = depth;
                if (closing == '}' && !take_name(r)) return false;
                continue;
            }
        } else if (!take_scalar(r)) {
            return false;
        }
        for (;;) { /* behind a value */
            if (depth == 0) return true;
            skip_space(r);
            if (take(r, ',')) break;
            if (!take(r, open[depth - 1])) return false;
            depth--;
        }
        if (open[depth - 1] == '}' && !take_name(r)) return false;
    }
}

static struct verdict judge(struct slice text)
{
    struct verdict verdict = {0};
    struct reader r = {text.data, text.data + text.len, &verdict};
    char *open = malloc(text.len + 1);
    ASSERT(open != NULL);
    verdict.grammar = take_value(&r, open);
    skip_space(&r);
    if (verdict.grammar && r.at != r.end) {
        verdict.grammar = false;
        verdict.text_behind = !take_string(&r) && r.at == r.end;
    }
    free(open);
    return verdict;
}

/* RFC 3629 section 4, as ranges of the first two bytes. */
static bool utf8_valid(struct slice text)
{
    for (size_t at = 0; at < text.len;) {
        unsigned char lead = (unsigned char)text.data[at++];
        if (lead < 0x80) continue;
        unsigned more = lead >= 0xc2 && lead <= 0xdf   ? 1
                        : lead >= 0xe0 && lead <= 0xef ? 2
                        : lead >= 0xf0 && lead <= 0xf4 ? 3
                                                       : 0;
        if (more == 0 || text.len - at < more) return false;
        unsigned char second = (unsigned char)text.data[at];
        if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return false;
        if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return false;
        for (; more > 0; more--, at++)
            if (((unsigned char)text.data[at] & 0xc0) != 0x80) return false;
    }
    return true;
}
