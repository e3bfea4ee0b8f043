/* push: what is due goes to the provider, a batch at a time: the bodies are read, handed over, and what was taken
 * counts as an attempt. */
#include <stdlib.h>
#include <string.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "../base/planted.h"
#include "../chat/ids.h"
#include "backoff.h"
#include "inbox.h"

static void push_run(struct read_job *job, struct kv *kv);
static void push_read(void *context, struct read_job *job);
static void attempted(struct core *core, struct rows *rows, const struct inbox *in, struct waiting *w);

/* --- which ------------------------------------------------------------------------------------------------------- */

/* choose lists of what waits what goes next, in its order: for an opening (`progress` is its own) all that is to come,
 * else what is due and does not come by openings. */
static void choose(const struct core *core, struct push *p, struct inbox *in, bool opening,
                   const struct push_progress *progress)
{
    for (uint32_t i = 0; i < in->num && p->num < core->notify->bounds.push_batch; i++) {
        struct waiting *w = &in->list[i];
        if (waiting_dead(core, w) != DEAD_NOT) continue; /* it could not be buried just now */
        bool due = w->due_ns <= core->now_ns, to_come = push_to_come(progress, w->priority, w->number);
        if (opening ? !to_come : to_come || !due) continue;
        w->attempt = due;
        p->items[p->num++] = (struct push_item){.number = w->number, .priority = w->priority};
    }
}

/* choose_due: what every one of the user's sockets gets by its opening has nobody else to go to. */
static void choose_due(const struct core *core, struct push *p, struct inbox *in, uint32_t sockets)
{
    struct push_progress all = {0};
    if (sockets > in->num_openings) memset(&all, 0xff, sizeof all);
    for (struct list *at = in->openings.next; at != &in->openings; at = at->next) {
        const struct opening *o = CONTAINER_OF(at, struct opening, of_inbox);
        for (unsigned i = 0; i <= PRIORITY_URGENT; i++)
            if (o->progress.had[i] > all.had[i]) all.had[i] = o->progress.had[i];
    }
    choose(core, p, in, false, &all);
}

/* opening_next: the first one whose socket has room. */
static struct opening *opening_next(const struct core *core, struct inbox *in)
{
    bool again = core->now_ns >= in->crowd_ns;
    if (again) in->crowd_ns = 0;
    for (struct list *at = in->openings.next; at != &in->openings; at = at->next) {
        struct opening *o = CONTAINER_OF(at, struct opening, of_inbox);
        if (again) o->crowded = false;
        if (!o->waits && !o->crowded) return o;
    }
    return NULL;
}

static void opening_end(struct inbox *in, struct opening *o)
{
    in->num_openings--;
    list_remove(&o->of_inbox);
    free(o);
}

/* openings_list: a push to everywhere passes over their sockets, where what they have yet to bring would come twice;
 * over those as well that have opened while it was read. */
static void openings_list(struct push *p, const struct inbox *in)
{
    if (in->num_openings == 0) return;
    p->openings = malloc(in->num_openings * sizeof *p->openings);
    ASSERT(p->openings != NULL);
    for (struct list *at = in->openings.next; at != &in->openings; at = at->next) {
        const struct opening *o = CONTAINER_OF(at, struct opening, of_inbox);
        p->openings[p->num_openings++] = (struct push_opening){o->socket, o->progress};
    }
}

/* push_next: where there are sockets without an opening, what is due goes to everywhere before an opening brings it.
 * That is an attempt as well, and the others would wait for the next one. Returns the opening whose push it is. */
static struct opening *push_next(struct core *core, struct push *p, struct inbox *in)
{
    struct opening *o = NULL;
    if (core->now_ns >= in->full_ns) in->full_ns = 0;
    uint32_t sockets = in->full_ns ? 0 : provider_websocket.reachable(core, in->tenant, inbox_user_id(in));
    if (sockets > in->num_openings) choose_due(core, p, in, sockets);
    while (p->num == 0 && (o = opening_next(core, in))) {
        choose(core, p, in, true, &o->progress);
        if (p->num == 0) opening_end(in, o);
    }
    if (p->num == 0 && sockets) choose_due(core, p, in, sockets);
    return o;
}

void inbox_push(struct core *core, struct inbox *in)
{
    struct push *p = calloc(1, sizeof *p);
    ASSERT(p != NULL);
    const struct opening *o = push_next(core, p, in);
    if (p->num == 0) {
        free(p);
        return;
    }
    p->job = (struct read_job){.return_core = (uint16_t)core->id, .run = push_run, .done = push_read};
    p->inbox = in;
    p->tenant = in->tenant;
    p->user = in->user;
    p->user_id = inbox_user_id(in);
    if (o) p->only = o->socket;
    in->pushing = true;
    read_submit(core->reader, &p->job);
}

/* --- handed over ------------------------------------------------------------------------------------------------- */

