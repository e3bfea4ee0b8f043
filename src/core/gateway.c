#include "gateway.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "../base/assert.h"
#include "../notify/notify.h"
#include "core.h"

static enum status open_cores(struct gateway *g, char *why, size_t why_len)
{
    for (unsigned i = 0; i < g->num_cores; i++) {
        enum status s = core_open(&g->cores[i], g, i, why, why_len);
        if (s != STATUS_OK) return s;
        s = directory_load(g->cores[i], g->store->kv);
        if (s != STATUS_OK) {
            snprintf(why, why_len, "tenants and keys cannot be read from the store (%s): run `carillon verify-store`",
                     status_name(s));
            return s;
        }
    }
    return STATUS_OK;
}

static enum status open_mailboxes(struct gateway *g)
{
    uint32_t cells = g->cells.mailbox ? g->cells.mailbox : MAILBOX_CELLS;
    size_t pairs = (size_t)g->num_cores * g->num_cores;
    g->mailboxes = aligned_alloc(CACHE_LINE, pairs * sizeof *g->mailboxes);
    if (!g->mailboxes) return STATUS_NO_MEMORY;
    memset(g->mailboxes, 0, pairs * sizeof *g->mailboxes);
    g->mailbox_waits = aligned_alloc(CACHE_LINE, pairs * sizeof *g->mailbox_waits);
    if (!g->mailbox_waits) return STATUS_NO_MEMORY;
    memset(g->mailbox_waits, 0, pairs * sizeof *g->mailbox_waits);
    for (unsigned from = 0; from < g->num_cores; from++)
        for (unsigned to = 0; to < g->num_cores; to++)
            if (from != to && spsc_init(&g->mailboxes[from * g->num_cores + to], cells) != STATUS_OK)
                return STATUS_NO_MEMORY;
    return STATUS_OK;
}

/* derive_keys: the pepper protects API key hashes; a hash of it keys the fingerprints, which stand on disk and must be
 * the same after every restart. */
static void derive_keys(struct gateway *g)
{
    memcpy(g->pepper, g->store->pepper, sizeof g->pepper);
    uint8_t input[sizeof g->pepper + 1], digest[SHA256_DIGEST_LENGTH];
    memcpy(input, g->pepper, sizeof g->pepper);
    input[sizeof g->pepper] = 'f';
    SHA256(input, sizeof input, digest);
    memcpy(&g->fingerprint_key, digest, sizeof g->fingerprint_key);
    random_fill(g->random, &g->hash_key, sizeof g->hash_key);
    random_fill(g->random, g->ticket_secret, sizeof g->ticket_secret);
}

/* open_rates makes what the limits by address need; without any, nothing. */
static void open_rates(struct gateway *g)
{
    const struct config *c = g->config;
    if (c->limits_ip_rate) g->ip_requests = rate_table_new(&g->hash_key);
    if (c->limits_ip_handshakes) g->ip_handshakes = rate_table_new(&g->hash_key);
    if (!g->ip_requests && !g->ip_handshakes) return;
    struct slice rest = slice_str(c->limits_trusted_networks), item;
    g->trusted = calloc(rest.len / 2 + 1, sizeof *g->trusted); /* an item has a byte and a comma at least */
    ASSERT(g->trusted != NULL);
    while (config_list_next(&rest, &item)) ASSERT(config_network(item, &g->trusted[g->num_trusted++]));
}

enum status gateway_open(struct gateway *g, char *why, size_t why_len)
{
    ASSERT(g->num_cores >= 1 && g->num_cores <= CORES_MAX);
    snprintf(why, why_len, "not enough memory");
    g->epoch = g->store->epoch;
    g->started_ns = clock_mono_ns(g->clock);
    g->started_ms = clock_wall_ms(g->clock);
    atomic_store(&g->next_number, g->store->next_number);
    derive_keys(g);
    open_rates(g);
    if (open_mailboxes(g) != STATUS_OK) return STATUS_NO_MEMORY;
    struct commit_config commit = {.kv = g->store->kv,
                                   .mark = g->store->mark,
                                   .clock = g->clock,
                                   .park_ops = g->park_ops,
                                   .park_context = g->park_context,
                                   .num_cores = g->num_cores,
                                   .ring_cells = g->cells.commit,
                                   .pending_max = g->cells.commit_pending};
    enum status s = commit_open(&g->commit, &commit);
    if (s != STATUS_OK) return s;
    struct readers_config readers = {.kv = g->store->kv,
                                     .park_ops = g->park_ops,
                                     .park_context = g->park_context,
                                     .num_cores = g->num_cores,
                                     .num_readers = (unsigned)g->config->process_readers,
                                     .ring_cells = g->cells.read};
    s = readers_open(&g->readers, &readers);
    if (s == STATUS_OK) s = notify_opened(g);
    return s == STATUS_OK ? open_cores(g, why, why_len) : s;
}

void gateway_close(struct gateway *g)
{
    /* Connections first, on all cores: what waits in their queues is charged to the core that it came from. */
    for (unsigned i = 0; i < g->num_cores; i++)
        if (g->cores[i]) core_disconnect(g->cores[i]);
    for (unsigned i = 0; i < g->num_cores; i++)
        if (g->cores[i]) core_close(g->cores[i]);
    if (g->readers) readers_close(g->readers);
    if (g->commit) commit_close(g->commit);
    control_close(g);
    for (size_t i = 0; g->mailboxes && i < (size_t)g->num_cores * g->num_cores; i++) spsc_free(&g->mailboxes[i]);
    free(g->mailboxes);
    free(g->mailbox_waits);
    rate_table_free(g->ip_requests);
    rate_table_free(g->ip_handshakes);
    free(g->trusted);
}

unsigned gateway_room_home(const struct gateway *g, uint32_t tenant, uint64_t room)
{
    return (unsigned)(hash_u64(room ^ (uint64_t)tenant << 40) % g->num_cores);
}

unsigned gateway_user_home(const struct gateway *g, uint32_t tenant, struct slice user_id)
{
    return (unsigned)(hash_text_home(tenant, user_id) % g->num_cores);
}

unsigned gateway_tenant_home(const struct gateway *g, uint32_t tenant)
{
    return (unsigned)(hash_u64(tenant) % g->num_cores);
}

uint64_t gateway_heartbeat_age_ns(const struct gateway *g, unsigned core, uint64_t now_ns)
{
    uint64_t turned_ns = atomic_load_explicit(&g->cores[core]->turned_ns, memory_order_relaxed);
    return now_ns > turned_ns ? now_ns - turned_ns : 0; /* another core may be ahead of the asking one's turn */
}

bool gateway_cores_alive(const struct gateway *g, unsigned *stuck, uint64_t now_ns)
{
    for (*stuck = 0; *stuck < g->num_cores; ++*stuck)
        if (gateway_heartbeat_age_ns(g, *stuck, now_ns) > CORE_STUCK_MS * 1000000ull) return false;
    return true;
}

uint64_t gateway_number(struct gateway *g)
{
    return atomic_fetch_add_explicit(&g->next_number, 1, memory_order_relaxed);
}
