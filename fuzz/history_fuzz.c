/* The history checker. An input that begins with '{' is a record as it would come from a file: its lines are read, and
 * whatever they make is judged. Any other input drives a model of clients and of a gateway without bugs, whose history
 * must pass; then the verdict must not depend on the order of what has none, even after something in it was broken, and
 * the row of each acknowledged message must be missed when it is taken out of the log. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/base/assert.h"
#include "../tests/history/record.h"

#define ROOMS 2u
#define USERS 3u
#define EVENTS_MAX 64u /* of one room */
#define LINES_MAX 1024u
#define LINE_MAX 320u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* line: of a record or an export. Lines of one group keep their order; groups are of no order among each other. */
struct line {
    char text[LINE_MAX];
    unsigned group;
    bool acknowledged; /* the row of a message that was acknowledged */
    unsigned room;     /* of a row, from 1 on */
    unsigned seq;
};

struct place {
    bool member;
    unsigned held;       /* the device has everything up to here */
    unsigned last;       /* the last event that is meant for it; while it is a member: all of them */
    unsigned connection; /* 0: none yet */
};

struct model {
    const uint8_t *data;
    size_t len;
    uint64_t t;
    struct line *lines;
    unsigned num_lines;
    unsigned heads[ROOMS], names, groups;
    unsigned rows[ROOMS][EVENTS_MAX];        /* the lines of the log */
    char shown[ROOMS][EVENTS_MAX][LINE_MAX]; /* members of each event, as a receipt has them */
    struct place places[ROOMS][USERS];
};

enum group { GROUP_OWN, GROUP_LOG = 1, GROUP_FIRST_CONNECTION = GROUP_LOG + ROOMS };

static void read_record(const char *text, size_t len);
static void run_model(struct model *m);
static void judge(struct model *m);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct model model;
    static struct line lines[LINES_MAX];
    if (len && data[0] == '{') {
        read_record((const char *)data, len);
        return 0;
    }
    model = (struct model){.data = data, .len = len, .lines = lines, .groups = GROUP_FIRST_CONNECTION};
    run_model(&model);
    judge(&model);
    return 0;
}

/* --- records as they come ---------------------------------------------------------------------------------------- */

/* A line that is refused adds nothing; the rest is judged all the same, since it may be any mixture. */
static void read_record(const char *text, size_t len)
{
    struct history *h = history_new();
    struct history_report report;
    char error[RECORD_ERROR_MAX], *shown = NULL;
    size_t shown_len = 0;
    uint32_t file = history_file(h, "input"), number = 0;
    for (const char *end; len; len -= (size_t)(end - text), text = end) {
        const char *newline = memchr(text, '\n', len);
        end = newline ? newline + 1 : text + len;
        size_t before = history_len(h);
        history_at(h, file, ++number);
        bool ok = record_line(h, error, (struct history_text){text, (size_t)(end - text) - (newline != NULL)});
        ASSERT(ok ? !error[0] && history_len(h) - before <= 1 : error[0] && history_len(h) == before);
    }
    uint64_t found = history_check(h, &(struct history_options){.up_to = number}, &report), sum = 0;
    for (unsigned rule = 0; rule < HISTORY_RULES; rule++) sum += report.found[rule];
    ASSERT(sum == found && report.total == found && (found == 0) == (report.num_violations == 0));
    FILE *out = open_memstream(&shown, &shown_len);
    history_report_print(&report, out);
    history_report_json(&report, out);
    fclose(out);
    free(shown);
    history_report_free(&report);
    history_free(h);
}

/* --- a gateway without bugs -------------------------------------------------------------------------------------- */

static unsigned next(struct model *m, unsigned below)
{
    if (m->len == 0) return 0;
    m->len--;
    return *m->data++ % below;
}

