/* bounds: what holds of a core whenever one of its turns has ended: every queue is within its bound, bytes that are
 * counted are bytes that are there, and every operation given to the ring is accounted for. */
#ifndef CARILLON_TESTS_SIM_BOUNDS_H
#define CARILLON_TESTS_SIM_BOUNDS_H

struct core;
struct net;

void bounds_check(const struct core *core);
/* bounds_check_empty: the last connection has gone and nothing is on its way, so nothing is counted any more, but for
 * frames that a closed socket still sends from: its peer may read what is left whenever it likes. */
void bounds_check_empty(const struct core *core);
/* bounds_check_net is the part about connections; it needs nothing but them. */
void bounds_check_net(const struct net *net);

#endif
