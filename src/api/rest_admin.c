/* rest_admin: tenants and keys, for the operator. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/assert.h"
#include "../chat/ids.h"
#include "api.h"

static bool call_tenant(struct call *call, struct tenant **out)
{
    uint32_t number;
    *out = tenant_id_parse(call->params[0], &number) ? directory_tenant(&call->core->directory, number) : NULL;
    if (*out && (*out)->state != TENANT_DELETED) return true;
    return call_fail(call, ERR_TENANT_NOT_FOUND, NULL, NULL);
}

/* made_before says what a request made whose API key is no longer shown; `text` holds the words until it is
 * answered. */
static void made_before(struct op *op, const char *what, char *text, size_t len)
{
    if (op->error.code != ERR_IDEMPOTENCY_EXPIRED) return;
    snprintf(text, len, "%s %.*s was made by it; make another key if its own is lost", what,
             SLICE_FMT(buf_slice(&op->out)));
    op->error.detail = text;
}

/* --- tenants ----------------------------------------------------------------------------------------------------- */

static void tenant_created(struct core *core, struct op *op)
{
    char text[128];
    made_before(op, "Tenant", text, sizeof text);
    if (!op_failed(op)) {
        struct buf body = {0};
        char id[ID_TEXT_LEN], time[TIME_TEXT_LEN];
        tenant_id_text(id, op->tenant);
        time_text(time, op->in.directory.tenant.created_ms);
        buf_printf(&body, "{\"tenant_id\":\"%.*s\",\"name\":", (int)ID_TEXT_LEN, id);
        buf_json_string(&body, op->in.directory.tenant.name);
        BUF_LIT(&body, ",\"api_key\":");
        buf_json_string(&body, buf_slice(&op->out));
        buf_printf(&body, ",\"created_at\":\"%.*s\"}", (int)TIME_TEXT_LEN, time);
        buf_free(&op->out);
        op->out = body;
    }
    rest_answer(core, op);
}

void rest_tenant_create(struct call *call)
{
    struct slice name = {0}, once;
    if (!call_idempotency_key(call, &once) || !call_body(call, false)) return;
    struct fields f = {.object = call->body};
    if (!field_text(&f, "name", &name, TENANT_NAME_CHARS_MAX, true)) {
        call_fail(call, f.error.code, f.error.detail, f.error.field);
        return;
    }
    struct op *op = call_op(call, OP_TENANT_CREATE, name.len + API_KEY_TEXT_MAX + call_key_bytes(call, once));
    call_key_keep(call, op, once);
    op->in.directory.tenant.name = op_keep(op, name);
    op->then = tenant_created;
    op_dispatch(call->core, op);
}

static int tenant_order(const void *a, const void *b)
{
    uint32_t x = (*(struct tenant *const *)a)->number, y = (*(struct tenant *const *)b)->number;
    return (x > y) - (x < y);
}

/* tenants_sorted lists those that exist, behind `after`, in the order of their numbers; the caller frees it. */
static struct tenant **tenants_sorted(struct core *core, uint32_t after, uint32_t *num)
{
    struct tenant **list = calloc(core->directory.tenants.len + 1, sizeof(struct tenant *));
    uint32_t at = 0;
    ASSERT(list != NULL);
    *num = 0;
    for (struct tenant *t; (t = map_next(&core->directory.tenants, &at));)
        if (t->state != TENANT_DELETED && t->number > after) list[(*num)++] = t;
    qsort(list, *num, sizeof(struct tenant *), tenant_order);
    return list;
}

void rest_tenant_list(struct call *call)
{
    struct slice cursor;
    char cursor_bytes[ID_TEXT_LEN];
    uint32_t limit, after = 0, num;
    if (!call_page(call, &limit, cursor_bytes, sizeof cursor_bytes, &cursor)) return;
    if (cursor.len && !tenant_id_parse(cursor, &after)) {
        call_fail(call, ERR_CURSOR_INVALID, NULL, "cursor");
        return;
    }
    struct tenant **list = tenants_sorted(call->core, after, &num);
    struct buf out = {0};
    BUF_LIT(&out, "{\"items\":[");
    for (uint32_t i = 0; i < num && i < limit; i++) {
        if (i) BUF_LIT(&out, ",");
        directory_tenant_json(&out, list[i]);
    }
    char id[ID_TEXT_LEN];
    if (num > limit) tenant_id_text(id, list[limit - 1]->number);
    if (num > limit) buf_printf(&out, "],\"next\":\"%.*s\"}", (int)ID_TEXT_LEN, id);
    else BUF_LIT(&out, "],\"next\":null}");
    call_reply(call, 200, buf_slice(&out));
    buf_free(&out);
    free(list);
}

static void tenant_reply(struct call *call, const struct tenant *t)
{
    struct buf out = {0};
    directory_tenant_json(&out, t);
    call_reply(call, 200, buf_slice(&out));
    buf_free(&out);
}

