/* gateways: the gateways of a run, one behind the other over one store. The process dies, or stops in good order, and
 * another one, with another number of cores, is started over what is left.
 *
 * Here is what production has in src/cli: what is opened and closed in which order, and a core's thread; and what can
 * go wrong with it: starts that meet an error or are cut off, a mark that fits no store, a disk that fails for good.
 * Checked here: the epoch of each start, that cores without work sleep, and that nothing is left when everybody has
 * gone. */
#ifndef CARILLON_TESTS_SIM_GATEWAYS_H
#define CARILLON_TESTS_SIM_GATEWAYS_H

#include <stdbool.h>

#include "../../src/config.h"
#include "../../src/core/gateway.h"
#include "../../storage/kv.h"
#include "../../storage/mark.h"

#define PIPELINE_ACTORS 2u /* writer and syncer are made first, then the readers, then the cores */
#define SYNCER_ACTOR 1u

/* gateways: set by gateways.c alone; faults and the steward act on the one that runs, and on its settings. */
struct gateways {
    struct config config;      /* of all of them */
    struct kv *kv;
    struct mark *mark;
    struct gateway now;        /* the one that runs */
    unsigned first_core_actor; /* its cores are the last actors */
    unsigned crashes;          /* so far; those in the middle of a start are not counted */
};

extern struct gateways gateways;

/* gateways_open makes the store, empty, and the settings, by what the scenario is about. gateways_close frees them,
 * when the last gateway has stopped. */
void gateways_open(void);
void gateways_close(void);

/* gateways_start starts a gateway over the store, perhaps after some starts that fail; the disk works again. */
void gateways_start(void);
/* gateways_fail_disk: from now on, and up to the next start, writes or syncs fail, of the store or of the mark. */
void gateways_fail_disk(void);
/* gateways_crash: the process is gone between two instructions; its memory is left to the end of the run. */
void gateways_crash(void);
/* gateways_stop ends the gateway in good order: the cores leave their loops, the pipeline ends, everything is freed. At
 * the end of the run all clients have left before; behind a drain, those that did not go in time are still there. */
void gateways_stop(bool at_end);

#endif
