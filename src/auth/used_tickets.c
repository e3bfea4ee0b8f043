#include "used_tickets.h"

#include <stdlib.h>

#include "../base/assert.h"
#include "../base/planted.h"
#include "../core/core.h"

_Static_assert(sizeof(((struct op *)0)->in.ticket.nonce) == TICKET_NONCE_BYTES, "an op carries a nonce");

struct used_ticket {
    struct list age;
    uint64_t until_ns;
    uint8_t nonce[TICKET_NONCE_BYTES];
};

/* A nonce comes from this process' own generator under its seal, so it needs no keyed hash. */
static uint64_t nonce_hash(const uint8_t *nonce)
{
    uint64_t hash;
    memcpy(&hash, nonce, sizeof hash);
    return hash;
}

static bool nonce_eq(const void *value, const void *key)
{
    return memcmp(((const struct used_ticket *)value)->nonce, key, TICKET_NONCE_BYTES) == 0;
}

void used_tickets_init(struct used_tickets *u)
{
    *u = (struct used_tickets){0};
    list_init(&u->_by_age);
}

static void forget_oldest(struct used_tickets *u)
{
    struct list *first = list_pop(&u->_by_age);
    ASSERT(first != NULL);
    struct used_ticket *oldest = CONTAINER_OF(first, struct used_ticket, age);
    ASSERT(map_remove(&u->_by_nonce, nonce_hash(oldest->nonce), oldest));
    free(oldest);
}

void used_tickets_free(struct used_tickets *u)
{
    while (!list_empty(&u->_by_age)) forget_oldest(u);
    map_free(&u->_by_nonce);
}

static void forget_ended(struct used_tickets *u, uint64_t now_ns)
{
    while (!list_empty(&u->_by_age)) {
        if (CONTAINER_OF(u->_by_age.next, struct used_ticket, age)->until_ns > now_ns) return;
        forget_oldest(u);
    }
}

enum status used_tickets_add(struct used_tickets *u, uint64_t now_ns, uint64_t expires_ns,
                             const uint8_t nonce[TICKET_NONCE_BYTES])
{
    forget_ended(u, now_ns);
    if (expires_ns <= now_ns) return STATUS_INVALID;
    bool used_before = map_find(&u->_by_nonce, nonce_hash(nonce), nonce_eq, nonce) && !PLANTED(ticket_used_twice);
    if (used_before) return STATUS_EXISTS;
    if (u->_by_nonce.len >= TICKETS_USED_MAX) return STATUS_FULL;
    struct used_ticket *used = malloc(sizeof *used);
    ASSERT(used != NULL);
    /* In the order of use, so that the oldest is in front; none of them could be used again for longer than that. The
     * end was named by a core whose turn may have begun later than this one: what is behind such a ticket waits for
     * it. */
    uint64_t until_ns = now_ns + TICKET_LIFE_MS * 1000000ull;
    *used = (struct used_ticket){.until_ns = until_ns > expires_ns ? until_ns : expires_ns};
    memcpy(used->nonce, nonce, TICKET_NONCE_BYTES);
    list_push(&u->_by_age, &used->age);
    map_insert(&u->_by_nonce, nonce_hash(nonce), used);
    return STATUS_OK;
}

void used_tickets_on_op(struct core *core, struct op *op)
{
    enum status s = used_tickets_add(&core->used_tickets, core->now_ns, op->in.ticket.expires_ns, op->in.ticket.nonce);
    if (s == STATUS_FULL) op_fail(op, ERR_SERVER_OVERLOADED, "Too many tickets are being used", NULL);
    else if (s != STATUS_OK) op_fail(op, ERR_AUTH_INVALID_TICKET, NULL, NULL);
    op_return(core, op);
}
