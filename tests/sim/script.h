/* script: what a client does of its own accord: what it asks next, and while the run heals, what it still wants. */
#ifndef CARILLON_TESTS_SIM_SCRIPT_H
#define CARILLON_TESTS_SIM_SCRIPT_H

#include <stdbool.h>

struct client;

/* script_act does a piece of it. */
void script_act(struct client *c);
/* script_wants_rest, script_wants_socket: something is left to be done on that connection even while the run heals. */
bool script_wants_rest(const struct client *c);
bool script_wants_socket(const struct client *c);
/* script_wants_rooms: rooms are left that it makes. */
bool script_wants_rooms(const struct client *c);
/* script_wants_repeat: a message was asked for, is not answered, and nothing is on its way that will tell. */
bool script_wants_repeat(const struct client *c, unsigned *message);
/* script_behind: the socket does not bring what is missing: it was opened without a position, or the room was left and
 * joined again. Only coming back with the position does. */
bool script_behind(const struct client *c);

#endif
