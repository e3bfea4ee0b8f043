/* chat_frames: what the gateway says, as lines for people. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "chat.h"
#include "style.h"
#include "table.h"

#define AGAIN_MS 1000u /* before a message that was refused for now is sent again */

static void on_welcome(struct chat *chat, struct json_node frame);
static void on_resumed(struct chat *chat, struct json_node frame);
static void on_answer(struct chat *chat, struct json_node frame);
static void on_error(struct chat *chat, struct json_node frame);
static void on_event(struct chat *chat, struct json_node frame, struct slice type, struct slice text);
static void on_passing(struct chat *chat, struct json_node frame, struct slice type);

void chat_frame(struct chat *chat, struct slice text)
{
    struct json_node frame;
    if (json_parse_copy(chat->parser, &frame, text) != JSON_OK) {
        chat_problem(chat, "the gateway sent something that is not JSON");
        return;
    }
    if (chat->c->json) printf("%.*s\n", SLICE_FMT(text));
    struct slice type = exchange_text(frame, "type");
    struct json_node seq;
    if (slice_is(type, "welcome")) on_welcome(chat, frame);
    else if (slice_is(type, "resumed")) on_resumed(chat, frame);
    else if (slice_is(type, "ok")) on_answer(chat, frame);
    else if (slice_is(type, "error")) on_error(chat, frame);
    else if (slice_is(type, "server.shutdown")) chat->reconnect_after_ms = exchange_number(frame, "reconnect_after_ms");
    else if (json_get(frame, "seq", &seq)) on_event(chat, frame, type, text);
    else on_passing(chat, frame, type);
}

static void on_welcome(struct chat *chat, struct json_node frame)
{
    if (chat->was_here) chat_note(chat, "connected again");
    else chat_note(chat, "connected as %s; /help says what can be typed", chat->user);
    chat->link = CHAT_HERE;
    chat->was_here = true;
    chat->told_away = false;
    chat->attempts = 0;
    if (chat->pending.num) chat->pending.items[0].due_ms = 0; /* whether it was kept is not known: once more */
}

/* on_resumed: recovered means that what follows is what follows. Else the position is void, from there on at least. */
static void on_resumed(struct chat *chat, struct json_node frame)
{
    struct json_node node;
    bool recovered = true;
    uint64_t from = exchange_number(frame, "from");
    if (json_get(frame, "recovered", &node) && json_type_of(node) == JSON_BOOL) json_bool(node, &recovered);
    if (!recovered && from <= chat->seq)
        chat_problem(chat, "what was shown from #%llu on was lost; this is what is there", (unsigned long long)from);
    chat->epoch = exchange_number(frame, "epoch");
    if (from) chat->seq = from - 1;
}

static void on_answer(struct chat *chat, struct json_node frame)
{
    pendings_done(&chat->pending, exchange_number(frame, "re"));
}

static void on_error(struct chat *chat, struct json_node frame)
{
    struct json_node node;
    bool temporary = false;
    struct buf shown = {0};
    uint64_t re = exchange_number(frame, "re");
    struct slice detail = exchange_text(frame, "detail"), code = exchange_text(frame, "code");
    if (json_get(frame, "temporary", &node) && json_type_of(node) == JSON_BOOL) json_bool(node, &temporary);
    text_shown(&shown, detail);
    if (temporary && re && chat->pending.num && chat->pending.items[0].number == re) {
        chat->pending.items[0].due_ms = chat_now_ms() + AGAIN_MS;
    } else if (re && pendings_done(&chat->pending, re)) {
        chat_problem(chat, "not sent: %.*s", SLICE_FMT(buf_slice(&shown)));
        chat->code = CTL_FAILED;
    } else {
        chat_problem(chat, "%.*s", SLICE_FMT(buf_slice(&shown)));
    }
    bool no_room = slice_is(code, "room.not_found") || slice_is(code, "room.not_member");
    if (!re && no_room) chat_end(chat, CTL_FAILED); /* hello was refused */
    buf_free(&shown);
}

/* --- events of the room ----------------------------------------------------------------------------------------- */

