#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "../src/base/assert.h"
#include "../src/base/clock.h"
#include "../src/base/limits.h"
#include "keys.h"
#include "records.h"
#include "store.h"

#define FINDING_BYTES_MAX 1200

struct verify {
    struct kv *kv;
    void (*problem)(void *context, const char *text);
    void *context;
    uint64_t *rows;
    uint64_t num_problems;
    uint64_t epoch; /* the store's; 0 when it has none */
    /* the row at hand, for the words of a finding */
    enum kv_cf cf;
    struct slice key;
    struct buf looked_up; /* value of the last look-up; records decoded from it borrow it */
    /* the room whose log is being walked */
    struct {
        bool started;
        uint32_t tenant;
        uint64_t room, next_seq, last_created_ms;
    } log;
    /* the room whose runs of message keys are being walked */
    struct {
        bool started;
        uint32_t tenant;
        uint64_t room, next_seq; /* next_seq 0: not known, behind a damaged run */
    } run;
};

typedef void (*row_check)(struct verify *v, struct slice key, struct slice value);

static void verify_family(struct verify *v, enum kv_cf cf, row_check check);
static void check_meta(struct verify *v, struct slice key, struct slice value);
static void check_tenant(struct verify *v, struct slice key, struct slice value);
static void check_api_key(struct verify *v, struct slice key, struct slice value);
static void check_name(struct verify *v, struct slice key, struct slice value);
static void check_user(struct verify *v, struct slice key, struct slice value);
static void check_room(struct verify *v, struct slice key, struct slice value);
static void check_room_epochs(struct verify *v, const struct room_record *r);
static void check_member(struct verify *v, struct slice key, struct slice value);
static void check_user_room(struct verify *v, struct slice key, struct slice value);
static void check_log(struct verify *v, struct slice key, struct slice value);
static void enter_room_log(struct verify *v, uint32_t tenant, uint64_t room, uint64_t seq);
static void check_change(struct verify *v, struct slice key, struct slice value);
static void check_cursor(struct verify *v, struct slice key, struct slice value);
static void check_idempotency(struct verify *v, struct slice key, struct slice value);
static void check_answer(struct verify *v, uint32_t tenant, struct slice value);
static void check_run(struct verify *v, uint32_t tenant, uint64_t room, uint64_t first_seq, struct slice value);
static void check_outbox(struct verify *v, struct slice key, struct slice value);
static void check_dead_letter(struct verify *v, struct slice key, struct slice value);
static void check_notification(struct verify *v, struct slice key, struct slice value);
static void check_notification_body(struct verify *v, uint32_t tenant, uint64_t user, uint64_t number,
                                    struct slice value);
static void check_notification_end(struct verify *v, uint32_t tenant, uint64_t user, uint64_t number,
                                   struct slice value);
static void check_subscription(struct verify *v, struct slice key, struct slice value);
static void check_run_place(struct verify *v, const struct room_record *r, uint64_t first_seq, uint64_t last_seq);
static void enter_run(struct verify *v, uint32_t tenant, uint64_t room, uint64_t next_seq);
static void check_run_prints(struct verify *v, const struct room_record *r, uint64_t first_seq,
                             const struct idempotency_run_record *run);
static void compare_run_with_log(struct verify *v, struct kv_iter *log, const uint64_t *seqs, uint32_t num);
static uint32_t drop_repeated(uint64_t *seqs, uint32_t num, uint64_t *repeated);
static int seq_order(const void *a, const void *b);
static bool find_user(struct verify *v, uint32_t tenant, uint64_t user, struct user_record *out);
static bool find_room(struct verify *v, uint32_t tenant, uint64_t room, struct room_record *out);
static bool find_event(struct verify *v, uint32_t tenant, uint64_t room, uint64_t seq, struct log_record *out);
static bool find_row(struct verify *v, enum kv_cf cf, const struct key *k);
static bool tenant_exists(struct verify *v, uint32_t tenant);
static bool room_head(struct verify *v, const struct room_record *r, uint64_t *head);
static void finding(struct verify *v, const char *format, ...) __attribute__((format(printf, 2, 3)));

