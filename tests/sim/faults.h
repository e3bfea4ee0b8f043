/* faults: what goes wrong in a run beside crashes and failed writes, how often, and which refusals that excuses.
 *
 * Each run has some kinds and not others, so that each is met alone and with any other. The rings' faults happen in
 * fake_ring, failed reads in store_watch.c, late wake-ups in world.c; here they are chosen, and what changes now and
 * then is changed: pauses, the wall clock, the disk's reserve, the memory's bound, whether reads fail.
 *
 * All of it ends with the healing, and what was refused because of it must be had then. */
#ifndef CARILLON_TESTS_SIM_FAULTS_H
#define CARILLON_TESTS_SIM_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/slice.h"
#include "../../src/core/gateway.h"

/* faults_plan chooses the run's kinds; faults_end ends them all. */
void faults_plan(void);
void faults_end(struct gateway *g);
/* faults_start prepares a gateway that is about to be opened: how long its queues are. Faults of the gateway before it
 * are over. */
void faults_start(struct gateway *g);
/* faults_step is called before each step: begins a fault, or ends one. Actors below `first_core` are the pipeline. */
void faults_step(struct gateway *g);
/* faults_paused: the actor stands still, though it could run. */
bool faults_paused(unsigned actor);
/* faults_bad_start: the next start is to meet an error. */
bool faults_bad_start(void);

/* faults_read_failed notes that a read of the running gateway failed. */
void faults_read_failed(void);
/* faults_excuse: a fault of this gateway (as scenario.gateway counts them) gives a reason for this error code. */
bool faults_excuse(unsigned gateway, struct slice code);

#endif
