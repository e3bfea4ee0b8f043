#include "client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "client_rest.h"
#include "client_socket.h"
#include "client_state.h"
#include "oracle.h"
#include "script.h"
#include "store_watch.h"
#include "world.h"

#define STALL_NS (15ull * 1000000000) /* simulated time without an answer while nothing is in the way */

struct scenario scenario;
struct client clients[CLIENTS_MAX];

/* --- opening and closing ------------------------------------------------------------------------------------- */

void clients_open(void)
{
    for (unsigned i = 0; i < scenario.num_clients; i++) {
        struct client *c = &clients[i];
        *c = (struct client){.next_id = 1, .messages_max = 6 + (unsigned)world_below(MESSAGES_MAX - 5)};
        snprintf(c->name, sizeof c->name, "client %u", i);
        snprintf(c->user_id, sizeof c->user_id, "user%u", i % scenario.num_users);
        snprintf(c->device, sizeof c->device, "device%u", i);
        c->shares_user = scenario.num_users < scenario.num_clients;
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
    c->call_since_ns = world_now_ns();
    c->paused_until_ns = 0;
}

/* --- one step ----------------------------------------------------------------------------------------------------- */

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

/* --- what it says ------------------------------------------------------------------------------------------------- */

unsigned client_message_new(struct client *c)
{
    unsigned number = c->num_messages++;
    struct message *m = &c->messages[number];
    size_t padding = world_chance(8) ? world_below(6000) : world_below(40);
    *m = (struct message){.room = (unsigned)world_below(SCENARIO_ROOMS)};
    snprintf(m->client_id, sizeof m->client_id, "%s-%u", c->device, number);
    m->content = malloc(64 + padding);
    ASSERT(m->content);
    int len = snprintf(m->content, 64, "no. %u of %s ", number, c->name);
    memset(m->content + len, 'x', padding);
    m->content[(size_t)len + padding] = '\0';
    return number;
}

void client_positions(const struct client *c, struct buf *out)
{
    BUF_LIT(out, "\"rooms\":{");
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++)
        buf_printf(out, "%s\"%s\":[%" PRIu64 ",%" PRIu64 "]", r ? "," : "", scenario.room_ids[r],
                   c->views[r].epoch ? c->views[r].epoch : scenario.room_epochs[r], c->views[r].held);
    BUF_LIT(out, "}");
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

const char *client_unsettled(unsigned client)
{
    const struct client *c = &clients[client];
    unsigned message;
    if (!scenario.room_ids[SCENARIO_ROOMS - 1][0]) return "its rooms are not made";
    if (c->call != CALL_NONE) return "its call is not answered";
    if (c->num_asked) return "it waits for an answer";
    if (c->state != SOCKET_OPEN) return "its socket is not open";
    if (c->socket.out.len) return "it has bytes to send";
    if (script_wants_repeat(c, &message)) return "a message of its is not answered";
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++) {
        const struct view *v = &c->views[r];
        if (v->resume_asked) return "a room is not resumed";
        if (v->on && oracle_is_member(c, r) && v->held < store_head(slice_str(scenario.room_ids[r])))
            return "it does not hold the whole log";
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
    CHECK(c->call == CALL_NONE || now < c->call_since_ns + STALL_NS, "%s has had no answer to its call (kind %d)",
          c->name, (int)c->call);
}

void client_check_end(unsigned client)
{
    const struct client *c = &clients[client];
    for (unsigned i = 0; i < c->num_messages; i++) {
        const struct message *m = &c->messages[i];
        if (m->state != MESSAGE_ANSWERED) continue;
        uint64_t seq =
            store_find(slice_str(scenario.room_ids[m->room]), slice_str(c->user_id), slice_str(m->client_id));
        CHECK(seq == m->seq, "%s was told seq %" PRIu64 " for %s, and the store has it under %" PRIu64, c->name, m->seq,
              m->client_id, seq);
    }
}

unsigned clients_messages(void)
{
    unsigned num = 0;
    for (unsigned i = 0; i < scenario.num_clients; i++)
        for (unsigned m = 0; m < clients[i].num_messages; m++) num += clients[i].messages[m].state == MESSAGE_ANSWERED;
    return num;
}
