#define _GNU_SOURCE /* vasprintf */
#include "check.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static void rooms_make(struct checker *c);
static void rows_make(struct checker *c);
static void faults_find(struct checker *c);
static void messages_make(struct checker *c);
static void rows_known(struct checker *c);
static void stays_make(struct checker *c);
static void report_count(struct checker *c);

uint64_t history_check(const struct history *h, const struct history_options *options, struct history_report *out)
{
    *out = (struct history_report){0};
    struct checker c = {.h = h, .options = {.up_to = HISTORY_NEVER}, .report = out, .first_power = HISTORY_NEVER};
    if (options) c.options = *options;
    rooms_make(&c);
    rows_make(&c);
    faults_find(&c);
    messages_make(&c);
    rows_known(&c);
    stays_make(&c);
    report_count(&c);

    check_log(&c);
    check_messages(&c);
    check_order(&c);
    check_receipts(&c);
    check_members(&c);
    check_devices(&c);
    check_epochs(&c);
    check_cursors(&c);
    check_notifications(&c);

    for (size_t i = 0; i < c.num_rooms; i++) free(c.rooms[i].rows);
    free(c.rooms);
    free(c.messages);
    free(c.stays);
    list_free(&c.named);
    list_free(&c.receipts);
    list_free(&c.passages);
    list_free(&c.forgotten);
    return out->total;
}

/* --- rooms and their rows ---------------------------------------------------------------------------------------- */

bool row_is_message(const struct checker *c, const struct entry *row)
{
    struct history_text type = entry_text(c->h, row->type);
    return type.len == 7 && memcmp(type.data, "message", 7) == 0;
}

static void rooms_make(struct checker *c)
{
    struct list ids = {0};
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++)
        if (e->room) list_add(&ids, e, NULL, e->room, 0, 0, 0);
    list_sort(&ids);
    for (size_t i = 0; i < ids.len; i = list_group(&ids, i, 1)) c->num_rooms++;
    c->rooms = must(calloc(c->num_rooms + 1, sizeof *c->rooms));
    struct room *r = c->rooms;
    for (size_t i = 0, end; i < ids.len; i = end, r++) {
        end = list_group(&ids, i, 1);
        r->id = ids.items[i].entry->room;
        for (size_t n = i; n < end; n++) {
            const struct entry *e = ids.items[n].entry;
            if (e->kind == ENTRY_ROOM) r->fast = true;
            if (e->kind == ENTRY_INVOKE || e->kind == ENTRY_OK) r->recorded = true;
            if (e->kind != ENTRY_EXPORT && e->epoch > r->newest_epoch) r->newest_epoch = e->epoch;
        }
    }
    list_free(&ids);
}

struct room *room_with_id(const struct checker *c, uint32_t id)
{
    size_t low = 0, high = c->num_rooms;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->rooms[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < c->num_rooms && c->rooms[low].id == id ? &c->rooms[low] : NULL;
}

static void rows_make(struct checker *c)
{
    struct list rows = {0};
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++)
        if (e->kind == ENTRY_EXPORT) list_add(&rows, e, NULL, e->room, e->seq, 0, 0);
    list_sort(&rows);
    for (size_t i = 0, end; i < rows.len; i = end) {
        end = list_group(&rows, i, 1);
        struct room *r = room_with_id(c, rows.items[i].entry->room);
        if (!r) continue; /* a row without a room */
        r->rows = must(calloc(end - i, sizeof *r->rows));
        uint32_t messages = 0;
        for (; i < end; i = list_group(&rows, i, 2)) {
            const struct entry *e = rows.items[i].entry;
            r->rows[r->num_rows++] = (struct row){.entry = e, .messages_before = messages};
            messages += row_is_message(c, e);
            r->head = e->seq;
        }
    }
    list_free(&rows);
}

struct row *row_find(const struct room *r, uint64_t seq)
{
    size_t at = row_from(r, seq);
    return at < r->num_rows && r->rows[at].entry->seq == seq ? &r->rows[at] : NULL;
}

