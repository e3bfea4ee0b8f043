/* listeners: the listening sockets of all cores: for every address one each, sharing the port by SO_REUSEPORT so that
 * the kernel spreads connections; and the admin Unix socket, on core 0 alone.
 *
 * A zeroed struct holds none. Opened before the cores start, closed after they have ended; one thread. */
#ifndef CARILLON_CLI_LISTENERS_H
#define CARILLON_CLI_LISTENERS_H

#include "../../net/listener.h"
#include "../../net/net.h"
#include "../base/limits.h"
#include "../config.h"

struct listeners {
    unsigned num_cores, num_addresses;
    char addresses[LISTENERS_MAX][LISTENER_NAME_LEN]; /* as bound, with the real port */
    struct net_listener of_core[CORES_MAX][LISTENERS_MAX];
    unsigned num_of_core[CORES_MAX];
    const char *admin_path; /* borrowed; NULL: none */
};

/* listeners_open opens net.listen. A port that another process listens on is waited for (PORT_WAIT_MS), then
 * STATUS_EXISTS; other statuses as listener_open_tcp. `why` says what failed and what to do. On failure the caller
 * still calls listeners_close. */
MUST_USE enum status listeners_open(struct listeners *l, const struct config *config, unsigned num_cores, char *why,
                                    size_t why_len);
/* listeners_open_admin adds the admin socket, whose connections are the operator's. `path` must outlive `l`. */
MUST_USE enum status listeners_open_admin(struct listeners *l, const char *path, char *why, size_t why_len);
/* listeners_close also removes the admin socket's file. */
void listeners_close(struct listeners *l);

#endif
