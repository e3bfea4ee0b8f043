/* hash: keyed hashing for every table whose keys a caller can choose (SipHash-2-4 from BoringSSL), and a cheap
 * mix for numbers that only the server gives out. */
#ifndef CARILLON_BASE_HASH_H
#define CARILLON_BASE_HASH_H

#include <stdint.h>

#include "slice.h"

struct hash_key {
    uint64_t k[2];
};

uint64_t hash_bytes(const struct hash_key *key, struct slice s);

/* hash_text_home is unkeyed FNV-1a over (tenant, text): it only picks a core, and must be the same on every core
 * and after every restart. Not for hash tables. */
uint64_t hash_text_home(uint32_t tenant, struct slice s);

/* hash_u64 mixes all bits (the finalizer of MurmurHash3). */
static inline uint64_t hash_u64(uint64_t v)
{
    v ^= v >> 33;
    v *= 0xff51afd7ed558ccdULL;
    v ^= v >> 33;
    v *= 0xc4ceb9fe1a85ec53ULL;
    v ^= v >> 33;
    return v;
}

#endif
