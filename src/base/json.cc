#include "json.h"

#include <cstdlib>
#include <cstring>
#include <new>

/* simdjson 3.0.1 (Debian 12), DOM interface. Nothing may throw through C frames: its exceptions are off, and every
 * allocation here is nothrow or malloc. */
#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

static_assert(JSON_PADDING >= simdjson::SIMDJSON_PADDING, "callers pad by what simdjson reads past the end");

/* assert.h is C; the function it names is the same one. */
extern "C" [[noreturn]] void assert_failed(const char *condition, const char *file, int line, const char *function);
#define ASSERT(cond) ((cond) ? (void)0 : assert_failed(#cond, __FILE__, __LINE__, __func__))

using simdjson::internal::tape_ref;
using simdjson::internal::tape_type;

struct json_parser {
    simdjson::dom::parser simd;
    size_t bytes_max;
    size_t depth_max;  /* nested containers */
    char *copy;        /* a padded copy of the text, made when it has no padding or must be changed to be parsed */
    size_t copy_bytes; /* what `copy` holds beside its padding */
};

static json_parser *parser_new(size_t bytes_max, size_t depth_max);
static simdjson::error_code build(json_parser *p, slice padded_text);
static slice copy_text(json_parser *p, slice text);
static void neutralise_numbers(char *text, size_t len);
static void neutralise_surrogates(char *text, size_t len);
static json_error error_of(simdjson::error_code error);
static tape_ref tape_of(json_node n);
static size_t containers_opened(slice text);
static const char *skip_space(const char *at, const char *end);
static const char *skip_string(const char *at, const char *end);
static const char *skip_value(const char *at, const char *end);
static const char *first_member(slice text);
static bool raw_next(const char **at, const char *end, slice *key, slice *value);
static bool key_is(const char *at, const char *end, const char *name);

json_parser *json_parser_new(size_t bytes_max)
{
    return parser_new(bytes_max, JSON_DEPTH_MAX);
}

void json_parser_free(json_parser *p)
{
    if (p == nullptr) return;
    free(p->copy);
    delete p;
}

json_error json_parse(json_parser *p, json_node *root, slice padded_text)
{
    if (padded_text.len > p->bytes_max) return JSON_TOO_LARGE;
    simdjson::error_code error = build(p, padded_text);
    if (error == simdjson::NUMBER_ERROR) {
        /* perhaps only a number's size: the grammar knows no bound, simdjson holds 64 bits */
        slice copy = padded_text.data == p->copy ? padded_text : copy_text(p, padded_text);
        neutralise_numbers(p->copy, copy.len);
        error = build(p, copy);
    }
    if (error) return error_of(error);
    *root = {&p->simd.doc, 1}; /* word 0 of the tape is the document, word 1 its value */
    return JSON_OK;
}

json_error json_parse_copy(json_parser *p, json_node *root, slice text)
{
    if (text.len > p->bytes_max) return JSON_TOO_LARGE;
    return json_parse(p, root, copy_text(p, text));
}

bool json_valid(slice text)
{
    json_parser *p = parser_new(text.len, containers_opened(text));
    slice copy = copy_text(p, text);
    simdjson::error_code error = build(p, copy);
    if (error == simdjson::NUMBER_ERROR || error == simdjson::STRING_ERROR) {
        /* what the grammar allows and simdjson cannot hold goes; what is left is judged again */
        neutralise_numbers(p->copy, copy.len);
        neutralise_surrogates(p->copy, copy.len);
        error = build(p, copy);
    }
    json_parser_free(p);
    return !error;
}

json_type json_type_of(json_node n)
{
    switch (tape_of(n).tape_ref_type()) {
    case tape_type::NULL_VALUE: return JSON_NULL;
    case tape_type::TRUE_VALUE:
    case tape_type::FALSE_VALUE: return JSON_BOOL;
    case tape_type::INT64:
    case tape_type::UINT64:
    case tape_type::DOUBLE: return JSON_NUMBER;
    case tape_type::STRING: return JSON_STRING;
    case tape_type::START_ARRAY: return JSON_ARRAY;
    case tape_type::START_OBJECT: return JSON_OBJECT;
    case tape_type::ROOT:
    case tape_type::END_ARRAY:
    case tape_type::END_OBJECT: break;
    }
    assert_failed("a node is a value", __FILE__, __LINE__, __func__);
}

