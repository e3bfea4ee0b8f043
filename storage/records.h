/* records: row values of every column family, encoded and decoded in one place.
 *
 * Every value begins with version u8 (1) and key id u32 (0: not encrypted). Integers are little-endian; text is
 * length (u16, or u32 where said) and bytes. Tenant, API key, user, room and log records repeat the numbers of their
 * key; the caller compares them after decoding: a row that lies under a foreign key is STATUS_CORRUPT, not another
 * room's message. The layouts are drawn in records.c above each encoder and listed in docs/STORAGE_FORMAT.md.
 *
 * Encoders append to `out`; a text longer than its length can say, or a value outside its enum, aborts. Decoders are
 * strict: STATUS_CORRUPT for a byte missing or too many, an unknown version, a key id, a value outside its enum. What
 * they leave in *out then is not to be used. A record has one encoding: decoding and encoding again gives the same
 * bytes. Decoded slices borrow the value's bytes. */
#ifndef CARILLON_STORAGE_RECORDS_H
#define CARILLON_STORAGE_RECORDS_H

#include "../src/base/buf.h"
#include "../src/base/slice.h"
#include "../src/base/status.h"

#define STORE_FORMAT_OLDEST 1u /* older ones are not read any more */
#define STORE_FORMAT 1u /* bumped when a reader of the old format could misread the new one */

enum tenant_state { TENANT_ACTIVE = 1, TENANT_DISABLED = 2, TENANT_DELETED = 3 };

struct tenant_record {
    uint32_t tenant;
    uint8_t state; /* enum tenant_state */
    uint8_t durability; /* enum durability: 0 the server's default, 1 fsync, 2 fast */
    uint64_t created_ms;
    struct slice name;
    struct slice config; /* JSON object as given by the operator, or empty */
};

enum key_role { KEY_ROLE_SERVER = 1, KEY_ROLE_ADMIN = 2, KEY_ROLE_READ = 3 };
enum key_state { KEY_ACTIVE = 1, KEY_REVOKED = 2 };

struct api_key_record {
    uint32_t tenant;
    uint8_t role, state;
    uint64_t created_ms;
    uint8_t hmac[32]; /* HMAC-SHA-256 of the whole key under the server's pepper */
};

struct user_record {
    uint32_t tenant;
    uint64_t user;
    uint64_t created_ms;
    struct slice user_id;      /* the caller's own text, ≤ 128 bytes */
    struct slice display_name; /* may be empty */
    struct slice profile;      /* JSON object or empty */
};

enum room_type { ROOM_DM = 1, ROOM_GROUP = 2, ROOM_CHANNEL = 3 };
/* kept (epoch, first seq) pairs; an older epoch's positions count as good below the oldest */
#define ROOM_EPOCHS_MAX 32u

struct room_epoch {
    uint64_t epoch, first_seq;
};

#define ROOM_PRIVATE 1u
#define ROOM_DELETED 2u
#define ROOM_HISTORY_SINCE_JOIN 4u

struct room_record {
    uint32_t tenant;
    uint64_t room;
    uint8_t type;       /* enum room_type */
    uint8_t flags;      /* ROOM_PRIVATE … */
    uint8_t durability; /* 0 the tenant's */
    uint32_t members_max; /* 0: limits.members_per_room */
    uint64_t created_ms, updated_ms;
    uint64_t created_by;   /* user number */
    uint64_t retained_from; /* first seq that is still kept; 1 at first */
    struct slice name, description, avatar_url; /* u16 lengths */
    struct slice unique_key; /* DMs: the deterministic key, else empty */
    struct slice settings;   /* JSON object or empty, u32 length */
    uint16_t num_epochs;
    struct room_epoch epochs[ROOM_EPOCHS_MAX]; /* ascending */
};

enum member_role { MEMBER_MEMBER = 1, MEMBER_ADMIN = 2 };

struct member_record {
    uint8_t role;
    uint64_t joined_seq; /* the head (or the join's own seq) when the user came in: cursors begin here */
    uint64_t joined_ms;
    struct slice user_id; /* external id, so that a member list needs no look-up */
};

enum log_kind {
    LOG_MESSAGE = 1,
    LOG_JOINED = 2,  /* body: members of a JSON object, without its braces: "user_ids", or "count" in a large room */
    LOG_LEFT = 3,    /* body: the same, "user_ids" */
    LOG_ROOM_UPDATED = 4, /* body: the same, what changed: "user_id" and "role" */
    LOG_EDITED = 5,
    LOG_DELETED = 6,
    LOG_REACTION = 7,
};

/* log_record: one durable event; immutable for ever. */
struct log_record {
    uint32_t tenant;
    uint64_t room, seq;
    uint8_t kind;       /* enum log_kind */
    uint8_t flags;
    uint64_t created_ms; /* never lower than the room's previous event's */
    uint64_t sender;     /* user number; 0 for the server itself */
    uint64_t reply_to;   /* seq, 0: none */
    struct slice sender_id;    /* external id, u8 length */
    struct slice client_id;    /* u8 length, empty: none */
    struct slice message_type; /* u8 length, empty: "text" */
    struct slice content;      /* u32: UTF-8 text of a message, or the kind's body */
    struct slice meta;         /* u32: JSON text as sent, or empty */
};

struct cursor_record {
    uint64_t delivered, read;
};

/* answer_record: what a request with an Idempotency-Key was answered. */
struct answer_record {
    uint64_t room;         /* the room that POST /rooms made, whose object is the answer; other requests: 0 */
    uint64_t payload_hash; /* of what was sent: another hash under the same key is a mismatch */
    uint64_t created_ms;
    uint16_t http_status;
    struct slice answer;   /* its body, u32 length */
};

