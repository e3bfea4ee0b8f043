#include "chat.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "../../src/base/random.h"
#include "style.h"
#include "table.h"

#define HISTORY_EVENTS 20u         /* shown at the beginning */
#define UPGRADE_TIMEOUT_MS 5000u
#define RETRY_FIRST_MS 250u        /* between attempts, twice as long each time … */
#define RETRY_MOST_MS 5000u        /* … up to this */
#define LAST_ANSWERS_MS 10000u     /* for what was typed before the end of input */
#define LINE_BYTES_MAX (256u << 10)
#define LOOK_MS 1000u              /* the loop looks around at least that often */

static volatile sig_atomic_t told_to_end;

static bool chat_open(struct chat *chat);
static void chat_close(struct chat *chat);
static void loop(struct chat *chat);

int chat_run(const struct ctl *c, const struct ctl_command *command)
{
    struct chat chat = {.c = c, .room_id = c->arguments[0], .user = ctl_given(c, AS), .ws = {._fd = -1}};
    if (chat_open(&chat)) loop(&chat);
    else chat.code = CTL_FAILED;
    chat_close(&chat);
    return ferror(stdout) || fflush(stdout) != 0 ? CTL_FAILED : chat.code;
}

uint64_t chat_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

__attribute__((format(printf, 2, 0))) static void note(FILE *out, const char *format, va_list args)
{
    fprintf(out, "%s%s-- ", isatty(fileno(out)) ? "\r\033[K" : "", style(out, STYLE_FAINT));
    vfprintf(out, format, args);
    fprintf(out, "%s\n", style(out, STYLE_END));
}

void chat_note(const struct chat *chat, const char *format, ...)
{
    va_list args;
    if (ctl_given(chat->c, QUIET)) return;
    va_start(args, format);
    note(chat->c->json ? stderr : stdout, format, args);
    va_end(args);
}

void chat_problem(const struct chat *chat, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(chat->c->json || ctl_given(chat->c, QUIET) ? stderr : stdout, format, args);
    va_end(args);
}

void chat_end(struct chat *chat, int code)
{
    chat->ended = true;
    if (code != CTL_DONE) chat->code = code;
}

/* --- the beginning: where the room stands ------------------------------------------------------------ */

/* room_look asks where the room stands, so that its last events are the first thing to resume. */
static bool room_look(struct chat *chat)
{
    struct buf target = {0};
    BUF_LIT(&target, "/v1/rooms/");
    ctl_encode(&target, chat->room_id);
    buf_char(&target, '\0');
    bool good = exchange_call(&chat->rest, "GET", target.data, (struct slice){0}) && chat->rest.parsed;
    buf_free(&target);
    if (!good) {
        exchange_complain(&chat->rest);
        return false;
    }
    uint64_t head = exchange_number(chat->rest.root, "last_seq");
    chat->epoch = exchange_number(chat->rest.root, "epoch");
    uint64_t shown = ctl_given(chat->c, QUIET) ? 0 : HISTORY_EVENTS;
    chat->seq = head > shown ? head - shown : 0;
    struct buf name = {0};
    text_shown(&name, exchange_text(chat->rest.root, "name"));
    chat_note(chat, "%s %.*s", chat->room_id, SLICE_FMT(buf_slice(&name)));
    buf_free(&name);
    return true;
}

static void on_end(int signal_number) { told_to_end = signal_number; }

static bool chat_open(struct chat *chat)
{
    const struct sigaction end = {.sa_handler = on_end}; /* without SA_RESTART: poll returns */
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) ASSERT(sigaction(ends[i], &end, NULL) == 0);
    setvbuf(stdout, NULL, _IOLBF, 0); /* a line that is said is a line that is seen, also in a pipe */
    pendings_init(&chat->pending, random_u64(random_real()));
    chat->parser = json_parser_new(WS_CLIENT_FRAME_BYTES_MAX);
    ASSERT(chat->parser);
    const char *api_key = ctl_given(chat->c, KEY);
    if (!api_key && !own_key_make(&chat->own_key, chat->c)) return false;
    if (!api_key) api_key = chat->own_key.api_key;
    exchange_open_as(&chat->rest, chat->c, api_key);
    buf_printf(&chat->fields, "X-API-Key: %s\r\nX-User-Id: %s\r\n", api_key, chat->user);
    return room_look(chat);
}

