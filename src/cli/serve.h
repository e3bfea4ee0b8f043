/* serve: the process around the gateway, from settings to exit code. */
#ifndef CARILLON_CLI_SERVE_H
#define CARILLON_CLI_SERVE_H

#include "options.h"

/* What is known once the gateway serves. Borrowed, for the length of the call. */
struct serving {
    const struct config *config;
    const char *address;    /* the first one, with its real port: "127.0.0.1:8080" */
    const char *admin_path; /* of the admin socket */
};

/* serve_run runs a gateway until it is told to stop, and returns an enum cli_exit. `on_ready`, which may be NULL, is
 * called by the main thread once clients are served, signals still blocked; anything but CLI_DONE ends the gateway with
 * that code. */
int serve_run(const struct options *options, int (*on_ready)(const struct serving *serving));

#endif