uint64_t store_verify(struct kv *kv, void (*problem)(void *context, const char *text), void *context, uint64_t *rows)
{
    static const struct {
        enum kv_cf cf;
        row_check check; /* NULL: the layout belongs to another module; the rows are read, which checks their blocks */
    } family[] = {
        {KV_META, check_meta},           {KV_TENANTS, check_tenant},         {KV_KEYS, check_api_key},
        {KV_NAMES, check_name},          {KV_USERS, check_user},             {KV_SESSIONS, NULL},
        {KV_ROOMS, check_room},          {KV_MEMBERS, check_member},         {KV_USER_ROOMS, check_user_room},
        {KV_LOG, check_log},             {KV_CHANGES, check_change},         {KV_CURSORS, check_cursor},
        {KV_IDEMPOTENCY, check_idempotency}, {KV_OUTBOX, check_outbox},      {KV_DEAD_LETTERS, check_dead_letter},
        {KV_NOTIFICATIONS, check_notification}, {KV_SUBSCRIPTIONS, check_subscription},
        {KV_AUDIT, NULL},
    };
    _Static_assert(sizeof family / sizeof *family == KV_CFS, "every family is walked");
    struct verify v = {.kv = kv, .problem = problem, .context = context, .rows = rows};
    *rows = 0;
    for (unsigned i = 0; i < KV_CFS; i++) verify_family(&v, family[i].cf, family[i].check);
    buf_free(&v.looked_up);
    return v.num_problems;
}

static void verify_family(struct verify *v, enum kv_cf cf, row_check check)
{
    v->cf = cf;
    struct kv_iter *i = kv_iter_open(v->kv, cf, (struct slice){NULL, 0}, (struct slice){NULL, 0});
    for (bool on = kv_iter_first(v->kv, i); on; on = kv_iter_next(v->kv, i)) {
        v->key = kv_iter_key(v->kv, i);
        if (check) check(v, v->key, kv_iter_value(v->kv, i));
        ++*v->rows;
    }
    v->key = (struct slice){NULL, 0};
    enum status s = kv_iter_close(v->kv, i);
    if (s != STATUS_OK) finding(v, "cannot be read to its end (%s)", status_name(s));
}

static void check_meta(struct verify *v, struct slice key, struct slice value)
{
    bool is_epoch = slice_is(key, "epoch"), is_format = slice_is(key, "format"), is_clean = slice_is(key, "clean");
    if (!is_epoch && !is_format && !is_clean && !slice_is(key, "pepper") &&
        !slice_starts(key, SLICE(STORE_NUMBER_META)) && !slice_starts(key, SLICE(STORE_HISTORY_META)))
        return;
    uint64_t number = 0;
    if (number_record_decode(&number, value) != STATUS_OK) {
        finding(v, "holds no number");
        return;
    }
    if (is_epoch) v->epoch = number;
    if (is_epoch && number == 0) finding(v, "the epoch is 0");
    if (is_clean && number > 1) finding(v, "the clean mark is neither 0 nor 1");
    if (is_format && (number == 0 || number > STORE_FORMAT)) finding(v, "format %llu", (unsigned long long)number);
}

static void check_tenant(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    struct tenant_record r;
    if (!key_parse_u32(&key, &tenant) || key.len) finding(v, "the key is no tenant number");
    else if (tenant_record_decode(&r, value) != STATUS_OK) finding(v, "the record is damaged");
    else if (r.tenant != tenant) finding(v, "the record is of tenant %u", r.tenant);
}

static void check_api_key(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    struct api_key_record r;
    if (!key_parse_u32(&key, &tenant) || key.len == 0) finding(v, "the key has no tenant or no prefix");
    else if (api_key_record_decode(&r, value) != STATUS_OK) finding(v, "the record is damaged");
    else if (r.tenant != tenant) finding(v, "the record is of tenant %u", r.tenant);
    else if (!tenant_exists(v, tenant)) finding(v, "tenant %u does not exist", tenant);
}

