#include "notices.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../storage/keys.h"
#include "client.h"
#include "counts.h"
#include "creations.h"
#include "notifier.h"
#include "world.h"

/* row: one of a batch that is being filled. */
struct row {
    enum kv_cf cf;
    bool put;
    uint32_t tenant;
    uint64_t user, number;
    uint8_t part; /* of KV_NOTIFICATIONS */
    struct buf value;
};

/* batch: the rows of one. */
struct batch {
    struct row *rows;
    size_t num, cap;
};

static struct {
    struct watched_notice *all;
    unsigned num, pending_most;
    struct batch batch;
} notices;

static void row_apply(struct watched_notice *n, const struct row *row);
static void check_change(const struct watched_notice *before, struct watched_notice *n);
static enum notice_state state_of(const struct watched_notice *n);
static void body_read(struct watched_notice *n, struct slice value);
static void ending_read(struct watched_notice *n, struct slice value);

void notices_open(void)
{
    memset(&notices, 0, sizeof notices);
    notices.all = calloc(NOTICES_MAX, sizeof *notices.all);
    ASSERT(notices.all);
}

static void batch_clear(struct batch *b)
{
    while (b->num) buf_free(&b->rows[--b->num].value);
}

static void notice_free(struct watched_notice *n)
{
    buf_free(&n->topic);
    buf_free(&n->payload);
    memset(n, 0, sizeof *n);
}

void notices_close(void)
{
    batch_clear(&notices.batch);
    free(notices.batch.rows);
    while (notices.num) notice_free(&notices.all[--notices.num]);
    free(notices.all);
}

unsigned notices_len(void)
{
    return notices.num;
}

struct watched_notice *notice_at(unsigned index)
{
    return &notices.all[index];
}

struct watched_notice *notice_of(struct slice user_id, uint64_t number)
{
    for (unsigned i = 0; i < notices.num; i++)
        if (notices.all[i].number == number && slice_is(user_id, notices.all[i].user_id)) return &notices.all[i];
    return NULL;
}

unsigned notices_pending(uint64_t user)
{
    unsigned num = 0;
    for (unsigned i = 0; i < notices.num; i++)
        num += notices.all[i].state == NOTICE_PENDING && (user == 0 || notices.all[i].user == user);
    return num;
}

unsigned notices_pending_most(void)
{
    unsigned most = notices.pending_most;
    notices.pending_most = notices_pending(0);
    return most;
}

const char *notice_state_name(enum notice_state state)
{
    static const char *const names[] = {[NOTICE_NONE] = "never made",
                                        [NOTICE_PENDING] = "pending",
                                        [NOTICE_DELIVERED] = "delivered",
                                        [NOTICE_DEAD] = "dead",
                                        [NOTICE_GONE] = "gone"};
    return names[state];
}

/* --- what is written ----------------------------------------------------------------------------------------- */

static bool of_notices(enum kv_cf cf)
{
    return cf == KV_NOTIFICATIONS || cf == KV_OUTBOX || cf == KV_DEAD_LETTERS;
}

static struct row *row_add(enum kv_cf cf, struct slice key)
{
    if (notices.batch.num == notices.batch.cap) {
        notices.batch.cap = notices.batch.cap ? notices.batch.cap * 2 : 16;
        notices.batch.rows = realloc(notices.batch.rows, notices.batch.cap * sizeof *notices.batch.rows);
        ASSERT(notices.batch.rows);
    }
    struct row *row = &notices.batch.rows[notices.batch.num++];
    *row = (struct row){.cf = cf};
    bool by_number = cf == KV_DEAD_LETTERS;
    bool good = key_parse_u32(&key, &row->tenant) && key_parse_u64(&key, by_number ? &row->number : &row->user) &&
                key_parse_u64(&key, by_number ? &row->user : &row->number);
    CHECK(good && key.len == (cf == KV_NOTIFICATIONS), "a key of %s of the wrong shape", kv_cf_name(cf));
    if (key.len) row->part = (uint8_t)key.data[0];
    return row;
}

void notices_put(enum kv_cf cf, struct slice key, struct slice value)
{
    if (!of_notices(cf)) return;
    struct row *row = row_add(cf, key);
    row->put = true;
    buf_slice_append(&row->value, value);
}

void notices_delete(enum kv_cf cf, struct slice key)
{
    if (of_notices(cf)) row_add(cf, key);
}

void notices_clear(void) { batch_clear(&notices.batch); }

