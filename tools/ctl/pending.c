#include "pending.h"

#include <stdio.h>

#include "../../src/base/assert.h"

void pendings_init(struct pendings *p, uint64_t random)
{
    *p = (struct pendings){0};
    snprintf(p->run, sizeof p->run, "%016llx", (unsigned long long)random);
}

void pendings_free(struct pendings *p)
{
    for (unsigned i = 0; i < p->num; i++) buf_free(&p->items[i].content);
    p->num = 0;
}

void pendings_add(struct pendings *p, struct slice content)
{
    ASSERT(p->num < PENDING_MAX);
    struct pending *message = &p->items[p->num++];
    *message = (struct pending){.number = ++p->last_number};
    buf_slice_append(&message->content, content);
}

bool pendings_done(struct pendings *p, uint64_t number)
{
    if (!p->num || p->items[0].number != number) return false;
    buf_free(&p->items[0].content);
    memmove(p->items, p->items + 1, --p->num * sizeof p->items[0]);
    return true;
}

struct pending *pendings_next(struct pendings *p, uint64_t now_ms)
{
    return p->num && p->items[0].due_ms <= now_ms ? &p->items[0] : NULL;
}

void pending_request(struct buf *out, const struct pendings *p, const struct pending *message, const char *room_id)
{
    buf_printf(out, "{\"type\":\"send_message\",\"id\":%llu,\"room_id\":", (unsigned long long)message->number);
    buf_json_string(out, slice_str(room_id));
    buf_printf(out, ",\"client_id\":\"ctl-%s-%llu\",\"content\":", p->run, (unsigned long long)message->number);
    buf_json_string(out, buf_slice(&message->content));
    BUF_LIT(out, "}");
}
