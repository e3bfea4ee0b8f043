#include "user_state.h"

#include "../base/assert.h"
#include "../base/planted.h"
#include "../core/notice.h"
#include "presence.h"

void user_presence_post(struct core *core, const struct user *u, uint64_t room, uint64_t offline_ms,
                          struct slice rooms)
{
    for (unsigned target = 0; target < core->num_cores; target++)
        notice_post(core, target, notice_new(core, NOTICE_PRESENCE, u->tenant, u->number, user_id(u), room, offline_ms,
                                             rooms));
}

static void presence_tell(struct core *core, const struct user *u, uint64_t offline_ms)
{
    struct buf rooms = {0};
    ASSERT(u->rooms_state == ROOMS_LOADED);
    for (uint32_t i = 0; i < u->num_rooms; i++) buf_append(&rooms, &u->rooms[i].room, 8);
    user_presence_post(core, u, 0, offline_ms, buf_slice(&rooms));
    buf_free(&rooms);
}

void user_comes(struct core *core, struct user *u)
{
    u->presence = PRESENCE_ONLINE;
    core->num_online++;
    presence_tell(core, u, 0);
}

void user_stays(struct core *core, struct user *u)
{
    u->presence = PRESENCE_ONLINE;
    list_remove(&u->idle);
    list_push(&core->users_idle, &u->idle);
}

void user_goes(struct core *core, struct user *u, uint64_t number)
{
    static const struct slice none;
    for (unsigned target = 0; u->typed && target < core->num_cores; target++)
        notice_post(core, target, notice_new(core, NOTICE_TYPING_GONE, u->tenant, number, none, 0, 0, none));
    u->typed = false;
    if (u->presence == PRESENCE_COMING) { /* nobody was told yet */
        u->presence = PRESENCE_OFFLINE;
        return;
    }
    ASSERT(u->presence == PRESENCE_ONLINE);
    u->presence = PRESENCE_LEAVING;
    u->leave_ns = core->now_ns + PRESENCE_GRACE_MS * 1000000ull;
    list_remove(&u->idle);
    list_push(&core->users_leaving, &u->idle);
}

void user_presence_timers(struct core *core)
{
    for (unsigned n = 0; n < PRESENCE_LEAVING_TURN && !list_empty(&core->users_leaving); n++) {
        struct user *u = CONTAINER_OF(core->users_leaving.next, struct user, idle);
        if (u->leave_ns > core->now_ns) return;
        list_remove(&u->idle);
        list_push(&core->users_idle, &u->idle);
        u->presence = PRESENCE_OFFLINE;
        core->num_online -= !PLANTED(presence_count_leaks);
        if (!PLANTED(offline_not_told))
            presence_tell(core, u, core->now_ms - PRESENCE_GRACE_MS - (core->now_ns - u->leave_ns) / 1000000);
    }
}

uint64_t user_presence_wake_at(const struct core *core)
{
    if (list_empty(&core->users_leaving)) return UINT64_MAX;
    return CONTAINER_OF(core->users_leaving.next, struct user, idle)->leave_ns;
}

/* share_a_room walks two lists that are sorted by number. */
static bool share_a_room(const struct user *u, const struct op *op)
{
    uint32_t mine = 0, theirs = 0;
    while (mine < u->num_rooms && theirs < op->num_positions) {
        if (u->rooms[mine].room == op->positions[theirs].room) return true;
        if (u->rooms[mine].room < op->positions[theirs].room) mine++;
        else theirs++;
    }
    return false;
}

void user_presence(struct core *core, struct user *u, struct op *op)
{
    if (u->number == op->user || share_a_room(u, op)) {
        presence_object(&op->out, core, u->number, user_id(u));
        op->http_status = 200;
    } else {
        op_fail(op, ERR_USER_NOT_FOUND, NULL, NULL);
    }
    op_return(core, op);
}