static struct watched_notice *notice_get(const struct row *row)
{
    for (unsigned i = 0; i < notices.num; i++) {
        struct watched_notice *n = &notices.all[i];
        if (n->tenant == row->tenant && n->user == row->user && n->number == row->number) return n;
    }
    CHECK(notices.num < NOTICES_MAX, "a run with more than %u notifications", NOTICES_MAX);
    struct watched_notice *n = &notices.all[notices.num++];
    *n = (struct watched_notice){.tenant = row->tenant, .user = row->user, .number = row->number};
    return n;
}

/* written_one applies all rows of the batch that are of one notification, the first of which is given. */
static void written_one(size_t first)
{
    struct watched_notice *n = notice_get(&notices.batch.rows[first]);
    struct watched_notice before = *n; /* its texts are not looked at */
    for (size_t i = first; i < notices.batch.num; i++) {
        const struct row *row = &notices.batch.rows[i];
        if (row->tenant == n->tenant && row->user == n->user && row->number == n->number) row_apply(n, row);
    }
    n->state = state_of(n);
    if (n->state == NOTICE_NONE && before.state != NOTICE_NONE) n->state = NOTICE_GONE;
    n->changes += n->state != before.state;
    check_change(&before, n);
}

void notices_written(void)
{
    const struct row *rows = notices.batch.rows;
    for (size_t i = 0; i < notices.batch.num; i++) {
        bool first = true;
        for (size_t j = 0; j < i && first; j++)
            first = rows[j].number != rows[i].number || rows[j].user != rows[i].user;
        if (first) written_one(i);
    }
    if (notices.batch.num) creations_written();
    unsigned pending = notices_pending(0);
    if (pending > notices.pending_most) notices.pending_most = pending;
}

void notices_durable(uint64_t version)
{
    for (unsigned i = 0; i < notices.num; i++)
        if (notices.all[i].durable_version == 0) notices.all[i].durable_version = version;
}

/* --- after a crash ------------------------------------------------------------------------------------------- */

static bool look(struct kv *kv, enum kv_cf cf, const struct key *key, struct buf *value)
{
    enum status s = kv_get(kv, cf, key_slice(key), value);
    CHECK(s == STATUS_OK || s == STATUS_NOT_FOUND, "a row of %s cannot be read", kv_cf_name(cf));
    return s == STATUS_OK;
}

/* look_again reads all rows of a notification; the body never changes. */
static void look_again(struct kv *kv, struct watched_notice *n)
{
    struct buf value = {0};
    struct key key;
    key_notification(&key, n->tenant, n->user, n->number, NOTIFICATION_BODY);
    n->body = look(kv, KV_NOTIFICATIONS, &key, &value);
    key_notification(&key, n->tenant, n->user, n->number, NOTIFICATION_END);
    n->end = look(kv, KV_NOTIFICATIONS, &key, &value);
    if (n->end) ending_read(n, buf_slice(&value));
    key_outbox(&key, n->tenant, n->user, n->number);
    n->outbox = look(kv, KV_OUTBOX, &key, &value);
    if (n->outbox)
        CHECK(outbox_record_decode(&n->waits, buf_slice(&value)) == STATUS_OK, "an outbox row that cannot be decoded");
    n->waits.user_id = (struct slice){0};
    key_dead_letter(&key, n->tenant, n->number, n->user);
    n->letter = look(kv, KV_DEAD_LETTERS, &key, &value);
    if (n->letter)
        CHECK(dead_letter_record_decode(&n->dead, buf_slice(&value)) == STATUS_OK,
              "a dead letter that cannot be decoded");
    n->dead.user_id = (struct slice){0};
    buf_free(&value);
}

void notices_crash(struct kv *kv)
{
    for (unsigned i = 0; i < notices.num;) {
        struct watched_notice *n = &notices.all[i];
        look_again(kv, n);
        enum notice_state now = state_of(n);
        if (now == NOTICE_NONE && n->durable_version == 0) { /* its number may be given again */
            notice_free(n);
            *n = notices.all[--notices.num];
            memset(&notices.all[notices.num], 0, sizeof *n);
            continue;
        }
        if (now == NOTICE_NONE) now = NOTICE_GONE;
        CHECK(now != NOTICE_GONE || n->state == NOTICE_GONE, "notification %" PRIu64 " of %s was durable and is gone",
              n->number, n->user_id);
        CHECK(now == NOTICE_GONE || !n->deleted, "dead letter %" PRIu64 " of %s was deleted and is there again",
              n->number, n->user_id);
        n->changes += now != n->state;
        n->state = now;
        i++;
    }
    creations_crash();
}