static void check_name(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t number;
    if (!key_parse_u32(&key, &tenant) || key.len < 2) {
        finding(v, "the key has no tenant, kind or text");
        return;
    }
    char kind = key.data[0];
    struct slice text = slice_from(key, 1);
    if (number_record_decode(&number, value) != STATUS_OK) {
        finding(v, "holds no number");
        return;
    }
    unsigned long long shown = number;
    struct user_record user;
    struct room_record room;
    switch (kind) {
    case NAME_USER:
    case NAME_EMAIL:
    case NAME_LOGIN:
        if (!find_user(v, tenant, number, &user)) finding(v, "names user %llu, who does not exist", shown);
        else if (kind == NAME_USER && !slice_eq(user.user_id, text)) finding(v, "user %llu has another id", shown);
        return;
    case NAME_DM:
        if (!find_room(v, tenant, number, &room)) finding(v, "names room %llu, which does not exist", shown);
        else if (!slice_eq(room.unique_key, text)) finding(v, "room %llu has another unique key", shown);
        return;
    default: finding(v, "a name of unknown kind %u", (unsigned)(unsigned char)kind); return;
    }
}

static void check_user(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t user;
    struct user_record r;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &user) || key.len)
        finding(v, "the key is no tenant and user");
    else if (user_record_decode(&r, value) != STATUS_OK) finding(v, "the record is damaged");
    else if (r.tenant != tenant || r.user != user)
        finding(v, "the record is of tenant %u, user %llu", r.tenant, (unsigned long long)r.user);
    else if (!tenant_exists(v, tenant)) finding(v, "tenant %u does not exist", tenant);
}

static void check_room(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t room;
    struct room_record r;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &room) || key.len)
        finding(v, "the key is no tenant and room");
    else if (room_record_decode(&r, value) != STATUS_OK) finding(v, "the record is damaged");
    else if (r.tenant != tenant || r.room != room)
        finding(v, "the record is of tenant %u, room %llu", r.tenant, (unsigned long long)r.room);
    else if (!tenant_exists(v, tenant)) finding(v, "tenant %u does not exist", tenant);
    else if (r.retained_from == 0) finding(v, "kept from seq 0, but the first is 1");
    else check_room_epochs(v, &r);
}

/* An epoch begins behind what the one before it left: both rise, and none begins behind the log's next event. */
static void check_room_epochs(struct verify *v, const struct room_record *r)
{
    uint64_t head = 0;
    bool head_known = room_head(v, r, &head);
    struct room_epoch previous = {0, 1};
    for (unsigned i = 0; i < r->num_epochs; i++) {
        struct room_epoch e = r->epochs[i];
        unsigned long long epoch = e.epoch, first_seq = e.first_seq;
        if (e.epoch <= previous.epoch || e.first_seq < previous.first_seq)
            finding(v, "epoch %llu from seq %llu does not follow the one before it", epoch, first_seq);
        if (head_known && e.first_seq > head + 1)
            finding(v, "epoch %llu begins at seq %llu, but the head is %llu", epoch, first_seq,
                    (unsigned long long)head);
        if (v->epoch && e.epoch > v->epoch)
            finding(v, "epoch %llu, but the store is in epoch %llu", epoch, (unsigned long long)v->epoch);
        previous = e;
    }
}

static void check_member(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t room, user;
    struct member_record r;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &room) || !key_parse_u64(&key, &user) || key.len) {
        finding(v, "the key is no tenant, room and user");
        return;
    }
    if (member_record_decode(&r, value) != STATUS_OK) {
        finding(v, "the record is damaged");
        return;
    }
    struct room_record room_record;
    struct user_record user_record;
    struct key mirror;
    key_user_room(&mirror, tenant, user, room);
    if (!find_room(v, tenant, room, &room_record))
        finding(v, "a member of room %llu, which does not exist", (unsigned long long)room);
    if (!find_user(v, tenant, user, &user_record))
        finding(v, "user %llu is a member, but does not exist", (unsigned long long)user);
    else if (!slice_eq(user_record.user_id, r.user_id))
        finding(v, "user %llu has another id than the member row says", (unsigned long long)user);
    if (!find_row(v, KV_USER_ROOMS, &mirror))
        finding(v, "user %llu is a member of room %llu, but user_rooms lacks it", (unsigned long long)user,
                (unsigned long long)room);
}

