#include "operator.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../src/base/buf.h"
#include "counts.h"
#include "faults.h"
#include "line.h"
#include "recorder.h"
#include "scenario.h"
#include "store_watch.h"
#include "wire.h"
#include "world.h"

enum work_kind {
    WORK_NONE,
    WORK_TENANT,
    WORK_DURABILITY,
    WORK_KEY,
    WORK_REVOKE,
    WORK_KICK,
    WORK_DISABLE,
    WORK_ENABLE,
    WORK_LIMIT,
    WORK_UNLIMIT,
    WORK_RELOAD,
    WORK_DRAIN,
    WORK_LOOK,
    WORK_DELETE
};

struct work {
    enum work_kind kind;
    unsigned tenant, key, user;
};

static struct operator {
    struct line line;
    struct work work; /* WORK_NONE: it waits for no answer */
    uint64_t retry_ns;
} op;

static void answered(const struct work *w, struct slice body);
static void refused(const struct work *w, const struct http_answer *answer);

void operator_open(void) { op = (struct operator){0}; }

static void drop(bool reset)
{
    line_close(&op.line, reset);
    op.work.kind = WORK_NONE;
    op.retry_ns = world_now_ns() + (scenario.healing ? 0 : world_below(50000000));
}

void operator_leave(void)
{
    if (op.line.link) drop(world_chance(2));
}

void operator_close(void)
{
    operator_leave();
    buf_free(&op.line.out);
    buf_free(&op.line.in);
}

/* --- what is to be done -------------------------------------------------------------------------------------- */

/* due finds what must be done: tenants first; in the end, whatever keeps clients out, or has begun, comes to an end. */
static bool due(struct work *w)
{
    for (unsigned i = 0; i < scenario.num_tenants; i++) {
        const struct scenario_tenant *t = &scenario.tenants[i];
        *w = (struct work){.tenant = i};
        if (!t->id[0]) w->kind = WORK_TENANT;
        else if (t->deleted.surely) continue;
        else if (t->deleted.maybe) w->kind = WORK_DELETE;
        else if (!t->ready) w->kind = WORK_DURABILITY;
        else if (scenario.healing && t->disabled.maybe) w->kind = WORK_ENABLE;
        else if (scenario.healing && t->limited.maybe) w->kind = WORK_UNLIMIT;
        if (w->kind != WORK_NONE) return true;
        for (w->key = 1; scenario.healing && w->key < t->num_keys; w->key++) {
            if (!t->keys[w->key].revoked.maybe || t->keys[w->key].revoked.surely) continue;
            w->kind = WORK_REVOKE;
            return true;
        }
    }
    return false;
}

/* interfere chooses what may be done. */
static bool interfere(struct work *w)
{
    unsigned tenant = (unsigned)world_below(scenario.num_tenants);
    const struct scenario_tenant *t = &scenario.tenants[tenant];
    *w = (struct work){.tenant = tenant, .user = (unsigned)world_below(t->num_users)};
    if (!scenario.ruled || scenario.healing || t->deleted.maybe || !world_chance(20)) return false;
    if (t->disabled.maybe && world_chance(2)) w->kind = WORK_ENABLE;
    else if (t->limited.maybe && world_chance(3)) w->kind = WORK_UNLIMIT;
    else switch (world_below(24)) {
        case 0:
        case 1:
        case 2:
        case 3: w->kind = t->num_keys < ACCESS_KEYS_MAX ? WORK_KEY : WORK_NONE; break;
        case 4:
        case 5:
        case 6:
            w->key = 1 + (unsigned)world_below(ACCESS_KEYS_MAX - 1);
            w->kind = w->key < t->num_keys && !t->keys[w->key].revoked.surely ? WORK_REVOKE : WORK_NONE;
            break;
        case 7:
        case 8:
        case 9: w->kind = WORK_KICK; break;
        case 10: w->kind = WORK_DISABLE; break;
        case 11: w->kind = WORK_LIMIT; break;
        case 12:
        case 13: w->kind = WORK_RELOAD; break;
        case 14: w->kind = world_chance(2) ? WORK_DRAIN : WORK_NONE; break;
        case 15: w->kind = WORK_LOOK; break;
        case 16:
            if (tenant > 0 && scenario_pending(tenant) == scenario.num_rooms && world_chance(8)) w->kind = WORK_DELETE;
            break;
        default: break;
        }
    return w->kind != WORK_NONE;
}

/* --- asking -------------------------------------------------------------------------------------------------- */