void notices_start(void)
{
    for (unsigned i = 0; i < notices.num; i++) {
        struct watched_notice *n = &notices.all[i];
        n->at_start = n->state;
        n->start_attempts = n->outbox ? n->waits.attempts : 0;
    }
    notices.pending_most = notices_pending(0);
}

/* --- a row ----------------------------------------------------------------------------------------------------- */

static void body_read(struct watched_notice *n, struct slice value)
{
    struct notification_record r;
    CHECK(notification_record_decode(&r, value) == STATUS_OK, "a notification that cannot be decoded");
    CHECK(r.tenant == n->tenant && r.user == n->user && r.number == n->number, "a notification under a foreign key");
    CHECK(r.user_id.len < sizeof n->user_id, "a user whom the scenario does not have: %.*s", SLICE_FMT(r.user_id));
    memcpy(n->user_id, r.user_id.data, r.user_id.len);
    n->priority = r.priority;
    n->created_ms = r.created_ms;
    buf_slice_append(&n->topic, r.topic);
    buf_slice_append(&n->payload, r.payload);
    n->creation = creation_made(n);
    count_happened(COUNT_NOTICE_CREATED);
}

static void ending_read(struct watched_notice *n, struct slice value)
{
    CHECK(notification_end_record_decode(&n->ended, value) == STATUS_OK,
          "an end of a notification that cannot be decoded");
}

/* outbox_put: the row is made with a notification or a retry, and again by each attempt, which it counts. */
static void outbox_put(struct watched_notice *n, struct slice value)
{
    struct outbox_record r, was = n->waits;
    bool is_new = !n->outbox;
    CHECK(outbox_record_decode(&r, value) == STATUS_OK, "an outbox row that cannot be decoded");
    CHECK(slice_is(r.user_id, n->user_id) && r.priority == n->priority && r.created_ms == n->created_ms,
          "the outbox row of notification %" PRIu64 " of %s is another one's", n->number, n->user_id);
    r.user_id = (struct slice){0};
    n->waits = r;
    n->outbox = true;
    if (is_new) {
        CHECK(r.attempts == 0 && r.last_attempt_ms == 0, "notification %" PRIu64 " of %s begins with %u attempts",
              n->number, n->user_id, r.attempts);
        return;
    }
    /* an attempt's row may find the pipeline full: the next one has both */
    CHECK(r.attempts == was.attempts + 1 || (r.attempts > was.attempts && notifier_writes_refused()),
          "notification %" PRIu64 " of %s had %u attempts, and now %u", n->number, n->user_id, was.attempts,
          r.attempts);
    CHECK(r.expires_ms == was.expires_ms, "an attempt moves the time at which it expires");
    CHECK(user_has_sockets(slice_str(n->user_id)), "%s was never there, and that counts as an attempt", n->user_id);
    count_happened(COUNT_NOTICE_ATTEMPT);
}

static void row_apply(struct watched_notice *n, const struct row *row)
{
    struct slice value = buf_slice(&row->value);
    if (row->cf == KV_OUTBOX) {
        if (row->put)
            outbox_put(n, value);
        else
            n->outbox = false;
    } else if (row->cf == KV_DEAD_LETTERS) {
        n->letter = row->put;
        if (row->put)
            CHECK(dead_letter_record_decode(&n->dead, value) == STATUS_OK, "a dead letter that cannot be decoded");
        if (row->put) CHECK(slice_is(n->dead.user_id, n->user_id), "a dead letter of somebody else");
        n->dead.user_id = (struct slice){0};
    } else if (row->part == NOTIFICATION_END) {
        n->end = row->put;
        if (row->put) ending_read(n, value);
    } else if (row->put) {
        CHECK(!n->body && n->state == NOTICE_NONE, "notification %" PRIu64 " of %s is made twice", n->number,
              n->user_id);
        n->body = true;
        body_read(n, value);
    } else {
        n->body = false;
    }
}

/* --- states ---------------------------------------------------------------------------------------------------- */

static enum notice_state state_of(const struct watched_notice *n)
{
    if (!n->body) {
        CHECK(!n->outbox && !n->end && !n->letter, "notification %" PRIu64 " of %s is gone but for a row", n->number,
              n->user_id);
        return NOTICE_NONE;
    }
    CHECK(n->outbox != n->end, "notification %" PRIu64 " of %s %s", n->number, n->user_id,
          n->outbox ? "waits and has ended" : "neither waits nor has ended");
    bool dead = n->end && n->ended.state == NOTIFICATION_DEAD;
    CHECK(dead == n->letter, "notification %" PRIu64 " of %s %s", n->number, n->user_id,
          dead ? "is dead without a letter" : "has a dead letter and is not dead");
    if (dead)
        CHECK(n->dead.reason == n->ended.reason && n->dead.attempts == n->ended.attempts &&
                  n->dead.priority == n->priority && n->dead.created_ms == n->created_ms &&
                  n->dead.ended_ms == n->ended.ended_ms,
              "the dead letter of notification %" PRIu64 " of %s says something else than its end", n->number,
              n->user_id);
    return n->outbox ? NOTICE_PENDING : dead ? NOTICE_DEAD : NOTICE_DELIVERED;
}

