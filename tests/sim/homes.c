#include "homes.h"

#include <inttypes.h>

#include "../../src/chat/presence.h"
#include "../../src/chat/session.h"
#include "../../src/chat/user.h"
#include "../../src/core/core.h"
#include "world.h"

/* begun counts a user's sessions on one core that its home was told of; `served` says whether one of them is open. */
static uint32_t begun(const struct known_user *u, bool *served)
{
    uint32_t num = 0;
    for (const struct list *at = u->sessions.next; at != &u->sessions; at = at->next) {
        const struct session *s = CONTAINER_OF(at, struct session, of_user);
        num += s->registered;
        *served |= s->state == SESSION_OPEN;
    }
    return num;
}

/* check_user returns how many sockets of the user there are on this core. */
static uint32_t check_user(const struct gateway *g, const struct core *core, const struct known_user *u)
{
    bool served = false;
    uint32_t num = begun(u, &served);
    unsigned home = gateway_user_home(g, u->tenant, known_user_id(u));
    uint32_t counted = user_num_sockets(g->cores[home], u->tenant, known_user_id(u), core->id);
    CHECK(counted == num, "%.*s has %" PRIu32 " sockets on core %u, and its home counts %" PRIu32,
          SLICE_FMT(known_user_id(u)), num, core->id, counted);
    for (unsigned i = 0; served && i < g->num_cores; i++)
        CHECK(presence_online(g->cores[i], u->number), "%.*s is served on core %u and not online for core %u",
              SLICE_FMT(known_user_id(u)), core->id, i);
    return num;
}

void homes_check(const struct gateway *g)
{
    uint64_t sockets = 0, counted = 0, online = 0;
    for (unsigned i = 0; i < g->num_cores; i++) {
        const struct core *core = g->cores[i];
        uint32_t at = 0;
        for (const struct known_user *u; (u = map_next(&core->known_users, &at));) sockets += check_user(g, core, u);
        counted += core->num_user_sockets;
        online += core->num_online;
    }
    CHECK(counted == sockets, "homes count %" PRIu64 " sockets, and there are %" PRIu64, counted, sockets);
    for (unsigned i = 0; i < g->num_cores; i++)
        CHECK(g->cores[i]->online.len == online, "%" PRIu64 " users are online, and core %u knows of %" PRIu32, online,
              i, g->cores[i]->online.len);
}

void homes_check_empty(const struct gateway *g)
{
    homes_check(g);
    for (unsigned i = 0; i < g->num_cores; i++) {
        CHECK(g->cores[i]->num_user_sockets == 0, "core %u counts sockets, and there is none", i);
        CHECK(g->cores[i]->online.len == 0, "%" PRIu32 " users are online for ever", g->cores[i]->online.len);
    }
}
