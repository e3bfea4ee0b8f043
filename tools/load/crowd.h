/* crowd: the people of a traffic run: rooms, the participants in them, the publishers among those. Shared by traffic.c
 * (the run), publish.c (what they send) and arrival.c (what reaches them). One thread. */
#ifndef CARILLON_TOOLS_LOAD_CROWD_H
#define CARILLON_TOOLS_LOAD_CROWD_H

#include "../../src/base/json.h"
#include "histogram.h"
#include "options.h"
#include "record.h"
#include "session.h"
#include "window.h"

#define CROWD_CODES_MAX 16u         /* different error codes that are counted one by one */
#define TIMINGS_MAX (1u << 20)      /* remembered messages of all rooms together */
#define TIMINGS_PER_ROOM_MAX 16384u /* a power of two */

/* timing: when a message was due, by its seq, for the receipts that follow the first. */
struct timing {
    uint64_t seq, intended_ns; /* intended_ns 0: not a message of this run */
    uint64_t peer_seq;         /* servers that are no gateway: the seq that the publisher gave (plain.h) */
    uint32_t receipts;
};

struct room {
    const char *id;
    struct buf needle;      /* "room_id":"…": every push to a member of this room holds it */
    struct buf send_head;   /* {"type":"send_message","room_id":"…","content":"; for others see plain_message */
    uint32_t num_publishers;
    uint32_t num_receivers; /* subscribed participants */
    uint64_t newest_seq;    /* highest seq that anyone received */
    struct timing *timings; /* of seq at seq & timings_mask */
    uint32_t timings_mask;
};

struct publisher {
    uint32_t number;
    uint32_t index;     /* among the publishers of its room */
    uint32_t in_flight; /* messages that have not met the scenario's end: first receipt, or answer */
    uint64_t num_sent;
    struct window window; /* messages that wait for an answer, when ids are sent */
};

enum participant_state {
    PARTICIPANT_AWAY = 0, /* not connected, or lost (session.gone) */
    PARTICIPANT_GREETING, /* connecting, up to the answer to hello */
    PARTICIPANT_WELCOME,  /* welcomed; waits for its room's position until ready_due_ns */
    PARTICIPANT_READY,    /* subscribed */
};

struct participant {
    struct session session; /* first */
    enum participant_state state;
    uint32_t number; /* names the connection in the record */
    uint64_t room_number, member;
    struct room *room;
    struct publisher *publisher; /* NULL: only listens */
    uint64_t next_seq;           /* the seq that must come next; 0: not known yet */
    uint64_t *next_of;           /* servers that are no gateway: the number that must come next of each publisher */
    uint64_t ready_due_ns;
};

struct crowd {
    const struct options *options;
    struct setup setup;
    struct session_hub hub;
    struct record record;
    struct json_parser *parser;
    uint32_t run;    /* random; in every stamp and client_id */
    bool subscribe;  /* participants receive their room's pushes */
    bool with_ids;   /* messages carry `id`, so that each is answered */
    bool ends_at_ok; /* in flight ends at the answer, else at the room's first receipt */
    bool stopping;   /* no message is sent any more */

    struct room *rooms;
    uint64_t num_rooms;
    struct participant *participants;
    uint64_t num_participants, num_greeting, num_ready, num_lost;
    struct publisher *publishers;
    uint64_t num_publishers;
    struct participant **speakers; /* of publisher i */
    uint64_t turn;                 /* open loop: whose turn it is */

    uint64_t measure_from_ns, measure_until_ns; /* by the time a message was due; deliveries by their arrival */
    uint64_t num_sent, num_settled;             /* whole run; settled: met its end or was refused */
    uint64_t messages, deliveries, acked, refused, refused_for_good, violations; /* measured; the last two always */
    uint64_t push_bytes; /* payload of the frames that were measured as `messages` */
    struct {
        char text[64];
        uint64_t count;
    } codes[CROWD_CODES_MAX];
    struct histogram any, last, answer; /* ns from due to: each delivery, the room's last one, the answer */

    char *content;                                      /* the filling of every message */
    struct buf text;                                    /* a message being built */
    uint32_t hint_room, hint_seq, hint_re, hint_ok_seq; /* see push.h */
};

static inline bool crowd_measures(const struct crowd *c, uint64_t at_ns)
{
    return at_ns >= c->measure_from_ns && at_ns < c->measure_until_ns;
}

#endif