/* check_dead: only what is used up, has expired, or finds its user's places taken. */
static void check_dead(const struct watched_notice *before, const struct watched_notice *n)
{
    switch ((enum dead_reason)n->ended.reason) {
    case DEAD_ATTEMPTS:
        CHECK(n->ended.attempts >= notifier_config()->notify_attempts,
              "notification %" PRIu64 " of %s is given up after %u attempts", n->number, n->user_id, n->ended.attempts);
        count_happened(COUNT_NOTICE_DEAD_ATTEMPTS);
        break;
    case DEAD_EXPIRED:
        CHECK(n->ended.ended_ms >= before->waits.expires_ms,
              "notification %" PRIu64 " of %s expires %" PRIu64 " ms early", n->number, n->user_id,
              before->waits.expires_ms - n->ended.ended_ms);
        count_happened(COUNT_NOTICE_DEAD_EXPIRED);
        break;
    case DEAD_FULL:
        CHECK(before->state == NOTICE_NONE, "a notification that waited has no place any more");
        count_happened(COUNT_NOTICE_DEAD_FULL);
        return;
    case DEAD_NOT: break;
    }
    CHECK(before->state == NOTICE_PENDING, "notification %" PRIu64 " of %s dies that was %s", n->number, n->user_id,
          notice_state_name(before->state));
    CHECK(n->ended.attempts >= before->waits.attempts, "a dead letter forgets attempts");
}

static void check_gone(const struct watched_notice *before, const struct watched_notice *n)
{
    uint64_t kept_ms = before->ended.ended_ms;
    if (before->state == NOTICE_DELIVERED) {
        CHECK(kept_ms + notifier_config()->notify_keep <= world_wall_most_ms(),
              "notification %" PRIu64 " of %s leaves the list too soon", n->number, n->user_id);
        count_happened(COUNT_NOTICE_SWEPT);
        return;
    }
    CHECK(before->state == NOTICE_DEAD, "notification %" PRIu64 " of %s was %s and is gone", n->number, n->user_id,
          notice_state_name(before->state));
    bool swept = kept_ms + notifier_dead_keep_ms() <= world_wall_most_ms();
    CHECK(swept || n->delete_asked, "dead letter %" PRIu64 " of %s goes, and nobody has asked for it", n->number,
          n->user_id);
    count_happened(swept && !n->delete_asked ? COUNT_LETTER_SWEPT : COUNT_LETTER_DELETED);
}

static void check_change(const struct watched_notice *before, struct watched_notice *n)
{
    if (n->state == before->state) return;
    if (world_tracing())
        world_trace("notification %" PRIu64 " of %s: %s → %s", n->number, n->user_id, notice_state_name(before->state),
                    notice_state_name(n->state));
    switch (n->state) {
    case NOTICE_PENDING:
        CHECK(before->state == NOTICE_NONE || (before->state == NOTICE_DEAD && n->retry_asked),
              "notification %" PRIu64 " of %s was %s and waits again", n->number, n->user_id,
              notice_state_name(before->state));
        if (before->state == NOTICE_DEAD) count_happened(COUNT_LETTER_RETRIED);
        return;
    case NOTICE_DELIVERED:
        CHECK(before->state == NOTICE_PENDING || before->state == NOTICE_DEAD,
              "notification %" PRIu64 " of %s was %s and is delivered", n->number, n->user_id,
              notice_state_name(before->state));
        CHECK(n->ack_asked, "notification %" PRIu64 " of %s is delivered, and nobody has acknowledged it", n->number,
              n->user_id);
        count_happened(before->state == NOTICE_DEAD ? COUNT_NOTICE_ACKED_LATE : COUNT_NOTICE_ACKED);
        return;
    case NOTICE_DEAD:
        check_dead(before, n);
        n->was_dead = true;
        return;
    case NOTICE_GONE: check_gone(before, n); return;
    case NOTICE_NONE: break;
    }
    world_fail("notification %" PRIu64 " of %s is unmade", n->number, n->user_id);
}
