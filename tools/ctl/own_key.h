/* own_key: an API key that the operator makes for one command: to act as a user of a tenant without having a key of it.
 * The secret is nowhere but in this process' memory. A process that is killed leaves a key that nobody knows. */
#ifndef CARILLON_TOOLS_CTL_OWN_KEY_H
#define CARILLON_TOOLS_CTL_OWN_KEY_H

#include "ctl.h"

struct own_key {
    const char *tenant; /* borrowed */
    char *api_key;      /* NULL: none was made */
    char *key_id;
};

/* own_key_make makes a key of the tenant that --tenant names; false, and said on stderr, when it cannot. */
bool own_key_make(struct own_key *k, const struct ctl *c);
/* own_key_revoke ends it, if there is one, and frees what it was. */
void own_key_revoke(struct own_key *k, const struct ctl *c);

#endif