size_t row_from(const struct room *r, uint64_t seq)
{
    size_t low = 0, high = r->num_rows;
    uint64_t guess = seq - (high ? r->rows[0].entry->seq : 0); /* where it is in a log without a gap */
    if (guess < high && r->rows[guess].entry->seq == seq) return guess;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->rows[middle].entry->seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* --- faults ------------------------------------------------------------------------------------------------------ */

static void faults_find(struct checker *c)
{
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++) {
        if (e->kind == ENTRY_CRASH && e->power && e->t < c->first_power) c->first_power = e->t;
        if (e->kind == ENTRY_CRASH && e->power && e->t > c->last_power) c->last_power = e->t;
        if (e->kind == ENTRY_HEALED && (!c->healed || e->t > c->healed->t)) c->healed = e;
        if (e->kind == ENTRY_FORGOTTEN) list_add(&c->forgotten, e, NULL, e->t, 0, 0, 0);
    }
    list_sort(&c->forgotten);
}

size_t times_forgotten(const struct checker *c, uint64_t t)
{
    return c->forgotten.len - list_lower(&c->forgotten, (uint64_t[]){t}, 1);
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

static bool belongs_to_message(const struct checker *c, const struct entry *e)
{
    switch (e->kind) {
    case ENTRY_INVOKE:
    case ENTRY_OK:
    case ENTRY_FAIL:
    case ENTRY_UNKNOWN: return true;
    case ENTRY_EXPORT: return e->client_id && row_is_message(c, e);
    default: return false;
    }
}

static void message_count(struct message *m, const struct entry *e)
{
    if (e->kind == ENTRY_INVOKE) {
        m->num_invoked++;
        if (!m->invoked || e->t < m->invoked->t) m->invoked = e;
        if (e->t > m->last_invoked_t) m->last_invoked_t = e->t;
    } else if (e->kind == ENTRY_OK) {
        m->num_ok++;
        if (!m->answered || e->t < m->answered->t) m->answered = e;
    } else if (e->kind == ENTRY_FAIL) {
        m->num_failed++;
    } else if (e->kind == ENTRY_EXPORT) {
        m->num_kept++;
        if (!m->kept) m->kept = e;
        struct row *row = row_find(m->room, e->seq);
        if (row && row->entry == e) row->message = m;
    }
}

/* kept_max: no attempt is applied more than once, whatever was forgotten. */
static unsigned kept_max(const struct checker *c, const struct message *m)
{
    if (m->num_invoked < 2) return 1;
    size_t forgotten = times_forgotten(c, m->invoked->t);
    return forgotten < m->num_invoked ? 1 + (unsigned)forgotten : m->num_invoked;
}

static void messages_make(struct checker *c)
{
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++)
        if (belongs_to_message(c, e)) list_add(&c->named, e, NULL, e->room, e->user, e->client_id, e->kind);
    list_sort(&c->named);
    for (size_t i = 0; i < c->named.len; i = list_group(&c->named, i, 3)) c->num_messages++;
    c->messages = must(calloc(c->num_messages + 1, sizeof *c->messages));
    struct message *m = c->messages;
    for (size_t i = 0, end; i < c->named.len; i = end, m++) {
        end = list_group(&c->named, i, 3);
        m->room = room_with_id(c, c->named.items[i].entry->room);
        m->entries = &c->named.items[i];
        m->num_entries = end - i;
        for (size_t n = i; n < end; n++) message_count(m, c->named.items[n].entry);
        m->kept_max = kept_max(c, m);
    }
}

/* --- what was known when ----------------------------------------------------------------------------------------- */

/* Of events that are no messages, records and logs do not hold all of the same members. */
static bool texts_differ(uint32_t shown, uint32_t kept)
{
    return shown && kept && shown != kept;
}

static bool users_differ(const struct checker *c, const struct entry *shown, const struct entry *kept)
{
    if (shown->num_users == 0 || kept->num_users == 0) return false;
    const uint32_t *users = c->h->users;
    return shown->num_users != kept->num_users ||
           memcmp(users + shown->users_at, users + kept->users_at, shown->num_users * sizeof *users) != 0;
}

bool event_differs(const struct checker *c, const struct entry *receipt, const struct entry *row)
{
    if (receipt->type != row->type) return true;
    if (row_is_message(c, row))
        return receipt->message_id != row->message_id || receipt->sender != row->sender ||
               receipt->client_id != row->client_id || receipt->content != row->content ||
               receipt->created_at != row->created_at;
    return texts_differ(receipt->message_id, row->message_id) || texts_differ(receipt->content, row->content) ||
           texts_differ(receipt->created_at, row->created_at) || users_differ(c, receipt, row);
}

