/* gateway: what all cores of one process share. Made by gateway_open before any thread runs, constant afterwards
 * (what changes is atomic). It is the one place where the seams come in: clock, random, kv, mark, park. */
#ifndef CARILLON_CORE_GATEWAY_H
#define CARILLON_CORE_GATEWAY_H

#include <stdatomic.h>

#include "../../net/net.h"
#include "../auth/rate_limit.h"
#include "../../storage/commit.h"
#include "../../storage/read.h"
#include "../../storage/store.h"
#include "../base/clock.h"
#include "../base/hash.h"
#include "../base/limits.h"
#include "../base/random.h"
#include "../config.h"
#include "control.h"
#include "vitals.h"

struct backup;
struct core;

/* disk_state: what the watcher saw of the data directory's file system. */
enum disk_state { DISK_OK, DISK_RESERVE /* sends answer 507, reads go on */ };

/* memory_state: what the watcher saw of the process' memory. */
enum memory_state { MEMORY_OK, MEMORY_FULL /* new work is refused */ };

/* gateway_cells: how long the queues between threads are; 0: as limits.h says. Tests have less, powers of two where the
 * queue is a ring, so that they meet full ones. */
struct gateway_cells {
    uint32_t mailbox, commit, commit_pending, read;
    uint32_t zero_copy_bytes_min;
};

/* mailbox_wait: the sender has mail parked in front of a full mailbox, and asks to be woken when there is room. On a
 * line of its own, because both sides write it. */
struct mailbox_wait {
    _Alignas(CACHE_LINE) _Atomic bool blocked;
};

struct gateway {
    const struct config *config;
    const struct clock *clock;
    const struct random *random;
    const struct park_ops *park_ops; /* NULL: real */
    void *park_context;
    struct store *store;
    struct commit *commit;
    struct readers *readers;
    struct gateway_cells cells;
    unsigned num_cores;
    struct core *cores[CORES_MAX];
    struct spsc *mailboxes; /* [from * num_cores + to] */
    struct mailbox_wait *mailbox_waits; /* likewise */
    struct hash_key hash_key;        /* random every start: hash tables */
    struct hash_key fingerprint_key; /* kept in the store's pepper: idempotency runs outlive the process */
    uint8_t pepper[32];
    uint8_t ticket_secret[32];       /* random every start: see auth/ticket.h */
    uint64_t epoch;
    uint64_t started_ns, started_ms;
    _Atomic uint64_t next_number;    /* tenants, rooms, users: given once, never reused */
    _Atomic int disk;                /* enum disk_state */
    _Atomic uint64_t disk_free;      /* bytes, as last seen */
    uint64_t (*store_property)(struct kv *kv, const char *name); /* the store's own gauges; NULL: it has none */
    struct vitals vitals;            /* of the process; the main thread looks */
    uint64_t descriptors;            /* that a ring's table may have; 0: not known */
    _Atomic uint32_t open_connections; /* let in by all cores, against limits.connections */
    _Atomic int memory;              /* enum memory_state */
    _Atomic uint64_t memory_used, memory_max; /* bytes, as last seen */
    struct rate_table *ip_requests, *ip_handshakes; /* NULL: no such limit */
    struct config_network *trusted;  /* limits.trusted_networks, when one of those is set */
    unsigned num_trusted;
    _Atomic bool notifications;      /* there has ever been one in this store (notify_opened) */
    struct backup *backup;           /* NULL: backup.dir is empty */
    struct control control;          /* what the operator asks of the main thread */
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

/* gateway_heartbeat_age_ns: how long ago a core last began a turn, at the time `now_ns` (mono) of any core.
 * gateway_cores_alive: no core is older than CORE_STUCK_MS; else *stuck is the first that is. */
uint64_t gateway_heartbeat_age_ns(const struct gateway *g, unsigned core, uint64_t now_ns);
bool gateway_cores_alive(const struct gateway *g, unsigned *stuck, uint64_t now_ns);

/* gateway_number gives out the next internal number; it becomes durable with the entry that uses it. */
uint64_t gateway_number(struct gateway *g);

#endif
