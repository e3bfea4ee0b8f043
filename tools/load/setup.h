/* setup: the tenant, rooms and members that a run needs, made over REST before the first socket is opened.
 *
 * Call order: setup_make, the run, setup_free. Members of room r are the users "load-<r>-<n>", n from 0. */
#ifndef CARILLON_TOOLS_LOAD_SETUP_H
#define CARILLON_TOOLS_LOAD_SETUP_H

#include "../../src/base/slice.h"
#include "../../src/base/status.h"
#include "../client/endpoint.h"
#include "options.h"

#define ROOM_ID_BYTES_MAX 128u /* the gateway's are shorter; ids are opaque */
#define SETUP_KEY_BYTES_MAX 256u
#define SETUP_USER_BYTES_MAX 40u

struct setup {
    struct endpoint endpoint;
    char key[SETUP_KEY_BYTES_MAX]; /* API key; empty: requests go without */
    uint64_t num_rooms;
    struct setup_room {
        char id[ROOM_ID_BYTES_MAX];
        uint64_t num_members;
    } * rooms;
};

/* setup_make resolves the URL, makes a tenant when asked to, and the rooms with `members_of(o, room)` members each;
 * rooms of an existing --state file are taken from there. STATUS_OK; STATUS_IO: the gateway could not be reached or
 * went away; STATUS_INVALID: it refused. Both with a message on stderr. */
MUST_USE enum status setup_make(struct setup *s, const struct options *o,
                                uint64_t (*members_of)(const struct options *o, uint64_t room));
void setup_free(struct setup *s);

/* setup_user writes the name of a member and returns its length. */
size_t setup_user(char out[SETUP_USER_BYTES_MAX], uint64_t room, uint64_t member);

#endif