static struct line *add(struct model *m, unsigned group, const char *format, ...) __attribute__((format(printf, 3, 4)));
static struct line *add(struct model *m, unsigned group, const char *format, ...)
{
    va_list arguments;
    struct line *l = &m->lines[m->num_lines++];
    ASSERT(m->num_lines <= LINES_MAX);
    *l = (struct line){.group = group};
    va_start(arguments, format);
    int len = vsnprintf(l->text, sizeof l->text, format, arguments);
    va_end(arguments);
    ASSERT(len > 0 && (size_t)len < sizeof l->text);
    m->t += 10;
    return l;
}

#define WHO "\"room\":\"r%u\",\"user\":\"u%u\",\"device\":\"d%u\""

/* append gives the next seq of a room to an event: `members` as the log and readers have them. */
static unsigned append(struct model *m, unsigned room, const char *type, const char *members, const char *sender)
{
    unsigned seq = ++m->heads[room];
    ASSERT(seq <= EVENTS_MAX);
    char *shown = m->shown[room][seq - 1];
    snprintf(shown, LINE_MAX, "\"type\":\"%s\",\"seq\":%u,\"created_at\":\"2026-01-01T00:00:%02u.000Z\"%s", type, seq,
             seq % 60 == seq ? seq : 59, members);
    struct line *row = add(m, GROUP_LOG + room, "{\"room_id\":\"r%u\",%s%s}", room, shown, sender);
    row->room = room + 1;
    row->seq = seq;
    m->rows[room][seq - 1] = (unsigned)(row - m->lines);
    return seq;
}

static void send_message(struct model *m, unsigned room, unsigned user)
{
    char members[LINE_MAX], sender[LINE_MAX], name[LINE_MAX];
    unsigned number = ++m->names, outcome = next(m, 8), again = outcome == 4;
    bool kept = m->places[room][user].member && outcome != 6 && outcome != 7;
    snprintf(name, sizeof name, "\"room\":\"r%u\",\"sender\":\"u%u\",\"client_id\":\"c%u\"", room, user, number);
    snprintf(members, sizeof members, ",\"client_id\":\"c%u\",\"content\":\"text %u\",\"message_id\":\"m%u-%u\"",
             number, number, room, m->heads[room] + 1);
    snprintf(sender, sizeof sender, ",\"sender_id\":\"u%u\"", user);
    add(m, GROUP_OWN, "{\"op\":\"invoke\",\"t\":%" PRIu64 ",%s,\"content\":\"text %u\"}", m->t, name, number);
    if (again) add(m, GROUP_OWN, "{\"op\":\"unknown\",\"t\":%" PRIu64 ",%s}", m->t, name);
    if (again)
        add(m, GROUP_OWN, "{\"op\":\"invoke\",\"t\":%" PRIu64 ",%s,\"content\":\"text %u\"}", m->t, name, number);
    unsigned seq = kept ? append(m, room, "message", members, sender) : 0;
    if (kept) snprintf(m->shown[room][seq - 1] + strlen(m->shown[room][seq - 1]), 32, ",\"sender\":\"u%u\"", user);
    if (kept && outcome < 5) {
        m->lines[m->rows[room][seq - 1]].acknowledged = true;
        add(m, GROUP_OWN, "{\"op\":\"ok\",\"t\":%" PRIu64 ",%s,\"seq\":%u,\"message_id\":\"m%u-%u\"}", m->t, name, seq,
            room, seq);
    } else if (!kept && outcome == 7) {
        add(m, GROUP_OWN, "{\"op\":\"fail\",\"t\":%" PRIu64 ",%s,\"code\":\"x\"}", m->t, name);
    }
}

static void connect(struct model *m, unsigned room, unsigned user)
{
    struct place *p = &m->places[room][user];
    p->connection = m->groups++;
    add(m, p->connection,
        "{\"op\":\"resumed\",\"t\":%" PRIu64 "," WHO ",\"connection\":\"k%u\",\"asked\":[1,%u],\"epoch\":1,"
        "\"recovered\":true,\"from\":%u,\"head\":%u}",
        m->t, room, user, user, p->connection, p->held, p->held + 1, m->heads[room]);
}