static void chat_close(struct chat *chat)
{
    ws_client_close(&chat->ws);
    own_key_revoke(&chat->own_key, chat->c);
    if (chat->rest.parser) exchange_close(&chat->rest);
    pendings_free(&chat->pending);
    json_parser_free(chat->parser);
    buf_free(&chat->fields);
    buf_free(&chat->typed);
}

/* --- the connection --------------------------------------------------------------------------------------------- */

/* away notes that there is no connection, and when to try the next one. Codes from 4000 to 4099 mean: do not. */
static void away(struct chat *chat, bool closed)
{
    bool refused = !closed && chat->ws.http_status >= 400 && chat->ws.http_status < 500 && chat->ws.http_status != 429;
    bool final = (closed && chat->ws.close_code >= 4000 && chat->ws.close_code < 4100) || refused;
    struct buf why = {0};
    text_shown(&why, slice_str(chat->ws.why));
    if (final || !chat->told_away)
        chat_problem(chat, "%s: %.*s%s", chat->was_here ? "not connected any more" : "not connected",
                  SLICE_FMT(buf_slice(&why)), final ? "" : "; trying again …");
    buf_free(&why);
    ws_client_close(&chat->ws);
    chat->link = CHAT_AWAY;
    chat->told_away = true;
    if (final) chat_end(chat, CTL_FAILED);
    uint64_t wait_ms = RETRY_FIRST_MS << (chat->attempts < 5 ? chat->attempts : 5);
    if (wait_ms > RETRY_MOST_MS) wait_ms = RETRY_MOST_MS;
    wait_ms += random_u64(random_real()) % (wait_ms / 2); /* not all at once */
    if (chat->reconnect_after_ms) wait_ms = chat->reconnect_after_ms;
    chat->reconnect_after_ms = 0;
    chat->attempts++;
    chat->retry_ms = chat_now_ms() + wait_ms;
}

static void connect_again(struct chat *chat)
{
    struct buf hello = {0};
    enum status s = ws_client_open(&chat->ws, &chat->c->endpoint, "/v1/ws", "carillon.v1.json",
                                   buf_slice(&chat->fields), UPGRADE_TIMEOUT_MS);
    if (s == STATUS_OK) {
        BUF_LIT(&hello, "{\"type\":\"hello\",\"rooms\":[");
        buf_json_string(&hello, slice_str(chat->room_id));
        BUF_LIT(&hello, "],\"resume\":{");
        buf_json_string(&hello, slice_str(chat->room_id));
        buf_printf(&hello, ":[%llu,%llu]},\"device\":\"carillonctl\"}", (unsigned long long)chat->epoch,
                   (unsigned long long)chat->seq);
        s = ws_client_send(&chat->ws, buf_slice(&hello));
        buf_free(&hello);
    }
    if (s == STATUS_OK) chat->link = CHAT_GREETED;
    else away(chat, false);
}

static void receive(struct chat *chat)
{
    struct slice text;
    while (chat->link != CHAT_AWAY && !chat->ended) {
        enum status s = ws_client_receive(&chat->ws, &text, 0);
        if (s == STATUS_FULL) return;
        if (s == STATUS_OK) chat_frame(chat, text);
        else away(chat, s == STATUS_NOT_FOUND);
    }
}

