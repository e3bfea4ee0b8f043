/* harness: a whole gateway in one thread, for the unit tests of the domain: cores, commit pipeline and readers are step
 * functions here, the store is memory (kv_fake, mark_fake), time stands still unless a test moves it, and randomness
 * comes from a seed. So a test decides what happens between two steps, and holds a stage back to look in between.
 *
 * Ops go in on a core and are caught there on their way back, in a struct answer that the harness owns. Clients are
 * real sockets on 127.0.0.1, served by the real ring in the same thread; every core listens on a port of its own, so a
 * test chooses where a socket lives. */
#ifndef CARILLON_TESTS_UNIT_HARNESS_H
#define CARILLON_TESTS_UNIT_HARNESS_H

/* cmocka needs these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/api/api.h"
#include "../../src/chat/room.h"
#include "../../src/chat/session.h"
#include "../../src/config.h"
#include "../../src/core/core.h"

#define HARNESS_CORES_MAX 3u
#define HARNESS_START_MS 1767225600000ull /* 2026-01-01: what the wall clock shows when a test begins */
#define MASTER_KEY "the-master-key"
#define OPERATOR "X-Master-Key: " MASTER_KEY "\r\n" /* a request's header */
#define HELLO_ALL "{\"type\":\"hello\"}"
#define HELLO_NONE "{\"type\":\"hello\",\"rooms\":\"none\"}"

struct harness {
    struct config config;
    struct gateway gateway;
    struct store store;
    struct kv *kv;
    struct mark *mark;
    struct clock clock;
    struct random random;
    uint64_t mono_ns, wall_ms, random_state;
    bool open;
    bool hold_writer, hold_syncer, hold_readers; /* harness_settle leaves this stage standing */
    int listen_fd[HARNESS_CORES_MAX];
    uint16_t port[HARNESS_CORES_MAX];
    uint32_t tenant; /* the tenant that tests act in, with a server key */
    char api_key[API_KEY_TEXT_MAX + 1];
    struct list answers, clients; /* owned: struct answer, struct client */
    uint64_t num_answered;
};

