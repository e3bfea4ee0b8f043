/* client: users of the simulated gateway. Each has a REST connection and a WebSocket, speaks real bytes through
 * fake_ring's links, reads in small pieces, breaks off anywhere, comes back with the position it holds, and repeats
 * what it does not know to have happened. Whatever it is told it holds against the store (store_watch.h) at once.
 *
 * A client asks until everything of the scenario is settled: rooms made, messages answered, logs complete. */
#ifndef CARILLON_TESTS_SIM_CLIENT_H
#define CARILLON_TESTS_SIM_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#define CLIENTS_MAX 4u
#define SCENARIO_ROOMS 2u /* room 0 keeps its members; whoever likes leaves room 1 and comes back */
#define SCENARIO_MASTER_KEY "master-of-the-simulation"

/* scenario: what the clients know of each other, out of band. */
struct scenario {
    unsigned num_clients, num_users; /* client i acts as user i % num_users */
    unsigned num_cores;              /* of the gateway that runs now; 0: none does */
    bool restless;                   /* they leave and come back all the time */
    bool crowded;                    /* passers come and go, and homes keep few users and let few requests wait */
    bool forgetful;                  /* few client ids are kept in memory: repeats are looked up on disk */
    bool notified;                   /* notifications are made, for clients' users and others */
    bool narrow;                     /* a reader's queue is short: who reads slowly is caught up from the log */
    bool healing;                    /* nobody starts anything new */
    unsigned gateway;                /* counts them */
    uint32_t failed_gateways;        /* bit g: the disk of gateway g has failed */
    uint32_t late_gateways;          /* bit g: time has jumped, so what gateway g had on its way to the disk looked old */
    bool disk_failed;                /* of the one that runs now */
    char api_key[160];
    char room_ids[SCENARIO_ROOMS][32];
    uint64_t room_epochs[SCENARIO_ROOMS];
};

extern struct scenario scenario;

void clients_open(void);
void clients_close(void);
/* client_can_step: it has something to do now. client_step does a piece of it. */
bool client_can_step(unsigned client);
void client_step(unsigned client);
/* client_wake_ns: when it will want to do something though nothing comes for it; WORLD_NEVER: not at all. */
uint64_t client_wake_ns(unsigned client);
/* client_unsettled is NULL when it holds everything and everything it asked has been answered; else it says what is
 * missing. */
const char *client_unsettled(unsigned client);
/* client_heal: from now on the gateway answers within a bound of simulated time, or the run fails. */
void client_heal(unsigned client);
/* client_check_stall fails the run when an answer has been missing for too long. */
void client_check_stall(unsigned client);
/* client_check_end holds what it was told over the whole run against the store. */
void client_check_end(unsigned client);
/* client_leave drops its connections. */
void client_leave(unsigned client);
/* clients_messages counts messages that were answered. */
unsigned clients_messages(void);

#endif
