/* creations: what the notifiers of a run have asked to be made, for whom, and what they were answered. Who is
 * subscribed to a topic, and so gets what is made for it, is known here as well, as far as it can be known from
 * outside: for sure, or not while a change is on its way.
 *
 * All of it is in the first tenant: its users have places, the clients' own, those who never come, and the strangers
 * whose sockets passers open. NOTIFIED_USERS is nobody's place, and that of users of another tenant. */
#ifndef CARILLON_TESTS_SIM_CREATIONS_H
#define CARILLON_TESTS_SIM_CREATIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/buf.h"
#include "client.h"
#include "notices.h"

#define NOTIFIED_AWAY 2u      /* users who never have a socket */
#define NOTIFIED_STRANGERS 2u /* whose sockets never acknowledge anything */
#define NOTIFIED_USERS (USERS_MAX + NOTIFIED_AWAY + NOTIFIED_STRANGERS)
#define TOPICS 2u
#define CREATIONS_MAX 64u

/* standing of a user with a creation, or with a topic. */
enum surely { SURELY_NOT, PERHAPS, SURELY };

enum creation_state { CREATION_OPEN, CREATION_ANSWERED, CREATION_REFUSED };

struct creation_asked {
    enum creation_state state;
    char key[16]; /* Idempotency-Key; empty: none, and it is asked for once */
    unsigned topic;
    uint8_t priority;
    struct buf payload, body; /* body: of the request */
    bool subscribers;
    enum surely users[NOTIFIED_USERS];
    bool named[NOTIFIED_USERS]; /* whatever they are subscribed to */
    unsigned user;              /* who asks: the key is theirs */
    unsigned tries;
    bool under_way;      /* a notifier waits for its answer */
    uint64_t number;     /* of its notification, as answered */
    uint64_t num_users;  /* as answered */
    uint64_t stored;     /* number under which the store has it; 0: it does not */
    unsigned num_stored; /* its users there */
    bool fresh;          /* made by the batch that is being looked at */
};

void creations_open(void);
void creations_close(void);
unsigned creations_len(void);
struct creation_asked *creation_at(unsigned index);
/* creation_new plans one, by chance, and writes its body; returns its place, CREATIONS_MAX when there is none left. */
unsigned creation_new(void);
/* creation_made finds whose notification this is, by what it carries, and holds it against what was asked. */
unsigned creation_made(const struct watched_notice *n);
/* creations_written: the batch is whole. creations_crash: the notices are what is left. */
void creations_written(void);
void creations_crash(void);
/* creation_answered holds a 202 against the store. */
void creation_answered(unsigned index, struct slice answer, uint64_t version);

const char *topic_name(unsigned topic);
const char *user_name(unsigned user);
/* user_place of an id; NOTIFIED_USERS: nobody's, whose name is empty. user_random: one whom the run has;
 * user_is_client: has a client. */
unsigned user_place(struct slice user_id);
unsigned user_random(void);
bool user_is_client(unsigned user);
/* user_has_sockets: some client or passer may open one. */
bool user_has_sockets(struct slice user_id);

/* subscription_asked: a change goes out: from now on nobody can tell. subscription_answered: it is done. What goes
 * unanswered may be done at any time as long as its gateway runs. */
void subscription_asked(unsigned user, unsigned topic);
void subscription_answered(unsigned user, unsigned topic, bool on, unsigned gateway);
void subscription_lost(unsigned user, unsigned topic, unsigned gateway);
enum surely subscription(unsigned user, unsigned topic);
/* subscription_changes counts what was asked for, so that two looks tell whether there was a change between them. */
unsigned subscription_changes(unsigned user, unsigned topic);

#endif