bool is_kept(const struct checker *c, const struct entry *e)
{
    const struct row *row = row_find(room_with_id(c, e->room), e->seq);
    if (!row) return false;
    if (e->kind != ENTRY_OK) return !event_differs(c, e, row->entry);
    /* the id is made of room and seq: after a power loss, another message may have it, or the same one sent again */
    return e->message_id == row->entry->message_id && e->user == row->entry->user &&
           e->client_id == row->entry->client_id && !texts_differ(e->created_at, row->entry->created_at);
}

/* may_be_again: what looks like the row may have been lost with the power, and the row came to be after that. A message
 * must have been sent again for it; how often somebody joined, left or got a role, no record says. */
static bool may_be_again(const struct checker *c, const struct row *row)
{
    const struct message *m = row->message;
    if (!row_is_message(c, row->entry)) return true;
    return m && m->num_invoked > 1 && m->last_invoked_t >= c->first_power;
}

bool is_surely_kept(const struct checker *c, const struct entry *e)
{
    const struct room *r = room_with_id(c, e->room);
    if (!is_kept(c, e)) return false;
    return !may_be_again(c, row_find(r, e->seq)) || !lost_with_power(c, r, e);
}

static void row_known(struct row *row, const struct entry *e)
{
    if (!row->known || e->t < row->known->t) row->known = e;
    if (e->kind == ENTRY_OK && (!row->answered || e->t < row->answered->t)) row->answered = e;
}

/* stands_before: the epoch in which this was known had something behind it, or this itself, that was surely kept. Of
 * one epoch a power loss takes the end, so this was kept as well. */
static bool stands_before(const struct list *kept, const struct entry *e)
{
    size_t at = list_lower(kept, (uint64_t[]){e->room, e->epoch, e->seq}, 3);
    return e->epoch && at < kept->len && kept->items[at].key[0] == e->room && kept->items[at].key[1] == e->epoch;
}

static void rows_known(struct checker *c)
{
    struct list shown = {0}, kept = {0}; /* what looks like its row; what surely is it: by room, epoch, seq */
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++) {
        struct room *r = e->kind == ENTRY_RECEIVE || e->kind == ENTRY_OK ? room_with_id(c, e->room) : NULL;
        struct row *row = r ? row_find(r, e->seq) : NULL;
        if (e->kind == ENTRY_RECEIVE) list_add(&c->receipts, e, r, 0, 0, 0, 0);
        if (!row || !is_kept(c, e)) continue;
        bool surely = is_surely_kept(c, e);
        if (surely) row_known(row, e);
        if (r->fast) list_add(surely ? &kept : &shown, e, row, e->room, e->epoch, e->seq, 0);
    }
    list_sort(&kept);
    for (size_t i = 0; i < shown.len; i++)
        if (stands_before(&kept, shown.items[i].entry)) row_known(shown.items[i].of, shown.items[i].entry);
    list_free(&shown);
    list_free(&kept);
}

/* A receipt may be read long after it was sent; the epoch says better than its time when that was. */
bool lost_with_power(const struct checker *c, const struct room *r, const struct entry *e)
{
    return r->fast && c->last_power && (e->t <= c->last_power || (e->epoch && e->epoch < r->newest_epoch));
}

/* --- members ----------------------------------------------------------------------------------------------------- */

/* newest_before_sent: of the room's messages, those sent at `t` or later stand behind this seq. */
static uint64_t newest_before_sent(const struct list *sent, uint32_t room, uint64_t t)
{
    size_t at = list_lower(sent, (uint64_t[]){room, t + 1}, 2);
    if (at == sent->len || sent->items[at].key[0] != room) return HISTORY_NEVER;
    return sent->items[at].key[3] - 1;
}

/* sent_make: the kept messages by the time at which they were sent; the last key is the smallest seq from there on. */
static void sent_make(const struct checker *c, struct list *sent)
{
    for (size_t i = 0; i < c->num_messages; i++) {
        const struct message *m = &c->messages[i];
        if (m->invoked && m->kept) list_add(sent, m->invoked, NULL, m->kept->room, m->invoked->t, m->kept->seq, 0);
    }
    list_sort(sent);
    for (size_t i = sent->len; i-- > 0;) {
        struct keyed *k = &sent->items[i];
        bool last = i + 1 == sent->len || k[1].key[0] != k[0].key[0];
        k->key[3] = last || k->key[2] < k[1].key[3] ? k->key[2] : k[1].key[3];
    }
}

