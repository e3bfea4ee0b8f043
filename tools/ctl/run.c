#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "exchange.h"
#include "own_key.h"
#include "table.h"

#define PAGES_MAX 10000u     /* of a list that is read to its end */
#define DRAIN_SPARE_S 30u    /* beyond drain.timeout_s, for the store to close */
#define DRAIN_LOOK_MS 100u

static int confirm(const struct ctl *c, const struct ctl_command *command);
static void expand(struct buf *out, const char *text, const struct ctl *c, bool encode);
static bool call(struct exchange *x, const struct ctl_command *command, const char *target);
static int print_answer(struct exchange *x, const struct ctl_command *command, struct buf *target);
static bool print_page(struct exchange *x, const struct ctl_command *command, struct table *table, struct buf *target,
                       size_t target_len, bool *more);
static void print_table(struct json_node array, const char *columns);

int ctl_run(const struct ctl *c, const struct ctl_command *command)
{
    int confirmed = command->destroys ? confirm(c, command) : CTL_DONE;
    if (confirmed != CTL_DONE) return confirmed;
    if (command->run) return command->run(c, command);
    struct exchange x;
    struct buf target = {0};
    struct own_key own_key = {0};
    const char *api_key = ctl_given(c, KEY);
    if (command->who == CTL_MEMBER && !api_key) {
        if (!own_key_make(&own_key, c)) return CTL_FAILED;
        api_key = own_key.api_key;
    }
    if (command->who == CTL_MEMBER) exchange_open_as(&x, c, api_key);
    else exchange_open(&x, c, command->who);
    expand(&target, command->target, c, true);
    if (command->query) command->query(&target, c);
    buf_char(&target, '\0');
    int code = call(&x, command, target.data) ? print_answer(&x, command, &target) : CTL_FAILED;
    if (fflush(stdout) != 0) code = CTL_FAILED;
    buf_free(&target);
    exchange_close(&x);
    own_key_revoke(&own_key, c);
    return code;
}

/* confirm asks whoever sits at a terminal. A script has to have said --yes: its input is not an answer. */
static int confirm(const struct ctl *c, const struct ctl_command *command)
{
    char answer[16] = "";
    if (ctl_given(c, YES)) return CTL_DONE;
    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "carillonctl: %s%s%s cannot be undone: say --yes (there is no terminal to ask at)\n",
                command->group, command->action ? " " : "", command->action ? command->action : "");
        return CTL_USAGE;
    }
    fprintf(stderr, "%s%s%s%s%s: this cannot be undone. Go on? [y/N] ", command->group, command->action ? " " : "",
            command->action ? command->action : "", c->num_arguments ? " " : "",
            c->num_arguments ? c->arguments[c->num_arguments - 1] : "");
    if (fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y')) return CTL_DONE;
    fprintf(stderr, "carillonctl: nothing was done\n");
    return CTL_FAILED;
}

/* --- the request ------------------------------------------------------------------------------------------------ */

static void expand(struct buf *out, const char *text, const struct ctl *c, bool encode)
{
    for (; *text; text++) {
        if (text[0] != '{') {
            buf_char(out, *text);
            continue;
        }
        const char *argument = c->arguments[text[1] - '0'];
        if (encode) ctl_encode(out, argument);
        else text_shown(out, slice_str(argument));
        text += 2;
    }
}

static bool call(struct exchange *x, const struct ctl_command *command, const char *target)
{
    struct buf body = {0};
    if (command->body) command->body(&body, x->c);
    bool good = exchange_call(x, command->method, target, buf_slice(&body));
    buf_free(&body);
    if (good) return true;
    bool report = command->who == CTL_ANYONE && x->parsed; /* health that is not good is still an answer to show */
    if (!report) exchange_complain(x);
    return report;
}

/* --- the answer ------------------------------------------------------------------------------------------------- */

static void print_json(const struct exchange *x) { printf("%.*s\n", SLICE_FMT(x->answer.body)); }