static void check_user_room(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t user, room;
    struct key mirror;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &user) || !key_parse_u64(&key, &room) || key.len) {
        finding(v, "the key is no tenant, user and room");
        return;
    }
    key_member(&mirror, tenant, room, user);
    if (!find_row(v, KV_MEMBERS, &mirror))
        finding(v, "room %llu is listed for user %llu, who is no member of it", (unsigned long long)room,
                (unsigned long long)user);
}

static void check_log(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t room, seq;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &room) || !key_parse_u64(&key, &seq) || key.len) {
        finding(v, "the key is no tenant, room and seq");
        return;
    }
    if (!v->log.started || v->log.tenant != tenant || v->log.room != room) enter_room_log(v, tenant, room, seq);
    if (seq != v->log.next_seq)
        finding(v, "room %llu of tenant %u has seq %llu where %llu was next", (unsigned long long)room, tenant,
                (unsigned long long)seq, (unsigned long long)v->log.next_seq);
    v->log.next_seq = seq + 1;

    struct log_record r;
    if (log_record_decode(&r, value) != STATUS_OK) {
        finding(v, "the record is damaged");
        return;
    }
    if (r.tenant != tenant || r.room != room || r.seq != seq)
        finding(v, "the record is of tenant %u, room %llu, seq %llu", r.tenant, (unsigned long long)r.room,
                (unsigned long long)r.seq);
    if (r.created_ms < v->log.last_created_ms) finding(v, "older than the event before it");
    else v->log.last_created_ms = r.created_ms;
}

/* A room's log begins at its retained_from. Without a room record only the gaps inside can be seen. */
static void enter_room_log(struct verify *v, uint32_t tenant, uint64_t room, uint64_t seq)
{
    v->log.started = true;
    v->log.tenant = tenant;
    v->log.room = room;
    v->log.last_created_ms = 0;
    v->log.next_seq = seq;
    struct room_record r;
    if (find_room(v, tenant, room, &r)) v->log.next_seq = r.retained_from;
    else finding(v, "events of room %llu of tenant %u, which does not exist", (unsigned long long)room, tenant);
}

static void check_change(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t room, target, seq;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &room) || !key_parse_u64(&key, &target) ||
        !key_parse_u64(&key, &seq) || key.len) {
        finding(v, "the key is no tenant, room, target and seq");
        return;
    }
    struct log_record event;
    if (target == 0 || target >= seq) finding(v, "the change does not come after what it changes");
    else if (!find_event(v, tenant, room, seq, &event))
        finding(v, "the change's event, seq %llu, does not exist", (unsigned long long)seq);
    else if (event.kind != LOG_EDITED && event.kind != LOG_DELETED && event.kind != LOG_REACTION)
        finding(v, "seq %llu changes nothing: its kind is %u", (unsigned long long)seq, event.kind);
}

static void check_cursor(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t user, room, head;
    bool shaped = key_parse_u32(&key, &tenant) && key_parse_u64(&key, &user) && key.len >= 1;
    size_t device_len = shaped ? (unsigned char)key.data[0] : 0;
    key = shaped ? slice_from(key, 1) : key;
    if (!shaped || key.len != device_len + 8) {
        finding(v, "the key is no tenant, user, device and room");
        return;
    }
    key = slice_from(key, device_len);
    bool parsed = key_parse_u64(&key, &room);
    ASSERT(parsed);

    struct cursor_record r;
    struct room_record room_record;
    if (cursor_record_decode(&r, value) != STATUS_OK) {
        finding(v, "the record is damaged");
        return;
    }
    /* A cursor may outlive its room. One ahead of the head would pass over messages that are yet to come. */
    if (!find_room(v, tenant, room, &room_record) || !room_head(v, &room_record, &head)) return;
    uint64_t furthest = r.delivered > r.read ? r.delivered : r.read;
    if (furthest > head)
        finding(v, "stands at seq %llu, but the head of room %llu is %llu", (unsigned long long)furthest,
                (unsigned long long)room, (unsigned long long)head);
}

