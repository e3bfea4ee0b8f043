#include "own_key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "exchange.h"

static void keys_target(struct buf *out, const struct own_key *k);
static char *kept(struct slice text);

bool own_key_make(struct own_key *k, const struct ctl *c)
{
    struct exchange operator;
    struct buf target = {0};
    *k = (struct own_key){.tenant = ctl_given(c, TENANT)};
    ASSERT(k->tenant);
    exchange_open(&operator, c, CTL_OPERATOR);
    keys_target(&target, k);
    bool made = exchange_call(&operator, "POST", target.data, SLICE("{\"role\":\"server\"}")) && operator.parsed;
    if (made) k->api_key = kept(exchange_text(operator.root, "api_key"));
    if (made) k->key_id = kept(exchange_text(operator.root, "key_id"));
    if (!made) exchange_complain(&operator);
    buf_free(&target);
    exchange_close(&operator);
    return made;
}

void own_key_revoke(struct own_key *k, const struct ctl *c)
{
    struct exchange operator;
    struct buf target = {0};
    if (!k->api_key) return;
    exchange_open(&operator, c, CTL_OPERATOR);
    keys_target(&target, k);
    if (!exchange_call(&operator, "DELETE", target.data, (struct slice){0}))
        fprintf(stderr, "carillonctl: the key made for this could not be revoked. Nobody has it; to tidy up:\n"
                        "  carillonctl key revoke %s %s\n", k->tenant, k->key_id);
    buf_free(&target);
    exchange_close(&operator);
    free(k->api_key);
    free(k->key_id);
    *k = (struct own_key){0};
}

/* keys_target appends the target of the tenant's keys, or of this one once it is made; NUL-terminated. */
static void keys_target(struct buf *out, const struct own_key *k)
{
    BUF_LIT(out, "/v1/admin/tenants/");
    ctl_encode(out, k->tenant);
    BUF_LIT(out, "/keys");
    if (k->key_id) BUF_LIT(out, "/");
    if (k->key_id) ctl_encode(out, k->key_id);
    buf_char(out, '\0');
}

static char *kept(struct slice text)
{
    char *copy = strndup(text.data, text.len);
    ASSERT(copy);
    return copy;
}