static void send_next(struct chat *chat)
{
    struct pending *message = chat->link == CHAT_HERE ? pendings_next(&chat->pending, chat_now_ms()) : NULL;
    if (!message) return;
    struct buf request = {0};
    pending_request(&request, &chat->pending, message, chat->room_id);
    message->due_ms = PENDING_SENT;
    enum status s = ws_client_send(&chat->ws, buf_slice(&request));
    buf_free(&request);
    if (s != STATUS_OK) away(chat, false);
}

/* --- what is typed ---------------------------------------------------------------------------------------------- */

static void who(struct chat *chat)
{
    struct buf target = {0};
    struct json_node items, item;
    BUF_LIT(&target, "/v1/rooms/");
    ctl_encode(&target, chat->room_id);
    BUF_LIT(&target, "/members");
    buf_char(&target, '\0');
    bool good = exchange_call(&chat->rest, "GET", target.data, (struct slice){0}) && chat->rest.parsed;
    buf_free(&target);
    if (!good) exchange_complain(&chat->rest);
    else if (chat->c->json) printf("%.*s\n", SLICE_FMT(chat->rest.answer.body));
    if (!good || chat->c->json || !json_get(chat->rest.root, "items", &items)) return;
    struct table table;
    table_init(&table, "user_id,role,joined_at");
    for (struct json_iter i = json_array(items); json_array_next(&i, &item);) table_add(&table, item);
    table_print(&table, stdout);
    table_free(&table);
}

static void history(struct chat *chat, struct slice argument)
{
    uint64_t num = HISTORY_EVENTS;
    struct buf target = {0};
    struct json_node items, item;
    if (argument.len && (!slice_u64(argument, &num) || num == 0 || num > 1000)) {
        chat_problem(chat, "/history takes a number from 1 to 1000");
        return;
    }
    BUF_LIT(&target, "/v1/rooms/");
    ctl_encode(&target, chat->room_id);
    buf_printf(&target, "/messages?before_seq=9007199254740991&limit=%llu", (unsigned long long)num);
    buf_char(&target, '\0');
    bool good = exchange_call(&chat->rest, "GET", target.data, (struct slice){0}) && chat->rest.parsed;
    buf_free(&target);
    if (!good) exchange_complain(&chat->rest);
    else if (chat->c->json) printf("%.*s\n", SLICE_FMT(chat->rest.answer.body));
    if (!good || !json_get(chat->rest.root, "items", &items)) return;
    for (struct json_iter i = json_array(items); json_array_next(&i, &item);) chat_message(chat, item);
}

static void end_of_input(struct chat *chat)
{
    chat->typed_end = true;
    chat->end_ms = chat_now_ms() + LAST_ANSWERS_MS;
}

static void no_command(const struct chat *chat, struct slice line)
{
    const char *space = memchr(line.data, ' ', line.len);
    struct buf name = {0};
    text_shown(&name, slice_of(line.data, space ? (size_t)(space - line.data) : line.len));
    chat_problem(chat, "there is no command %.*s; /help lists them, //text sends a line that begins with /",
                 SLICE_FMT(buf_slice(&name)));
    buf_free(&name);
}

static void command_take(struct chat *chat, struct slice line)
{
    if (slice_is(line, "/quit")) end_of_input(chat);
    else if (slice_is(line, "/who")) who(chat);
    else if (slice_is(line, "/history")) history(chat, (struct slice){0});
    else if (slice_starts(line, SLICE("/history "))) history(chat, slice_from(line, 9));
    else if (slice_is(line, "/help"))
        chat_note(chat, "/who   /history [N]   /quit   //text sends a line that begins with /");
    else no_command(chat, line);
}

/* echo_remove takes the line that the terminal has echoed off the screen: the room shows it again, with its number. */
static void echo_remove(const struct chat *chat, struct slice line)
{
    struct winsize size;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || chat->c->json || chat->link != CHAT_HERE) return;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return;
    size_t rows = 1 + text_columns(line) / size.ws_col;
    printf("\033[%zuA\r\033[J", rows);
}

