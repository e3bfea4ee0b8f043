#include "exchange.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "table.h"

#define REQUEST_TIMEOUT_MS 30000u

void exchange_open(struct exchange *x, const struct ctl *c, enum ctl_who who)
{
    *x = (struct exchange){.c = c, .parser = json_parser_new(HTTP_CLIENT_BODY_BYTES_MAX)};
    ASSERT(x->parser);
    http_client_init(&x->http, &c->endpoint, REQUEST_TIMEOUT_MS);
    if (who == CTL_OPERATOR && ctl_given(c, MASTER_KEY))
        buf_printf(&x->fields, "X-Master-Key: %s\r\n", ctl_given(c, MASTER_KEY));
}

void exchange_open_as(struct exchange *x, const struct ctl *c, const char *api_key)
{
    exchange_open(x, c, CTL_MEMBER);
    buf_printf(&x->fields, "X-API-Key: %s\r\nX-User-Id: %s\r\n", api_key, ctl_given(c, AS));
}

void exchange_close(struct exchange *x)
{
    buf_free(&x->fields);
    json_parser_free(x->parser);
    http_client_close(&x->http);
}

bool exchange_call(struct exchange *x, const char *method, const char *target, struct slice body)
{
    enum status status = http_client_request(&x->http, &x->answer, method, target, buf_slice(&x->fields), body);
    if (status == STATUS_IO && x->answered && strcmp(method, "GET") == 0)
        status = http_client_request(&x->http, &x->answer, method, target, buf_slice(&x->fields), body);
    x->answered = status == STATUS_OK;
    x->parsed = x->answered && x->answer.body.len && json_parse_copy(x->parser, &x->root, x->answer.body) == JSON_OK;
    return x->answered && x->answer.status / 100 == 2;
}

/* no_answer: what to do about it depends on what is there. */
static void no_answer(const struct exchange *x)
{
    const struct endpoint *e = &x->c->endpoint;
    fprintf(stderr, "carillonctl: no answer from %s%s%s: %s\n", e->host, e->local ? "" : ":", e->port, x->http.why);
    if (!e->local)
        fprintf(stderr, "Is the gateway running, and is that its address? Its log's \"ready\" line names it.\n");
    else if (access(e->host, W_OK) != 0 && errno != ENOENT && errno != ENOTDIR)
        fprintf(stderr, "The socket belongs to another user: run this as root or as the gateway's user (sudo), or use\n"
                        "--url URL with --master-key KEY.\n");
    else if (access(e->host, F_OK) != 0)
        fprintf(stderr, "There is no such socket: start the gateway (carillon serve), or say with --socket PATH or\n"
                        "CARILLON_ADMIN_SOCKET where its admin.sock lies (in store.dir, unless admin.socket says\n"
                        "otherwise); --url URL goes over the network.\n");
    else
        fprintf(stderr, "The gateway has left its socket behind: it was killed, or is just starting. See its log.\n");
}

/* exchange_complain says what the server said: its detail for people, its code for whoever looks it up. */
void exchange_complain(const struct exchange *x)
{
    struct buf text = {0};
    if (!x->answered) {
        no_answer(x);
        return;
    }
    if (x->parsed && json_type_of(x->root) == JSON_OBJECT) {
        struct slice detail = exchange_text(x->root, "detail"), code = exchange_text(x->root, "code");
        text_shown(&text, detail.len ? detail : exchange_text(x->root, "title"));
        BUF_LIT(&text, " (");
        text_shown(&text, code);
        buf_printf(&text, ", HTTP %u)", x->answer.status);
    } else {
        buf_printf(&text, "the server answered HTTP %u", x->answer.status);
    }
    fprintf(stderr, "carillonctl: %.*s\n", SLICE_FMT(buf_slice(&text)));
    if (x->parsed && slice_is(exchange_text(x->root, "code"), "auth.invalid_master_key"))
        fprintf(stderr,
                "Is admin.master_key set in the gateway's settings? On its own machine the socket needs no key.\n");
    buf_free(&text);
}

struct slice exchange_text(struct json_node object, const char *name)
{
    struct json_node node;
    bool text = json_get(object, name, &node) && json_type_of(node) == JSON_STRING;
    return text ? json_string(node) : slice_str("");
}

uint64_t exchange_number(struct json_node root, const char *path)
{
    char name[64];
    uint64_t number = 0;
    for (;;) {
        size_t len = strcspn(path, ".");
        ASSERT(len < sizeof name);
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        if (!json_get(root, name, &root)) return 0;
        if (!path[len]) return json_type_of(root) == JSON_NUMBER && json_u64(root, &number) ? number : 0;
        path += len + 1;
    }
}
