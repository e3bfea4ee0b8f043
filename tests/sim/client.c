#include "client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "client_rest.h"
#include "client_socket.h"
#include "client_state.h"
#include "counts.h"
#include "oracle.h"
#include "script.h"
#include "store_watch.h"
#include "world.h"

#define STALL_NS (15ull * 1000000000) /* simulated time without an answer while nothing is in the way */

struct client clients[CLIENTS_MAX];

/* --- opening and closing ------------------------------------------------------------------------------------- */

void clients_open(void)
{
    for (unsigned i = 0; i < scenario.num_clients; i++) {
        struct client *c = &clients[i];
        *c = (struct client){.number = i, .next_id = 1, .messages_max = 6 + (unsigned)world_below(MESSAGES_MAX - 5)};
        c->tenant = i % scenario.num_tenants;
        unsigned among = i / scenario.num_tenants, num_users = scenario.tenants[c->tenant].num_users;
        c->user = among % num_users;
        snprintf(c->name, sizeof c->name, "client %u", i);
        snprintf(c->user_id, sizeof c->user_id, "user%u", c->user);
        snprintf(c->device, sizeof c->device, "device%u", among);
        for (unsigned other = c->tenant; other < scenario.num_clients; other += scenario.num_tenants)
            c->shares_user |= other != i && other / scenario.num_tenants % num_users == c->user;
        c->acks = !world_chance(6);
    }
}

void clients_close(void)
{
    for (unsigned i = 0; i < scenario.num_clients; i++) {
        struct client *c = &clients[i];
        client_leave(i);
        buf_free(&c->socket.out);
        buf_free(&c->socket.in);
        buf_free(&c->rest.out);
        buf_free(&c->rest.in);
        for (unsigned m = 0; m < c->num_messages; m++) free(c->messages[m].content);
        for (unsigned r = 0; r < SCENARIO_ROOMS_MAX; r++) free(c->views[r].serials);
    }
}

void client_leave(unsigned client)
{
    struct client *c = &clients[client];
    if (c->socket.link) socket_drop(c, world_chance(2), "the run ends");
    if (c->rest.link) client_rest_drop(c, world_chance(2));
}

void client_heal(unsigned client)
{
    struct client *c = &clients[client];
    for (unsigned i = 0; i < c->num_asked; i++) c->asked[i].since_ns = world_now_ns();
    c->call.since_ns = world_now_ns();
    c->heals_since_ns = world_now_ns();
    c->paused_until_ns = 0;
}

/* --- one step ------------------------------------------------------------------------------------------------ */

bool client_can_step(unsigned client)
{
    const struct client *c = &clients[client];
    if (scenario.num_cores == 0) return false;
    if (!scenario.healing) return true;
    if (line_can_pump(&c->rest) || (line_can_pump(&c->socket) && !socket_paused(c))) return true;
    return script_wants_rest(c) || script_wants_socket(c);
}

uint64_t client_wake_ns(unsigned client)
{
    const struct client *c = &clients[client];
    uint64_t wake = WORLD_NEVER, now = world_now_ns();
    if (c->state == SOCKET_DOWN && c->retry_ns > now) wake = c->retry_ns;
    if (c->rest_retry_ns > now && c->rest_retry_ns < wake) wake = c->rest_retry_ns;
    if (socket_paused(c) && c->paused_until_ns < wake) wake = c->paused_until_ns;
    return wake;
}

void client_step(unsigned client)
{
    struct client *c = &clients[client];
    scenario.moment++;
    if (c->socket.link) {
        bool open = line_pump(&c->socket, !socket_paused(c));
        socket_read(c);
        if (!open && c->socket.link) socket_drop(c, false, "the gateway closed it");
    }
    if (c->rest.link) {
        bool open = line_pump(&c->rest, true);
        client_rest_read(c);
        if (!open && c->rest.link) client_rest_drop(c, false);
    }
    script_act(c);
}

/* --- what it says -------------------------------------------------------------------------------------------- */

