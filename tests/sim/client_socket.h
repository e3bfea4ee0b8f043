/* client_socket: a client's WebSocket: opening it with the positions that are held, what is asked on it, and the frames
 * that come. */
#ifndef CARILLON_TESTS_SIM_CLIENT_SOCKET_H
#define CARILLON_TESTS_SIM_CLIENT_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

struct client;

void socket_connect(struct client *c);
/* socket_drop ends it: what was asked and not answered is unknown from now on. */
void socket_drop(struct client *c, bool reset, const char *why);
/* socket_paused: the client does not read now. */
bool socket_paused(const struct client *c);
/* socket_read takes the frames that have come. */
void socket_read(struct client *c);

/* socket_ask_send sends a message of `author`, who acts as the same user. `twisted`: with another body under its id. */
void socket_ask_send(struct client *c, unsigned author, unsigned message, bool twisted);
void socket_ask_ack(struct client *c, unsigned room);
void socket_ask_history(struct client *c, unsigned room);
void socket_ask_sync(struct client *c);
void socket_ask_ephemeral(struct client *c, unsigned room);
void socket_ask_ping(struct client *c);
/* socket_ask_notification acknowledges a notification, if the client knows of one. */
void socket_ask_notification(struct client *c);
void socket_ask_subscribe(struct client *c, unsigned room);
void socket_ask_unsubscribe(struct client *c, unsigned room);

#endif