void rest_tenant_get(struct call *call)
{
    struct tenant *t;
    if (call_tenant(call, &t)) tenant_reply(call, t);
}

static void tenant_updated(struct core *core, struct op *op)
{
    if (!op_failed(op) && op->http_status == 200)
        directory_tenant_json(&op->out, directory_tenant(&core->directory, op->tenant));
    rest_answer(core, op);
}

/* config_limits_valid: of a tenant's config only config.limits.tenant_rate has a meaning here. */
static bool config_limits_valid(struct fields *f, struct json_node config)
{
    struct json_node limits, rate;
    uint64_t number;
    if (!json_get(config, "limits", &limits) || json_type_of(limits) == JSON_NULL) return true;
    if (json_type_of(limits) != JSON_OBJECT)
        return fields_fail(f, ERR_FIELD_INVALID, "config.limits is an object", "config");
    if (!json_get(limits, "tenant_rate", &rate) || json_type_of(rate) == JSON_NULL) return true;
    return (json_u64(rate, &number) && number <= REQUEST_RATE_MAX) ||
           fields_fail(f, ERR_FIELD_INVALID,
                       "config.limits.tenant_rate is a number of requests a second, 0 to 100000000", "config");
}

static bool update_fields(struct call *call, struct fields *f, struct tenant_record *wish)
{
    struct slice state = {0}, durability = {0};
    struct json_node config;
    if (!field_text(f, "name", &wish->name, TENANT_NAME_CHARS_MAX, false) ||
        !field_text(f, "state", &state, 16, false) || !field_text(f, "durability", &durability, 16, false))
        return false;
    if (wish->name.data && wish->name.len == 0) return fields_fail(f, ERR_FIELD_INVALID, "Must not be empty", "name");
    if (slice_is(state, "active")) wish->state = TENANT_ACTIVE;
    else if (slice_is(state, "disabled")) wish->state = TENANT_DISABLED;
    else if (state.len) return fields_fail(f, ERR_FIELD_INVALID, "state is active or disabled", "state");
    if (slice_is(durability, "fsync")) wish->durability = 1;
    else if (slice_is(durability, "fast")) wish->durability = 2;
    else if (durability.len) return fields_fail(f, ERR_FIELD_INVALID, "durability is fsync or fast", "durability");
    if (!json_get(f->object, "config", &config) || json_type_of(config) == JSON_NULL) return true;
    if (json_type_of(config) != JSON_OBJECT) return fields_fail(f, ERR_FIELD_INVALID, "Expected an object", "config");
    if (!config_limits_valid(f, config)) return false;
    wish->config = json_raw_member(call->request->body, "config");
    return wish->config.len <= SETTINGS_BYTES_MAX || fields_fail(f, ERR_FIELD_TOO_LONG, NULL, "config");
}

#define CHANGE_BYTES_MAX 64u

/* change_text names what an update asks for; a name and a config are the tenant's own and not for the log. */
static void change_text(char out[CHANGE_BYTES_MAX], const struct tenant_record *wish)
{
    snprintf(out, CHANGE_BYTES_MAX, "%s%s%s%s",
             wish->state == TENANT_ACTIVE ? ",state=active" : wish->state == TENANT_DISABLED ? ",state=disabled" : "",
             wish->durability == 1 ? ",durability=fsync" : wish->durability == 2 ? ",durability=fast" : "",
             wish->name.data ? ",name" : "", wish->config.data ? ",config" : "");
    if (out[0]) memmove(out, out + 1, strlen(out));
}

void rest_tenant_update(struct call *call)
{
    struct tenant *t;
    struct tenant_record wish = {0};
    if (!call_tenant(call, &t) || !call_body(call, false)) return;
    struct fields f = {.object = call->body};
    if (!update_fields(call, &f, &wish)) {
        call_fail(call, f.error.code, f.error.detail, f.error.field);
        return;
    }
    char change[CHANGE_BYTES_MAX];
    change_text(change, &wish);
    struct op *op = call_op(call, OP_TENANT_UPDATE, wish.name.len + wish.config.len + strlen(change));
    op->tenant = t->number;
    if (wish.name.data) wish.name = op_keep(op, wish.name);
    if (wish.config.data) wish.config = op_keep(op, wish.config);
    op->in.directory.tenant = wish;
    op->in.directory.change = op_keep(op, slice_str(change));
    op->then = tenant_updated;
    op_dispatch(call->core, op);
}

void rest_tenant_delete(struct call *call)
{
    struct tenant *t;
    if (!call_tenant(call, &t)) return;
    struct op *op = call_op(call, OP_TENANT_UPDATE, 0);
    op->tenant = t->number;
    op->in.directory.tenant.state = TENANT_DELETED;
    op_dispatch(call->core, op);
}