/* stay_end: the newest event that may have been meant for somebody who was out by `left`: the event that says so if it
 * is known, else the last one of the log that names them, else whatever had been sent by then. */
static uint64_t stay_end(const struct checker *c, const struct list *sent, const struct entry *left)
{
    if (left->seq) return left->seq;
    uint64_t newest = newest_before_sent(sent, left->room, left->t);
    uint64_t behind[] = {left->room, left->user, newest == HISTORY_NEVER ? newest : newest + 1};
    size_t at = list_lower(&c->passages, behind, 3);
    const struct keyed *k = at ? &c->passages.items[at - 1] : NULL;
    if (!k || k->key[0] != left->room || k->key[1] != left->user || !k->of) return newest;
    return ((const struct entry *)k->of)->seq;
}

static void passages_make(struct checker *c)
{
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++) {
        if (e->kind != ENTRY_EXPORT || e->num_users == 0) continue;
        struct history_text type = entry_text(c->h, e->type);
        bool left = type.len == 9 && memcmp(type.data, "user_left", 9) == 0;
        bool joined = type.len == 11 && memcmp(type.data, "user_joined", 11) == 0;
        for (uint32_t i = 0; i < e->num_users && (left || joined); i++)
            list_add(&c->passages, e, NULL, e->room, c->h->users[e->users_at + i], e->seq, left);
    }
    list_sort(&c->passages);
    for (size_t i = 0; i < c->passages.len; i++) {
        struct keyed *k = &c->passages.items[i];
        bool first = i == 0 || k[-1].key[0] != k[0].key[0] || k[-1].key[1] != k[0].key[1];
        k->of = k->key[3] ? (void *)k->entry : first ? NULL : k[-1].of;
    }
}

static void stays_make(struct checker *c)
{
    struct list moves = {0}, sent = {0};
    passages_make(c);
    sent_make(c, &sent);
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++)
        if (e->kind == ENTRY_MEMBER || e->kind == ENTRY_LEFT)
            list_add(&moves, e, NULL, e->room, e->user, e->t, e->kind == ENTRY_MEMBER);
    list_sort(&moves);
    c->stays = must(calloc(moves.len + 1, sizeof *c->stays));
    struct stay *open = NULL;
    for (size_t i = 0; i < moves.len; i++) {
        const struct entry *e = moves.items[i].entry;
        if (open && (open->room != e->room || open->user != e->user)) open = NULL;
        if (e->kind == ENTRY_LEFT && open) {
            uint64_t end = stay_end(c, &sent, e);
            open->left = e;
            open->last_seq = end < open->until_seq ? end : open->until_seq;
            open = NULL;
        } else if (e->kind == ENTRY_MEMBER && !open) {
            open = &c->stays[c->num_stays++];
            *open = (struct stay){.room = e->room, .user = e->user, .since = e, .last_seq = HISTORY_NEVER};
            open->until_seq = HISTORY_NEVER;
        }
        if (e->kind == ENTRY_MEMBER && e->until_seq) open->last_seq = open->until_seq = e->until_seq;
    }
    for (size_t i = 0; i < c->num_stays; i++) {
        struct stay *s = &c->stays[i];
        bool again = i > 0 && s[-1].room == s->room && s[-1].user == s->user;
        s->last_seq_so_far = again && s[-1].last_seq_so_far > s->last_seq ? s[-1].last_seq_so_far : s->last_seq;
    }
    list_free(&moves);
    list_free(&sent);
}

/* stays_before counts the stays that are sorted before those of this user in this room, or, with `and_theirs`, before
 * those of whoever comes next. */
