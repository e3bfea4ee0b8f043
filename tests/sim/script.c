#include "script.h"

#include "client_rest.h"
#include "client_socket.h"
#include "client_state.h"
#include "counts.h"
#include "notifier.h"
#include "oracle.h"
#include "wire.h"
#include "world.h"

#define STALL_PAUSE_NS 40000000000ull /* beyond STALL_TIMEOUT_MS of the gateway */

/* --- what is left to be done --------------------------------------------------------------------------------- */

/* room_due returns a room that this client makes next; num_rooms: none. One of a tenant is made at a time, so that who
 * is told of one that its maker was not told of yet knows which it is. */
static unsigned room_due(const struct client *c)
{
    unsigned pending = scenario_pending(c->tenant);
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        const struct scenario_room *room = &scenario.rooms[r];
        bool due = scenario.moment >= room->made_at || room->asked || room->rule == RULE_FIXED;
        bool mine = room->maker == c->number;
        if (room->rule == RULE_DIRECT) mine = room->tenant == c->tenant && room->first_members >> c->user & 1;
        if (mine && due && !scenario_room_known(r) && (pending == scenario.num_rooms || pending == r)) return r;
    }
    return scenario.num_rooms;
}

bool script_wants_rooms(const struct client *c)
{
    return !scenario.tenants[c->tenant].ready || room_due(c) < scenario.num_rooms;
}

/* kept_out: while the run heals, nobody asks before the operator has let them in again. */
static bool kept_out(const struct client *c)
{
    const struct scenario_tenant *t = &scenario.tenants[c->tenant];
    return !t->ready || t->deleted.surely ||
           (scenario.healing && (t->disabled.maybe || t->limited.maybe || t->deleted.maybe));
}

bool script_wants_rest(const struct client *c)
{
    if (c->call.kind != ASK_NONE || c->rest_retry_ns > world_now_ns()) return false;
    return !kept_out(c) && room_due(c) < scenario.num_rooms;
}

bool script_wants_repeat(const struct client *c, unsigned *message)
{
    for (unsigned m = 0; m < c->num_messages; m++) {
        *message = m;
        if (c->messages[m].state == MESSAGE_OPEN && !client_message_on_its_way(c->number, m)) return true;
    }
    return false;
}

bool script_behind(const struct client *c)
{
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        const struct view *v = &c->views[r];
        if (!client_in(c, r) || !oracle_is_member(c, r) || v->resume_asked || v->after_asked) continue;
        if (!v->on || v->left || v->apart || v->next > v->held + 1) return true;
    }
    return false;
}

bool script_wants_socket(const struct client *c)
{
    unsigned message;
    if (kept_out(c)) return false;
    if (c->state == SOCKET_DOWN) return c->retry_ns <= world_now_ns();
    if (c->state != SOCKET_OPEN || socket_paused(c)) return false;
    if (c->num_asked == ASKED_MAX) return false;
    return script_wants_repeat(c, &message) || (c->num_asked == 0 && script_behind(c)) || notifier_wants_ack(c);
}

/* --- what it chooses ----------------------------------------------------------------------------------------- */

/* some_room picks a room that the client may know; num_rooms: there is none. */
static unsigned some_room(const struct client *c)
{
    for (unsigned tries = 0; tries < 4; tries++) {
        unsigned r = (unsigned)world_below(scenario.num_rooms);
        if (client_in(c, r)) return r;
    }
    return scenario.num_rooms;
}

/* foreign_room picks one of another tenant. */
static bool foreign_room(const struct client *c, unsigned *room)
{
    *room = (unsigned)world_below(scenario.num_rooms);
    return scenario_room_known(*room) && scenario.rooms[*room].tenant != c->tenant;
}

/* author_for picks whose message is sent again: mostly the client's own, or another device's of the same user. */
static unsigned author_for(const struct client *c)
{
    unsigned other = (unsigned)world_below(scenario.num_clients);
    bool same = clients[other].tenant == c->tenant && clients[other].user == c->user && clients[other].num_messages;
    return same ? other : c->number;
}

static void act_send(struct client *c, unsigned room)
{
    if (c->num_messages >= c->messages_max) return;
    unsigned message = client_message_new(c, room);
    if (c->socket.link && c->state == SOCKET_OPEN) socket_ask_send(c, c->number, message, false);
    bool both = c->call.kind == ASK_NONE && c->rest_retry_ns <= world_now_ns() && world_chance(8);
    if (both) client_rest_send(c, c->number, message);
}

static void act_again(struct client *c)
{
    unsigned author = author_for(c);
    if (clients[author].num_messages == 0) return;
    unsigned message = (unsigned)world_below(clients[author].num_messages);
    bool answered = clients[author].messages[message].state == MESSAGE_ANSWERED;
    /* where it may be forgotten, another body would be a new message */
    bool known = answered && !scenario.tenants[c->tenant].fast && !scenario.weeks_pass;
    bool twisted = known && world_chance(6);
    socket_ask_send(c, author, message, twisted);
}

static void act_pause(struct client *c)
{
    bool stalls = world_chance(scenario.sluggish ? 8 : 60);
    if (!scenario.sluggish && !world_chance(4)) return;
    c->paused_until_ns =
        world_now_ns() + (stalls ? STALL_PAUSE_NS : world_below(scenario.sluggish ? 2000000000 : 200000000));
    if (stalls) count_happened(COUNT_STALLS);
}

