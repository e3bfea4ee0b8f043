/* Fuzzes a gateway that is started over a damaged store (damaged_store.h), as if a mistake had written the rows or a
 * disk had changed them behind all checksums. People then do what they always do. It holds:
 * - the process stays up: what cannot be read is an error to who asks for it, and to nobody else;
 * - no answer but one of the table of errors; afterwards nothing is left behind.
 *
 * What the gateway reads before it serves (meta, tenants, keys) is left alone: it refuses to start over those. */
#include <stdlib.h>

#include "../src/base/assert.h"
#include "damaged_store.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
const char *__asan_default_options(void);

/* The harness keeps answers until its end. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

#define DAMAGES_MAX 8u
#define FAMILIES (~(1u << KV_META | 1u << KV_TENANTS | 1u << KV_KEYS))

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    sound_store_make();
    return 0;
}

static void ask(struct client **c, struct harness *h, const char *method, const char *path, const char *user,
                const char *body)
{
    if (!*c || (*c)->ended) *c = client_open(h, 0);
    unsigned status = client_call(*c, method, path, user, "", body);
    ASSERT(status >= 200 && status < 600);
}

static void ask_about_room(struct client **c, struct harness *h, const char *user, uint64_t room)
{
    static const struct {
        const char *method, *behind, *body; /* behind the room's path */
    } asked[] = {
        {"GET", "", NULL},
        {"GET", "/messages", NULL},
        {"GET", "/events?after_seq=0", NULL},
        {"GET", "/members", NULL},
        {"GET", "/presence", NULL},
        {"POST", "/messages", "{\"content\":\"once more\",\"client_id\":\"c1\"}"},
        {"POST", "/members", "{\"user_ids\":[\"dora\"]}"},
        {"POST", "/leave", ""},
    };
    char path[128];
    for (unsigned i = 0; i < sizeof asked / sizeof *asked; i++) {
        snprintf(path, sizeof path, "/v1/rooms/%s%s", room_name(room).text, asked[i].behind);
        ask(c, h, asked[i].method, path, user, asked[i].body);
    }
}

static void go_on(struct harness *h)
{
    struct client *c = NULL, *socket = client_open(h, 0);
    h->tenant = sound.tenant;
    memcpy(h->api_key, sound.api_key, sizeof h->api_key);
    if (client_upgrade(socket, "bob", WITH_SUBPROTOCOL) == 101) {
        client_say(socket, "{\"type\":\"hello\",\"id\":1,\"rooms\":\"all\",\"device\":\"phone\"}");
        client_hear_or_end(socket);
    }
    ask(&c, h, "GET", "/v1/rooms", "alice", NULL);
    ask_about_room(&c, h, "alice", sound.rooms[0]);
    ask_about_room(&c, h, "bob", sound.rooms[1]);
    ask_about_room(&c, h, "carol", sound.rooms[2]);
    ask(&c, h, "POST", "/v1/sync", "bob", "{}");
    ask(&c, h, "GET", "/v1/notifications", "bob", NULL);
    ask(&c, h, "GET", "/v1/users/me", "carol", NULL);
    ask(&c, h, "GET", "/v1/users/me/subscriptions", "bob", NULL);
    ask(&c, h, "POST", "/v1/rooms", "carol", "{\"type\":\"dm\",\"members\":[\"alice\"]}");
    ask(&c, h, "POST", "/v1/notify", "alice",
        "{\"topic\":\"news\",\"payload\":{},\"targets\":{\"topic_subscribers\":true}}");
    harness_advance(h, NOTIFY_SWEEP_MS); /* the sweeps look at everything */
    harness_settle(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct slice input = slice_of(data, len);
    enum damage kind;
    unsigned row, damages = 0;
    damages_begin();
    while (damages < DAMAGES_MAX && damage_next(&input, &kind, &row, FAMILIES)) damages++;
    void *state = NULL;
    ASSERT(harness_setup(&state) == 0);
    struct harness *h = state;
    rows_write(h->kv);
    harness_open(h, 1);
    go_on(h);
    ASSERT(harness_teardown(&state) == 0);
    return 0;
}
