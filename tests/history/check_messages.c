/* The log by itself, what was sent against the log, and the order in real time. */
#include <inttypes.h>
#include <string.h>

#include "check.h"

#define ABOUT "room %s: %s of %s"
#define NAME(c, m) \
    TEXT(c, (m)->room->id), TEXT(c, (m)->entries[0].entry->client_id), TEXT(c, (m)->entries[0].entry->user)

/* --- the log ----------------------------------------------------------------------------------------------------- */

static void check_row(struct checker *c, const struct entry *e, const struct entry *previous)
{
    uint64_t expected = previous ? previous->seq + 1 : 1;
    if (e->seq != expected)
        violation(c, HISTORY_EXPORT_GAP, PLACES(e), "room %s: seq %" PRIu64 " where %" PRIu64 " must stand",
                  TEXT(c, e->room), e->seq, expected);
    /* RFC 3339 in UTC with milliseconds: texts of one length, so their order is that of the times */
    if (previous && strcmp(TEXT(c, e->created_at), TEXT(c, previous->created_at)) < 0)
        violation(c, HISTORY_EXPORT_TIME, PLACES(previous, e),
                  "room %s: seq %" PRIu64 " was created before seq %" PRIu64, TEXT(c, e->room), e->seq, previous->seq);
}

void check_log(struct checker *c)
{
    struct list rows = {0};
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++)
        if (e->kind == ENTRY_EXPORT) list_add(&rows, e, NULL, e->room, 0, 0, 0);
    list_sort(&rows);
    for (size_t i = 0; i < rows.len; i++) {
        bool first = i == 0 || rows.items[i].key[0] != rows.items[i - 1].key[0];
        check_row(c, rows.items[i].entry, first ? NULL : rows.items[i - 1].entry);
    }
    list_free(&rows);
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

/* entry_of returns the n-th entry of a kind, NULL when there are fewer. */
static const struct entry *entry_of(const struct message *m, enum entry_kind kind, unsigned n)
{
    for (size_t i = 0; i < m->num_entries; i++)
        if (m->entries[i].entry->kind == kind && n-- == 0) return m->entries[i].entry;
    return NULL;
}

static bool all_lost_with_power(const struct checker *c, const struct message *m)
{
    for (size_t i = 0; i < m->num_entries; i++) {
        const struct entry *e = m->entries[i].entry;
        if (e->kind == ENTRY_OK && !lost_with_power(c, m->room, e)) return false;
    }
    return true;
}

/* tells_of_a_row: the ok names one of the message's rows. */
static bool tells_of_a_row(const struct message *m, const struct entry *ok)
{
    for (size_t i = 0; i < m->num_entries; i++) {
        const struct entry *e = m->entries[i].entry;
        if (e->kind == ENTRY_EXPORT && e->seq == ok->seq && e->message_id == ok->message_id) return true;
    }
    return false;
}

static bool was_sent(const struct message *m, uint32_t content)
{
    for (size_t i = 0; i < m->num_entries; i++)
        if (m->entries[i].entry->kind == ENTRY_INVOKE && m->entries[i].entry->content == content) return true;
    return false;
}

static void check_answers(struct checker *c, const struct message *m)
{
    const struct entry *first = entry_of(m, ENTRY_OK, 0);
    for (size_t i = 0; i < m->num_entries; i++) {
        const struct entry *e = m->entries[i].entry;
        /* a fast room that lost the message with the power appends it again, under another seq */
        if (e->kind != ENTRY_OK || lost_with_power(c, m->room, e)) continue;
        if (m->kept_max > 1 && (!m->kept || tells_of_a_row(m, e))) continue;
        if (m->kept && (e->seq != m->kept->seq || e->message_id != m->kept->message_id))
            violation(c, HISTORY_OK_ANSWER, PLACES(m->invoked ? m->invoked : e, e, m->kept),
                      ABOUT ": acknowledged as seq %" PRIu64 ", %s", NAME(c, m), e->seq, TEXT(c, e->message_id));
        else if (!lost_with_power(c, m->room, first) && (e->seq != first->seq || e->message_id != first->message_id))
            violation(c, HISTORY_OK_ANSWER, PLACES(first, e), ABOUT ": two answers differ", NAME(c, m));
    }
}

static void check_acknowledged(struct checker *c, const struct message *m)
{
    if (!m->kept && m->answered->t < c->options.up_to && !all_lost_with_power(c, m))
        violation(c, HISTORY_OK_LOST, PLACES(m->invoked ? m->invoked : m->answered, m->answered),
                  ABOUT ": acknowledged as seq %" PRIu64 ", not in the log", NAME(c, m), m->answered->seq);
    if (m->num_kept > m->kept_max)
        violation(c, HISTORY_OK_TWICE, PLACES(m->answered, m->kept, entry_of(m, ENTRY_EXPORT, 1)),
                  ABOUT ": %u times in the log", NAME(c, m), m->num_kept);
    check_answers(c, m);
}