slice json_string(json_node n)
{
    ASSERT(json_type_of(n) == JSON_STRING);
    tape_ref ref = tape_of(n);
    return {ref.get_c_str(), ref.get_string_length()};
}

bool json_u64(json_node n, uint64_t *out)
{
    tape_ref ref = tape_of(n);
    if (!ref.is_int64() && !ref.is_uint64()) return false;
    if (ref.is_int64() && ref.next_tape_value<int64_t>() < 0) return false;
    *out = ref.next_tape_value<uint64_t>();
    return true;
}

bool json_bool(json_node n, bool *out)
{
    if (json_type_of(n) != JSON_BOOL) return false;
    *out = tape_of(n).is_true();
    return true;
}

/* On the tape a container is its opening word, its children, its closing word; an object's children are key, value,
 * key, value … after_element of the opening word is one past the closing word. */
static json_iter children(json_node n)
{
    return {n._document, n._index + 1, tape_of(n).after_element() - 1};
}

json_iter json_object(json_node n)
{
    ASSERT(json_type_of(n) == JSON_OBJECT);
    return children(n);
}

bool json_object_next(json_iter *i, slice *key, json_node *value)
{
    if (i->_at == i->_end) return false;
    *key = json_string({i->_document, i->_at});
    *value = {i->_document, i->_at + 1};
    i->_at = tape_of(*value).after_element();
    return true;
}

json_iter json_array(json_node n)
{
    ASSERT(json_type_of(n) == JSON_ARRAY);
    return children(n);
}

bool json_array_next(json_iter *i, json_node *value)
{
    if (i->_at == i->_end) return false;
    *value = {i->_document, i->_at};
    i->_at = tape_of(*value).after_element();
    return true;
}

size_t json_array_len(json_node n)
{
    json_iter i = json_array(n);
    size_t len = tape_of(n).scope_count();
    if (len < simdjson::internal::JSON_COUNT_MASK) return len;
    len = 0; /* the tape's count saturates at 2^24 - 1 */
    for (json_node value; json_array_next(&i, &value);) len++;
    return len;
}

bool json_get(json_node object, const char *name, json_node *out)
{
    if (json_type_of(object) != JSON_OBJECT) return false;
    size_t name_len = strlen(name);
    json_iter i = json_object(object);
    slice key;
    for (json_node value; json_object_next(&i, &key, &value);) {
        if (key.len != name_len || memcmp(key.data, name, name_len) != 0) continue;
        *out = value;
        return true;
    }
    return false;
}

slice json_raw_member(slice text, const char *name)
{
    const char *end = text.data + text.len, *at = first_member(text);
    for (slice key, value; raw_next(&at, end, &key, &value);)
        if (key_is(key.data, key.data + key.len, name)) return value;
    return {nullptr, 0};
}

slice json_raw_at(slice text, size_t index)
{
    const char *end = text.data + text.len, *at = first_member(text);
    for (slice key, value; raw_next(&at, end, &key, &value);)
        if (index-- == 0) return value;
    return {nullptr, 0};
}

bool json_utf8_valid(slice s)
{
    return s.len == 0 || simdjson::validate_utf8(s.data, s.len);
}

size_t json_utf8_chars(slice s)
{
    size_t chars = 0; /* every byte but 10xxxxxx begins a character */
    for (size_t i = 0; i < s.len; i++) chars += ((unsigned char)s.data[i] & 0xC0) != 0x80;
    return chars;
}

/* --- building the tape --------------------------------------------------------------------------------------- */

static json_parser *parser_new(size_t bytes_max, size_t depth_max)
{
    json_parser *p = new (std::nothrow) json_parser();
    ASSERT(p != nullptr);
    p->bytes_max = bytes_max;
    p->depth_max = depth_max;
    return p;
}