static int print_list(struct exchange *x, const struct ctl_command *command, struct buf *target)
{
    struct table table;
    size_t target_len = target->len - 1; /* without the NUL */
    bool more = true, good = true;
    table_init(&table, command->columns);
    for (unsigned page = 0; more && good && page < PAGES_MAX; page++) {
        good = page == 0 || call(x, command, target->data);
        if (good) good = print_page(x, command, &table, target, target_len, &more);
        if (command->one_page || ctl_given(x->c, LIMIT)) more = false; /* the user chose the page */
    }
    if (!x->c->json && (good || table.num_rows)) table_print(&table, stdout);
    table_free(&table);
    return good ? CTL_DONE : CTL_FAILED;
}

/* print_page takes in one page, and makes `target` that of the next one while there are *more. */
static bool print_page(struct exchange *x, const struct ctl_command *command, struct table *table, struct buf *target,
                       size_t target_len, bool *more)
{
    struct json_node items, item;
    *more = false;
    if (!x->parsed || !json_get(x->root, "items", &items) || json_type_of(items) != JSON_ARRAY) {
        fprintf(stderr, "carillonctl: the server's answer has no items\n");
        return false;
    }
    if (x->c->json) print_json(x);
    const char *without = ctl_given(x->c, ALL) ? NULL : command->without_state;
    for (struct json_iter i = json_array(items); json_array_next(&i, &item);)
        if (!without || !slice_is(exchange_text(item, "state"), without)) table_add(table, item);
    struct slice next = exchange_text(x->root, "next");
    *more = next.len > 0;
    target->len = target_len;
    buf_printf(target, "%ccursor=", memchr(target->data, '?', target_len) ? '&' : '?');
    char cursor[2048];
    snprintf(cursor, sizeof cursor, "%.*s", SLICE_FMT(next));
    ctl_encode(target, cursor);
    buf_char(target, '\0');
    return true;
}

/* answer_good: a 2xx with a body that is no object was not said by a gateway but by something in between; and a gateway
 * that is well says so. */
static bool answer_good(const struct exchange *x, const struct ctl_command *command)
{
    bool object = x->parsed && json_type_of(x->root) == JSON_OBJECT;
    if (x->answer.body.len ? !object : command->shape == CTL_OBJECT && !command->done) {
        fprintf(stderr, "carillonctl: the server's answer is no JSON object; is there a gateway at that address?\n");
        return false;
    }
    if (command->who == CTL_ANYONE && !slice_is(object ? exchange_text(x->root, "status") : slice_str(""), "ok"))
        return false;
    return x->answer.status / 100 == 2;
}

static int print_answer(struct exchange *x, const struct ctl_command *command, struct buf *target)
{
    if (command->shape == CTL_LIST) return print_list(x, command, target);
    bool good = answer_good(x, command);
    if (x->answer.body.len && (!x->parsed || json_type_of(x->root) != JSON_OBJECT)) return CTL_FAILED;
    if (command->shape == CTL_NOTHING || !x->answer.body.len) {
        struct buf done = {0};
        expand(&done, command->done ? command->done : "done", x->c, false);
        if (!x->c->json && good) printf("%.*s\n", SLICE_FMT(buf_slice(&done)));
        buf_free(&done);
    } else if (x->c->json) {
        print_json(x);
    } else {
        object_print(x->answer.body, x->root, command->part, stdout);
    }
    return good ? CTL_DONE : CTL_FAILED;
}

static void print_table(struct json_node array, const char *columns)
{
    struct table table;
    struct json_node item;
    table_init(&table, columns);
    for (struct json_iter i = json_array(array); json_array_next(&i, &item);) table_add(&table, item);
    table_print(&table, stdout);
    table_free(&table);
}

/* --- commands that are more than one request -------------------------------------------------------------------- */

/* print_part prints a list that is a member of the answer, under its name. */
static void print_part(const struct exchange *x, const char *name, const char *columns)
{
    struct json_node array;
    if (x->c->json || !x->parsed || !json_get(x->root, name, &array) || json_type_of(array) != JSON_ARRAY) return;
    putchar('\n');
    print_table(array, columns);
}