static void act_end(struct client *c)
{
    if (world_chance(3)) {
        socket_drop(c, world_chance(2), "dropped");
    } else if (world_chance(6)) {
        wire_send(&c->socket.out, WIRE_CLOSE, true, SLICE("\x03\xe8"), 1);
        c->state = SOCKET_CLOSING;
    }
}

static void act_socket(struct client *c)
{
    unsigned message = 0, room = some_room(c);
    if (c->num_asked + 2 >= ASKED_MAX || room == scenario.num_rooms) return;
    if (scenario.notified && world_chance(6)) {
        socket_ask_notification(c);
        return;
    }
    switch (world_below(18)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: act_send(c, room); return;
    case 5:
    case 6:
        if (script_wants_repeat(c, &message)) socket_ask_send(c, c->number, message, false);
        return;
    case 7: act_again(c); return; /* also what has been answered, or is being asked already */
    case 8:
    case 9:
    case 10:
        if (c->acks) socket_ask_ack(c, room);
        return;
    case 11: socket_ask_history(c, room); return;
    case 12: socket_ask_sync(c); return;
    case 13:
        if (world_chance(4)) socket_ask_ping(c);
        else socket_ask_ephemeral(c, room);
        return;
    case 14: act_pause(c); return;
    case 15: act_end(c); return;
    case 16: socket_ask_subscribe(c, room); return;
    case 17:
        if (world_chance(3)) socket_ask_unsubscribe(c, room);
        if (world_chance(2) && c->num_asked + 1 < ASKED_MAX) socket_ask_subscribe(c, room);
        return;
    }
}

/* act_members changes who is in a room, as its rule says. */
static void act_members(struct client *c, unsigned room)
{
    const struct scenario_room *r = &scenario.rooms[room];
    unsigned user = (unsigned)world_below(scenario.tenants[c->tenant].num_users);
    unsigned maker = clients[r->maker].user;
    bool in = oracle_is_member(c, room);
    switch (r->rule) {
    case RULE_FIXED: return;
    case RULE_DIRECT:
        if (world_chance(4)) client_rest_membership(c, room, false);
        return;
    case RULE_LARGE:
        if (r->num_strangers < 400) client_rest_add(c, room, 0);
        return;
    case RULE_OPEN:
        if (world_chance(6)) client_rest_role(c, room, user);
        else if (world_chance(6)) client_rest_remove(c, room, user);
        else client_rest_membership(c, room, in == world_chance(8));
        return;
    case RULE_RULED:
        if (user == maker) return;
        if (c->user != maker && in && world_chance(2)) client_rest_membership(c, room, false);
        else if (world_chance(2)) client_rest_add(c, room, user);
        else client_rest_remove(c, room, user);
        return;
    }
}

static void act_rest(struct client *c)
{
    unsigned message = 0, due = room_due(c), room = some_room(c);
    if (due < scenario.num_rooms) {
        client_rest_room(c, due);
        return;
    }
    if (room == scenario.num_rooms) return;
    if (scenario.restless && world_chance(2)) {
        act_members(c, room);
        return;
    }
    switch (world_below(14)) {
    case 0:
    case 1:
        if (script_wants_repeat(c, &message)) client_rest_send(c, c->number, message);
        else if (c->num_messages < c->messages_max) client_rest_send(c, c->number, client_message_new(c, room));
        return;
    case 2:
    case 3: client_rest_events(c, room); return;
    case 4: client_rest_sync(c); return;
    case 5: client_rest_list(c); return;
    case 6:
    case 7: act_members(c, room); return;
    case 8:
        if (c->acks) client_rest_ack(c, room);
        return;
    case 9:
        if (world_chance(3) && scenario.rooms[room].maker == c->number && !scenario.weeks_pass)
            client_rest_room(c, room);
        return;
    case 10:
        if (foreign_room(c, &room)) client_rest_events(c, room);
        return;
    default: return;
    }
}

static void act_healing(struct client *c)
{
    unsigned message;
    if (script_wants_rest(c)) client_rest_room(c, room_due(c));
    if (!script_wants_socket(c)) return;
    if (c->state == SOCKET_DOWN) socket_connect(c);
    else if (script_wants_repeat(c, &message) && c->num_asked < ASKED_MAX)
        socket_ask_send(c, c->number, message, false);
    else if (c->num_asked < ASKED_MAX && notifier_wants_ack(c)) socket_ask_notification(c);
    else if (c->num_asked == 0 && script_behind(c)) socket_drop(c, false, "it is behind");
}

void script_act(struct client *c)
{
    if (scenario.healing) {
        act_healing(c);
        return;
    }
    if (!scenario.tenants[c->tenant].ready) return;
    if (world_chance(6) && c->call.kind == ASK_NONE && c->rest_retry_ns <= world_now_ns()) act_rest(c);
    if (c->rest.link && world_chance(200)) client_rest_drop(c, world_chance(2));
    if (c->state == SOCKET_DOWN && script_wants_socket(c)) socket_connect(c);
    else if (c->state == SOCKET_OPEN && world_chance(3)) act_socket(c);
    else if (c->socket.link && world_chance(200)) socket_drop(c, world_chance(2), "dropped early");
}