static void push_json(struct buf *out, const struct notification_record *r)
{
    char id[ID_TEXT_LEN], time[TIME_TEXT_LEN];
    notification_id_text(id, r->number);
    time_text(time, r->created_ms);
    buf_printf(out, "{\"type\":\"notification\",\"notification_id\":\"%.*s\",\"topic\":", (int)ID_TEXT_LEN, id);
    buf_json_string(out, r->topic);
    BUF_LIT(out, ",\"payload\":");
    buf_slice_append(out, r->payload);
    buf_printf(out, ",\"priority\":\"%s\",\"created_at\":\"%.*s\"}", priority_name(r->priority), (int)TIME_TEXT_LEN,
               time);
}

static void push_run(struct read_job *job, struct kv *kv)
{
    struct push *p = CONTAINER_OF(job, struct push, job);
    struct buf value = {0};
    uint32_t num = 0;
    for (; num < p->num && p->json.len < PUSH_BYTES_MAX; num++) {
        struct push_item *item = &p->items[num];
        struct notification_record r;
        struct key key;
        key_notification(&key, p->tenant, p->user, item->number, NOTIFICATION_BODY);
        item->at = (uint32_t)p->json.len;
        enum status s = kv_get(kv, KV_NOTIFICATIONS, key_slice(&key), &value);
        if (s == STATUS_OK) s = notification_record_decode(&r, buf_slice(&value));
        if (s == STATUS_OK) push_json(&p->json, &r);
        else
            LOG(LOG_ERROR, "notify", "body_not_read", LOG_U64("number", item->number),
                LOG_STR("status", status_name(s)));
        item->len = (uint32_t)p->json.len - item->at;
    }
    p->num = num; /* the others are for the next push */
    buf_free(&value);
}

static void push_read(void *context, struct read_job *job)
{
    struct push *p = CONTAINER_OF(job, struct push, job);
    if (!p->only.conn.generation) openings_list(p, p->inbox);
    provider_websocket.send(context, p);
}

/* --- what became of it ------------------------------------------------------------------------------------------- */

/* opening_went notes how far a socket has got: behind what it has taken, and what could not be read. One that has gone
 * gets nothing more; one without room goes on when it has drained, and all do a little later while frames are too
 * many. */
static void opening_went(const struct core *core, struct inbox *in, const struct push *p)
{
    struct opening *o = p->only.conn.generation ? opening_of(in, p->only) : NULL;
    uint32_t num = 0;
    if (!o) return;
    if (p->reached == 0) {
        opening_end(in, o);
        return;
    }
    while (num < p->num && (p->items[num].len == 0 || p->taken >> num & 1)) num++;
    o->crowded = p->crowded && num < p->num;
    o->waits = !p->crowded && num < p->num;
    if (o->crowded) in->crowd_ns = core->now_ns + PUSH_AGAIN_MS * 1000000ull;
    for (uint32_t i = 0; i < num; i++) o->progress.had[p->items[i].priority] = p->items[i].number;
}

/* due_again sets the next attempt, which is that many's wait away. */
static void due_again(const struct core *core, struct waiting *w, uint32_t attempts)
{
    uint64_t base = core->gateway->config->notify_retry_base;
    w->due_ns = core->now_ns + backoff_ms(base, attempts, random_u64(core->gateway->random)) * 1000000;
}

void push_done(struct core *core, struct push *p)
{
    struct inbox *in = p->inbox;
    struct rows rows = {0};
    uint64_t num = 0;
    bool stuck = false;
    in->pushing = false;
    opening_went(core, in, p);
    for (uint32_t i = 0; i < in->num; i++) in->list[i].attempt = false;
    for (uint32_t i = 0; i < p->num; i++) {
        struct waiting *w = inbox_find(in, p->items[i].number);
        bool taken = p->taken >> i & 1;
        num += taken;
        if (!w || w->due_ns > core->now_ns) continue; /* acknowledged meanwhile, or a copy for another socket */
        if (taken && PLANTED(write_counts_as_ack)) inbox_remove(in, w);
        else if (taken) attempted(core, &rows, in, w);
        else if (p->items[i].len == 0) due_again(core, w, w->attempts + 1); /* unreadable: nothing waits for it */
        else stuck = true;
    }
    if (stuck && !p->only.conn.generation) in->full_ns = core->now_ns + PUSH_AGAIN_MS * 1000000ull;
    notify_count(core, SENT_SENT, num);
    if (rows.num && inbox_write(core, in, &rows, COMMIT_FAST, NULL, NULL, 0, NULL) != STATUS_OK)
        LOG(LOG_WARN, "notify", "attempts_not_written", LOG_U64("user", in->user));
    rows_free(&rows);
    buf_free(&p->json);
    free(p->openings);
    free(p);
    inbox_next(core, in);
}

/* attempted counts an attempt and sets the next. The row is class fast: a lost count is an attempt more. */
static void attempted(struct core *core, struct rows *rows, const struct inbox *in, struct waiting *w)
{
    w->attempts++;
    w->last_attempt_ms = core->now_ms;
    due_again(core, w, w->attempts);
    struct outbox_record r = {.priority = w->priority,
                              .attempts = w->attempts,
                              .created_ms = w->created_ms,
                              .expires_ms = w->expires_ms,
                              .last_attempt_ms = w->last_attempt_ms,
                              .user_id = inbox_user_id(in)};
    struct key key;
    key_outbox(&key, in->tenant, in->user, w->number);
    outbox_record_encode(rows_put(rows, KV_OUTBOX, &key), &r);
}
