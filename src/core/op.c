#include "op.h"

#include <stdlib.h>

#include "../api/pages.h"
#include "../base/assert.h"
#include "core.h"
#include "notice.h"

struct op *op_new(struct core *core, enum op_kind kind, size_t text_bytes)
{
    struct op *op = calloc(1, sizeof *op + text_bytes);
    ASSERT(op != NULL && text_bytes <= UINT32_MAX);
    op->mail.kind = MAIL_OP;
    op->kind = (uint8_t)kind;
    op->origin = (uint16_t)core->id;
    op->answered = true;
    op->started_ns = core->now_ns;
    op->now_ms = core->now_ms;
    op->text_cap = (uint32_t)text_bytes;
    return op;
}

void op_free(struct op *op)
{
    if (op->pages) pages_release(op->pages, PAGES_ASKED, op->pages_bytes);
    free(op->members);
    free(op->positions);
    buf_free(&op->out);
    free(op);
}

struct slice op_keep(struct op *op, struct slice text)
{
    ASSERT(text.len <= op->text_cap - op->text_used);
    char *at = op->text + op->text_used;
    if (text.len) memcpy(at, text.data, text.len);
    op->text_used += (uint32_t)text.len;
    return (struct slice){at, text.len};
}

bool op_fail(struct op *op, enum error_code code, const char *detail, const char *field)
{
    if (op->error.code == ERR_NONE) op->error = (struct error){code, detail, field};
    return false;
}

struct notice *notice_new(struct core *core, enum notice_kind kind, uint32_t tenant, uint64_t user,
                          struct slice user_id, uint64_t room, uint64_t seq, struct slice body)
{
    struct notice *n = malloc(sizeof *n + user_id.len + body.len);
    ASSERT(n != NULL);
    *n = (struct notice){.mail = {.kind = MAIL_NOTICE},
                         .kind = (uint8_t)kind,
                         .from_core = (uint16_t)core->id,
                         .tenant = tenant,
                         .user = user,
                         .room = room,
                         .seq = seq,
                         .id_len = (uint32_t)user_id.len,
                         .body_len = (uint32_t)body.len};
    if (user_id.len) memcpy(n->text, user_id.data, user_id.len);
    if (body.len) memcpy(n->text + user_id.len, body.data, body.len);
    return n;
}
