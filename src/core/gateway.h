/* gateway: what all cores of one process share. Made by gateway_open before any thread runs, constant afterwards
 * (what changes is atomic). It is the one place where the seams come in: clock, random, kv, mark, park. */
#ifndef CARILLON_CORE_GATEWAY_H
#define CARILLON_CORE_GATEWAY_H

#include <stdatomic.h>

#include "../../net/net.h"
#include "../../storage/commit.h"
#include "../../storage/read.h"
#include "../../storage/store.h"
#include "../base/clock.h"
#include "../base/hash.h"
#include "../base/limits.h"
#include "../base/random.h"
#include "../config.h"

struct core;

/* disk_state: what the watcher saw of the data directory's file system. */
enum disk_state { DISK_OK, DISK_RESERVE /* sends answer 507, reads go on */ };

struct gateway {
    const struct config *config;
    const struct clock *clock;
    const struct random *random;
    const struct park_ops *park_ops; /* NULL: real */
    void *park_context;
    struct store *store;
    struct commit *commit;
    struct readers *readers;
    unsigned num_cores;
    struct core *cores[CORES_MAX];
    struct spsc *mailboxes; /* [from * num_cores + to] */
    struct hash_key hash_key;        /* random every start: hash tables */
    struct hash_key fingerprint_key; /* kept in the store's pepper: idempotency runs outlive the process */
    uint8_t pepper[32];
    uint64_t epoch;
    uint64_t started_ns, started_ms;
    _Atomic uint64_t next_number;    /* tenants, rooms, users: given once, never reused */
    _Atomic int disk;                /* enum disk_state */
    _Atomic uint64_t disk_free;      /* bytes, as last seen */
    uint64_t (*store_property)(struct kv *kv, const char *name); /* the store's own gauges; NULL: it has none */
    _Atomic bool notifications;      /* there has ever been one in this store (notify_opened) */
    _Atomic bool draining;
    _Atomic bool stop;               /* cores leave their loops */
};

/* gateway_open makes cores, mailboxes, pipeline and readers over an open store; threads are the caller's.
 * `why` says what failed, for people. */
MUST_USE enum status gateway_open(struct gateway *g, char *why, size_t why_len);
void gateway_close(struct gateway *g);

/* homes: which core orders what. Stable for one process; nothing on disk depends on them. */
unsigned gateway_room_home(const struct gateway *g, uint32_t tenant, uint64_t room);
unsigned gateway_user_home(const struct gateway *g, uint32_t tenant, struct slice user_id);
unsigned gateway_tenant_home(const struct gateway *g, uint32_t tenant);

/* gateway_number gives out the next internal number; it becomes durable with the entry that uses it. */
uint64_t gateway_number(struct gateway *g);

#endif