/* The fixture: TEST(name) in the list of tests; *state is a struct harness that is not open yet. */
int harness_setup(void **state);
int harness_teardown(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

/* harness_open starts a gateway over an empty store and makes the tenant. */
void harness_open(struct harness *h, unsigned num_cores);

enum harness_end {
    END_CLEAN,      /* a graceful stop */
    END_KILLED,     /* kill -9: what was written stays, synced or not */
    END_POWER_LOST, /* what was not synced is gone */
};
/* harness_restart ends the gateway in that way and starts it again over what the store still holds. */
void harness_restart(struct harness *h, enum harness_end end);

/* --- stepping ------------------------------------------------------------------------------------ */

struct core *harness_core(struct harness *h, unsigned core);
uint64_t harness_metric(struct harness *h, unsigned core, enum metric_id id);
/* harness_turn gives one core one turn; harness_turns each core one. They return whether anything happened. */
bool harness_turn(struct harness *h, unsigned core);
bool harness_turns(struct harness *h);
/* harness_settle goes round cores, writer, syncer and readers until nothing moves any more. */
void harness_settle(struct harness *h);
void harness_advance(struct harness *h, uint64_t ms);

/* --- ops ----------------------------------------------------------------------------------------- */

struct person {
    uint64_t number;
    uint32_t tenant;
    unsigned home; /* core */
    char id[USER_ID_BYTES_MAX + 1];
};

/* answer: what came back of an op. */
struct answer {
    struct list of_harness;
    struct harness *harness;
    bool done;
    uint64_t order; /* 1 for the first op of the test that came back */
    unsigned core;  /* where it came back */
    struct error error;
    uint16_t http_status;
    bool fast;
    uint32_t tenant;
    uint64_t user, room, seq, created_ms, head;
    struct room_position position, positions[16];
    uint32_t num_positions;
    struct buf out; /* NUL-terminated */
};

/* harness_op makes an op of `who` (may be NULL) on a core; `text_bytes` of kept text come beside the user id. */
struct op *harness_op(struct harness *h, unsigned core, enum op_kind kind, const struct person *who, uint64_t room,
                      size_t text_bytes);
/* harness_go sends an op to its home and catches it in the answer. Nothing is turned. */
struct answer *harness_go(struct harness *h, struct op *op);

struct answer *harness_send(struct harness *h, unsigned core, const struct person *who, uint64_t room,
                            const char *text);
struct answer *harness_send_once(struct harness *h, unsigned core, const struct person *who, uint64_t room,
                                 const char *text, const char *client_id);
/* harness_ask sends an op that needs no more than who and where: JOIN, LEAVE, GET, MEMBERS. */
struct answer *harness_ask(struct harness *h, unsigned core, enum op_kind kind, const struct person *who,
                           uint64_t room);
/* harness_change names another user: ADD, REMOVE, ROLE (`role` of enum member_role, else 0). */
struct answer *harness_change(struct harness *h, unsigned core, enum op_kind kind, const struct person *who,
                              uint64_t room, const struct person *whom, uint8_t role);
struct answer *harness_position(struct harness *h, unsigned core, const struct person *who, uint64_t room,
                                enum position_mode mode, uint64_t epoch, uint64_t seq);
/* harness_events reads all events after a seq, as /events does. */
struct answer *harness_events(struct harness *h, unsigned core, const struct person *who, uint64_t room,
                              uint64_t after);
struct answer *harness_ack(struct harness *h, unsigned core, const struct person *who, uint64_t room,
                           const char *device, uint64_t seq, bool read);
struct answer *harness_rooms(struct harness *h, unsigned core, const struct person *who, const char *device);
/* harness_create asks for a room of these members, the first of whom asks; `key` NULL: no Idempotency-Key. */
struct answer *harness_create(struct harness *h, unsigned core, enum room_type type, uint8_t flags,
                              const struct person *const *members, unsigned num_members, const char *key,
                              uint64_t payload_hash);

/* settled settles and returns the answer, which must have come: `a = settled(h, harness_send(h, …))`. */
struct answer *settled(struct harness *h, struct answer *a);

/* The same with an answer that must be a success: for what a test only needs. They settle. */
struct person harness_person(struct harness *h, const char *id);
/* harness_person_at finds a user whose home is that core. */
struct person harness_person_at(struct harness *h, const char *stem, unsigned home);
uint64_t harness_room(struct harness *h, enum room_type type, uint8_t flags, const struct person *const *members,
                      unsigned num_members);
/* harness_room_at makes rooms until one has its home on that core. */
uint64_t harness_room_at(struct harness *h, unsigned home, enum room_type type, const struct person *const *members,
                         unsigned num_members);
#define PEOPLE(...) \
    (const struct person *const[]){__VA_ARGS__}, sizeof((const struct person *const[]){__VA_ARGS__}) / sizeof(void *)
/* harness_fill sends messages "1", "2", … until the room has that many events. */
void harness_fill(struct harness *h, const struct person *who, uint64_t room, uint64_t head);
unsigned harness_room_home(struct harness *h, uint64_t room);

#define expect_ok(got) \
    do { \
        const struct answer *expected_ok = (got); \
        assert_true(expected_ok->done); \
        assert_string_equal(error_rows[expected_ok->error.code].code, "none"); \
    } while (0)
#define expect_error(got, what) \
    do { \
        const struct answer *expected_error = (got); \
        assert_true(expected_error->done); \
        assert_string_equal(error_rows[expected_error->error.code].code, error_rows[what].code); \
    } while (0)
#define expect_waiting(got) assert_false((got)->done)
#define expect_text(text, part) \
    do { \
        if (!strstr((text), (part))) fail_msg("\"%s\" is not in: %s", (part), (text)); \
    } while (0)
#define expect_no_text(text, part) \
    do { \
        if (strstr((text), (part))) fail_msg("\"%s\" is in: %s", (part), (text)); \
    } while (0)

/* number_in returns the number behind `"name":` in JSON text; fails the test when there is none. */
uint64_t number_in(const char *json, const char *name);
/* count_in counts how often a part occurs in a text. */
unsigned count_in(const char *text, const char *part);
/* room_name writes a room's id, NUL-terminated. */
struct room_name {
    char text[16]; /* ID_TEXT_LEN and a NUL */
};
struct room_name room_name(uint64_t room);

/* --- clients ------------------------------------------------------------------------------------- */

struct client {
    struct list of_harness;
    struct harness *harness;
    int fd;
    bool ended;          /* the gateway closed the connection */
    uint16_t close_code; /* of the WebSocket's close frame, 0 while there was none */
    struct buf in;
    struct buf text; /* the last message or body heard, NUL-terminated */
    struct buf head; /* of the last HTTP answer, NUL-terminated */
};

struct client *client_open(struct harness *h, unsigned core);
void client_close(struct client *c);
/* client_send writes bytes as they are. */
void client_send(struct client *c, struct slice bytes);
/* client_call makes one REST request and returns the answer's status; `headers` are complete lines and may be empty,
 * `body` may be NULL. text and head hold the answer. With a user, the tenant's key is sent along. */
unsigned client_call(struct client *c, const char *method, const char *path, const char *user, const char *headers,
                     const char *body);
/* client_answer waits for one HTTP answer. */
unsigned client_answer(struct client *c);

#define WITH_SUBPROTOCOL "Sec-WebSocket-Protocol: carillon.v1.json\r\n"
/* client_upgrade opens a WebSocket; returns the handshake's status. */
unsigned client_upgrade(struct client *c, const char *user, const char *headers);
/* socket_open = client_open, client_upgrade with the subprotocol, and `hello` when not NULL; the welcome is in text. */
struct client *socket_open(struct harness *h, unsigned core, const char *user, const char *hello);
void client_say(struct client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void client_say_binary(struct client *c, const char *bytes);
/* client_hear waits for the next text message. */
const char *client_hear(struct client *c);
/* client_hear_or_end is the same for a connection that the gateway may close: NULL when it has. */
const char *client_hear_or_end(struct client *c);
/* client_hears_nothing: whatever was on its way has come, and there is no message. */
void client_hears_nothing(struct client *c);
/* client_hear_close waits for the close frame and returns its code; messages before it are dropped. */
uint16_t client_hear_close(struct client *c);
/* client_read takes what has come from the socket without turning the gateway; returns how many whole messages wait. */
unsigned client_read(struct client *c);

#endif
