/* reload: takes new settings over while the gateway serves.
 *
 * What a row of config.def marks as reloadable is in effect when reload_settings returns; whatever else differs is
 * named, so that nobody believes it to be in effect. A setting that is wrong anywhere changes nothing at all. Any
 * thread that may wait for the disk may call it: the main thread at SIGHUP, or a reader thread for the operator. */
#ifndef CARILLON_CLI_RELOAD_H
#define CARILLON_CLI_RELOAD_H

#include <pthread.h>

#include "../core/reload.h"
#include "options.h"

struct reload {
    pthread_mutex_t lock;
    const struct options *options;
    struct config *loaded;  /* as file, environment and command line have it */
    struct config *running; /* the same with what is derived; read by all threads, its texts belong to `loaded` */
};

void reload_init(struct reload *r, const struct options *options, struct config *loaded, struct config *running);
/* reload_settings fills a zeroed report, which the caller frees, and logs the same. */
void reload_settings(struct reload *r, struct reload_report *report);

/* reload_logs applies the settings of the log, at the start as well. `why` says what is wrong with log.file. */
MUST_USE enum status reload_logs(const struct config *c, char *why, size_t why_len);

#endif