static void check_content(struct checker *c, const struct message *m)
{
    for (size_t i = 0; i < m->num_entries && m->invoked; i++) {
        const struct entry *e = m->entries[i].entry;
        if (m->kept_max > 1 && was_sent(m, e->content)) continue; /* another body is then another message */
        if (e->kind == ENTRY_EXPORT && e->content != m->invoked->content)
            violation(c, HISTORY_CONTENT, PLACES(m->invoked, e), ABOUT ": the log has another content", NAME(c, m));
    }
}

static void check_message(struct checker *c, const struct message *m)
{
    if (m->num_ok)
        check_acknowledged(c, m);
    else if (m->num_failed && m->num_failed >= m->num_invoked && m->num_kept)
        violation(c, HISTORY_FAIL_PRESENT, PLACES(entry_of(m, ENTRY_FAIL, 0), m->kept),
                  ABOUT ": refused, and in the log", NAME(c, m));
    else if (m->num_kept > m->kept_max)
        violation(c, HISTORY_UNKNOWN_TWICE,
                  PLACES(m->invoked ? m->invoked : m->kept, m->kept, entry_of(m, ENTRY_EXPORT, 1)),
                  ABOUT ": %u times in the log", NAME(c, m), m->num_kept);
    if (m->num_kept && !m->invoked && m->room->recorded)
        violation(c, HISTORY_EXPORT_INVENTED, PLACES(m->kept), ABOUT " was sent by nobody", NAME(c, m));
    check_content(c, m);
}

/* Every recorded message has a client id, so one without it is none of them. */
static void check_nameless(struct checker *c, const struct entry *e)
{
    if (e->kind != ENTRY_EXPORT || e->client_id || !row_is_message(c, e)) return;
    const struct room *r = room_with_id(c, e->room);
    if (r && r->recorded)
        violation(c, HISTORY_EXPORT_INVENTED, PLACES(e), "room %s: seq %" PRIu64 " has no client_id: nobody sent it",
                  TEXT(c, e->room), e->seq);
}

void check_messages(struct checker *c)
{
    for (size_t i = 0; i < c->num_messages; i++) check_message(c, &c->messages[i]);
    for (const struct entry *e = c->h->entries, *end = e + c->h->len; e < end; e++) check_nameless(c, e);
}

/* --- real time --------------------------------------------------------------------------------------------------- */

/* What was known to be in the log before a message was sent stands before it: one sweep over the time of a room, with
 * the highest seq known so far. At the same moment nothing is before anything. */
static void check_order_of(struct checker *c, const struct keyed *moments, size_t num)
{
    const struct row *highest = NULL;
    for (size_t i = 0; i < num; i++) {
        const struct row *row = moments[i].of;
        bool known = moments[i].key[2];
        if (known && (!highest || row->entry->seq > highest->entry->seq)) highest = row;
        if (!known && highest && row->entry->seq < highest->entry->seq)
            violation(c, HISTORY_ORDER, PLACES(highest->known, moments[i].entry, row->entry),
                      "room %s: seq %" PRIu64 " was sent after seq %" PRIu64 " was known", TEXT(c, row->entry->room),
                      row->entry->seq, highest->entry->seq);
    }
}

void check_order(struct checker *c)
{
    struct list moments = {0};
    for (size_t r = 0; r < c->num_rooms; r++) {
        for (size_t i = 0; i < c->rooms[r].num_rows; i++) {
            struct row *row = &c->rooms[r].rows[i];
            const struct entry *sent = row->message ? row->message->invoked : NULL;
            if (row->known) list_add(&moments, row->known, row, r, row->known->t, 1, row->entry->seq);
            if (sent) list_add(&moments, sent, row, r, sent->t, 0, row->entry->seq);
            if (sent && row->known && row->known->t < sent->t)
                violation(c, HISTORY_RECEIVE_EARLY, PLACES(row->known, sent),
                          "room %s: seq %" PRIu64 " was known before it was sent", TEXT(c, row->entry->room),
                          row->entry->seq);
        }
    }
    list_sort(&moments);
    for (size_t i = 0, end; i < moments.len; i = end) {
        end = list_group(&moments, i, 1);
        check_order_of(c, &moments.items[i], end - i);
    }
    list_free(&moments);
}
