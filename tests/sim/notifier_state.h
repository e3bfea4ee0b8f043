/* notifier_state: what notifier.c and notifier_answers.c share. */
#ifndef CARILLON_TESTS_SIM_NOTIFIER_STATE_H
#define CARILLON_TESTS_SIM_NOTIFIER_STATE_H

#include "../../src/notify/notify.h"
#include "creations.h"
#include "line.h"
#include "notifier.h"
#include "wire.h"

enum notifier_call {
    NOTIFIER_IDLE,
    NOTIFIER_CREATE,
    NOTIFIER_ACK,
    NOTIFIER_LIST,
    NOTIFIER_SUBSCRIBE,
    NOTIFIER_UNSUBSCRIBE,
    NOTIFIER_TOPICS,
    NOTIFIER_LETTERS,
    NOTIFIER_RETRY,
    NOTIFIER_DELETE
};

/* notifier_by_operator: it is the operator who asks. */
static inline bool notifier_by_operator(enum notifier_call call) { return call >= NOTIFIER_LETTERS; }

/* page: where a list goes on: what comes below this number (0: all) and, of dead letters, this user number. */
struct page {
    uint64_t number, user;
};

struct notifier {
    struct line line;
    enum notifier_call call;
    unsigned user, topic; /* places of who asks, and what about */
    unsigned creation;
    bool mismatch;     /* the key is repeated with another body */
    struct page below; /* of the page that is asked for */
    struct page next;  /* that the last one has left; 0: from the newest */
    enum notifier_call next_of;
    unsigned next_user;
    struct notice_look look;   /* of the one that an ack, a retry or a delete is about */
    struct notice_look *looks; /* NOTICES_MAX: of all, when a list was asked for */
    unsigned num_looks;
    enum surely topics[TOPICS]; /* of the user, when asked */
    unsigned topic_changes[TOPICS];
    uint64_t since_ns, retry_ns, moment; /* when it was asked; scenario.moment then */
};

extern struct notifier notifiers[NOTIFIERS_MAX];

/* notifier_limits: of the run's gateways. */
const struct notify_bounds *notifier_limits(void);
/* notice_looked looks at one now. */
struct notice_look notice_looked(unsigned user, uint64_t number);

/* notifier_ack_asked notes that the user acknowledges it, whosever it is. */
void notifier_ack_asked(struct notice_look *look, unsigned user, uint64_t number);

/* notifier_answered takes the answer to the call that is open. */
void notifier_answered(struct notifier *n, const struct http_answer *answer, uint64_t version);
void answers_open(void);

#endif
