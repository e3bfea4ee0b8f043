/* scenario: what a run is about: tenants, their users and rooms, and what the clients and the operator know of each
 * other, out of band. Two tenants give their users, rooms and messages the same names; what belongs to one of them
 * never reaches the other (canary). */
#ifndef CARILLON_TESTS_SIM_SCENARIO_H
#define CARILLON_TESTS_SIM_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/slice.h"

#define CLIENTS_MAX 8u
#define TENANTS_MAX 2u
#define USERS_MAX 8u  /* of one tenant, beside the strangers of its large room */
#define SCENARIO_ROOMS_MAX 6u /* of all tenants */
#define ACCESS_KEYS_MAX 4u    /* of one tenant */
#define GATEWAYS_MAX 32u      /* of one run: a bit each */
#define SCENARIO_MASTER_KEY "master-of-the-simulation"

/* toggle: something that the operator switches on and off, and that explains refusals. */
struct toggle {
    bool maybe;            /* it was asked for, and no answer has said yet that it is over */
    bool surely;           /* it is in force … */
    uint64_t since_moment; /* … for what is asked after this */
    uint64_t over_moment;  /* it is over for what is asked after this; 0: it never was */
};

struct access_key {
    char text[160], id[48];
    struct toggle revoked;
    unsigned asked; /* how often for its end */
    uint64_t revoked_version; /* what store_version was when that was answered */
    uint64_t revoked_ns;
};

struct scenario_tenant {
    char id[32];
    char canary[32]; /* stands in everything that its users write */
    bool fast;       /* the durability of its rooms */
    bool ready;      /* it is there, with that durability */
    unsigned num_users;
    struct access_key keys[ACCESS_KEYS_MAX]; /* the first one is never revoked */
    unsigned num_keys;
    struct toggle disabled, limited;
    unsigned times_deleted; /* asked for it */
    struct toggle deleted; /* for good: nobody of it comes back. Never the first tenant, whose users the crowd is */
    struct toggle kicked[USERS_MAX]; /* sockets of the user: see client_socket.c */
};

/* room_rule says who comes and goes in a room. */
enum room_rule {
    RULE_FIXED,  /* nobody */
    RULE_OPEN,   /* public: whoever likes */
    RULE_RULED,  /* private: its maker adds and removes, and stays */
    RULE_DIRECT, /* two users, either of which may make it */
    RULE_LARGE   /* strangers, by the dozen */
};

struct removal {
    unsigned pending;          /* asked of a gateway and not answered */
    uint64_t answered_version; /* when one was, last */
};

struct scenario_room {
    unsigned tenant;
    enum room_rule rule;
    unsigned maker;          /* the client who makes it */
    uint64_t made_at;        /* moment from which on it does */
    bool asked;              /* it was asked for */
    unsigned creations[GATEWAYS_MAX]; /* how many requests for it a gateway was sent and has not answered */
    char id[32];             /* empty: nobody knows it yet */
    uint64_t epoch;          /* when it was made */
    uint64_t known_moment;   /* when somebody was first told of it */
    uint32_t first_members;  /* bit u: user u */
    unsigned num_strangers;  /* who were added */
    uint64_t seen;           /* highest seq of its log that anybody was shown */
    struct removal removals[USERS_MAX][GATEWAYS_MAX];
};

struct scenario {
    unsigned num_clients, num_tenants, num_rooms;
    struct scenario_tenant tenants[TENANTS_MAX];
    struct scenario_room rooms[SCENARIO_ROOMS_MAX];
    uint64_t moment; /* counts the steps of clients and operator: what comes before what for them */
    unsigned num_cores; /* of the gateway that runs now; 0: none does */
    bool restless;      /* they leave and come back all the time */
    bool crowded;       /* passers come and go, and homes keep few users and let few requests wait */
    bool forgetful;     /* few client ids are kept in memory: repeats are looked up on disk */
    bool narrow;        /* a reader's queue is short: who reads slowly is caught up from the log */
    bool forgetful_tails; /* hardly any run or page is kept for who is behind: blocks go all the time … */
    bool no_tails;      /* … or none is: only who waits for the same page shares it */
    bool healing;       /* nobody starts anything new */
    bool weeks_pass;    /* at some moment: what was asked before is then no longer known by its idempotency key */
    bool ruled;         /* the operator interferes: keys, kicks, limits, settings, restarts */
    bool notified;      /* notifications are made, for users of the first tenant and others */
    bool sluggish;      /* clients stop reading for long, through small buffers */
    unsigned gateway;   /* counts them */
    uint64_t epochs[GATEWAYS_MAX];
    uint32_t failed_gateways;  /* bit g: the disk of gateway g has failed */
    uint32_t late_gateways;    /* bit g: time has jumped, so what gateway g had on its way to the disk looked old */
    uint32_t draining_gateways; /* bit g: gateway g was asked to stop in good order */
    unsigned power_losses;
    bool disk_failed;          /* of the one that runs now */
};

extern struct scenario scenario;

/* scenario_plan draws what the run is about; `steps` is how long it will be about. */
void scenario_plan(uint64_t steps);
/* scenario_room_known: its id is. scenario_num_known counts such rooms of all tenants. */
bool scenario_room_known(unsigned room);
unsigned scenario_num_known(void);
/* scenario_num_unknown counts those that may have been made for all that anybody knows: asked for, and the tenant was
 * deleted before an answer came. */
unsigned scenario_num_unknown(void);
/* scenario_room_find finds a room that somebody of the tenant was told of; a room that was asked for, and whose
 * maker has not been answered yet, becomes known so. Anything else fails the run. */
unsigned scenario_room_find(unsigned tenant, struct slice room_id);
/* scenario_pending: the tenant's room that was asked for and is not known; num_rooms: none. */
unsigned scenario_pending(unsigned tenant);
/* scenario_may_come_twice: were idempotency keys forgotten now, a room could be made a second time: a request for it
 * will be repeated, or is on its way. One that was given up counts: the gateway may still read it, or have it in
 * hand. */
bool scenario_may_come_twice(void);
/* scenario_check_bytes fails the run when bytes for a user of `tenant` hold anything of another tenant. */
void scenario_check_bytes(unsigned tenant, struct slice bytes);

void toggle_ask_on(struct toggle *t);
void toggle_is_on(struct toggle *t);
void toggle_ask_off(struct toggle *t);
void toggle_is_off(struct toggle *t);
/* toggle_may_hold: what was asked at `moment` may have met it. toggle_must_hold: it has. */
bool toggle_may_hold(const struct toggle *t, uint64_t moment);
bool toggle_must_hold(const struct toggle *t, uint64_t moment);

#endif
