/* publish: what the publishers send, closed loop (so many in flight) or open loop (so many a second). */
#ifndef CARILLON_TOOLS_LOAD_PUBLISH_H
#define CARILLON_TOOLS_LOAD_PUBLISH_H

#include "crowd.h"

/* publish_fill sends until the publisher has its number in flight (closed loop only). */
void publish_fill(struct crowd *c, struct participant *p, uint64_t now_ns);
/* publish_fill_all does so for everybody: at the start, and later for those who were refused. */
void publish_fill_all(struct crowd *c, uint64_t now_ns);
/* publish_due sends what an open loop's schedule has due, *due_ns onwards, and moves *due_ns on. */
void publish_due(struct crowd *c, uint64_t *due_ns, uint64_t interval_ns, uint64_t now_ns);
/* publish_client_id writes the client_id of a message and returns its length (≤ CLIENT_ID_BYTES_MAX). */
size_t publish_client_id(char out[64], const struct crowd *c, const struct publisher *publisher, uint64_t number);

#endif