bool client_in(const struct client *c, unsigned room)
{
    return room < scenario.num_rooms && scenario.rooms[room].tenant == c->tenant && scenario_room_known(room);
}

struct ask client_ask(enum ask_kind kind, unsigned room)
{
    return (struct ask){.kind = kind,
                        .room = room,
                        .since_ns = world_now_ns(),
                        .version = store_version(),
                        .moment = scenario.moment,
                        .seen = room < scenario.num_rooms ? scenario.rooms[room].seen : 0};
}

struct span client_span(const struct ask *a, uint64_t version) { return (struct span){a->version, version}; }

unsigned client_message_new(struct client *c, unsigned room)
{
    unsigned number = c->num_messages++;
    struct message *m = &c->messages[number];
    unsigned most = scenario.sluggish ? 9900 : 6000; /* many long ones fill the queues of those who do not read */
    size_t padding = world_chance(scenario.sluggish ? 2 : 8) ? world_below(most) : world_below(40);
    *m = (struct message){.room = room};
    /* of one user each is used once; two users may well have the same */
    snprintf(m->client_id, sizeof m->client_id, "%s-%u", c->shares_user ? c->device : "message", number);
    m->content = malloc(80 + padding);
    ASSERT(m->content);
    int len = snprintf(m->content, 80, "no. %u of %s %s ", number, c->device, scenario.tenants[c->tenant].canary);
    memset(m->content + len, 'x', padding);
    m->content[(size_t)len + padding] = '\0';
    return number;
}

static bool is_send(const struct ask *a, unsigned author, unsigned message)
{
    return a->kind == ASK_SEND && a->author == author && a->message == message && !a->twisted;
}

bool client_message_on_its_way(unsigned author, unsigned message)
{
    for (unsigned i = 0; i < scenario.num_clients; i++) {
        const struct client *c = &clients[i];
        if (is_send(&c->call, author, message)) return true;
        for (unsigned a = 0; a < c->num_asked; a++)
            if (is_send(&c->asked[a], author, message)) return true;
    }
    return false;
}

static void sync_new(const struct client *c, struct sync *s)
{
    *s = (struct sync){.limit = 1 + (unsigned)world_below(world_chance(2) ? 10 : 400), .version = store_version()};
    s->epoch = scenario.epochs[scenario.gateway];
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        if (!client_in(c, r)) continue;
        s->seen[r] = scenario.rooms[r].seen;
        s->listed[r] = c->shares_user || !world_chance(4);
        s->epochs[r] = c->views[r].epoch ? c->views[r].epoch : scenario.rooms[r].epoch;
        s->seqs[r] = c->views[r].held;
    }
}

void client_sync(struct client *c, struct sync *s, struct buf *out)
{
    if (!s->cursor[0] || (!scenario.healing && world_chance(8))) sync_new(c, s);
    buf_printf(out, "\"limit\":%u,\"rooms\":{", s->limit);
    const char *separator = "";
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        if (!s->listed[r]) continue;
        buf_printf(out, "%s\"%s\":[%" PRIu64 ",%" PRIu64 "]", separator, scenario.rooms[r].id, s->epochs[r],
                   s->seqs[r]);
        separator = ",";
    }
    BUF_LIT(out, "}");
    if (s->cursor[0]) buf_printf(out, ",\"cursor\":\"%s\"", s->cursor);
    if (s->cursor[0]) count_happened(COUNT_SYNCS_CONTINUED);
    else count_happened(COUNT_SYNCS);
}

/* --- the end ------------------------------------------------------------------------------------------------- */

/* access_ended: the gateway owes the end of this socket. */
static bool access_ended(const struct client *c)
{
    const struct scenario_tenant *t = &scenario.tenants[c->tenant];
    return toggle_must_hold(&t->keys[c->socket.key].revoked, UINT64_MAX) || toggle_must_hold(&t->disabled, UINT64_MAX);
}

static const char *room_unsettled(const struct client *c, unsigned room)
{
    const struct view *v = &c->views[room];
    if (v->resume_asked || v->after_asked) return "a room is not resumed";
    if (v->on && oracle_is_member(c, room) && v->held < truth_visible_head(room, store_version()))
        return "it does not hold the whole log";
    return NULL;
}