/* deliver shows a device its next event, if there is one that is meant for it. */
static bool deliver(struct model *m, unsigned room, unsigned user)
{
    struct place *p = &m->places[room][user];
    unsigned last = p->member ? m->heads[room] : p->last;
    if (p->held >= last || m->num_lines + 64 > LINES_MAX) return false;
    if (!p->connection && p->member) connect(m, room, user);
    if (!p->connection) return false;
    p->held++;
    add(m, p->connection, "{\"op\":\"receive\",\"t\":%" PRIu64 "," WHO ",\"connection\":\"k%u\",\"epoch\":1,%s}", m->t,
        room, user, user, p->connection, m->shown[room][p->held - 1]);
    return true;
}

static void move(struct model *m, unsigned room, unsigned user)
{
    struct place *p = &m->places[room][user];
    char members[64];
    snprintf(members, sizeof members, ",\"user_ids\":[\"u%u\"]", user);
    if (p->member) {
        p->last = append(m, room, "user_left", members, "");
        p->member = false;
        add(m, GROUP_OWN, "{\"op\":\"left\",\"t\":%" PRIu64 ",\"room\":\"r%u\",\"user\":\"u%u\"}", m->t, room, user);
    } else {
        add(m, GROUP_OWN, "{\"op\":\"member\",\"t\":%" PRIu64 ",\"room\":\"r%u\",\"user\":\"u%u\"}", m->t, room, user);
        append(m, room, "user_joined", members, "");
        p->member = true;
        p->connection = 0;
    }
}

static void page(struct model *m, unsigned room, unsigned user)
{
    unsigned from = next(m, m->heads[room] + 1), connection = m->groups++;
    uint64_t asked = m->t;
    if (!m->places[room][user].member) return;
    for (unsigned seq = from + 1; seq <= m->heads[room] && seq < from + 6; seq++)
        add(m, connection,
            "{\"op\":\"receive\",\"t\":%" PRIu64 ",\"room\":\"r%u\",\"user\":\"u%u\",\"connection\":\"k%u\","
            "\"path\":\"events\",\"asked\":%" PRIu64 ",%s}",
            m->t, room, user, connection, asked + 1, m->shown[room][seq - 1]);
}

static void ack(struct model *m, unsigned room, unsigned user)
{
    struct place *p = &m->places[room][user];
    uint64_t asked = m->t;
    if (!p->member || p->held == 0) return;
    add(m, GROUP_OWN, "{\"op\":\"ack\",\"t\":%" PRIu64 "," WHO ",\"seq\":%u}", asked, room, user, user, p->held);
    add(m, GROUP_OWN, "{\"op\":\"acked\",\"t\":%" PRIu64 "," WHO ",\"seq\":%u,\"asked\":%" PRIu64 "}", m->t, room, user,
        user, p->held, asked);
    add(m, GROUP_OWN, "{\"op\":\"cursor\",\"t\":%" PRIu64 "," WHO ",\"seq\":%u,\"asked\":%" PRIu64 "}", m->t, room,
        user, user, p->held, m->t - 1);
}

static void notify(struct model *m, unsigned user)
{
    unsigned number = ++m->names, outcome = next(m, 4);
    add(m, GROUP_OWN, "{\"op\":\"notify\",\"t\":%" PRIu64 ",\"key\":\"n%u\",\"user\":\"u%u\",\"content\":\"p%u\"}",
        m->t, number, user, number);
    if (outcome < 3)
        add(m, GROUP_OWN, "{\"op\":\"notify_ok\",\"t\":%" PRIu64 ",\"key\":\"n%u\",\"notification_id\":\"i%u\"}", m->t,
            number, number);
    if (outcome == 0)
        add(m, GROUP_OWN, "{\"op\":\"dead_letter\",\"t\":%" PRIu64 ",\"user\":\"u%u\",\"notification_id\":\"i%u\"}",
            m->t, user, number);
    else
        add(m, GROUP_OWN,
            "{\"op\":\"notified\",\"t\":%" PRIu64 ",\"user\":\"u%u\",\"notification_id\":\"i%u\",\"content\":\"p%u\"}",
            m->t, user, number, number);
}

