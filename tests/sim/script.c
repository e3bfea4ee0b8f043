#include "script.h"

#include "client_rest.h"
#include "client_socket.h"
#include "client_state.h"
#include "notifier.h"
#include "oracle.h"
#include "wire.h"
#include "world.h"

bool script_wants_rest(const struct client *c)
{
    if (c->call != CALL_NONE || c->rest_retry_ns > world_now_ns()) return false;
    if (c == &clients[0] && !scenario.api_key[0]) return true;
    if (!scenario.api_key[0]) return false;
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++)
        if (c == &clients[0] && !scenario.room_ids[r][0]) return true;
    return false;
}

static bool asked_message(const struct client *c, unsigned message)
{
    for (unsigned i = 0; i < c->num_asked; i++)
        if (c->asked[i].kind == ASK_SEND && c->asked[i].message == message) return true;
    return c->call == CALL_SEND && c->call_message == message;
}

bool script_wants_repeat(const struct client *c, unsigned *message)
{
    for (unsigned m = 0; m < c->num_messages; m++) {
        *message = m;
        if (c->messages[m].state == MESSAGE_OPEN && !asked_message(c, m)) return true;
    }
    return false;
}

bool script_behind(const struct client *c)
{
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++) {
        const struct view *v = &c->views[r];
        if (oracle_is_member(c, r) && !v->resume_asked && (!v->on || v->left || v->next > v->held + 1)) return true;
    }
    return false;
}

static bool wants_ack(const struct client *c) { return c->num_asked < ASKED_MAX && notifier_wants_ack(c); }

bool script_wants_socket(const struct client *c)
{
    unsigned message;
    if (!scenario.room_ids[SCENARIO_ROOMS - 1][0]) return false;
    if (c->state == SOCKET_DOWN) return c->retry_ns <= world_now_ns();
    if (c->state != SOCKET_OPEN || socket_paused(c)) return false;
    if (c->num_asked >= ASKED_MAX) return false; /* else no time passes, and some answers take theirs */
    return script_wants_repeat(c, &message) || (c->num_asked == 0 && script_behind(c)) || notifier_wants_ack(c);
}

static void act_socket(struct client *c)
{
    unsigned message = 0, room = (unsigned)world_below(SCENARIO_ROOMS);
    if (c->num_asked + 1 >= ASKED_MAX) return;
    if (scenario.notified && world_chance(6)) {
        socket_ask_notification(c);
        return;
    }
    switch (world_below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        if (c->num_messages < c->messages_max) socket_ask_send(c, client_message_new(c));
        return;
    case 5:
    case 6:
        if (script_wants_repeat(c, &message)) socket_ask_send(c, message);
        return;
    case 7: /* also what has been answered, or is being asked already */
        if (c->num_messages) socket_ask_send(c, (unsigned)world_below(c->num_messages));
        return;
    case 8:
    case 9:
    case 10: socket_ask_ack(c, room); return;
    case 11: socket_ask_history(c, room); return;
    case 12: socket_ask_sync(c); return;
    case 13:
        if (world_chance(4)) socket_ask_ping(c);
        else socket_ask_ephemeral(c, room);
        return;
    case 14:
        if (world_chance(4)) c->paused_until_ns = world_now_ns() + world_below(200000000);
        return;
    case 15:
        if (world_chance(3)) socket_drop(c, world_chance(2), "dropped");
        else if (world_chance(6)) wire_send(&c->socket.out, WIRE_CLOSE, true, SLICE("\x03\xe8"), 1);
        return;
    }
}

static void act_rest(struct client *c)
{
    unsigned message = 0, room = (unsigned)world_below(SCENARIO_ROOMS);
    if (client_rest_scenario(c) || !scenario.room_ids[SCENARIO_ROOMS - 1][0]) return;
    if (scenario.restless && !c->shares_user && world_chance(2)) {
        client_rest_membership(c, c->views[SCENARIO_ROOMS - 1].standing != MEMBER_SURELY);
        return;
    }
    switch (world_below(12)) {
    case 0:
    case 1:
        if (script_wants_repeat(c, &message)) client_rest_send(c, message);
        else if (c->num_messages < c->messages_max) client_rest_send(c, client_message_new(c));
        return;
    case 2:
    case 3: client_rest_events(c, room); return;
    case 4: client_rest_sync(c); return;
    case 5: client_rest_list(c); return;
    case 6:
    case 7:
        if (!c->shares_user)
            client_rest_membership(c, c->views[SCENARIO_ROOMS - 1].standing != MEMBER_SURELY || world_chance(8));
        return;
    default: return;
    }
}

static void act_healing(struct client *c)
{
    unsigned message;
    if (script_wants_rest(c)) client_rest_scenario(c);
    if (!script_wants_socket(c)) return;
    if (c->state == SOCKET_DOWN) socket_connect(c);
    else if (script_wants_repeat(c, &message) && c->num_asked < ASKED_MAX) socket_ask_send(c, message);
    else if (wants_ack(c)) socket_ask_notification(c);
    else if (c->num_asked == 0 && script_behind(c)) socket_drop(c, false, "it is behind");
}

void script_act(struct client *c)
{
    if (scenario.healing) {
        act_healing(c);
        return;
    }
    if (world_chance(6) && c->call == CALL_NONE && c->rest_retry_ns <= world_now_ns() &&
        (scenario.api_key[0] || c == &clients[0]))
        act_rest(c);
    if (c->rest.link && world_chance(200)) client_rest_drop(c, world_chance(2));
    if (c->state == SOCKET_DOWN && script_wants_socket(c)) socket_connect(c);
    else if (c->state == SOCKET_OPEN && world_chance(3)) act_socket(c);
    else if (c->socket.link && world_chance(200)) socket_drop(c, world_chance(2), "dropped early");
}