/* build parses into p's document. Memory grows by doubling: simdjson alone would grow to the byte, text by text. */
static simdjson::error_code build(json_parser *p, slice padded_text)
{
    if (p->simd.capacity() < padded_text.len || p->simd.capacity() == 0) {
        size_t capacity = 4096;
        while (capacity < padded_text.len) capacity *= 2;
        if (capacity > simdjson::SIMDJSON_MAXSIZE_BYTES) capacity = simdjson::SIMDJSON_MAXSIZE_BYTES;
        if (capacity < padded_text.len) return simdjson::CAPACITY;
        /* simdjson counts the document itself as one level */
        ASSERT(p->simd.doc.allocate(capacity) == simdjson::SUCCESS);
        ASSERT(p->simd.allocate(capacity, p->depth_max + 1) == simdjson::SUCCESS);
    }
    if (padded_text.len == 0) return simdjson::EMPTY;
    return p->simd.parse(padded_text.data, padded_text.len, false).error();
}

static slice copy_text(json_parser *p, slice text)
{
    if (p->copy_bytes < text.len || p->copy == nullptr) {
        size_t bytes = p->copy_bytes ? p->copy_bytes : 4096;
        while (bytes < text.len) bytes *= 2;
        free(p->copy);
        p->copy = (char *)malloc(bytes + JSON_PADDING);
        ASSERT(p->copy != nullptr);
        p->copy_bytes = bytes;
    }
    if (text.len) memcpy(p->copy, text.data, text.len);
    memset(p->copy + text.len, 0, JSON_PADDING);
    return {p->copy, text.len};
}

static json_error error_of(simdjson::error_code error)
{
    ASSERT(error != simdjson::SUCCESS && error != simdjson::MEMALLOC);
    if (error == simdjson::UTF8_ERROR) return JSON_BAD_UTF8;
    if (error == simdjson::DEPTH_ERROR) return JSON_TOO_DEEP;
    if (error == simdjson::CAPACITY) return JSON_TOO_LARGE;
    return JSON_MALFORMED;
}

/* A node is a place on the tape. The type that reads it is simdjson's own, below the `element` whose parts are private;
 * it keeps json_node a plain pair that C can copy. */
static tape_ref tape_of(json_node n)
{
    return tape_ref((const simdjson::dom::document *)n._document, n._index);
}

/* containers_opened bounds a text's depth from above. */
static size_t containers_opened(slice text)
{
    size_t opened = 0;
    for (size_t i = 0; i < text.len; i++) opened += text.data[i] == '[' || text.data[i] == '{';
    return opened;
}

/* --- what the grammar allows and simdjson cannot hold -------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t digits_at(const char *text, size_t at, size_t len)
{
    size_t from = at;
    while (at < len && is_digit(text[at])) at++;
    return at - from;
}

enum number_form { NUMBER_MALFORMED, NUMBER_INTEGER, NUMBER_REAL };

/* number_form_of reads one literal against `[-] (0 | 1-9 digits) [. digits] [e [+-] digits]` (RFC 8259 section 6). */
static number_form number_form_of(const char *text, size_t len)
{
    size_t at = text[0] == '-';
    size_t digits = digits_at(text, at, len);
    if (digits == 0 || (digits > 1 && text[at] == '0')) return NUMBER_MALFORMED;
    at += digits;
    if (at == len) return NUMBER_INTEGER;
    if (text[at] == '.') {
        digits = digits_at(text, at + 1, len);
        if (digits == 0) return NUMBER_MALFORMED;
        at += 1 + digits;
    }
    if (at < len && (text[at] == 'e' || text[at] == 'E')) {
        at++;
        if (at < len && (text[at] == '+' || text[at] == '-')) at++;
        digits = digits_at(text, at, len);
        if (digits == 0) return NUMBER_MALFORMED;
        at += digits;
    }
    return at == len ? NUMBER_REAL : NUMBER_MALFORMED;
}

/* integer_fits says whether simdjson holds the literal: -2^63 … 2^64 - 1. */
static bool integer_fits(const char *text, size_t len)
{
    bool negative = text[0] == '-';
    uint64_t value = 0, bound = negative ? (uint64_t)1 << 63 : UINT64_MAX;
    for (size_t i = negative; i < len; i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (value > (bound - digit) / 10) return false;
        value = value * 10 + digit;
    }
    return true;
}

/* neutralise_numbers overwrites each number that may be too large by "0.0" and spaces. Every real goes, large or not:
 * nothing reads a real's value, and what stays a number of the same kind keeps its type. A malformed literal stays,
 * for simdjson to refuse. */