const char *client_unsettled(unsigned client)
{
    const struct client *c = &clients[client];
    unsigned message;
    if (scenario.tenants[c->tenant].deleted.surely)
        return c->socket.link ? "its tenant is deleted, and its socket open" : NULL;
    if (script_wants_rooms(c)) return "its rooms are not made";
    if (c->call.kind != ASK_NONE) return "its call is not answered";
    if (c->num_asked) return "it waits for an answer";
    if (c->state != SOCKET_OPEN) return "its socket is not open";
    if (access_ended(c)) return "its socket shows a key that has ended";
    if (c->socket.out.len) return "it has bytes to send";
    if (script_wants_repeat(c, &message)) return "a message of its is not answered";
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        const char *missing = client_in(c, r) ? room_unsettled(c, r) : NULL;
        if (missing) return missing;
    }
    return script_behind(c) ? "it has missed something" : NULL;
}

void client_check_stall(unsigned client)
{
    const struct client *c = &clients[client];
    uint64_t now = world_now_ns();
    for (unsigned i = 0; i < c->num_asked; i++)
        CHECK(now < c->asked[i].since_ns + STALL_NS,
              "%s has had no answer to request %" PRIu64 " (kind %d) for %" PRIu64 " s", c->name, c->asked[i].id,
              (int)c->asked[i].kind, (now - c->asked[i].since_ns) / 1000000000);
    CHECK(c->call.kind == ASK_NONE || now < c->call.since_ns + STALL_NS, "%s has had no answer to its call (kind %d)",
          c->name, (int)c->call.kind);
    const struct access_key *key = &scenario.tenants[c->tenant].keys[c->socket.key];
    /* who was paused or stalled up to the healing has the gateway's deadlines before it, as for its requests */
    uint64_t since_ns = key->revoked_ns > c->heals_since_ns ? key->revoked_ns : c->heals_since_ns;
    CHECK(!c->socket.link || !key->revoked.surely || now < since_ns + STALL_NS,
          "%s still has a socket %" PRIu64 " s after its key was revoked", c->name,
          (now - key->revoked_ns) / 1000000000);
}

/* check_cursors: what this gateway's process was told of is in the store when it has ended in good order. A user who
 * leaves takes the cursor along. */
static void check_cursors(const struct client *c)
{
    if (scenario.tenants[c->tenant].deleted.maybe) return;
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        const struct view *v = &c->views[r];
        bool told = client_in(c, r) && v->acked && v->acked_gateway == scenario.gateway;
        if (!told || truth_was_out(r, c->user, (struct span){0, store_version()})) continue;
        uint64_t cursor = store_cursor(slice_str(scenario.rooms[r].id), slice_str(c->user_id), slice_str(c->device));
        CHECK(cursor >= v->acked,
              "%s has acknowledged room %u up to %" PRIu64 ", and its cursor was written at %" PRIu64, c->name, r,
              v->acked, cursor);
    }
}

void client_check_end(unsigned client)
{
    const struct client *c = &clients[client];
    check_cursors(c);
    for (unsigned i = 0; i < c->num_messages; i++) {
        const struct message *m = &c->messages[i];
        if (m->state != MESSAGE_ANSWERED) continue;
        struct slice room_id = slice_str(scenario.rooms[m->room].id);
        const struct watched_row *row = store_row(room_id, m->seq);
        CHECK((row && row->serial == m->serial) || (scenario.tenants[c->tenant].fast && store_lost(room_id, m->serial)),
              "%s was told seq %" PRIu64 " for %s, and the store no longer has it there", c->name, m->seq,
              m->client_id);
    }
}

unsigned clients_messages(void)
{
    unsigned num = 0;
    for (unsigned i = 0; i < scenario.num_clients; i++)
        for (unsigned m = 0; m < clients[i].num_messages; m++) num += clients[i].messages[m].state == MESSAGE_ANSWERED;
    return num;
}
