/* client_rest: what a client asks by REST, one request at a time, and how it takes the answer. */
#ifndef CARILLON_TESTS_SIM_CLIENT_REST_H
#define CARILLON_TESTS_SIM_CLIENT_REST_H

#include <stdbool.h>

struct client;

/* client_rest_room makes a room, or asks for it again: it is made once. */
void client_rest_room(struct client *c, unsigned room);
/* client_rest_send sends a message of `author`, who acts as the same user. */
void client_rest_send(struct client *c, unsigned author, unsigned message);
void client_rest_events(struct client *c, unsigned room);
void client_rest_sync(struct client *c);
void client_rest_membership(struct client *c, unsigned room, bool join);
/* client_rest_change adds a user (or strangers, to a large room), removes one, or changes a role. */
void client_rest_add(struct client *c, unsigned room, unsigned user);
void client_rest_remove(struct client *c, unsigned room, unsigned user);
void client_rest_role(struct client *c, unsigned room, unsigned user);
void client_rest_ack(struct client *c, unsigned room);
void client_rest_list(struct client *c);
/* client_rest_read takes an answer that has come. */
void client_rest_read(struct client *c);
/* client_rest_drop closes the connection; a call that was under way stays unanswered. */
void client_rest_drop(struct client *c, bool reset);

#endif
