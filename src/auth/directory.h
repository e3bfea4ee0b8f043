/* directory: all tenants and API keys, a full copy on every core, so that authenticating never leaves the core.
 *
 * Core 0 is its home: it alone changes tenants and keys, makes the change durable, then sends it to every core and
 * answers the operator when all have it (OP_DIRECTORY_APPLY): a key that was answered works everywhere, a revoked one
 * nowhere. A request with an Idempotency-Key is looked up first: its answer, without the API key, is a row written with
 * the change, under tenant 0 and user 0; the API key itself is in memory alone (shown_keys.h). Entries are never freed:
 * a revoked key is marked, so sessions may point at theirs. */
#ifndef CARILLON_AUTH_DIRECTORY_H
#define CARILLON_AUTH_DIRECTORY_H

#include "../../storage/kv.h"
#include "../../storage/records.h"
#include "../base/hash.h"
#include "../base/map.h"
#include "../core/op.h"
#include "rate_limit.h"
#include "shown_keys.h"

struct core;

struct tenant {
    uint32_t number;
    uint8_t state;      /* enum tenant_state */
    uint8_t durability; /* 0 the server's, 1 fsync, 2 fast */
    uint64_t created_ms;
    struct buf name, config;
    uint32_t rate;                /* requests a second, 0: no limit; the server's, or config.limits.tenant_rate */
    struct rate_bucket *requests; /* one for all cores; core 0 frees it */
    uint32_t pages_waiting;       /* requests of it on this core that wait for memory (api/pages.h) */
    struct net_account answers;   /* that wait in its connections' queues on this core, and input on its way there */
};

struct api_key {
    struct tenant *tenant;
    uint8_t role, state; /* enum key_role, key_state */
    uint64_t created_ms;
    uint8_t hmac[32];
    uint8_t prefix_len;
    char prefix[24];
};

struct directory {
    struct map tenants; /* by number */
    struct map keys;    /* by prefix */
    struct queue waiting; /* core 0: ops behind the change under way, which lays what it was given over what is here */
    bool changing;
    struct shown_keys shown; /* core 0: answers to requests that may be sent again */
    uint32_t max_tenant; /* highest number given out; tenants have their own, so that they fit into 32 bits */
};

/* directory_load fills an empty directory from the store, before threads run. */
MUST_USE enum status directory_load(struct core *core, struct kv *kv);
void directory_free(struct core *core);
struct tenant *directory_tenant(const struct directory *d, uint32_t number);

/* directory_authenticate finds the key that a caller presented; NULL when it is malformed, unknown, revoked, or its
 * tenant is deleted. Compared in constant time. */
struct api_key *directory_authenticate(struct core *core, struct slice presented);

/* directory_key finds a key by its id, whatever its state, or NULL. */
struct api_key *directory_key(struct core *core, struct slice id);
/* directory_key_refused says why a key that was good once no longer admits anybody; ERR_NONE: it does. */
enum error_code directory_key_refused(const struct api_key *k);

/* ops at core 0, and the application on every core */
void directory_on_op(struct core *core, struct op *op);

/* directory_object appends a tenant's or key's JSON object for the operator. */
void directory_tenant_json(struct buf *out, const struct tenant *t);
void directory_key_json(struct buf *out, const struct api_key *k);

#define API_KEY_TEXT_MAX 80u
#define API_KEY_ID_LEN 12u /* a key's id is its prefix: lower-case hex digits */

#endif