static void act(struct model *m)
{
    unsigned room = next(m, ROOMS), user = next(m, USERS);
    switch (next(m, 9)) {
    case 0:
    case 1:
    case 2: send_message(m, room, user); return;
    case 3:
    case 4: deliver(m, room, user); return;
    case 5:
        if (m->places[room][user].member) connect(m, room, user);
        return;
    case 6: page(m, room, user); return;
    case 7: ack(m, room, user); return;
    case 8:
        if (next(m, 3))
            notify(m, user);
        else
            move(m, room, user);
        return;
    }
}

/* run_model leaves room for what healing adds: every member's device gets every event. */
static void run_model(struct model *m)
{
    m->t = 1000;
    for (unsigned room = 0; room < ROOMS; room++)
        for (unsigned user = 0; user < USERS; user++) {
            m->places[room][user].member = true;
            add(m, GROUP_OWN, "{\"op\":\"member\",\"t\":1,\"room\":\"r%u\",\"user\":\"u%u\"}", room, user);
        }
    for (unsigned step = 0; m->len > 1 && step < 120 && m->heads[0] < EVENTS_MAX / 2 && m->heads[1] < EVENTS_MAX / 2;
         step++)
        act(m);
    uint64_t healed = m->t;
    add(m, GROUP_OWN, "{\"op\":\"healed\",\"t\":%" PRIu64 ",\"within_ns\":1000000}", healed);
    for (unsigned room = 0; room < ROOMS; room++)
        for (unsigned user = 0; user < USERS; user++)
            while (m->places[room][user].member && deliver(m, room, user)) continue;
}

/* --- what must hold ---------------------------------------------------------------------------------------------- */

/* verdict reads the lines, but for one that is left out, in the order of their groups turned by `turn`. */
static void verdict(struct history_report *out, const struct model *m, unsigned turn, unsigned left_out)
{
    struct history *h = history_new();
    char error[RECORD_ERROR_MAX];
    for (unsigned n = 0; n < (turn ? m->groups : 1); n++)
        for (unsigned i = 0; i < m->num_lines; i++) {
            const struct line *l = &m->lines[i];
            if (i == left_out || (turn && l->group != (n * 7 + turn) % m->groups)) continue;
            bool ok = record_line(h, error, (struct history_text){l->text, strlen(l->text)});
            ASSERT(ok);
        }
    history_check(h, NULL, out);
    history_free(h);
}

static void expect_nothing(const struct model *m, unsigned turn)
{
    struct history_report report;
    verdict(&report, m, turn, LINES_MAX);
    if (report.total) {
        for (unsigned i = 0; i < m->num_lines; i++) fprintf(stderr, "%s\n", m->lines[i].text);
        history_report_print(&report, stderr);
    }
    ASSERT(report.total == 0);
    history_report_free(&report);
}

/* The rows behind one that is left out move up, in one room: what is gone must be missed, whatever else is. */
static void expect_missed(const struct model *m, unsigned row)
{
    struct history_report report;
    verdict(&report, m, 0, row);
    ASSERT(report.found[HISTORY_OK_LOST] == 1);
    history_report_free(&report);
}

static void expect_the_same(const struct model *m, unsigned left_out, unsigned turn)
{
    struct history_report straight, turned;
    verdict(&straight, m, 0, left_out);
    verdict(&turned, m, turn, left_out);
    ASSERT(memcmp(straight.found, turned.found, sizeof straight.found) == 0);
    ASSERT(straight.messages == turned.messages && straight.receipts == turned.receipts);
    history_report_free(&straight);
    history_report_free(&turned);
}

static void judge(struct model *m)
{
    while (m->groups % 7 == 0) m->groups++; /* then the multiples of 7 go through all of them */
    unsigned turn = 1 + next(m, m->groups - 1);
    expect_nothing(m, 0);
    expect_nothing(m, turn);
    expect_the_same(m, next(m, m->num_lines), turn);
    for (unsigned i = 0, tried = 0; i < m->num_lines && tried < 3; i++)
        if (m->lines[i].acknowledged) {
            expect_missed(m, i);
            tried++;
        }
}
