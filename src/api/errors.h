/* errors: the table of every error the gateway answers, and how it is written for REST (RFC 9457) and WebSocket. */
#ifndef CARILLON_API_ERRORS_H
#define CARILLON_API_ERRORS_H

#include <stdbool.h>
#include <stdint.h>

#include "../base/buf.h"
#include "../base/status.h"

enum error_code {
#define ERROR(id, code, http_status, temporary, title) ERR_##id,
#include "errors.def"
#undef ERROR
    ERRORS
};

struct error_row {
    const char *code;
    uint16_t http_status;
    bool temporary;
    const char *title;
};
extern const struct error_row error_rows[ERRORS];

/* error: what an operation answers when it fails. Pointers are to constant or request-lived text. */
struct error {
    enum error_code code;
    const char *detail; /* NULL: the row's title */
    const char *field;  /* the offending field, or NULL */
};

/* store_error: what a commit entry that failed is answered with. */
static inline enum error_code store_error(enum status result)
{
    return result == STATUS_UNKNOWN ? ERR_STORE_UNKNOWN : ERR_STORE_READ_ONLY;
}

/* error_problem appends an application/problem+json object. */
void error_problem(struct buf *out, const struct error *e, uint64_t request_id);
/* error_frame appends the WebSocket error object; `re` is the request's id as JSON text, or empty. */
void error_frame(struct buf *out, const struct error *e, struct slice re);

#endif