/* The family holds kept answers, under room 0, and runs of message keys. */
static void check_idempotency(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t room, number;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &room) || !key_parse_u64(&key, &number)) {
        finding(v, "the key is no tenant, room and first seq or user");
        return;
    }
    if (room == 0 && key.len == 0) finding(v, "the key of a kept answer has no text");
    else if (room == 0) check_answer(v, tenant, value);
    else if (number == 0 || key.len) finding(v, "the key of a run is no tenant, room and first seq");
    else check_run(v, tenant, room, number, value);
}

static void check_answer(struct verify *v, uint32_t tenant, struct slice value)
{
    struct answer_record r;
    struct room_record room;
    if (answer_record_decode(&r, value) != STATUS_OK) finding(v, "the record is damaged");
    else if (r.room && !find_room(v, tenant, r.room, &room))
        finding(v, "the answer is room %llu, which does not exist", (unsigned long long)r.room);
}

static void check_run(struct verify *v, uint32_t tenant, uint64_t room, uint64_t first_seq, struct slice value)
{
    struct idempotency_run_record run;
    struct room_record r;
    if (idempotency_run_record_decode(&run, value) != STATUS_OK) {
        finding(v, "the record is damaged");
        enter_run(v, tenant, room, 0);
    } else if (run.last_seq < first_seq) {
        finding(v, "the run ends at seq %llu, before its first", (unsigned long long)run.last_seq);
        enter_run(v, tenant, room, 0);
    } else if (!find_room(v, tenant, room, &r)) {
        finding(v, "a run of room %llu, which does not exist", (unsigned long long)room);
    } else {
        check_run_place(v, &r, first_seq, run.last_seq);
        check_run_prints(v, &r, first_seq, &run);
        enter_run(v, tenant, room, run.last_seq + 1);
    }
}

/* event_is_old: too old for anybody to repeat it, by today's clock, which may be a day behind the one that the gateway
 * went by. */
static bool event_is_old(struct verify *v, const struct room_record *r, uint64_t seq)
{
    struct log_record event;
    return find_event(v, r->tenant, r->room, seq, &event) &&
           event.created_ms + IDEMPOTENCY_KEEP_MS < clock_wall_ms(clock_real()) + 24ull * 3600 * 1000;
}

/* Runs lie one behind the other without a gap, so that every event up to the last run's end is in one of them. Those
 * that were wholly removed by retention, or have become too old, may be gone: the first one left begins at the first
 * kept event, or before it, or behind an old one. */
static void check_run_place(struct verify *v, const struct room_record *r, uint64_t first_seq, uint64_t last_seq)
{
    bool is_first = !v->run.started || v->run.tenant != r->tenant || v->run.room != r->room;
    unsigned long long first = first_seq, next = v->run.next_seq, retained_from = r->retained_from;
    uint64_t head;
    if (is_first && first > retained_from && !event_is_old(v, r, first_seq - 1))
        finding(v, "the first run begins at seq %llu, but events are kept from seq %llu", first, retained_from);
    if (!is_first && next && first != next)
        finding(v, "the run begins at seq %llu where %llu was next", first, next);
    if (room_head(v, r, &head) && last_seq > head)
        finding(v, "the run ends at seq %llu, but the head is %llu", (unsigned long long)last_seq,
                (unsigned long long)head);
}

static void enter_run(struct verify *v, uint32_t tenant, uint64_t room, uint64_t next_seq)
{
    v->run.started = true;
    v->run.tenant = tenant;
    v->run.room = room;
    v->run.next_seq = next_seq;
}

