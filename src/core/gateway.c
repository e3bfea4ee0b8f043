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
    size_t pairs = (size_t)g->num_cores * g->num_cores;
    g->mailboxes = aligned_alloc(CACHE_LINE, pairs * sizeof *g->mailboxes);
    if (!g->mailboxes) return STATUS_NO_MEMORY;
    memset(g->mailboxes, 0, pairs * sizeof *g->mailboxes);
    for (unsigned from = 0; from < g->num_cores; from++)
        for (unsigned to = 0; to < g->num_cores; to++)
            if (from != to && spsc_init(&g->mailboxes[from * g->num_cores + to], MAILBOX_CELLS) != STATUS_OK)
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
    if (open_mailboxes(g) != STATUS_OK) return STATUS_NO_MEMORY;
    struct commit_config commit = {.kv = g->store->kv,
                                   .mark = g->store->mark,
                                   .clock = g->clock,
                                   .park_ops = g->park_ops,
                                   .park_context = g->park_context,
                                   .num_cores = g->num_cores};
    enum status s = commit_open(&g->commit, &commit);
    if (s != STATUS_OK) return s;
    struct readers_config readers = {.kv = g->store->kv,
                                     .park_ops = g->park_ops,
                                     .park_context = g->park_context,
                                     .num_cores = g->num_cores,
                                     .num_readers = (unsigned)g->config->process_readers};
    s = readers_open(&g->readers, &readers);
    if (s == STATUS_OK) s = notify_opened(g);
    return s == STATUS_OK ? open_cores(g, why, why_len) : s;
}

void gateway_close(struct gateway *g)
{
    for (unsigned i = 0; i < g->num_cores; i++)
        if (g->cores[i]) core_close(g->cores[i]);
    if (g->readers) readers_close(g->readers);
    if (g->commit) commit_close(g->commit);
    for (size_t i = 0; g->mailboxes && i < (size_t)g->num_cores * g->num_cores; i++) spsc_free(&g->mailboxes[i]);
    free(g->mailboxes);
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

uint64_t gateway_number(struct gateway *g) { return atomic_fetch_add_explicit(&g->next_number, 1, memory_order_relaxed); }
