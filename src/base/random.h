/* random: the seam for randomness (keys, ids, hash keys, jitter). Production: BoringSSL's RAND_bytes. */
#ifndef CARILLON_BASE_RANDOM_H
#define CARILLON_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
    void *context;
    void (*fill)(void *context, void *out, size_t len);
};

const struct random *random_real(void);

static inline void random_fill(const struct random *r, void *out, size_t len) { r->fill(r->context, out, len); }

static inline uint64_t random_u64(const struct random *r)
{
    uint64_t v;
    random_fill(r, &v, sizeof v);
    return v;
}

#endif
