#include "passer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../src/base/buf.h"
#include "client.h"
#include "fake_ring.h"
#include "faults.h"
#include "wire.h"
#include "world.h"

#define STRANGERS 3u
#define TICKETS_MAX 16u /* that passers know of; the oldest is forgotten */
#define TICKET_LIFE_NS 30000000000ull
#define SAMPLE_KEY "dGhlIHNhbXBsZSBub25jZQ==" /* RFC 6455 section 1.3 */

struct ticket {
    char text[320];
    unsigned gateway;   /* that gave it out */
    uint64_t asked_ns;  /* for it: it lives at least so long */
    unsigned num_tried, num_opened;
};

enum passer_state { PASSER_ASKING, PASSER_UPGRADING, PASSER_OPEN };

struct passer {
    struct link *link; /* NULL: away */
    struct buf out, in;
    enum passer_state state;
    bool says_hello;
    unsigned gateway;
    uint64_t asked_ns, asked_moment;
    uint64_t ticket; /* number of the one it is opened with, 0: headers */
};

/* user: who comes: one of the clients' users, or a stranger. */
struct user {
    bool stranger;
    uint64_t number;
};

static struct user wave; /* whose sockets most of them are just now */
static struct passer passers[PASSERS_MAX];
static struct ticket tickets[TICKETS_MAX];
static uint64_t num_tickets; /* ever; ticket n stands in place n % TICKETS_MAX */

static struct ticket *ticket_known(uint64_t number)
{
    return number && number + TICKETS_MAX > num_tickets ? &tickets[number % TICKETS_MAX] : NULL;
}

bool passer_can_step(unsigned passer)
{
    return scenario.crowded && !scenario.healing && scenario.num_cores && scenario.tenants[0].ready;
}

static void leave(struct passer *p, bool reset)
{
    if (p->link) link_drop(p->link, reset);
    p->link = NULL;
    p->out.len = p->in.len = 0;
}

void passers_leave(void)
{
    for (unsigned i = 0; i < PASSERS_MAX; i++) leave(&passers[i], world_chance(2));
}

void passers_close(void)
{
    passers_leave();
    for (unsigned i = 0; i < PASSERS_MAX; i++) {
        buf_free(&passers[i].out);
        buf_free(&passers[i].in);
    }
}

/* --- coming ----------------------------------------------------------------------------------------------------- */

static struct user anybody(void)
{
    bool stranger = world_chance(2);
    return (struct user){stranger, world_below(stranger ? STRANGERS : scenario.tenants[0].num_users)};
}

void passers_change(void)
{
    passers_leave();
    wave = anybody();
}

static void user_headers(struct buf *out)
{
    struct user u = world_chance(4) ? anybody() : wave;
    buf_printf(out, "X-API-Key: %s\r\nX-User-Id: %s%" PRIu64 "\r\n", scenario.tenants[0].keys[0].text,
               u.stranger ? "stranger" : "user", u.number);
}

/* upgrade asks for the socket: with a ticket, or with the headers of a member. */
static void upgrade(struct passer *p)
{
    struct ticket *t = ticket_known(p->ticket);
    buf_printf(&p->out, "GET /v1/ws%s%s HTTP/1.1\r\nHost: gateway\r\n", t ? "?ticket=" : "", t ? t->text : "");
    if (t) t->num_tried++;
    else user_headers(&p->out);
    p->says_hello = world_chance(2);
    buf_printf(&p->out,
               "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Key: " SAMPLE_KEY "\r\n%s\r\n",
               p->says_hello ? "Sec-WebSocket-Protocol: carillon.v1.json\r\n" : "");
    p->state = PASSER_UPGRADING;
}

static void come(struct passer *p)
{
    p->link = link_open((unsigned)world_below(scenario.num_cores), false, 4096, world_chance(3) ? 256 : 65536);
    p->gateway = scenario.gateway;
    p->asked_ns = world_now_ns();
    p->asked_moment = scenario.moment;
    p->ticket = num_tickets && world_chance(3) ? num_tickets - world_below(2) : 0;
    if (p->ticket || !world_chance(4)) {
        upgrade(p);
        return;
    }
    BUF_LIT(&p->out, "POST /v1/auth/tickets HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n");
    user_headers(&p->out);
    BUF_LIT(&p->out, "\r\n");
    p->state = PASSER_ASKING;
}

/* --- being answered ----------------------------------------------------------------------------------------------- */