/* A run names exactly the events in its range that have a client id. What retention or the room's end removed is in the
 * run still, where it does no harm. */
static void check_run_prints(struct verify *v, const struct room_record *r, uint64_t first_seq,
                             const struct idempotency_run_record *run)
{
    if (r->flags & ROOM_DELETED) return;
    uint64_t from = first_seq > r->retained_from ? first_seq : r->retained_from, below = 0, repeated = 0;
    uint32_t num = fingerprints_len(run->prints), kept = 0;
    uint64_t *seqs = malloc((num ? num : 1) * sizeof *seqs);
    ASSERT(seqs != NULL);
    for (uint32_t i = 0; i < num; i++) {
        uint64_t seq = fingerprints_at(run->prints, i).seq;
        if (seq < first_seq) below = seq;
        else if (seq >= from) seqs[kept++] = seq;
    }
    qsort(seqs, kept, sizeof *seqs, seq_order);
    kept = drop_repeated(seqs, kept, &repeated);
    if (below) finding(v, "the run names seq %llu, which lies before it", (unsigned long long)below);
    if (repeated) finding(v, "the run names seq %llu more than once", (unsigned long long)repeated);
    if (from <= run->last_seq) {
        struct key begin, end;
        key_log(&begin, r->tenant, r->room, from);
        key_log(&end, r->tenant, r->room, run->last_seq);
        end.bytes[end.len++] = 0; /* the first key behind the last event's */
        struct kv_iter *log = kv_iter_open(v->kv, KV_LOG, key_slice(&begin), key_slice(&end));
        compare_run_with_log(v, log, seqs, kept);
        enum status s = kv_iter_close(v->kv, log);
        if (s != STATUS_OK) finding(v, "the log of the run cannot be read to its end (%s)", status_name(s));
    }
    free(seqs);
}

/* drop_repeated leaves each of the rising seqs once; returns how many are left. */
static uint32_t drop_repeated(uint64_t *seqs, uint32_t num, uint64_t *repeated)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < num; i++) {
        if (kept && seqs[kept - 1] == seqs[i]) *repeated = seqs[i];
        else seqs[kept++] = seqs[i];
    }
    return kept;
}

/* Both walks rise: a seq that only one of them meets is a difference. The first of each kind is told: behind it, a run
 * that is wrong has thousands. Damaged events are not judged here, the log's own walk finds them. */
static void compare_run_with_log(struct verify *v, struct kv_iter *log, const uint64_t *seqs, uint32_t num)
{
    uint64_t wrong = 0, lacking = 0;
    uint32_t n = 0;
    for (bool on = kv_iter_first(v->kv, log); on; on = kv_iter_next(v->kv, log)) {
        struct log_record event;
        struct slice rest = slice_from(kv_iter_key(v->kv, log), 4 + 8);
        uint64_t seq;
        if (!key_parse_u64(&rest, &seq)) continue;
        for (; n < num && seqs[n] < seq; n++)
            if (!wrong) wrong = seqs[n];
        bool named = n < num && seqs[n] == seq;
        n += named;
        if (log_record_decode(&event, kv_iter_value(v->kv, log)) != STATUS_OK) continue;
        if (named && event.client_id.len == 0 && !wrong) wrong = seq;
        if (!named && event.client_id.len && !lacking) lacking = seq;
    }
    if (n < num && !wrong) wrong = seqs[n];
    if (wrong) finding(v, "the run names seq %llu, which is no event with a client id", (unsigned long long)wrong);
    if (lacking) finding(v, "the run lacks seq %llu, which has a client id", (unsigned long long)lacking);
}

static int seq_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void check_owner(struct verify *v, uint32_t tenant, uint64_t user, struct slice user_id)
{
    struct user_record r;
    if (!find_user(v, tenant, user, &r)) finding(v, "user %llu does not exist", (unsigned long long)user);
    else if (!slice_eq(r.user_id, user_id)) finding(v, "user %llu has another id", (unsigned long long)user);
}

