/* sleepers: what holds of those who sleep, between any two steps: they have nothing to do, or a wake-up is on its way.
 * When all of them sleep, what is written is durable, and homes, inboxes and the mark agree with what there is. */
#ifndef CARILLON_TESTS_SIM_SLEEPERS_H
#define CARILLON_TESTS_SIM_SLEEPERS_H

/* sleepers_check: outside of actors, while a gateway runs. */
void sleepers_check(void);

#endif
