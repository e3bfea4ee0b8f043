/* keys: row keys of every column family. Integers are big-endian so that bytes sort as numbers.
 *
 * Names: tenant u32, room u64, user u64, seq u64 are internal numbers, given once and never reused. Every key but
 * those of `meta` begins with the tenant: no row is reached without it. Writers fill a caller's array and return the
 * length; KEY_MAX bytes hold any key. Parsers return false on a key of the wrong shape. */
#ifndef CARILLON_STORAGE_KEYS_H
#define CARILLON_STORAGE_KEYS_H

#include "../src/base/slice.h"

#define KEY_MAX 352u /* the longest: a kept answer (4 + 8 + 8 + text); _Static_assert in keys.c */
#define KEY_TEXT_MAX 300u /* DM names of two user ids (2 × 128 bytes); a kept answer's path and key */

struct key {
    uint16_t len;
    uint8_t bytes[KEY_MAX];
};

static inline struct slice key_slice(const struct key *k) { return slice_of(k->bytes, k->len); }

enum name_kind { NAME_USER = 'u', NAME_DM = 'd', NAME_EMAIL = 'e', NAME_LOGIN = 'l' };

void key_meta(struct key *k, struct slice name);
void key_tenant(struct key *k, uint32_t tenant);                          /* tenants: t */
void key_api_key(struct key *k, uint32_t tenant, struct slice prefix);    /* keys: t · public prefix */
void key_name(struct key *k, uint32_t tenant, enum name_kind kind, struct slice text); /* names: t · kind · text */
void key_user(struct key *k, uint32_t tenant, uint64_t user);             /* users: t · u */
void key_room(struct key *k, uint32_t tenant, uint64_t room);             /* rooms: t · r */
void key_member(struct key *k, uint32_t tenant, uint64_t room, uint64_t user);     /* members: t · r · u */
void key_user_room(struct key *k, uint32_t tenant, uint64_t user, uint64_t room);  /* user_rooms: t · u · r */
void key_log(struct key *k, uint32_t tenant, uint64_t room, uint64_t seq);         /* log: t · r · seq */
void key_change(struct key *k, uint32_t tenant, uint64_t room, uint64_t target, uint64_t seq);
/* cursors: t · u · device length u8 · device · r, so that one device's cursors are one range */
void key_cursor(struct key *k, uint32_t tenant, uint64_t user, struct slice device, uint64_t room);
/* idempotency holds two kinds of row, told apart by the room:
 *   runs, t · r · first seq: a room's message keys from this seq on; room and seq count from 1, 0 aborts
 *   kept answers, t · 0 · u · text: of the request whose path and Idempotency-Key are the text, "path key" */
void key_idempotency_run(struct key *k, uint32_t tenant, uint64_t room, uint64_t first_seq);
void key_answer(struct key *k, uint32_t tenant, uint64_t user, struct slice text);
/* notifications: t · u · n · part, so that one user's history is one range, and the end stands behind its body */
enum notification_part { NOTIFICATION_BODY = 0, NOTIFICATION_END = 1 };
void key_notification(struct key *k, uint32_t tenant, uint64_t user, uint64_t number, enum notification_part part);
void key_outbox(struct key *k, uint32_t tenant, uint64_t user, uint64_t number);      /* outbox: t · u · n */
void key_dead_letter(struct key *k, uint32_t tenant, uint64_t number, uint64_t user); /* dead_letters: t · n · u */
/* subscriptions, the same pair both ways round: t · u · topic, and t · 0 · topic length u8 · topic · u; user ≥ 1 */
void key_subscription(struct key *k, uint32_t tenant, uint64_t user, struct slice topic);
void key_subscriber(struct key *k, uint32_t tenant, struct slice topic, uint64_t user);
/* key_topic is the prefix of a topic's subscribers */
void key_topic(struct key *k, uint32_t tenant, struct slice topic);

/* key_prefix_end turns a prefix into the first key behind its range: the prefix plus one; len 0 when there is none. */
void key_prefix_end(struct key *end, struct slice prefix);

bool key_parse_u32(struct slice *rest, uint32_t *v); /* take big-endian integers off the front */
bool key_parse_u64(struct slice *rest, uint64_t *v);

#endif
