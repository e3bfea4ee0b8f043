/* restore_place: the directory in which a restore works, and its way to the place that was asked for.
 *
 *   DATA is new, or holds something (force)   works in DATA.restoring beside it. At the end the two change their names
 *                                             in one step; what was there is then DATA.before-restore-TIME
 *   DATA is an empty directory                works in DATA/restore.tmp, so that mount points and directories whose
 *                                             parent belongs to somebody else do; the parts move up at the end
 *
 * Until restore_place_take nothing that was there is touched: a restore that fails or is killed leaves it as it was.
 * The work directory is locked from the beginning, and so is a store that is to be moved aside. What a killed restore
 * left behind is cleared by the next one.
 *
 * Call order: restore_place_open; the store is made in `work`; restore_place_take; restore_place_close always. */
#ifndef CARILLON_CLI_RESTORE_PLACE_H
#define CARILLON_CLI_RESTORE_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/status.h"

#define RESTORE_PATH_BYTES_MAX 4096

struct restore_place {
    char data[RESTORE_PATH_BYTES_MAX];  /* without symbolic links */
    char work[RESTORE_PATH_BYTES_MAX];  /* a data directory in the making; empty: none */
    char aside[RESTORE_PATH_BYTES_MAX]; /* after the take: where what was there is now; empty: nothing was there */
    bool inside;                        /* work lies in data */
    bool occupied;                      /* data holds something, which is to be moved aside */
    bool taken;
    int _work_fd, _store_fd; /* both locked; -1: none */
};

/* restore_place_open finds the place, locks it and makes an empty work directory. `backups` are not in a directory that
 * is moved aside. On failure `why` says what to do, and nothing has changed. INVALID: data cannot be used like this;
 * LOCKED: a gateway or another restore uses it; EXISTS: it is not empty, and `force` is not set; IO. */
MUST_USE enum status restore_place_open(struct restore_place *p, const char *data, const char *backups, bool force,
                                        char *why, size_t why_len);
/* restore_place_take puts what is in `work` where a gateway looks for it, durably. wall_ms names what was there. */
MUST_USE enum status restore_place_take(struct restore_place *p, uint64_t wall_ms, char *why, size_t why_len);
/* restore_place_close removes what was not taken, and gives up the locks. False: some of `work` could not be
 * removed. */
bool restore_place_close(struct restore_place *p);

#endif