int user_show_run(const struct ctl *c, const struct ctl_command *command)
{
    struct exchange x;
    struct buf target = {0};
    exchange_open(&x, c, CTL_OPERATOR);
    expand(&target, command->target, c, true);
    command->query(&target, c);
    buf_char(&target, '\0');
    bool good = call(&x, command, target.data);
    if (good) good = print_answer(&x, command, &target) == CTL_DONE;
    if (good) print_part(&x, command->part, "room_id,delivered,read");
    target.len = 0;
    BUF_LIT(&target, "/v1/admin/connections?tenant_id=");
    ctl_encode(&target, c->arguments[0]);
    BUF_LIT(&target, "&user_id=");
    ctl_encode(&target, c->arguments[1]);
    buf_char(&target, '\0');
    good = good && call(&x, command, target.data);
    if (good && c->json) print_json(&x);
    if (good) print_part(&x, "items", "connection_id,kind,device,peer,opened_at,idle_ms,rooms,queued_bytes,replaying");
    if (fflush(stdout) != 0) good = false;
    buf_free(&target);
    exchange_close(&x);
    return good ? CTL_DONE : CTL_FAILED;
}

/* has_ended: nobody takes connections any more. A gateway that is only slow, or stopped, does. */
static bool has_ended(const struct endpoint *e)
{
    const char *why;
    int fd = endpoint_connect(e, DRAIN_LOOK_MS, &why), error = errno;
    if (fd >= 0) close(fd);
    return fd < 0 && (error == ECONNREFUSED || error == ENOENT);
}

static bool drain_wait(struct exchange *x, uint64_t timeout_s)
{
    const struct timespec pause = {.tv_nsec = DRAIN_LOOK_MS * 1000000l};
    http_client_close(&x->http); /* the gateway need not wait for it */
    for (unsigned looks = 0; looks < (timeout_s + DRAIN_SPARE_S) * 1000u / DRAIN_LOOK_MS; looks++) {
        if (has_ended(&x->http.endpoint)) return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

int drain_run(const struct ctl *c, const struct ctl_command *command)
{
    struct exchange x;
    exchange_open(&x, c, CTL_OPERATOR);
    bool good = call(&x, command, command->target);
    uint64_t timeout_s = good && x.parsed ? exchange_number(x.root, "timeout_s") : 0;
    if (good && c->json) print_json(&x);
    else if (good)
        printf("The gateway is draining: it ends when its clients have left, at the latest after %llu s.\n",
               (unsigned long long)timeout_s);
    fflush(stdout);
    if (good && ctl_given(c, WAIT)) {
        good = drain_wait(&x, timeout_s);
        if (!c->json && good) printf("It has ended.\n");
        if (!good) fprintf(stderr, "carillonctl: the gateway is still there; look at its log\n");
    }
    if (fflush(stdout) != 0) good = false;
    exchange_close(&x);
    return good ? CTL_DONE : CTL_FAILED;
}

/* print_texts prints a list of texts, each behind the same words; returns how many. */
static unsigned print_texts(const struct exchange *x, const char *name, const char *before, const char *after)
{
    struct json_node array, text;
    unsigned num = 0;
    if (!x->parsed || !json_get(x->root, name, &array) || json_type_of(array) != JSON_ARRAY) return 0;
    for (struct json_iter i = json_array(array); json_array_next(&i, &text); num++) {
        struct buf shown = {0};
        if (json_type_of(text) == JSON_STRING) text_shown(&shown, json_string(text));
        if (!x->c->json) printf("%s%.*s%s\n", before, SLICE_FMT(buf_slice(&shown)), after);
        buf_free(&shown);
    }
    return num;
}

int reload_run(const struct ctl *c, const struct ctl_command *command)
{
    struct exchange x;
    exchange_open(&x, c, CTL_OPERATOR);
    bool good = call(&x, command, command->target);
    if (good) {
        if (c->json) print_json(&x);
        unsigned problems = print_texts(&x, "problems", "nothing was taken over: ", "");
        unsigned changes = print_texts(&x, "applied", "", " is in effect");
        changes += print_texts(&x, "needs_restart", "", " has changed: it takes a restart");
        if (!c->json && problems + changes == 0) printf("nothing has changed\n");
        good = problems == 0;
    }
    if (fflush(stdout) != 0) good = false;
    exchange_close(&x);
    return good ? CTL_DONE : CTL_FAILED;
}
