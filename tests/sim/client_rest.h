/* client_rest: what a client asks by REST, one request at a time, and how it takes the answer. */
#ifndef CARILLON_TESTS_SIM_CLIENT_REST_H
#define CARILLON_TESTS_SIM_CLIENT_REST_H

#include <stdbool.h>

struct client;

/* client_rest_scenario does what must be done before anything else can be, the first client's part: the tenant, its rooms.
 * False: nothing is left to do. */
bool client_rest_scenario(struct client *c);
void client_rest_send(struct client *c, unsigned message);
void client_rest_events(struct client *c, unsigned room);
void client_rest_sync(struct client *c);
void client_rest_membership(struct client *c, bool join);
void client_rest_list(struct client *c);
/* client_rest_read takes an answer that has come. */
void client_rest_read(struct client *c);
/* client_rest_drop closes the connection; a call that was under way stays unanswered. */
void client_rest_drop(struct client *c, bool reset);

#endif
