#include "shown_keys.h"

#include <openssl/mem.h>
#include <stdlib.h>

#include "../base/assert.h"
#include "../base/limits.h"

static void drop_oldest(struct shown_keys *s)
{
    struct shown_key *k = CONTAINER_OF(list_pop(&s->_by_age), struct shown_key, _age);
    OPENSSL_cleanse(k->_bytes, k->_request_len + k->_key_len);
    free(k);
    s->_len--;
}

void shown_keys_init(struct shown_keys *s)
{
    *s = (struct shown_keys){0};
    list_init(&s->_by_age);
}

void shown_keys_free(struct shown_keys *s)
{
    while (s->_len) drop_oldest(s);
}

void shown_keys_drop_old(struct shown_keys *s, uint64_t now_ns)
{
    while (s->_len && CONTAINER_OF(s->_by_age.next, struct shown_key, _age)->_until_ns <= now_ns) drop_oldest(s);
}

void shown_keys_add(struct shown_keys *s, uint64_t now_ns, struct slice request, const struct shown_key *answer,
                    struct slice key)
{
    if (s->_len == SHOWN_KEYS_MAX) drop_oldest(s);
    struct shown_key *k = malloc(sizeof *k + request.len + key.len);
    ASSERT(k != NULL && request.len + key.len <= UINT32_MAX);
    *k = (struct shown_key){._until_ns = now_ns + SHOWN_KEYS_MS * 1000000ull,
                            .payload_hash = answer->payload_hash,
                            .created_ms = answer->created_ms,
                            .tenant = answer->tenant,
                            ._request_len = (uint32_t)request.len,
                            ._key_len = (uint32_t)key.len};
    memcpy(k->_bytes, request.data, request.len);
    memcpy(k->_bytes + request.len, key.data, key.len);
    list_push(&s->_by_age, &k->_age);
    s->_len++;
}

const struct shown_key *shown_keys_find(struct shown_keys *s, uint64_t now_ns, struct slice request)
{
    shown_keys_drop_old(s, now_ns);
    if (s->_len == 0) return NULL;
    for (struct list *n = s->_by_age.next; n != &s->_by_age; n = n->next) {
        const struct shown_key *k = CONTAINER_OF(n, struct shown_key, _age);
        if (slice_eq(slice_of(k->_bytes, k->_request_len), request)) return k;
    }
    return NULL;
}
