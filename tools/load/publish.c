#include "publish.h"

#include <inttypes.h>
#include <stdio.h>

#include "plain.h"
#include "push.h"

static bool may_send(const struct crowd *c, const struct participant *p);
static void send_message(struct crowd *c, struct participant *p, uint64_t intended_ns);
static void build_message(struct crowd *c, struct participant *p, uint64_t number, struct slice content);

void publish_fill(struct crowd *c, struct participant *p, uint64_t now_ns)
{
    if (c->options->rate > 0) return;
    while (p->publisher->in_flight < c->options->in_flight && may_send(c, p)) send_message(c, p, now_ns);
}

void publish_fill_all(struct crowd *c, uint64_t now_ns)
{
    for (uint64_t i = 0; i < c->num_publishers; i++) publish_fill(c, c->speakers[i], now_ns);
}

void publish_due(struct crowd *c, uint64_t *due_ns, uint64_t interval_ns, uint64_t now_ns)
{
    for (uint64_t tried = 0; *due_ns <= now_ns && tried < c->num_publishers;) {
        struct participant *p = c->speakers[c->turn++ % c->num_publishers];
        if (!may_send(c, p)) {
            tried++; /* lost or full: the next one speaks; when nobody can, the schedule waits and is not forgotten */
            continue;
        }
        tried = 0;
        send_message(c, p, *due_ns);
        *due_ns += interval_ns;
    }
}

size_t publish_client_id(char out[64], const struct crowd *c, const struct publisher *publisher, uint64_t number)
{
    return (size_t)snprintf(out, 64, "%08" PRIx32 "-%" PRIx32 "-%" PRIx64, c->run, publisher->number, number);
}

static bool may_send(const struct crowd *c, const struct participant *p)
{
    if (c->stopping || p->state != PARTICIPANT_READY || p->session.state != SESSION_OPEN || p->session.gone)
        return false;
    if (c->options->messages && c->num_sent >= c->options->messages) return false;
    return c->with_ids ? !window_full(&p->publisher->window) : p->publisher->in_flight < WINDOW_MESSAGES_MAX;
}

static void send_message(struct crowd *c, struct participant *p, uint64_t intended_ns)
{
    struct publisher *publisher = p->publisher;
    uint64_t number = c->with_ids ? window_push(&publisher->window, intended_ns) : publisher->num_sent;
    const struct stamp stamp = {c->run, publisher->number, number, intended_ns};
    stamp_write(c->content, &stamp);
    struct slice content = slice_of(c->content, c->options->size);

    build_message(c, p, number, content);
    if (c->record.on) {
        char client_id[64];
        size_t client_id_len = publish_client_id(client_id, c, publisher, number);
        char user[SETUP_USER_BYTES_MAX];
        size_t user_len = setup_user(user, p->room_number, p->member);
        const struct message_key key = {slice_str(p->room->id), slice_of(user, user_len),
                                        slice_of(client_id, client_id_len)};
        record_invoke(&c->record, engine_now_ns(), &key, content);
    }
    session_send(&c->hub, &p->session, buf_slice(&c->text));
    publisher->num_sent++;
    publisher->in_flight++;
    c->num_sent++;
}

/* build_message leaves the message in c->text. */
static void build_message(struct crowd *c, struct participant *p, uint64_t number, struct slice content)
{
    c->text.len = 0;
    if (c->options->dialect) {
        uint64_t seq = number * p->room->num_publishers + p->publisher->index;
        plain_message(&c->text, c->options->dialect, buf_slice(&p->room->send_head), seq, content, c->options->frame);
        return;
    }
    buf_slice_append(&c->text, buf_slice(&p->room->send_head));
    buf_slice_append(&c->text, content); /* letters and digits only: nothing to escape */
    if (c->options->client_ids) {
        char client_id[64];
        size_t client_id_len = publish_client_id(client_id, c, p->publisher, number);
        buf_printf(&c->text, "\",\"client_id\":\"%.*s", (int)client_id_len, client_id);
    }
    if (c->with_ids) {
        BUF_LIT(&c->text, "\",\"id\":");
        buf_u64(&c->text, number);
        buf_char(&c->text, '}');
    } else {
        BUF_LIT(&c->text, "\"}");
    }
}
