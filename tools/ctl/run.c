#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "../../src/base/json.h"
#include "../client/http_client.h"
#include "ctl.h"
#include "table.h"

#define REQUEST_TIMEOUT_MS 30000u
#define PAGES_MAX 10000u /* of a list that is read to its end */

/* exchange: the connection and the last answer of one command. */
struct exchange {
    struct http_client http;
    struct http_answer answer;
    struct json_parser *parser;
    struct json_node root; /* of the answer, when `parsed` */
    bool parsed;
    struct buf fields;
};

static bool confirm(const struct ctl *c, const struct ctl_command *command);
static void expand(struct buf *out, const char *text, const struct ctl *c, bool encode);
static bool call(struct exchange *x, const struct ctl *c, const struct ctl_command *command, const char *target);
static int print_answer(struct exchange *x, const struct ctl *c, const struct ctl_command *command, struct buf *target);
static bool print_page(struct exchange *x, const struct ctl *c, struct table *table, struct buf *target,
                       size_t target_len, bool *more);
static void credentials(struct buf *out, const struct ctl *c, enum ctl_who who);

int ctl_run(const struct ctl *c, const struct ctl_command *command)
{
    if (command->destroys && !confirm(c, command)) return CTL_FAILED;
    struct exchange x = {.parser = json_parser_new(HTTP_CLIENT_BODY_BYTES_MAX)};
    ASSERT(x.parser);
    http_client_init(&x.http, &c->endpoint, REQUEST_TIMEOUT_MS);
    credentials(&x.fields, c, command->who);
    struct buf target = {0};
    expand(&target, command->target, c, true);
    if (command->query) command->query(&target, c);
    buf_char(&target, '\0');
    int code = call(&x, c, command, target.data) ? print_answer(&x, c, command, &target) : CTL_FAILED;
    if (fflush(stdout) != 0) code = CTL_FAILED;
    buf_free(&target);
    buf_free(&x.fields);
    json_parser_free(x.parser);
    http_client_close(&x.http);
    return code;
}

