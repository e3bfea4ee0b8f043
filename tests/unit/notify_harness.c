#include "notify_harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct made notified(struct harness *h, const char *user_id, const char *payload)
{
    struct made made;
    char body[200];
    struct client *c = client_open(h, 0);
    snprintf(body, sizeof body, "{\"topic\":\"t\",\"payload\":%s,\"targets\":{\"user_ids\":[\"%s\"]}}", payload,
             user_id);
    assert_int_equal(client_call(c, "POST", "/v1/notify", "backend", "", body), 202);
    const char *at = strstr(c->text.data, "\"n_");
    assert_non_null(at);
    snprintf(made.id, sizeof made.id, "%.*s", (int)ID_TEXT_LEN, at + 1);
    client_close(c);
    return made;
}

uint64_t number_of(struct made made)
{
    uint64_t number;
    assert_true(notification_id_parse(slice_of(made.id, ID_TEXT_LEN), &number));
    return number;
}

unsigned notify_bob(struct client *c, const char *headers)
{
    static const char body[] = "{\"topic\":\"t\",\"payload\":1,\"targets\":{\"user_ids\":[\"bob\"]}}";
    return client_call(c, "POST", "/v1/notify", "backend", headers, body);
}

const char *listed(struct harness *h, const char *user_id)
{
    static char text[8192];
    struct client *c = client_open(h, h->gateway.num_cores - 1);
    assert_int_equal(client_call(c, "GET", "/v1/notifications", user_id, "", NULL), 200);
    snprintf(text, sizeof text, "%s", c->text.data);
    client_close(c);
    return text;
}

void acknowledge(struct harness *h, const char *user_id, struct made made, unsigned status)
{
    char path[64];
    struct client *c = client_open(h, 0);
    snprintf(path, sizeof path, "/v1/notifications/%s/ack", made.id);
    assert_int_equal(client_call(c, "POST", path, user_id, "", ""), status);
    client_close(c);
}

struct op *notify_many(struct harness *h, const struct person *who, uint32_t num)
{
    struct op *op = harness_op(h, 0, OP_NOTIFY, who, 0, 16);
    op->in.notify.topic = op_keep(op, SLICE("t"));
    op->in.notify.payload = op_keep(op, SLICE("1"));
    op->in.notify.priority = PRIORITY_NORMAL;
    op->members = calloc(num, sizeof *op->members);
    op->num_members = num;
    for (uint32_t i = 0; i < num; i++)
        op->members[i] = (struct op_member){.user = 1000000 + i, .user_id = op->user_id};
    return op;
}

struct answer *notify_go(struct harness *h, const struct person *who, struct slice payload, uint64_t first,
                                uint32_t num)
{
    struct op *op = harness_op(h, who->home, OP_NOTIFY, who, 0, payload.len + 16 + num * 12);
    op->in.notify.topic = op_keep(op, SLICE("t"));
    op->in.notify.payload = op_keep(op, payload);
    op->in.notify.priority = PRIORITY_NORMAL;
    op->members = calloc(num, sizeof *op->members);
    op->num_members = num;
    for (uint32_t i = 0; i < num; i++) {
        char id[12];
        snprintf(id, sizeof id, "u%u", i);
        op->members[i].user = first + i;
        op->members[i].user_id = first == who->number ? op->user_id : op_keep(op, slice_str(id));
    }
    return harness_go(h, op);
}

struct slice payload_of(uint32_t len)
{
    static char text[PAYLOAD_BYTES_MAX];
    memset(text, 'x', sizeof text);
    text[0] = text[len - 1] = '"';
    return slice_of(text, len);
}

uint32_t inboxes(struct harness *h)
{
    uint32_t num = 0;
    for (unsigned i = 0; i < h->gateway.num_cores; i++) num += harness_core(h, i)->notify->inboxes.len;
    return num;
}

struct inbox *inbox_of(struct harness *h, const struct person *who)
{
    uint32_t at = 0;
    for (struct inbox *in; (in = map_next(&harness_core(h, who->home)->notify->inboxes, &at));)
        if (in->user == who->number) return in;
    return NULL;
}

struct outbox_tenant *tenant_of(struct harness *h)
{
    return outbox_tenant(harness_core(h, gateway_tenant_home(&h->gateway, h->tenant)), h->tenant);
}

void pass(struct harness *h, uint64_t ms, uint64_t step_ms)
{
    for (uint64_t gone = 0; gone < ms; gone += step_ms) {
        harness_advance(h, step_ms);
        harness_settle(h);
    }
}

struct watched watched;

static struct kv_iter *watched_open(struct kv *kv, enum kv_cf cf, struct slice lower, struct slice upper)
{
    watched.walks++;
    watched.rows = 0;
    watched.in_outbox = cf == KV_OUTBOX;
    if (watched.in_outbox) {
        watched.lower.len = (uint16_t)lower.len;
        memcpy(watched.lower.bytes, lower.data, lower.len);
    }
    return watched.real.iter_open(kv, cf, lower, upper);
}

static bool watched_next(struct kv_iter *i)
{
    if (++watched.rows > watched.most_rows) watched.most_rows = watched.rows;
    return watched.real.iter_next(i);
}

static enum status watched_close(struct kv_iter *i)
{
    enum status s = watched.real.iter_close(i);
    return watched.failing && watched.in_outbox ? STATUS_IO : s;
}

void watch_store(struct harness *h)
{
    memset(&watched, 0, sizeof watched);
    watched.real = watched.ops = *h->kv->ops;
    watched.ops.iter_open = watched_open;
    watched.ops.iter_next = watched_next;
    watched.ops.iter_close = watched_close;
    h->kv->ops = &watched.ops;
}

void unwatch_store(struct harness *h)
{
    static struct kv_ops real;
    real = watched.real;
    h->kv->ops = &real;
}
