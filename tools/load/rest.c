#define _GNU_SOURCE /* memmem, strerrordesc_np (glibc 2.32) */
#include "rest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/base/assert.h"
#include "../client/http_client.h"
#include "engine.h"
#include "process.h"
#include "setup.h"
#include "stop.h"

#define TICK_NS 10000000ull
#define LEAVE_NS 2000000000ull

struct caller {
    struct peer peer; /* first */
    uint64_t sent_ns; /* when the request under way was sent */
    struct buf in;    /* an incomplete answer */
};

struct office {
    const struct options *options;
    struct setup setup;
    struct engine *engine;
    struct caller *callers;
    struct buf request;
    uint64_t num_open, num_lost, answers, failures, whole_run;
    uint64_t measure_from_ns, measure_until_ns, cpu_ns[2], own_cpu_ns[2];
    bool stopping;
    struct histogram latency;
};

static struct office office; /* one run a process; the report borrows its histogram */

static bool office_open(struct office *f, const struct options *o);
static void work(struct office *f);
static void leave(struct office *f);
static void ask(struct office *f, struct caller *c, uint64_t now_ns);
static void on_connected(void *context, struct peer *p, uint64_t now_ns);
static void on_bytes(void *context, struct peer *p, const char *bytes, size_t len, uint64_t now_ns);
static void on_closed(void *context, struct peer *p, int error, uint64_t now_ns);

int rest_run(const struct options *o, struct report *report)
{
    struct office *f = &office;
    if (!engine_descriptors(o->connections)) return 2;
    if (!office_open(f, o)) return 1;
    work(f);
    leave(f);
    double seconds = (double)(f->measure_until_ns - f->measure_from_ns) / 1e9;
    report_text(report, "scenario", "rest");
    report_text(report, "path", o->path);
    report_count(report, "connections", "", o->connections);
    report_real(report, "seconds", "measured", seconds);
    report_count(report, "answers", "", f->answers);
    report_real(report, "answers_per_second", "answers/s", seconds > 0 ? (double)f->answers / seconds : 0);
    report_latency(report, "latency", &f->latency);
    report_count(report, "failed", "answers of 4xx or 5xx", f->failures);
    report_count(report, "lost_connections", "", f->num_lost);
    report_real(report, "generator_cpu_percent", "(near 100: the generator is the limit)",
                (double)(f->own_cpu_ns[1] - f->own_cpu_ns[0]) / 1e7 / (seconds > 0 ? seconds : 1));
    if (o->pid && f->answers) {
        double cpu_ns = (double)(f->cpu_ns[1] - f->cpu_ns[0]);
        report_real(report, "server_cpu_seconds", "", cpu_ns / 1e9);
        report_real(report, "server_cpu_ns_per_answer", "ns", cpu_ns / (double)f->answers);
    }
    return f->failures == 0 && f->num_lost == 0 && f->whole_run > 0 ? 0 : 1;
}

static bool office_open(struct office *f, const struct options *o)
{
    *f = (struct office){.options = o};
    if (setup_make(&f->setup, o, NULL) != STATUS_OK) return false;
    struct sockaddr_storage address;
    socklen_t len;
    const char *why = endpoint_resolve(&f->setup.endpoint, &address, &len);
    if (why) {
        fprintf(stderr, "carillon-load: %s: %s\n", f->setup.endpoint.host, why);
        return false;
    }
    const struct engine_handlers handlers = {on_connected, on_bytes, on_closed, f};
    if (engine_open(&f->engine, &handlers, &address, len, o->source_ipv4) != STATUS_OK) return false;

    char authority[ENDPOINT_HOST_BYTES_MAX + 16];
    endpoint_authority(&f->setup.endpoint, authority, sizeof authority);
    buf_printf(&f->request, "%s %s HTTP/1.1\r\nHost: %s\r\n", o->method, o->path, authority);
    if (f->setup.key[0]) buf_printf(&f->request, "X-API-Key: %s\r\nX-User-Id: load-0-0\r\n", f->setup.key);
    if (o->body) buf_printf(&f->request, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(o->body));
    BUF_LIT(&f->request, "\r\n");
    if (o->body) buf_slice_append(&f->request, slice_str(o->body));

    f->callers = calloc(o->connections, sizeof *f->callers);
    ASSERT(f->callers != NULL);
    for (uint64_t i = 0; i < o->connections; i++)
        if (engine_connect(f->engine, &f->callers[i].peer) != STATUS_OK) return false;
    return true;
}