static bool confirm(const struct ctl *c, const struct ctl_command *command)
{
    char answer[16] = "";
    if (c->yes || !isatty(STDIN_FILENO)) return true;
    fprintf(stderr, "%s %s %s: this cannot be undone. Go on? [y/N] ", command->group, command->action,
            c->arguments[command->num_arguments - 1]);
    if (fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y')) return true;
    fprintf(stderr, "carillonctl: nothing was done\n");
    return false;
}

/* --- the request -------------------------------------------------------------------------------------------------- */

/* percent-encoding of everything but RFC 3986's unreserved characters: an id with a slash stays one segment. */
static void encoded(struct buf *out, const char *text)
{
    static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (; *text; text++) {
        if (strchr(unreserved, *text)) buf_char(out, *text);
        else buf_printf(out, "%%%02X", (unsigned char)*text);
    }
}

static void expand(struct buf *out, const char *text, const struct ctl *c, bool encode)
{
    for (; *text; text++) {
        if (text[0] != '{') {
            buf_char(out, *text);
            continue;
        }
        const char *argument = c->arguments[text[1] - '0'];
        if (encode) encoded(out, argument);
        else text_shown(out, slice_str(argument));
        text += 2;
    }
}

static void credentials(struct buf *out, const struct ctl *c, enum ctl_who who)
{
    if (who == CTL_OPERATOR && c->master_key) buf_printf(out, "X-Master-Key: %s\r\n", c->master_key);
    if (who == CTL_MEMBER) buf_printf(out, "X-API-Key: %s\r\nX-User-Id: %s\r\n", c->api_key, c->user);
}

static struct slice member_text(struct json_node object, const char *name)
{
    struct json_node node;
    bool text = json_get(object, name, &node) && json_type_of(node) == JSON_STRING;
    return text ? json_string(node) : slice_str("");
}

/* call_failed says what the server said: its detail for people, its code for whoever looks it up. */
static void call_failed(const struct exchange *x)
{
    struct buf text = {0};
    if (x->parsed && json_type_of(x->root) == JSON_OBJECT) {
        struct slice detail = member_text(x->root, "detail"), code = member_text(x->root, "code");
        text_shown(&text, detail.len ? detail : member_text(x->root, "title"));
        BUF_LIT(&text, " (");
        text_shown(&text, code);
        buf_printf(&text, ", HTTP %u)", x->answer.status);
    } else {
        buf_printf(&text, "the server answered HTTP %u", x->answer.status);
    }
    fprintf(stderr, "carillonctl: %.*s\n", SLICE_FMT(buf_slice(&text)));
    buf_free(&text);
}

static bool call(struct exchange *x, const struct ctl *c, const struct ctl_command *command, const char *target)
{
    struct buf body = {0};
    if (command->body) command->body(&body, c);
    enum status status =
        http_client_request(&x->http, &x->answer, command->method, target, buf_slice(&x->fields), buf_slice(&body));
    buf_free(&body);
    if (status != STATUS_OK) {
        fprintf(stderr, "carillonctl: no answer from %s%s%s: %s\n%s", c->endpoint.host, c->endpoint.local ? "" : ":",
                c->endpoint.port, x->http.why,
                "Is the gateway running? --socket PATH or --url URL say where; see carillonctl --help.\n");
        return false;
    }
    x->parsed = x->answer.body.len && json_parse_copy(x->parser, &x->root, x->answer.body) == JSON_OK;
    if (x->answer.status / 100 == 2) return true;
    bool report = command->who == CTL_ANYONE && x->parsed; /* health that is not good is still an answer to show */
    if (!report) call_failed(x);
    return report;
}

/* --- the answer --------------------------------------------------------------------------------------------------- */

static void print_json(const struct exchange *x)
{
    printf("%.*s\n", SLICE_FMT(x->answer.body));
}

static int print_list(struct exchange *x, const struct ctl *c, const struct ctl_command *command, struct buf *target)
{
    struct table table;
    size_t target_len = target->len - 1; /* without the NUL */
    bool more = true, good = true;
    table_init(&table, command->columns);
    for (unsigned page = 0; more && good && page < PAGES_MAX; page++) {
        good = page == 0 || call(x, c, command, target->data);
        if (good) good = print_page(x, c, &table, target, target_len, &more);
        if (command->query) more = false; /* the user chose the page */
    }
    if (!c->json && (good || table.num_rows)) table_print(&table, stdout);
    table_free(&table);
    return good ? CTL_DONE : CTL_FAILED;
}

/* print_page takes in one page, and makes `target` that of the next one while there are *more. */
static bool print_page(struct exchange *x, const struct ctl *c, struct table *table, struct buf *target,
                       size_t target_len, bool *more)
{
    struct json_node items, item;
    *more = false;
    if (c->json) print_json(x);
    if (!x->parsed || !json_get(x->root, "items", &items) || json_type_of(items) != JSON_ARRAY) {
        fprintf(stderr, "carillonctl: the server's answer has no items\n");
        return false;
    }
    for (struct json_iter i = json_array(items); json_array_next(&i, &item);) table_add(table, item);
    struct slice next = member_text(x->root, "next");
    *more = next.len > 0;
    target->len = target_len;
    BUF_LIT(target, "?cursor=");
    char cursor[2048];
    snprintf(cursor, sizeof cursor, "%.*s", SLICE_FMT(next));
    encoded(target, cursor);
    buf_char(target, '\0');
    return true;
}

static int print_answer(struct exchange *x, const struct ctl *c, const struct ctl_command *command, struct buf *target)
{
    bool good = x->answer.status / 100 == 2;
    if (command->shape == CTL_LIST) return print_list(x, c, command, target);
    if (command->shape == CTL_NOTHING || !x->answer.body.len) {
        struct buf done = {0};
        expand(&done, command->done ? command->done : "done", c, false);
        if (!c->json) printf("%.*s\n", SLICE_FMT(buf_slice(&done)));
        buf_free(&done);
    } else if (c->json || !x->parsed || json_type_of(x->root) != JSON_OBJECT) {
        print_json(x);
    } else {
        object_print(x->answer.body, x->root, stdout);
    }
    return good ? CTL_DONE : CTL_FAILED;
}