static void check_outbox(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t user, number;
    struct outbox_record r;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &user) || !key_parse_u64(&key, &number) || key.len) {
        finding(v, "the key is no tenant, user and number");
        return;
    }
    if (outbox_record_decode(&r, value) != STATUS_OK) {
        finding(v, "the record is damaged");
        return;
    }
    check_owner(v, tenant, user, r.user_id);
    struct key other;
    key_notification(&other, tenant, user, number, NOTIFICATION_BODY);
    if (!find_row(v, KV_NOTIFICATIONS, &other)) finding(v, "what waits here has no notification");
    key_notification(&other, tenant, user, number, NOTIFICATION_END);
    if (find_row(v, KV_NOTIFICATIONS, &other)) finding(v, "waits here and has ended");
}

static void check_dead_letter(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t user, number;
    struct dead_letter_record r;
    struct notification_end_record end;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &number) || !key_parse_u64(&key, &user) || key.len) {
        finding(v, "the key is no tenant, number and user");
        return;
    }
    if (dead_letter_record_decode(&r, value) != STATUS_OK) {
        finding(v, "the record is damaged");
        return;
    }
    check_owner(v, tenant, user, r.user_id);
    struct key other;
    key_notification(&other, tenant, user, number, NOTIFICATION_END);
    bool dead = find_row(v, KV_NOTIFICATIONS, &other) &&
                notification_end_record_decode(&end, buf_slice(&v->looked_up)) == STATUS_OK &&
                end.state == NOTIFICATION_DEAD;
    if (!dead) finding(v, "a dead letter whose notification did not end so");
}

static void check_notification(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t user, number;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &user) || !key_parse_u64(&key, &number) || key.len != 1 ||
        (uint8_t)key.data[0] > NOTIFICATION_END)
        finding(v, "the key is no tenant, user, number and part");
    else if (key.data[0] == NOTIFICATION_BODY) check_notification_body(v, tenant, user, number, value);
    else check_notification_end(v, tenant, user, number, value);
}

/* A notification waits in the outbox or has ended: nothing is in neither place. */
static void check_notification_body(struct verify *v, uint32_t tenant, uint64_t user, uint64_t number,
                                    struct slice value)
{
    struct notification_record r;
    if (notification_record_decode(&r, value) != STATUS_OK) {
        finding(v, "the record is damaged");
        return;
    }
    if (r.tenant != tenant || r.user != user || r.number != number)
        finding(v, "the record is of tenant %u, user %llu, number %llu", r.tenant, (unsigned long long)r.user,
                (unsigned long long)r.number);
    check_owner(v, tenant, user, r.user_id);
    struct key outbox, end;
    key_outbox(&outbox, tenant, user, number);
    key_notification(&end, tenant, user, number, NOTIFICATION_END);
    if (!find_row(v, KV_OUTBOX, &outbox) && !find_row(v, KV_NOTIFICATIONS, &end))
        finding(v, "neither waits in the outbox nor has ended");
}

static void check_notification_end(struct verify *v, uint32_t tenant, uint64_t user, uint64_t number,
                                   struct slice value)
{
    struct notification_end_record r;
    struct key other;
    if (notification_end_record_decode(&r, value) != STATUS_OK) {
        finding(v, "the record is damaged");
        return;
    }
    key_notification(&other, tenant, user, number, NOTIFICATION_BODY);
    if (!find_row(v, KV_NOTIFICATIONS, &other)) finding(v, "an end without its notification");
    key_dead_letter(&other, tenant, number, user);
    if (r.state == NOTIFICATION_DEAD && !find_row(v, KV_DEAD_LETTERS, &other))
        finding(v, "dead, but there is no dead letter");
}

