#define _GNU_SOURCE /* memmem */
#include "scenario.h"

#include <stdio.h>
#include <string.h>

#include "world.h"

struct scenario scenario;

/* --- planning ------------------------------------------------------------------------------------------------ */

static void plan_tenant(unsigned number)
{
    struct scenario_tenant *t = &scenario.tenants[number];
    unsigned clients = (scenario.num_clients - number + scenario.num_tenants - 1) / scenario.num_tenants;
    t->num_users = clients > 2 && world_chance(3) ? clients - 1 : clients;
    t->fast = world_chance(4);
    snprintf(t->canary, sizeof t->canary, "canary%u%04x", number, (unsigned)world_below(65536));
}

static unsigned client_of(unsigned tenant)
{
    unsigned clients = (scenario.num_clients - tenant + scenario.num_tenants - 1) / scenario.num_tenants;
    return tenant + scenario.num_tenants * (unsigned)world_below(clients);
}

static void plan_room(unsigned tenant, enum room_rule rule, uint64_t steps)
{
    struct scenario_room *r = &scenario.rooms[scenario.num_rooms++];
    const struct scenario_tenant *t = &scenario.tenants[tenant];
    *r = (struct scenario_room){.tenant = tenant, .rule = rule, .maker = client_of(tenant)};
    r->first_members = (1u << t->num_users) - 1;
    unsigned maker = r->maker / scenario.num_tenants % t->num_users;
    if (rule == RULE_DIRECT) r->first_members = 1u << maker | 1u << (maker + 1) % t->num_users;
    if (rule == RULE_RULED) r->first_members = (uint32_t)world_below(1u << t->num_users) | 1u << maker;
    if (rule != RULE_FIXED && world_chance(2)) r->made_at = world_below(steps / 4);
}

void scenario_plan(uint64_t steps)
{
    scenario = (struct scenario){.num_clients = 2 + (unsigned)world_below(world_chance(3) ? 7 : 4)};
    scenario.num_tenants = scenario.num_clients > 2 && world_chance(2) ? 2 : 1;
    scenario.restless = world_chance(4);
    scenario.crowded = world_chance(2);
    scenario.forgetful = world_chance(2);
    scenario.narrow = world_chance(2);
    scenario.ruled = world_chance(2);
    scenario.sluggish = world_chance(3);
    scenario.notified = world_chance(2);
    scenario.forgetful_tails = world_chance(3);
    scenario.no_tails = world_chance(4);
    for (unsigned t = 0; t < scenario.num_tenants; t++) {
        plan_tenant(t);
        plan_room(t, RULE_FIXED, steps);
        plan_room(t, RULE_OPEN, steps);
    }
    if (world_chance(2)) plan_room(0, RULE_RULED, steps);
    if (scenario.tenants[0].num_users > 1 && world_chance(2)) plan_room(0, RULE_DIRECT, steps);
    if (scenario.num_rooms < SCENARIO_ROOMS_MAX && world_chance(4)) plan_room(0, RULE_LARGE, steps);
}

/* --- rooms --------------------------------------------------------------------------------------------------- */

bool scenario_room_known(unsigned room) { return scenario.rooms[room].id[0] != '\0'; }

unsigned scenario_num_known(void)
{
    unsigned num = 0;
    for (unsigned r = 0; r < scenario.num_rooms; r++) num += scenario_room_known(r);
    return num;
}

unsigned scenario_num_unknown(void)
{
    unsigned num = 0;
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        const struct scenario_room *room = &scenario.rooms[r];
        num += room->asked && !scenario_room_known(r) && scenario.tenants[room->tenant].deleted.maybe;
    }
    return num;
}

unsigned scenario_pending(unsigned tenant)
{
    unsigned r = 0;
    while (r < scenario.num_rooms &&
           (scenario.rooms[r].tenant != tenant || !scenario.rooms[r].asked || scenario_room_known(r)))
        r++;
    return r;
}

unsigned scenario_room_find(unsigned tenant, struct slice room_id)
{
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        if (!slice_is(room_id, scenario.rooms[r].id)) continue;
        CHECK(scenario.rooms[r].tenant == tenant, "a user of tenant %u is told of room %u of another tenant", tenant,
              r);
        return r;
    }
    unsigned pending = scenario_pending(tenant);
    CHECK(pending < scenario.num_rooms && room_id.len < sizeof scenario.rooms[0].id,
          "a user of tenant %u is told of room %.*s, which is not of this scenario", tenant, SLICE_FMT(room_id));
    struct scenario_room *r = &scenario.rooms[pending];
    memcpy(r->id, room_id.data, room_id.len);
    r->known_moment = scenario.moment;
    r->epoch = scenario.epochs[scenario.gateway % GATEWAYS_MAX];
    return pending;
}

/* A direct room is found by its two users, however old the key is. */
bool scenario_may_come_twice(void)
{
    for (unsigned t = 0; t < scenario.num_tenants; t++)
        if (scenario_pending(t) < scenario.num_rooms) return true;
    for (unsigned r = 0; r < scenario.num_rooms; r++)
        if (scenario.rooms[r].rule != RULE_DIRECT && scenario.rooms[r].creations[scenario.gateway]) return true;
    return false;
}

/* --- what does not cross ------------------------------------------------------------------------------------- */

static void check_absent(unsigned tenant, struct slice bytes, const char *text)
{
    CHECK(!text[0] || !memmem(bytes.data, bytes.len, text, strlen(text)),
          "a user of tenant %u is sent something of another tenant: %s", tenant, text);
}

void scenario_check_bytes(unsigned tenant, struct slice bytes)
{
    for (unsigned t = 0; t < scenario.num_tenants; t++) {
        if (t == tenant) continue;
        check_absent(tenant, bytes, scenario.tenants[t].canary);
        check_absent(tenant, bytes, scenario.tenants[t].id);
        for (unsigned k = 0; k < scenario.tenants[t].num_keys; k++)
            check_absent(tenant, bytes, scenario.tenants[t].keys[k].text);
        for (unsigned r = 0; r < scenario.num_rooms; r++)
            if (scenario.rooms[r].tenant == t) check_absent(tenant, bytes, scenario.rooms[r].id);
    }
}

/* --- toggles ------------------------------------------------------------------------------------------------- */

void toggle_ask_on(struct toggle *t) { t->maybe = true; }

void toggle_is_on(struct toggle *t)
{
    t->surely = true;
    t->since_moment = scenario.moment;
}

void toggle_ask_off(struct toggle *t) { t->surely = false; }

void toggle_is_off(struct toggle *t)
{
    t->maybe = t->surely = false;
    t->over_moment = scenario.moment;
}

bool toggle_may_hold(const struct toggle *t, uint64_t moment)
{
    return t->maybe || (t->over_moment && moment <= t->over_moment);
}

bool toggle_must_hold(const struct toggle *t, uint64_t moment) { return t->surely && moment > t->since_moment; }