/* kept_out: the operator has switched the tenant off, limits its rate, or has asked the gateway to stop. */
static bool kept_out(const struct passer *p, const struct http_answer *answer)
{
    const struct scenario_tenant *t = &scenario.tenants[0];
    struct slice code;
    if (!json_member(answer->body, "code", &code)) return false;
    if (slice_is(code, "tenant.disabled")) return toggle_may_hold(&t->disabled, p->asked_moment);
    if (slice_is(code, "rate.limited")) return toggle_may_hold(&t->limited, p->asked_moment);
    return slice_is(code, "server.draining") && scenario.draining_gateways >> p->gateway & 1;
}

static void ticket_taken(struct passer *p, const struct http_answer *answer)
{
    struct slice text;
    bool excused = json_member(answer->body, "code", &text) && faults_excuse(p->gateway, text);
    if (answer->status != 201 && (excused || kept_out(p, answer))) {
        leave(p, false);
        return;
    }
    CHECK(answer->status == 201 && json_member(answer->body, "ticket", &text), "a ticket is refused with %u: %.*s",
          answer->status, SLICE_FMT(answer->body));
    CHECK(text.len < sizeof tickets[0].text, "a ticket of %zu bytes", text.len);
    struct ticket *t = &tickets[++num_tickets % TICKETS_MAX];
    *t = (struct ticket){.gateway = p->gateway, .asked_ns = p->asked_ns};
    memcpy(t->text, text.data, text.len);
    p->ticket = num_tickets;
}

/* upgraded: a ticket opens one socket, and is refused for no other reason than that it was tried before, has ended, or
 * is of another process. */
static void upgraded(struct passer *p, const struct http_answer *answer)
{
    struct ticket *t = ticket_known(p->ticket);
    bool disk_failed = scenario.failed_gateways >> p->gateway & 1;
    if (answer->status == 101) {
        CHECK(!t || ++t->num_opened == 1, "a ticket opens %u sockets", t->num_opened);
        if (p->says_hello) wire_send(&p->out, WIRE_TEXT, true, SLICE("{\"type\":\"hello\",\"id\":1}"), 7);
        p->state = PASSER_OPEN;
        return;
    }
    bool spent = t && answer->status == 401 &&
                 (t->num_tried > 1 || t->gateway != p->gateway || world_now_ns() >= t->asked_ns + TICKET_LIFE_NS);
    struct slice code = {0};
    if (!json_member(answer->body, "code", &code)) code = (struct slice){0};
    bool overloaded = answer->status == 503 && (disk_failed || slice_is(code, "server.overloaded") ||
                       (scenario.late_gateways >> p->gateway & 1 && slice_is(code, "store.overloaded")));
    CHECK(overloaded || spent || faults_excuse(p->gateway, code) || kept_out(p, answer) || (p->ticket && !t),
          "a passer's upgrade is answered %u: %.*s", answer->status, SLICE_FMT(answer->body));
    leave(p, false);
}

static void hear(struct passer *p)
{
    struct http_answer answer;
    if (p->state == PASSER_OPEN) {
        p->in.len = 0;
        return;
    }
    size_t len = wire_answer(&answer, buf_slice(&p->in));
    if (len == 0) return;
    if (p->state == PASSER_UPGRADING) {
        upgraded(p, &answer);
    } else {
        ticket_taken(p, &answer);
        if (p->link) upgrade(p);
    }
    if (p->link) buf_consume(&p->in, len);
}

void passer_step(unsigned passer)
{
    struct passer *p = &passers[passer];
    if (!p->link) {
        if (world_chance(4)) come(p);
        return;
    }
    if (p->out.len && !link_ended(p->link)) {
        size_t len = world_chance(3) ? 1 + world_below(p->out.len) : p->out.len;
        buf_consume(&p->out, link_write(p->link, slice_of(p->out.data, len)));
    }
    bool has_asked = !p->out.len && p->state != PASSER_OPEN;
    if (has_asked && world_chance(12)) link_finish(p->link); /* it is answered all the same */
    size_t ready = link_readable(p->link);
    buf_reserve(&p->in, ready);
    if (ready) p->in.len += link_read(p->link, p->in.data + p->in.len, ready);
    hear(p);
    if (p->link && (link_ended(p->link) || world_chance(p->state == PASSER_OPEN ? 8 : 40))) leave(p, world_chance(2));
}
