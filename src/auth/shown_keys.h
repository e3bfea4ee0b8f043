/* shown_keys: the API keys that were shown lately, so that a request which is sent again with its Idempotency-Key gets
 * the first answer again. A key's text is never written to the store, and it does not stay here for long either: for
 * SHOWN_KEYS_MS, SHOWN_KEYS_MAX of them, erased when it goes.
 *
 * Owner: core 0. */
#ifndef CARILLON_AUTH_SHOWN_KEYS_H
#define CARILLON_AUTH_SHOWN_KEYS_H

#include "../base/list.h"
#include "../base/slice.h"

struct shown_key {
    struct list _age;
    uint64_t _until_ns;
    uint64_t payload_hash, created_ms;
    uint32_t tenant;
    uint32_t _request_len, _key_len;
    char _bytes[]; /* request · key */
};

struct shown_keys {
    struct list _by_age;
    uint32_t _len;
};

void shown_keys_init(struct shown_keys *s);
/* shown_keys_free erases all of them; a table of zeros is fine. */
void shown_keys_free(struct shown_keys *s);

/* shown_keys_add keeps what a request ("path key") was answered. A full table forgets its oldest. */
void shown_keys_add(struct shown_keys *s, uint64_t now_ns, struct slice request, const struct shown_key *answer,
                    struct slice key);
/* shown_keys_find returns the answer to a request, or NULL. It holds until the next call. */
const struct shown_key *shown_keys_find(struct shown_keys *s, uint64_t now_ns, struct slice request);
/* shown_keys_drop_old erases what is older than SHOWN_KEYS_MS. */
void shown_keys_drop_old(struct shown_keys *s, uint64_t now_ns);

static inline struct slice shown_key_text(const struct shown_key *k)
{
    return slice_of(k->_bytes + k->_request_len, k->_key_len);
}

#endif
