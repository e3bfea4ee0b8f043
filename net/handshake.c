#include "handshake.h"

/* Both take one element off the front of *rest, which begins with no white space; false when there is none. */
static bool take_protocol(struct slice *rest);
static bool take_extension(struct slice *rest);

static bool lists_valid(const struct http_request *request, const char *name, bool (*take)(struct slice *rest));
static bool take_parameter_value(struct slice *rest);
static bool take_token(struct slice *rest);
static bool take_byte(struct slice *rest, char byte);
static void skip_space(struct slice *rest);

bool handshake_protocols_valid(const struct http_request *request)
{
    return lists_valid(request, "Sec-WebSocket-Protocol", take_protocol);
}

bool handshake_extensions_valid(const struct http_request *request)
{
    return lists_valid(request, "Sec-WebSocket-Extensions", take_extension);
}

bool handshake_offers(const struct http_request *request, const char *protocol)
{
    for (unsigned i = 0; i < request->num_headers; i++) {
        if (!slice_eq_nocase(request->headers[i].name, SLICE("Sec-WebSocket-Protocol"))) continue;
        struct slice rest = request->headers[i].value;
        while (rest.len) {
            struct slice token = slice_of(rest.data, http_token_len(rest));
            if (slice_is(token, protocol)) return true;
            rest = slice_from(rest, token.len ? token.len : 1);
        }
    }
    return false;
}

/* lists_valid: every field of that name is a list, and one of them at least has an element. */
static bool lists_valid(const struct http_request *request, const char *name, bool (*take)(struct slice *rest))
{
    unsigned num_fields = 0, num_elements = 0;
    for (unsigned i = 0; i < request->num_headers; i++) {
        if (!slice_eq_nocase(request->headers[i].name, slice_str(name))) continue;
        num_fields++;
        struct slice rest = request->headers[i].value;
        for (;;) {
            skip_space(&rest);
            if (take_byte(&rest, ',')) continue;
            if (rest.len == 0) break;
            if (!take(&rest)) return false;
            num_elements++;
            skip_space(&rest);
            if (rest.len && rest.data[0] != ',') return false;
        }
    }
    return num_fields == 0 || num_elements > 0;
}

static bool take_protocol(struct slice *rest) { return take_token(rest); }

static bool take_extension(struct slice *rest)
{
    if (!take_token(rest)) return false;
    for (;;) {
        skip_space(rest);
        if (!take_byte(rest, ';')) return true;
        skip_space(rest);
        if (!take_token(rest)) return false;
        skip_space(rest);
        if (!take_byte(rest, '=')) continue;
        skip_space(rest);
        if (!take_parameter_value(rest)) return false;
    }
}

/* A quoted value is a token as well, once its quoted pairs are undone. */
static bool take_parameter_value(struct slice *rest)
{
    if (!take_byte(rest, '"')) return take_token(rest);
    for (size_t bytes = 0;; bytes++) {
        if (take_byte(rest, '"')) return bytes > 0;
        (void)take_byte(rest, '\\');
        if (rest->len == 0 || http_token_len(slice_of(rest->data, 1)) == 0) return false;
        *rest = slice_from(*rest, 1);
    }
}

static bool take_token(struct slice *rest)
{
    size_t len = http_token_len(*rest);
    *rest = slice_from(*rest, len);
    return len > 0;
}

static bool take_byte(struct slice *rest, char byte)
{
    if (rest->len == 0 || rest->data[0] != byte) return false;
    *rest = slice_from(*rest, 1);
    return true;
}

static void skip_space(struct slice *rest)
{
    while (rest->len && (rest->data[0] == ' ' || rest->data[0] == '\t')) *rest = slice_from(*rest, 1);
}