static void neutralise_numbers(char *text, size_t len)
{
    static const char zero[] = {'0', '.', '0'};
    for (size_t at = 0; at < len;) {
        if (text[at] == '"') {
            at = (size_t)(skip_string(text + at, text + len) - text);
        } else if (text[at] == '-' || is_digit(text[at])) {
            size_t from = at;
            while (at < len && text[at] != '\0' && (is_digit(text[at]) || strchr("+-.eE", text[at]))) at++;
            number_form form = number_form_of(text + from, at - from);
            if (form == NUMBER_MALFORMED || (form == NUMBER_INTEGER && integer_fits(text + from, at - from))) continue;
            ASSERT(at - from >=
                   sizeof zero); /* the shortest real is 1e5, the shortest integer too large has 19 digits */
            memset(text + from, ' ', at - from);
            memcpy(text + from, zero, sizeof zero);
        } else {
            at++;
        }
    }
}

/* neutralise_surrogates overwrites the digits of every escape \uD800 … \uDFFF, paired or not. */
static void neutralise_surrogates(char *text, size_t len)
{
    for (size_t at = 0; at + 6 <= len;) {
        if (text[at] != '\\') {
            at++;
            continue;
        }
        bool surrogate = text[at + 1] == 'u' && (text[at + 2] | 0x20) == 'd' && text[at + 3] != '\0' &&
                         strchr("89abcdefABCDEF", text[at + 3]) != nullptr;
        if (surrogate) text[at + 2] = text[at + 3] = '0';
        at += 2; /* the digits that are left are judged by simdjson */
    }
}

/* --- walking a text that is known to be valid ---------------------------------------------------------------- */

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) at++;
    return at;
}

/* skip_string goes from the opening quote to behind the closing one, or to the end where there is none. */
static const char *skip_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\' && at + 1 < end) at++;
    return at < end ? at + 1 : end;
}

static const char *skip_value(const char *at, const char *end)
{
    size_t depth = 0;
    while (at < end) {
        if (*at == '"') {
            at = skip_string(at, end);
            if (depth == 0) return at;
            continue;
        }
        bool space = *at == ' ' || *at == '\n' || *at == '\t' || *at == '\r';
        if (depth == 0 && (*at == ',' || *at == '}' || *at == ']' || space)) return at; /* behind a literal */
        if (*at == '[' || *at == '{') depth++;
        bool closing = *at == ']' || *at == '}';
        at++;
        if (closing && --depth == 0) return at;
    }
    return at;
}

/* first_member goes behind an object's opening brace. */
static const char *first_member(slice text)
{
    const char *end = text.data + text.len;
    const char *at = skip_space(text.data, end);
    ASSERT(at < end && *at == '{');
    return skip_space(at + 1, end);
}

/* raw_next takes the member at *at, its name as it is written; false behind the last one. */
static bool raw_next(const char **at, const char *end, slice *key, slice *value)
{
    if (*at >= end || **at != '"') return false;
    const char *key_end = skip_string(*at, end);
    *key = {*at + 1, (size_t)(key_end - *at) - 2};
    const char *from = skip_space(skip_space(key_end, end) + 1, end); /* past the colon */
    const char *behind = skip_value(from, end);
    *value = {from, (size_t)(behind - from)};
    behind = skip_space(behind, end);
    *at = behind < end && *behind == ',' ? skip_space(behind + 1, end) : behind;
    return true;
}

/* key_char reads one character of a valid string's inside; an escape above ASCII gives 256, which equals no byte. */
static unsigned key_char(const char **at)
{
    const char *c = *at;
    *at = c + 1;
    if (*c != '\\') return (unsigned char)*c;
    *at = c + 2;
    switch (c[1]) {
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'u': break;
    default: return (unsigned char)c[1]; /* quote, solidus, backslash stand for themselves */
    }
    *at = c + 6;
    char digits[5] = {c[2], c[3], c[4], c[5], 0};
    unsigned long code = strtoul(digits, nullptr, 16);
    return code < 128 ? (unsigned)code : 256;
}

static bool key_is(const char *at, const char *end, const char *name)
{
    while (at < end) {
        if (*name == '\0' || key_char(&at) != (unsigned char)*name) return false;
        name++;
    }
    return *name == '\0';
}