static void line_take(struct chat *chat, struct slice line)
{
    if (line.len && line.data[line.len - 1] == '\r') line.len--;
    if (line.len == 0) return;
    if (!json_utf8_valid(line)) {
        chat_problem(chat, "not sent: that is not UTF-8");
        chat->code = CTL_FAILED;
    } else if (line.data[0] == '/' && !slice_starts(line, SLICE("//"))) {
        command_take(chat, line);
    } else {
        echo_remove(chat, line);
        if (chat->link != CHAT_HERE && chat->was_here) chat_note(chat, "it is sent when the gateway is back");
        pendings_add(&chat->pending, slice_from(line, line.data[0] == '/' ? 1 : 0));
    }
}

/* held: what a pipe has ready waits for the first welcome, so that the answers to it come behind; or for the first
 * attempt that has failed, since then nobody knows when there will be one. */
static bool held(const struct chat *chat) { return !chat->was_here && chat->attempts == 0; }

/* lines_take takes whole lines while there is room for messages. */
static void lines_take(struct chat *chat)
{
    while (!held(chat) && !chat->typed_end && chat->pending.num < PENDING_MAX) {
        char *end = chat->typed.len ? memchr(chat->typed.data, '\n', chat->typed.len) : NULL;
        if (!end && chat->input_ended) end_of_input(chat);
        if (!end) return;
        size_t len = (size_t)(end - chat->typed.data);
        line_take(chat, slice_of(chat->typed.data, len));
        buf_consume(&chat->typed, len + 1);
    }
}

static void input_take(struct chat *chat)
{
    char bytes[4096];
    ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got > 0) {
        buf_append(&chat->typed, bytes, (size_t)got);
    } else {
        if (chat->typed.len && chat->typed.data[chat->typed.len - 1] != '\n') buf_char(&chat->typed, '\n');
        chat->input_ended = true;
    }
    lines_take(chat);
    if (chat->typed.len <= LINE_BYTES_MAX || chat->pending.num == PENDING_MAX) return;
    chat_problem(chat, "not sent: a line of more than %u bytes", LINE_BYTES_MAX);
    chat->typed.len = 0;
    chat->code = CTL_FAILED;
}

/* --- the loop --------------------------------------------------------------------------------------------------- */

/* wait_ms: until the next thing that happens by itself. */
static int wait_ms(const struct chat *chat)
{
    uint64_t now = chat_now_ms(), due = now + LOOK_MS;
    if (chat->link == CHAT_AWAY && chat->retry_ms < due) due = chat->retry_ms;
    bool waits = chat->link == CHAT_HERE && chat->pending.num && chat->pending.items[0].due_ms < due;
    if (waits) due = chat->pending.items[0].due_ms;
    return due > now ? (int)(due - now) : 0;
}

static void look_around(struct chat *chat)
{
    bool reads = !held(chat) && !chat->input_ended && !chat->typed_end && chat->pending.num < PENDING_MAX;
    struct pollfd fds[2] = {{.fd = reads ? STDIN_FILENO : -1, .events = POLLIN},
                            {.fd = chat->link != CHAT_AWAY ? ws_client_fd(&chat->ws) : -1, .events = POLLIN}};
    if (poll(fds, 2, wait_ms(chat)) <= 0) return;
    if (fds[1].revents) receive(chat);
    if (fds[0].revents) input_take(chat);
}

static void loop(struct chat *chat)
{
    while (!chat->ended && !told_to_end && !ferror(stdout)) {
        if (chat->link == CHAT_AWAY && chat_now_ms() >= chat->retry_ms) connect_again(chat);
        send_next(chat);
        lines_take(chat); /* what had no room before */
        bool settled = chat->typed_end && (chat->pending.num == 0 || chat_now_ms() >= chat->end_ms);
        if (settled) break;
        look_around(chat);
    }
    if (chat->pending.num == 0) return;
    fprintf(stderr, "carillonctl: %u of the messages were not acknowledged\n", chat->pending.num);
    chat->code = CTL_FAILED;
}
