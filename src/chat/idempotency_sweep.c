#include "idempotency_sweep.h"

#include <stdlib.h>

#include "../../storage/keys.h"
#include "../../storage/records.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "../core/core.h"

struct idempotency_sweep {
    struct read_job job;
    struct commit_entry entry;
    uint64_t due_ns;
    bool open; /* a step is under way */

    /* the reader's, while it has the job */
    uint64_t now_ms;
    struct key from; /* the first row of the step; empty: the front */
    bool at_end;
    enum status status;
    uint16_t num;
    struct key keys[SWEEP_LOOKS]; /* of what is too old */
    struct commit_row rows[SWEEP_LOOKS];
};

static void sweep_read(struct read_job *job, struct kv *kv);
static void sweep_found(void *context, struct read_job *job);
static void sweep_done(void *context, struct commit_entry *entry, enum status result);

static void next_step(struct core *core, struct idempotency_sweep *s, bool pass_ended)
{
    s->open = false;
    s->due_ns = core->now_ns + (pass_ended ? SWEEP_INTERVAL_MS : SWEEP_PAUSE_MS) * 1000000ull;
    if (pass_ended) s->from.len = 0;
}

void idempotency_sweep_run(struct core *core)
{
    struct idempotency_sweep *s = core->sweep;
    if (UNLIKELY(!s)) {
        s = core->sweep = calloc(1, sizeof *s);
        ASSERT(s != NULL);
        next_step(core, s, false);
    }
    if (s->open || core->now_ns < s->due_ns) return;
    s->open = true;
    s->now_ms = core->now_ms;
    s->job = (struct read_job){.return_core = (uint16_t)core->id, .run = sweep_read, .done = sweep_found};
    read_submit(core->reader, &s->job);
}

void idempotency_sweep_free(struct idempotency_sweep *s) { free(s); }

/* --- looking, on a reader thread --------------------------------------------------------------------------------- */

/* place: where a step stands. */
struct place {
    uint32_t tenant;
    uint64_t room, number; /* room 0: a kept answer */
    struct key key;
};

static bool place_take(struct place *p, struct slice key)
{
    ASSERT(key.len <= KEY_MAX);
    p->key.len = (uint16_t)key.len;
    memcpy(p->key.bytes, key.data, key.len);
    return key_parse_u32(&key, &p->tenant) && key_parse_u64(&key, &p->room) && key_parse_u64(&key, &p->number);
}

static bool too_old(const struct idempotency_sweep *s, uint64_t made_ms)
{
    return made_ms + IDEMPOTENCY_KEEP_MS < s->now_ms;
}

static void take_out(struct idempotency_sweep *s, const struct key *key)
{
    ASSERT(s->num < SWEEP_LOOKS);
    s->keys[s->num] = *key;
    s->rows[s->num] = (struct commit_row){COMMIT_DELETE, KV_IDEMPOTENCY, key_slice(&s->keys[s->num]), {0}};
    s->num++;
}

/* row_is_old looks at one row; false for one that is damaged, which verify-store tells of. */
static bool row_is_old(const struct idempotency_sweep *s, const struct place *p, struct slice value)
{
    struct answer_record answer;
    struct idempotency_run_record run;
    if (p->room == 0) return answer_record_decode(&answer, value) == STATUS_OK && too_old(s, answer.created_ms);
    return idempotency_run_record_decode(&run, value) == STATUS_OK && too_old(s, run.newest_ms);
}

/* sweep_rows walks from s->from on, until the looks are used up, the family ends, or the rest of a room is young: then
 * it goes on behind that room. An old run waits as `last` until there is another one of its room behind it. */
static void sweep_rows(struct idempotency_sweep *s, struct kv *kv, unsigned *looks)
{
    struct place last = {0}, at = {0};
    struct kv_iter *i = kv_iter_open(kv, KV_IDEMPOTENCY, key_slice(&s->from), (struct slice){0});
    bool on = kv_iter_first(kv, i), young = false;
    for (; on && *looks && !young; on = kv_iter_next(kv, i), --*looks) {
        if (!place_take(&at, kv_iter_key(kv, i))) continue;
        if (last.room && last.room == at.room && last.tenant == at.tenant) take_out(s, &last.key);
        bool old = row_is_old(s, &at, kv_iter_value(kv, i));
        if (old && at.room == 0) take_out(s, &at.key);
        last = old && at.room ? at : (struct place){0};
        young = !old && at.room;
    }
    s->at_end = !on && !young;
    if (young) {
        struct key room;
        key_room(&room, at.tenant, at.room);
        key_prefix_end(&s->from, key_slice(&room));
        s->at_end = s->from.len == 0;
    } else if (last.room) {
        s->from = last.key;
    } else if (on) {
        place_take(&at, kv_iter_key(kv, i));
        s->from = at.key;
    }
    s->status = kv_iter_close(kv, i);
}

static void sweep_read(struct read_job *job, struct kv *kv)
{
    struct idempotency_sweep *s = CONTAINER_OF(job, struct idempotency_sweep, job);
    unsigned looks = SWEEP_LOOKS;
    s->num = 0;
    s->at_end = false;
    s->status = STATUS_OK;
    while (looks > 1 && !s->at_end && s->status == STATUS_OK) sweep_rows(s, kv, &looks);
}

/* --- deleting, on core 0 ----------------------------------------------------------------------------------------- */

static void sweep_found(void *context, struct read_job *job)
{
    struct core *core = context;
    struct idempotency_sweep *s = CONTAINER_OF(job, struct idempotency_sweep, job);
    if (s->status != STATUS_OK) {
        LOG(LOG_ERROR, "room", "idempotency_sweep_failed", LOG_STR("status", status_name(s->status)));
        next_step(core, s, true);
        return;
    }
    if (s->num == 0) {
        next_step(core, s, s->at_end);
        return;
    }
    /* Lost with the power, they are found again. */
    s->entry = (struct commit_entry){.class = COMMIT_FAST, .rows = s->rows, .num_rows = s->num, .done = sweep_done};
    if (commit_push(core->commit, &s->entry) != STATUS_OK) next_step(core, s, true);
}

static void sweep_done(void *context, struct commit_entry *entry, enum status result)
{
    struct core *core = context;
    struct idempotency_sweep *s = CONTAINER_OF(entry, struct idempotency_sweep, entry);
    if (result == STATUS_OK) core_count(core, METRIC_IDEMPOTENCY_SWEPT, s->num);
    next_step(core, s, s->at_end || result != STATUS_OK);
}