static void request(const struct work *w, const char *method, const char *path, struct buf *body)
{
    struct line *l = &op.line;
    if (!l->link) line_open(l, TENANT_ANY, world_chance(2));
    op.work = *w;
    buf_printf(&l->out, "%s %s HTTP/1.1\r\nHost: gateway\r\nX-Master-Key: %s\r\nContent-Length: %zu\r\n\r\n", method,
               path, SCENARIO_MASTER_KEY, body->len);
    buf_slice_append(&l->out, buf_slice(body));
    world_trace("operator: %s %s %.*s", method, path, (int)body->len, body->data ? body->data : "");
    buf_free(body);
}

/* change asks for another state of a tenant; `ask` notes what may be so from now on. */
static void change(const struct work *w, const char *members)
{
    struct buf body = {0};
    char path[96];
    buf_printf(&body, "{%s}", members);
    snprintf(path, sizeof path, "/v1/admin/tenants/%s", scenario.tenants[w->tenant].id);
    request(w, "PATCH", path, &body);
}

static void ask_key(const struct work *w)
{
    struct scenario_tenant *t = &scenario.tenants[w->tenant];
    struct buf body = {0};
    char path[160];
    bool revoke = w->kind == WORK_REVOKE;
    snprintf(path, sizeof path, "/v1/admin/tenants/%s/keys%s%s", t->id, revoke ? "/" : "",
             revoke ? t->keys[w->key].id : "");
    if (revoke) {
        toggle_ask_on(&t->keys[w->key].revoked);
        t->keys[w->key].asked++;
    }
    if (!revoke) BUF_LIT(&body, "{\"role\":\"server\"}");
    request(w, revoke ? "DELETE" : "POST", path, &body);
}

static void ask_end(const struct work *w)
{
    struct scenario_tenant *t = &scenario.tenants[w->tenant];
    struct buf body = {0};
    char path[96];
    snprintf(path, sizeof path, "/v1/admin/tenants/%s", t->id);
    toggle_ask_on(&t->deleted);
    t->times_deleted++;
    request(w, "DELETE", path, &body);
}

static void ask(const struct work *w)
{
    struct scenario_tenant *t = &scenario.tenants[w->tenant];
    struct buf body = {0};
    switch (w->kind) {
    case WORK_TENANT:
        buf_printf(&body, "{\"name\":\"%s\"}", "simulated");
        request(w, "POST", "/v1/admin/tenants", &body);
        return;
    case WORK_DURABILITY: change(w, t->fast ? "\"durability\":\"fast\"" : "\"durability\":\"fsync\""); return;
    case WORK_KEY:
    case WORK_REVOKE: ask_key(w); return;
    case WORK_KICK:
        buf_printf(&body, "{\"tenant_id\":\"%s\",\"user_id\":\"user%u\"}", t->id, w->user);
        toggle_ask_on(&t->kicked[w->user]);
        t->kicked[w->user].since_moment = scenario.moment;
        request(w, "POST", "/v1/admin/kick", &body);
        return;
    case WORK_DISABLE:
        toggle_ask_on(&t->disabled);
        change(w, "\"state\":\"disabled\"");
        return;
    case WORK_ENABLE:
        toggle_ask_off(&t->disabled);
        change(w, "\"state\":\"active\"");
        return;
    case WORK_LIMIT:
        toggle_ask_on(&t->limited);
        change(w, "\"config\":{\"limits\":{\"tenant_rate\":20}}");
        return;
    case WORK_UNLIMIT:
        toggle_ask_off(&t->limited);
        change(w, "\"config\":{\"limits\":{\"tenant_rate\":0}}");
        return;
    case WORK_RELOAD: request(w, "POST", "/v1/admin/reload", &body); return;
    case WORK_DRAIN:
        scenario.draining_gateways |= 1u << scenario.gateway;
        request(w, "POST", "/v1/admin/drain", &body);
        return;
    case WORK_DELETE: ask_end(w); return;
    case WORK_LOOK: request(w, "GET", world_chance(2) ? "/v1/admin/connections" : "/v1/admin/status", &body); return;
    case WORK_NONE: return;
    }
}

/* --- being answered ------------------------------------------------------------------------------------------ */

static void copy(char *out, size_t size, struct slice object, const char *name)
{
    struct slice text;
    CHECK(json_member(object, name, &text) && text.len < size, "the operator misses %s: %.*s", name, SLICE_FMT(object));
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
}

static void key_made(struct scenario_tenant *t, struct slice body)
{
    struct access_key *k = &t->keys[t->num_keys];
    if (t->num_keys == ACCESS_KEYS_MAX) return;
    *k = (struct access_key){0};
    copy(k->text, sizeof k->text, body, "api_key");
    copy(k->id, sizeof k->id, body, "key_id");
    t->num_keys++;
    count_happened(COUNT_KEYS_MADE);
}

