/* admission: what a connection, a request or an operation is held against before anybody works for it: the limits on
 * rates, the bound on connections, the memory of the process, and the answers that wait for their readers.
 *
 * While no rate is limited and no bound is near, core->guards is 0, and the data path pays one branch for all of it.
 *
 *   net: on_open ─▶ admission_on_open          the connection: its address's new connections
 *   api_on_request ─▶ admission_request        the request: its connection, its address
 *                  ─▶ admission_caller         … and, once it is known, its tenant; memory and answers
 *   api_on_message ─▶ admission_message        the operation: address, tenant, memory, answers
 *
 * Answers that wait: of REPLIES_BYTES_MAX on a core a tenant may hold as much as is free. So one tenant whose clients
 * do not read gets half of it, two a third each, and there is always as much left as the largest has. Held against it
 * is what asks for much: pages, lists, syncs, hellos. Replays wait instead of being refused. Clients that have shown no
 * credential share one part in REPLIES_ANYONE_PART, which is theirs alone; when it is taken they get short answers
 * only, and each closes its connection. */
#ifndef CARILLON_API_ADMISSION_H
#define CARILLON_API_ADMISSION_H

#include "../chat/session.h"
#include "api.h"

enum guard {
    GUARD_RATES = 1,   /* a limit on a rate is set */
    GUARD_MEMORY = 2,  /* the process has more memory than limits.memory */
    GUARD_REPLIES = 4, /* half of the memory for answers is taken */
};

/* admission_update finds the guards of the turn. */
void admission_update(struct core *core);

uint8_t admission_on_open(void *context, struct conn *c);
/* admission_request and admission_caller are false when the request has been refused and answered. */
bool admission_request(struct call *call);
bool admission_caller(struct call *call);

/* op_weight: what an operation may still do when memory is short. */
enum op_weight {
    OP_LIGHT, /* frees something, or costs nothing: always taken */
    OP_PLAIN,
    OP_HEAVY, /* its answer may be long */
};
/* admission_rate is false when the message is one too many of its address or tenant; *e and *wait_ms as below. */
bool admission_rate(struct core *core, struct session *s, struct error *e, uint32_t *wait_ms);
/* admission_message is false when the operation is to be refused by `e`; *wait_ms then says when it may be tried again,
 * 0: not known. */
bool admission_message(struct core *core, struct session *s, enum op_weight weight, struct error *e, uint32_t *wait_ms);

/* admission_anyone holds a request without credentials against the bytes that wait for such clients; health and
 * readiness are always told. anyone_full: such a connection is to be closed with its answer. */
bool admission_anyone(struct call *call);
bool anyone_full(const struct core *core, const struct conn *c);

/* answers_fit: may the tenant ask for more that its clients then have to read? */
bool answers_fit(const struct core *core, const struct tenant *t);
/* answer_taken looks again when the answer is there, and fails the op when it is a long one that does not fit any more:
 * a client may ask for hundreds of pages before the first one waits for it. False when it failed. */
bool answer_taken(const struct core *core, struct op *op);

/* admission_headers appends X-RateLimit-Limit, -Remaining and -Reset of the connection's open request, if it was held
 * against a limit. */
void admission_headers(struct buf *out, struct conn *c);

#endif