static void check_subscription(struct verify *v, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t user;
    struct subscription_record r;
    struct key mirror;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &user) || key.len == 0) {
        finding(v, "the key has no tenant, user or topic");
        return;
    }
    if (subscription_record_decode(&r, value) != STATUS_OK) {
        finding(v, "the record is damaged");
        return;
    }
    if (user) {
        if (key.len > UINT8_MAX) {
            finding(v, "the topic is too long");
            return;
        }
        key_subscriber(&mirror, tenant, key, user);
    } else {
        struct slice topic = {key.data + 1, (uint8_t)key.data[0]}, rest = slice_from(key, 1 + topic.len);
        if (topic.len == 0 || !key_parse_u64(&rest, &user) || rest.len || user == 0) {
            finding(v, "the key is no tenant, topic and user");
            return;
        }
        key_subscription(&mirror, tenant, user, topic);
    }
    check_owner(v, tenant, user, r.user_id);
    if (!find_row(v, KV_SUBSCRIPTIONS, &mirror)) finding(v, "the same subscription the other way round is missing");
}

static bool find_user(struct verify *v, uint32_t tenant, uint64_t user, struct user_record *out)
{
    struct key k;
    key_user(&k, tenant, user);
    return find_row(v, KV_USERS, &k) && user_record_decode(out, buf_slice(&v->looked_up)) == STATUS_OK;
}

static bool find_room(struct verify *v, uint32_t tenant, uint64_t room, struct room_record *out)
{
    struct key k;
    key_room(&k, tenant, room);
    return find_row(v, KV_ROOMS, &k) && room_record_decode(out, buf_slice(&v->looked_up)) == STATUS_OK;
}

static bool find_event(struct verify *v, uint32_t tenant, uint64_t room, uint64_t seq, struct log_record *out)
{
    struct key k;
    key_log(&k, tenant, room, seq);
    return find_row(v, KV_LOG, &k) && log_record_decode(out, buf_slice(&v->looked_up)) == STATUS_OK;
}

static bool find_row(struct verify *v, enum kv_cf cf, const struct key *k)
{
    enum status s = kv_get(v->kv, cf, key_slice(k), &v->looked_up);
    if (s != STATUS_OK && s != STATUS_NOT_FOUND)
        finding(v, "a row of %s that belongs to it cannot be read (%s)", kv_cf_name(cf), status_name(s));
    return s == STATUS_OK;
}

static bool tenant_exists(struct verify *v, uint32_t tenant)
{
    struct key k;
    key_tenant(&k, tenant);
    return find_row(v, KV_TENANTS, &k);
}

/* room_head finds the last seq, which retention may have left without a row; false for a deleted room, whose log may be
 * gone without a trace in retained_from. */
static bool room_head(struct verify *v, const struct room_record *r, uint64_t *head)
{
    if (r->flags & ROOM_DELETED) return false;
    struct key prefix, end;
    key_room(&prefix, r->tenant, r->room);
    key_prefix_end(&end, key_slice(&prefix));
    *head = r->retained_from ? r->retained_from - 1 : 0;
    struct kv_iter *i = kv_iter_open(v->kv, KV_LOG, key_slice(&prefix), key_slice(&end));
    if (kv_iter_last(v->kv, i)) {
        struct slice rest = slice_from(kv_iter_key(v->kv, i), prefix.len);
        key_parse_u64(&rest, head);
    }
    return kv_iter_close(v->kv, i) == STATUS_OK;
}

/* A finding begins with the family and the key in hexadecimal, as a row is found again; keys may hold any bytes. */
static void finding(struct verify *v, const char *format, ...)
{
    static const char hex[] = "0123456789abcdef";
    char text[FINDING_BYTES_MAX];
    size_t len = (size_t)snprintf(text, sizeof text, "%s ", kv_cf_name(v->cf));
    for (size_t i = 0; i < v->key.len && i < KEY_MAX; i++) {
        text[len++] = hex[(unsigned char)v->key.data[i] >> 4];
        text[len++] = hex[(unsigned char)v->key.data[i] & 15];
    }
    if (v->key.len) len += (size_t)snprintf(text + len, sizeof text - len, ": ");
    va_list args;
    va_start(args, format);
    vsnprintf(text + len, sizeof text - len, format, args);
    va_end(args);
    v->num_problems++;
    v->problem(v->context, text);
}