/* local_time writes the time of day where the reader is. */
static void local_time(char out[16], struct slice created_at)
{
    char text[32];
    struct tm utc = {0}, local;
    snprintf(text, sizeof text, "%.*s", SLICE_FMT(created_at));
    if (sscanf(text, "%d-%d-%dT%d:%d:%d", &utc.tm_year, &utc.tm_mon, &utc.tm_mday, &utc.tm_hour, &utc.tm_min,
               &utc.tm_sec) != 6) {
        snprintf(out, 16, "--:--:--");
        return;
    }
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    time_t seconds = timegm(&utc);
    localtime_r(&seconds, &local);
    strftime(out, 16, "%H:%M:%S", &local);
}

void chat_message(const struct chat *chat, struct json_node message)
{
    char time[16];
    struct buf sender = {0}, content = {0};
    struct json_node node;
    if (chat->c->json || ctl_given(chat->c, QUIET)) return;
    local_time(time, exchange_text(message, "created_at"));
    text_shown(&sender, exchange_text(message, "sender_id"));
    text_shown(&content, exchange_text(message, "content"));
    bool removed = json_get(message, "content", &node) && json_type_of(node) == JSON_NULL;
    printf("%s%s%s #%llu%s %s%.*s%s: %.*s\n", isatty(STDOUT_FILENO) ? "\r\033[K" : "", style(stdout, STYLE_FAINT), time,
           (unsigned long long)exchange_number(message, "seq"), style(stdout, STYLE_END),
           style_person(stdout, sender.data, sender.len), SLICE_FMT(buf_slice(&sender)), style(stdout, STYLE_END),
           removed ? 9 : (int)content.len, removed ? "(removed)" : content.len ? content.data : "");
    buf_free(&sender);
    buf_free(&content);
}

/* people_text appends who has joined or left: names, or how many. */
static void people_text(struct buf *out, const struct chat *chat, struct json_node frame, bool *me)
{
    struct json_node ids, id;
    unsigned num = 0;
    *me = false;
    if (!json_get(frame, "user_ids", &ids) || json_type_of(ids) != JSON_ARRAY) {
        buf_printf(out, "%llu people", (unsigned long long)exchange_number(frame, "count"));
        return;
    }
    for (struct json_iter i = json_array(ids); json_array_next(&i, &id); num++) {
        if (json_type_of(id) != JSON_STRING) continue;
        if (num) BUF_LIT(out, ", ");
        text_shown(out, json_string(id));
        if (slice_is(json_string(id), chat->user)) *me = true;
    }
}

static void on_event(struct chat *chat, struct json_node frame, struct slice type, struct slice text)
{
    uint64_t seq = exchange_number(frame, "seq");
    struct slice room = exchange_text(frame, "room_id");
    bool joined = slice_is(type, "user_joined"), left = slice_is(type, "user_left");
    if (!slice_is(room, chat->room_id) || seq <= chat->seq) return; /* twice: a resume may overlap */
    chat->seq = seq;
    if (slice_is(type, "message")) {
        chat_message(chat, frame);
    } else if (joined || left) {
        struct buf who = {0};
        bool me;
        people_text(&who, chat, frame, &me);
        chat_note(chat, "#%llu %.*s %s", (unsigned long long)seq, SLICE_FMT(buf_slice(&who)),
                  joined ? "joined" : "left");
        buf_free(&who);
        if (left && me) chat_end(chat, CTL_FAILED);
    } else {
        struct buf kind = {0};
        text_shown(&kind, type);
        chat_note(chat, "#%llu %.*s", (unsigned long long)seq, SLICE_FMT(buf_slice(&kind)));
        buf_free(&kind);
    }
}

/* on_passing: news that are in no log. */
static void on_passing(struct chat *chat, struct json_node frame, struct slice type)
{
    struct buf who = {0}, status = {0};
    struct slice action = exchange_text(frame, "action");
    text_shown(&who, exchange_text(frame, "user_id"));
    text_shown(&status, exchange_text(frame, "status"));
    bool me = slice_is(exchange_text(frame, "user_id"), chat->user);
    if (slice_is(type, "typing") && !slice_is(action, "stop") && !me)
        chat_note(chat, "%.*s is typing", SLICE_FMT(buf_slice(&who)));
    else if (slice_is(type, "presence.update") && !me)
        chat_note(chat, "%.*s is %.*s", SLICE_FMT(buf_slice(&who)), SLICE_FMT(buf_slice(&status)));
    buf_free(&who);
    buf_free(&status);
}
