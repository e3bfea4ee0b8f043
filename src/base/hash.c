#include "hash.h"

#include <openssl/siphash.h>

uint64_t hash_bytes(const struct hash_key *key, struct slice s)
{
    return SIPHASH_24(key->k, (const uint8_t *)s.data, s.len);
}

uint64_t hash_text_home(uint32_t tenant, struct slice s)
{
    uint64_t h = 0xcbf29ce484222325ULL ^ tenant;
    for (size_t i = 0; i < s.len; i++) h = (h ^ (unsigned char)s.data[i]) * 0x100000001b3ULL;
    return hash_u64(h);
}
