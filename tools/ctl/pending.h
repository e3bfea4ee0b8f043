/* pending: messages that were typed and not acknowledged yet, oldest first. The first alone is on its way, so the order
 * in the room is the order in which they were typed, whatever has to be sent again. Each has a client_id: sending one
 * twice is safe for as long as the gateway remembers it, which is a week. Bound: PENDING_MAX; at it nothing more is
 * read of what is typed. */
#ifndef CARILLON_TOOLS_CTL_PENDING_H
#define CARILLON_TOOLS_CTL_PENDING_H

#include "../../src/base/buf.h"

#define PENDING_MAX 64u
#define PENDING_SENT UINT64_MAX /* due_ms of a message that waits for its answer */

struct pending {
    uint64_t number; /* the request's id, and part of the client_id */
    uint64_t due_ms; /* when it may be sent */
    struct buf content;
};

struct pendings {
    struct pending items[PENDING_MAX];
    unsigned num;
    uint64_t last_number;
    char run[17]; /* random, so that another chat's client_ids are others; NUL-terminated */
};

void pendings_init(struct pendings *p, uint64_t random);
void pendings_free(struct pendings *p);
/* pendings_add takes a message; there is room for it. */
void pendings_add(struct pendings *p, struct slice content);
/* pendings_done forgets the first message when it has that number; false when it has another. */
bool pendings_done(struct pendings *p, uint64_t number);
/* pendings_next returns the first message when it may be sent now, else NULL. */
struct pending *pendings_next(struct pendings *p, uint64_t now_ms);
/* pending_request appends the send_message request. */
void pending_request(struct buf *out, const struct pendings *p, const struct pending *message, const char *room_id);

#endif