static void read_cpu(struct office *f, unsigned which)
{
    process_cpu_ns(&f->own_cpu_ns[which], 0);
    if (f->options->pid) process_cpu_ns(&f->cpu_ns[which], (pid_t)f->options->pid);
}

static void work(struct office *f)
{
    uint64_t now_ns = engine_now_ns();
    bool began = false;
    f->measure_from_ns = now_ns + (uint64_t)(f->options->warmup * 1e9);
    f->measure_until_ns = f->measure_from_ns + (uint64_t)(f->options->seconds * 1e9);
    while (now_ns < f->measure_until_ns && !stop_asked() && f->num_lost < f->options->connections) {
        if (!began && now_ns >= f->measure_from_ns) {
            began = true;
            f->measure_from_ns = now_ns;
            read_cpu(f, 0);
        }
        engine_turn(f->engine, now_ns + TICK_NS);
        now_ns = engine_now_ns();
    }
    if (!began) read_cpu(f, 0);
    f->measure_until_ns = now_ns > f->measure_from_ns ? now_ns : f->measure_from_ns;
    read_cpu(f, 1);
}

static void leave(struct office *f)
{
    uint64_t until_ns = engine_now_ns() + LEAVE_NS, now_ns;
    f->stopping = true;
    for (uint64_t i = 0; i < f->options->connections; i++) engine_close_peer(f->engine, &f->callers[i].peer);
    while (engine_peers(f->engine) > 0 && (now_ns = engine_now_ns()) < until_ns)
        engine_turn(f->engine, now_ns + TICK_NS);
    engine_close(f->engine);
    for (uint64_t i = 0; i < f->options->connections; i++) {
        peer_free(&f->callers[i].peer);
        buf_free(&f->callers[i].in);
    }
    free(f->callers);
    buf_free(&f->request);
    setup_free(&f->setup);
}

static void ask(struct office *f, struct caller *c, uint64_t now_ns)
{
    c->sent_ns = now_ns;
    buf_slice_append(&c->peer.out, buf_slice(&f->request));
    engine_send(f->engine, &c->peer);
}

static void on_connected(void *context, struct peer *p, uint64_t now_ns)
{
    ask(context, (struct caller *)p, now_ns);
}

/* answer_len returns the length of a whole answer at the start of `bytes`, 0 when it is not whole yet. The gateway
 * sends a Content-Length with every body. */
static size_t answer_len(struct slice bytes, unsigned *status)
{
    const char *end = bytes.len ? memmem(bytes.data, bytes.len, "\r\n\r\n", 4) : NULL;
    uint64_t length = 0;
    if (!end || !http_status_line(bytes, status)) return 0;
    const char *line_end = memchr(bytes.data, '\r', bytes.len);
    size_t head_len = (size_t)(end - bytes.data) + 4;
    struct http_answer answer = {.fields = slice_of(line_end + 2, (size_t)(end - line_end))};
    slice_u64(http_answer_field(&answer, "Content-Length"), &length);
    return bytes.len - head_len >= length ? head_len + length : 0;
}

static void on_bytes(void *context, struct peer *p, const char *bytes, size_t len, uint64_t now_ns)
{
    struct office *f = context;
    struct caller *c = (struct caller *)p;
    unsigned status = 0;
    struct slice all = slice_of(bytes, len);
    if (c->in.len) {
        buf_append(&c->in, bytes, len);
        all = buf_slice(&c->in);
    }
    if (answer_len(all, &status) == 0) {
        if (all.data != c->in.data) buf_append(&c->in, bytes, len);
        return;
    }
    c->in.len = 0; /* one request is under way: nothing follows its answer */
    f->whole_run++;
    if (status >= 400) f->failures++;
    if (now_ns >= f->measure_from_ns && !f->stopping) {
        f->answers++;
        if (c->sent_ns >= f->measure_from_ns) histogram_add(&f->latency, now_ns - c->sent_ns);
    }
    if (!f->stopping) ask(f, c, now_ns);
}

static void on_closed(void *context, struct peer *p, int error, uint64_t now_ns)
{
    struct office *f = context;
    if (!f->stopping && f->num_lost++ < 3)
        fprintf(stderr, "carillon-load: lost a connection: %s\n",
                error ? strerrordesc_np(error) : "the gateway closed it");
}