/* --- keys -------------------------------------------------------------------------------------------------------- */

static void key_created(struct core *core, struct op *op)
{
    char text[128];
    made_before(op, "Key", text, sizeof text);
    if (!op_failed(op)) {
        static const char *const roles[] = {"", "server", "admin", "read"};
        struct buf body = {0};
        char time[TIME_TEXT_LEN];
        time_text(time, op->in.directory.key.created_ms);
        buf_printf(&body, "{\"key_id\":\"%.*s\",\"api_key\":\"%.*s\",\"role\":\"%s\",\"created_at\":\"%.*s\"}",
                   SLICE_FMT(op->in.directory.prefix), SLICE_FMT(buf_slice(&op->out)), roles[op->in.directory.key.role],
                   (int)TIME_TEXT_LEN, time);
        buf_free(&op->out);
        op->out = body;
    }
    rest_answer(core, op);
}

void rest_key_create(struct call *call)
{
    struct tenant *t;
    struct slice role = SLICE("server"), once;
    if (!call_tenant(call, &t) || !call_idempotency_key(call, &once) || !call_body(call, true)) return;
    struct fields f = {.object = call->body};
    uint8_t number = KEY_ROLE_SERVER;
    if (field_text(&f, "role", &role, 16, false)) {
        if (slice_is(role, "admin")) number = KEY_ROLE_ADMIN;
        else if (slice_is(role, "read")) number = KEY_ROLE_READ;
        else if (!slice_is(role, "server")) fields_fail(&f, ERR_FIELD_INVALID, "role is server, admin or read", "role");
    }
    if (f.error.code != ERR_NONE) {
        call_fail(call, f.error.code, f.error.detail, f.error.field);
        return;
    }
    struct op *op = call_op(call, OP_KEY_CREATE, API_KEY_TEXT_MAX + call_key_bytes(call, once));
    call_key_keep(call, op, once);
    op->tenant = t->number;
    op->in.directory.key.role = number;
    op->then = key_created;
    op_dispatch(call->core, op);
}

static struct slice key_id(const struct api_key *k) { return slice_of(k->prefix, k->prefix_len); }

static int id_order(struct slice a, struct slice b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int key_order(const void *a, const void *b)
{
    return id_order(key_id(*(struct api_key *const *)a), key_id(*(struct api_key *const *)b));
}

/* keys_sorted lists a tenant's keys behind the id `after`, in the order of their ids; the caller frees it. */
static struct api_key **keys_sorted(struct core *core, const struct tenant *t, struct slice after, uint32_t *num)
{
    struct api_key **list = calloc(core->directory.keys.len + 1, sizeof(struct api_key *));
    uint32_t at = 0;
    ASSERT(list != NULL);
    *num = 0;
    for (struct api_key *k; (k = map_next(&core->directory.keys, &at));)
        if (k->tenant == t && (after.len == 0 || id_order(key_id(k), after) > 0)) list[(*num)++] = k;
    qsort(list, *num, sizeof(struct api_key *), key_order);
    return list;
}

/* key_id_valid: a cursor is a key's id, which need not exist. */
static bool key_id_valid(struct slice id)
{
    for (size_t i = 0; i < id.len; i++)
        if (!(id.data[i] >= '0' && id.data[i] <= '9') && !(id.data[i] >= 'a' && id.data[i] <= 'f')) return false;
    return id.len == API_KEY_ID_LEN;
}

void rest_key_list(struct call *call)
{
    struct tenant *t;
    struct slice cursor;
    char cursor_bytes[API_KEY_ID_LEN + 1];
    uint32_t limit, num;
    if (!call_tenant(call, &t) || !call_page(call, &limit, cursor_bytes, sizeof cursor_bytes, &cursor)) return;
    if (cursor.len && !key_id_valid(cursor)) {
        call_fail(call, ERR_CURSOR_INVALID, NULL, "cursor");
        return;
    }
    struct api_key **list = keys_sorted(call->core, t, cursor, &num);
    struct buf out = {0};
    BUF_LIT(&out, "{\"items\":[");
    for (uint32_t i = 0; i < num && i < limit; i++) {
        if (i) BUF_LIT(&out, ",");
        directory_key_json(&out, list[i]);
    }
    if (num > limit) buf_printf(&out, "],\"next\":\"%.*s\"}", SLICE_FMT(key_id(list[limit - 1])));
    else BUF_LIT(&out, "],\"next\":null}");
    call_reply(call, 200, buf_slice(&out));
    buf_free(&out);
    free(list);
}

void rest_key_revoke(struct call *call)
{
    struct tenant *t;
    if (!call_tenant(call, &t)) return;
    struct op *op = call_op(call, OP_KEY_REVOKE, call->params[1].len);
    op->tenant = t->number;
    op->in.directory.prefix = op_keep(op, call->params[1]);
    op_dispatch(call->core, op);
}