static size_t stays_before(const struct checker *c, uint32_t room, uint32_t user, bool and_theirs)
{
    size_t low = 0, high = c->num_stays;
    uint64_t who = (uint64_t)room << 32 | user;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint64_t here = (uint64_t)c->stays[middle].room << 32 | c->stays[middle].user;
        if (here < who || (and_theirs && here == who))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* One user may have as many stays as there are receipts, so they are not counted one by one. */
const struct stay *stays_of(const struct checker *c, size_t *num, uint32_t room, uint32_t user)
{
    size_t first = stays_before(c, room, user, false);
    *num = stays_before(c, room, user, true) - first;
    return &c->stays[first];
}

/* Whoever has left is owed nothing any more, whoever came back what follows their return: before it they may have been
 * away when they were removed. */
bool owed_range(const struct checker *c, uint64_t *from, uint64_t *to, uint32_t room, uint32_t user, uint64_t first)
{
    const struct room *r = room_with_id(c, room);
    size_t num, passage = list_lower(&c->passages, (uint64_t[]){room, user, HISTORY_NEVER}, 3);
    const struct stay *stays = stays_of(c, &num, room, user);
    *from = first;
    *to = r ? r->head : 0;
    if (num == 0) return false;
    if (passage > 0) {
        const struct keyed *last = &c->passages.items[passage - 1];
        if (last->key[0] == room && last->key[1] == user) {
            bool out = last->key[3];
            bool returned = passage > 1 && last[-1].key[0] == room && last[-1].key[1] == user;
            if (out) return false;
            if (returned && last->key[2] >= *from) *from = last->key[2] + 1;
        }
    }
    if (num && stays[num - 1].left) return false;
    if (num && stays[num - 1].last_seq < *to) *to = stays[num - 1].last_seq;
    return *from <= *to;
}

/* --- the report -------------------------------------------------------------------------------------------------- */

static void report_count(struct checker *c)
{
    struct history_report *r = c->report;
    for (size_t i = 0; i < c->num_rooms; i++) r->rooms += c->rooms[i].num_rows > 0;
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++)
        r->events += e->kind == ENTRY_EXPORT;
    for (size_t i = 0; i < c->num_messages; i++) {
        const struct message *m = &c->messages[i];
        if (!m->num_invoked && !m->num_ok && !m->num_failed) continue;
        r->messages++;
        if (m->num_ok)
            r->acknowledged++;
        else if (m->num_failed && m->num_failed >= m->num_invoked)
            r->refused++;
        else
            r->open++;
    }
    r->receipts = c->receipts.len;
}

void violation(struct checker *c, enum history_rule rule, const struct entry *const *places, const char *format, ...)
{
    struct history_report *r = c->report;
    r->total++;
    if (r->found[rule]++ >= HISTORY_SHOWN) return;
    r->violations = must(realloc(r->violations, (r->num_violations + 1) * sizeof *r->violations));
    struct history_violation *v = &r->violations[r->num_violations++];
    *v = (struct history_violation){.rule = rule};
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&v->sentence, format, arguments) < 0) v->sentence = must(NULL);
    va_end(arguments);
    for (; *places && v->num_places < HISTORY_PLACES; places++)
        v->places[v->num_places++] = entry_describe(c->h, *places);
}

/* --- lists ------------------------------------------------------------------------------------------------------- */

void list_add(struct list *l, const struct entry *e, void *of, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    if (l->len == l->cap) l->items = must(realloc(l->items, (l->cap = l->cap ? l->cap * 2 : 64) * sizeof *l->items));
    l->items[l->len++] = (struct keyed){{a, b, c, d}, e, of};
}

static int by_keys(const uint64_t *a, const uint64_t *b, unsigned num)
{
    for (unsigned i = 0; i < num; i++)
        if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
    return 0;
}

static int by_key_and_arrival(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int order = by_keys(x->key, y->key, 4);
    return order ? order : (x->entry > y->entry) - (x->entry < y->entry);
}

void list_sort(struct list *l)
{
    if (l->len) qsort(l->items, l->len, sizeof *l->items, by_key_and_arrival);
}

void list_free(struct list *l)
{
    free(l->items);
    *l = (struct list){0};
}

size_t list_group(const struct list *l, size_t from, unsigned num_keys)
{
    size_t to = from + 1;
    while (to < l->len && by_keys(l->items[to].key, l->items[from].key, num_keys) == 0) to++;
    return to;
}

size_t list_lower(const struct list *l, const uint64_t *key, unsigned num_keys)
{
    size_t low = 0, high = l->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (by_keys(l->items[middle].key, key, num_keys) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