static void key_revoked(struct access_key *k)
{
    toggle_is_on(&k->revoked);
    k->revoked_version = store_version();
    k->revoked_ns = world_now_ns();
    count_happened(COUNT_KEYS_REVOKED);
}

static void tenant_deleted(unsigned tenant)
{
    toggle_is_on(&scenario.tenants[tenant].deleted);
    recorder_deleted(tenant);
}

static void answered(const struct work *w, struct slice body)
{
    struct scenario_tenant *t = &scenario.tenants[w->tenant];
    switch (w->kind) {
    case WORK_TENANT:
        copy(t->keys[0].text, sizeof t->keys[0].text, body, "api_key");
        copy(t->id, sizeof t->id, body, "tenant_id");
        t->num_keys = 1;
        return;
    case WORK_DURABILITY: t->ready = true; return;
    case WORK_KEY: key_made(t, body); return;
    case WORK_REVOKE: key_revoked(&t->keys[w->key]); return;
    case WORK_KICK:
        toggle_is_off(&t->kicked[w->user]);
        count_more(COUNT_KICKS, json_number(body, "closed"));
        return;
    case WORK_DISABLE:
        toggle_is_on(&t->disabled);
        count_happened(COUNT_TENANTS_DISABLED);
        return;
    case WORK_ENABLE: toggle_is_off(&t->disabled); return;
    case WORK_LIMIT: count_happened(COUNT_RATES); return;
    case WORK_UNLIMIT: toggle_is_off(&t->limited); return;
    case WORK_RELOAD: count_happened(COUNT_RELOADS); return;
    case WORK_DELETE:
        tenant_deleted(w->tenant);
        count_happened(COUNT_TENANTS_DELETED);
        return;
    case WORK_DRAIN:
    case WORK_LOOK:
    case WORK_NONE: return;
    }
}

static void refused(const struct work *w, const struct http_answer *answer)
{
    const struct line *l = &op.line;
    struct slice code;
    CHECK(json_member(answer->body, "code", &code), "the operator gets a problem without code");
    world_trace("operator: refused: %.*s", SLICE_FMT(code));
    bool store = slice_starts(code, SLICE("store.")) &&
                 (line_disk_failed(l) || (slice_is(code, "store.overloaded") && line_late(l)));
    bool busy = slice_is(code, "server.overloaded") && scenario.crowded;
    bool draining = slice_is(code, "server.draining") && line_draining(l);
    if (w->kind == WORK_DELETE && slice_is(code, "tenant.not_found") && scenario.tenants[w->tenant].times_deleted > 1) {
        tenant_deleted(w->tenant); /* the first time, which was not answered */
        return;
    }
    if (w->kind == WORK_REVOKE && slice_is(code, "key.not_found") &&
        scenario.tenants[w->tenant].keys[w->key].asked > 1) {
        key_revoked(&scenario.tenants[w->tenant].keys[w->key]); /* the first time, which was not answered */
        return;
    }
    bool excused = store || busy || draining || faults_excuse(l->gateway, code);
    CHECK(excused, "the operator is refused without a reason: %.*s (work %d)", SLICE_FMT(code),
          (int)w->kind);
}

static void hear(void)
{
    struct http_answer answer;
    size_t len = wire_answer(&answer, buf_slice(&op.line.in));
    if (len == 0) return;
    struct work w = op.work;
    CHECK(w.kind != WORK_NONE, "the operator gets an answer to nothing: %u", answer.status);
    world_trace("operator: answer %u", answer.status);
    op.work.kind = WORK_NONE;
    if (answer.status < 300) answered(&w, answer.body);
    else refused(&w, &answer);
    line_take(&op.line, len);
    if (answer.close || world_chance(4)) drop(false);
}

/* --- steps --------------------------------------------------------------------------------------------------- */

bool operator_can_step(void)
{
    struct work w;
    if (scenario.num_cores == 0) return false;
    if (line_can_pump(&op.line)) return true;
    if (op.work.kind != WORK_NONE || op.retry_ns > world_now_ns()) return false;
    return due(&w) || (scenario.ruled && !scenario.healing);
}

uint64_t operator_wake_ns(void) { return op.retry_ns > world_now_ns() ? op.retry_ns : WORLD_NEVER; }

void operator_step(void)
{
    struct work w;
    scenario.moment++;
    if (op.line.link) {
        bool open = line_pump(&op.line, true);
        hear();
        if (!open && op.line.link) drop(false);
    }
    if (op.work.kind != WORK_NONE || op.retry_ns > world_now_ns()) return;
    if (due(&w) || interfere(&w)) ask(&w);
}

const char *operator_unsettled(void)
{
    struct work w;
    if (op.work.kind != WORK_NONE) return "the operator waits for an answer";
    return due(&w) ? "the operator has something to do" : NULL;
}
