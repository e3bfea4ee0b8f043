/* net_app: an application over a real net on loopback, driven by the thread that also plays the clients: both take
 * turns, so that a test decides what happens between two turns. Time is the real one plus what a test has skipped.
 *
 * What a test wants of it is set in the struct before app_open. It answers /echo with the body, /later when the test
 * says so, /close and /abort as they say, anything else with 404 and the path; /ws is upgraded, and messages are
 * echoed. */
#ifndef CARILLON_TESTS_UNIT_NET_APP_H
#define CARILLON_TESTS_UNIT_NET_APP_H

/* cmocka needs these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../net/net.h"
#include "../../src/base/park.h"

#define SECOND 1000000000ull
#define PATIENCE_NS (10 * SECOND) /* a wait that fails has waited this long */

struct app {
    struct net *n;
    struct park park;
    struct clock clock;
    uint64_t skipped_ns;
    struct net_limits limits;
    int send_buffer_bytes; /* of what is accepted; 0: 64 KiB */
    int listen_fd;
    uint16_t port;
    bool stop_echo;     /* messages are counted, not answered */
    bool hold_requests; /* each message begins a request that the test ends */
    bool use_users;     /* connections get a user */
    bool refuse_all;    /* connections are let in by nobody */
    bool refuse_bodies; /* no head has its body taken */
    struct net_account accounts[2]; /* a request that names one in X-Account is charged to it */
    char unix_path[64];             /* listen here instead of on TCP, when set */
    unsigned messages, drains, closed, opened, admins;
    struct conn_ref waiting; /* of the last /later request */
    struct conn_ref last_ws;
    struct buf last_message;
    uint8_t refusal; /* of the last request's connection */
    size_t body_len; /* of the last request */
    char peer[46];
};

/* The fixture: NET_TEST(name) in the list of tests; *state is a struct app that is not open yet. app_descriptors is the
 * setup of a group that opens many sockets. */
int app_setup(void **state);
int app_teardown(void **state);
int app_descriptors(void **state);
#define NET_TEST(name) cmocka_unit_test_setup_teardown(name, app_setup, app_teardown)

/* app_open listens and starts the net; app_close waits until every connection is gone, and holds that nothing is left
 * of them. app_end closes the net as it is. */
void app_open(struct app *a);
void app_close(struct app *a);
void app_end(struct app *a);
/* app_handlers: of the app, for a second net beside its own. */
struct net_handlers app_handlers(struct app *a);
/* answer ends a /later request. */
void answer(struct app *a, struct conn *c, unsigned status, struct slice body);

/* turn: one of the core's loop. */
void turn(struct app *a);
void turns(struct app *a, unsigned count);
/* skip_time lets the clock jump, and then takes some turns. */
void skip_time(struct app *a, uint64_t ns);
/* UNTIL takes turns until the condition holds. */
#define UNTIL(a, condition) \
    do { \
        uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS; \
        while (!(condition) && clock_mono_ns(clock_real()) < until_ns) turn(a); \
        assert_true(condition); \
    } while (0)

/* --- clients ------------------------------------------------------------------------------------------------- */

struct client {
    int fd;
    struct buf in;
    bool ended; /* end of stream or reset */
};

struct client client_open(struct app *a);
void client_close(struct client *c);
int connect_unix(const char *path);
/* client_read takes everything that has come; the others do so first. */
void client_read(struct client *c);
/* client_send sends all, and lets the net take turns while the socket is full. */
void client_send(struct app *a, struct client *c, struct slice bytes);
void client_say(struct app *a, struct client *c, const char *text);
bool client_has(struct client *c, const char *text);
bool client_got(struct client *c, size_t len);
bool client_ended(struct client *c);

#define UPGRADE \
    "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

/* ws_connect upgrades and drops the answer. */
struct client ws_connect(struct app *a);
/* ws_say sends a client's frame: masked, with this first byte. */
void ws_say(struct app *a, struct client *c, unsigned first_byte, struct slice payload);
/* frame_masked appends a client's frame to `out`. */
void frame_masked(struct buf *out, unsigned first_byte, struct slice payload);
/* text_frame: a server's frame with a payload of one byte repeated; the caller refers to it before it is sent. */
struct frame *text_frame(size_t payload_len, char fill);

#endif