/* fingerprint: the key of one message. The print is a keyed hash of its sender and client id; two messages may share
 * one, so who finds a print compares the log row. */
struct fingerprint {
    uint64_t print;
    uint64_t seq;
};

/* idempotency_run_record: the keys of a room's messages from the first seq, which is in the row's key, to the last. */
struct idempotency_run_record {
    uint64_t last_seq;   /* ≥ 1 */
    uint64_t newest_ms;  /* when the newest of the run's messages was made */
    struct slice prints; /* struct fingerprint, unaligned, rising by print, then by seq; each seq in [1, last seq] */
};

/* How soon a notification matters: what waits goes out in falling order of it. */
enum notification_priority { PRIORITY_LOW = 1, PRIORITY_NORMAL = 2, PRIORITY_HIGH = 3, PRIORITY_URGENT = 4 };

/* notification_record: what one user is told; immutable. */
struct notification_record {
    uint32_t tenant;
    uint64_t user, number;
    uint8_t priority; /* enum notification_priority */
    uint64_t created_ms;
    struct slice user_id; /* u8 length */
    struct slice topic;   /* u8 length, ≥ 1 */
    struct slice payload; /* u32: JSON text as sent */
};

/* outbox_record: a notification that its user has not acknowledged yet, and what was tried. */
struct outbox_record {
    uint8_t priority;
    uint32_t attempts;        /* since it was put here */
    uint64_t created_ms;      /* of the notification */
    uint64_t expires_ms;
    uint64_t last_attempt_ms; /* 0: none yet */
    struct slice user_id;     /* whose home orders it */
};

enum notification_state { NOTIFICATION_DELIVERED = 2, NOTIFICATION_DEAD = 3 };
enum dead_reason { DEAD_NOT = 0, DEAD_ATTEMPTS = 1, DEAD_EXPIRED = 2, DEAD_FULL = 3 };

/* notification_end_record: how a notification that is no longer in the outbox ended. */
struct notification_end_record {
    uint8_t state;  /* enum notification_state */
    uint8_t reason; /* enum dead_reason; DEAD_NOT exactly when delivered */
    uint32_t attempts;
    uint64_t last_attempt_ms, ended_ms;
};

/* dead_letter_record: what gave up, and why. */
struct dead_letter_record {
    uint8_t priority, reason;
    uint32_t attempts;
    uint64_t created_ms, last_attempt_ms, ended_ms;
    struct slice user_id; /* u8 length */
};

struct subscription_record {
    uint64_t created_ms;
    struct slice user_id; /* u8 length */
};

void tenant_record_encode(struct buf *out, const struct tenant_record *r);
MUST_USE enum status tenant_record_decode(struct tenant_record *out, struct slice value);
void api_key_record_encode(struct buf *out, const struct api_key_record *r);
MUST_USE enum status api_key_record_decode(struct api_key_record *out, struct slice value);
void user_record_encode(struct buf *out, const struct user_record *r);
MUST_USE enum status user_record_decode(struct user_record *out, struct slice value);
void room_record_encode(struct buf *out, const struct room_record *r);
MUST_USE enum status room_record_decode(struct room_record *out, struct slice value);
void member_record_encode(struct buf *out, const struct member_record *r);
MUST_USE enum status member_record_decode(struct member_record *out, struct slice value);
/* log_record_len and _encode_to write into memory the caller allocated in one piece with the event: the data path. */
size_t log_record_len(const struct log_record *r);
char *log_record_encode_to(char *out, const struct log_record *r);
MUST_USE enum status log_record_decode(struct log_record *out, struct slice value);
void cursor_record_encode(struct buf *out, const struct cursor_record *r);
MUST_USE enum status cursor_record_decode(struct cursor_record *out, struct slice value);
void answer_record_encode(struct buf *out, const struct answer_record *r);
MUST_USE enum status answer_record_decode(struct answer_record *out, struct slice value);
void idempotency_run_record_encode(struct buf *out, const struct idempotency_run_record *r);
MUST_USE enum status idempotency_run_record_decode(struct idempotency_run_record *out, struct slice value);
void notification_record_encode(struct buf *out, const struct notification_record *r);
MUST_USE enum status notification_record_decode(struct notification_record *out, struct slice value);
void outbox_record_encode(struct buf *out, const struct outbox_record *r);
MUST_USE enum status outbox_record_decode(struct outbox_record *out, struct slice value);
void notification_end_record_encode(struct buf *out, const struct notification_end_record *r);
MUST_USE enum status notification_end_record_decode(struct notification_end_record *out, struct slice value);
void dead_letter_record_encode(struct buf *out, const struct dead_letter_record *r);
MUST_USE enum status dead_letter_record_decode(struct dead_letter_record *out, struct slice value);
void subscription_record_encode(struct buf *out, const struct subscription_record *r);
MUST_USE enum status subscription_record_decode(struct subscription_record *out, struct slice value);
/* fingerprint_order compares two fingerprints for qsort: by print, then by seq. */
int fingerprint_order(const void *a, const void *b);
/* fingerprints_len counts an array of fingerprints; fingerprints_at reads one, index < len. */
uint32_t fingerprints_len(struct slice prints);
struct fingerprint fingerprints_at(struct slice prints, uint32_t index);
/* names and numbers: a u64 under a name, or in meta */
void number_record_encode(struct buf *out, uint64_t v);
MUST_USE enum status number_record_decode(uint64_t *out, struct slice value);

#endif
