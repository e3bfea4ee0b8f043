#define _GNU_SOURCE /* memrchr */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/assert.h"
#include "../base/json.h"
#include "admin_client.h"
#include "cli.h"
#include "serve.h"

#define DEMO_KEY_BYTES_MAX 128
#define PATH_BYTES_MAX 4096
#define DEMO_PAGES_MAX 100 /* of alice's rooms, while looking for the lobby */

/* demo: what `carillon dev` has ready for whoever tries the gateway: a tenant with a key, two users, two rooms. */
struct demo {
    const struct serving *serving;
    struct json_parser *parser;
    struct buf answer;            /* the last one's body */
    unsigned http_status;         /* … and its status */
    char data[PATH_BYTES_MAX];     /* store.dir, absolute: whoever pastes it may stand elsewhere */
    char key_path[PATH_BYTES_MAX + 16], room_path[PATH_BYTES_MAX + 16];
    char key[DEMO_KEY_BYTES_MAX]; /* empty: there is none yet */
    char room[64], direct[64];    /* room ids */
    char why[512];
};

static int greet(const struct serving *serving);
static void demo_paths(struct demo *d);
static bool demo_key_load(struct demo *d);
static bool demo_rooms_find(struct demo *d, bool *key_works);
static bool demo_tenant_make(struct demo *d);
static bool demo_rooms_make(struct demo *d);
static bool demo_save(struct demo *d, const char *path, const char *text);
static void demo_print(const struct demo *d);

int dev_command(int argc, char **argv)
{
    struct options options;
    if (!options_parse(&options, argc, argv)) return CLI_USAGE;
    int code = serve_run(&options, greet); /* the defaults are those of serve: a directory here, a loopback address */
    options_free(&options);
    return code;
}

static int greet(const struct serving *serving)
{
    struct demo d = {.serving = serving, .parser = json_parser_new(16u << 20)};
    ASSERT(d.parser);
    bool key_works = false;
    demo_paths(&d);
    bool made = demo_key_load(&d);
    if (made && d.key[0]) made = demo_rooms_find(&d, &key_works);
    if (made && !key_works) made = demo_tenant_make(&d);
    if (made) made = demo_rooms_make(&d) && demo_save(&d, d.room_path, d.room);
    if (made) demo_print(&d);
    else cli_error("the demo is not available (%s); the gateway runs without it", d.why);
    json_parser_free(d.parser);
    buf_free(&d.answer);
    return cli_flush(CLI_DONE); /* without a demo the gateway still serves, and carillonctl can mend what is wrong */
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

/* member_text is a string member's text, empty when there is none. */
static struct slice member_text(struct json_node object, const char *name)
{
    struct json_node node;
    bool text = json_get(object, name, &node) && json_type_of(node) == JSON_STRING;
    return text ? json_string(node) : slice_str("");
}

/* call sends a request, as alice when the demo has a key and `operator` is not set; false with d->why when there is no
 * answer, or one other than the success or `tolerated`. *root is its JSON. */
static bool call(struct demo *d, struct json_node *root, bool operator, const char *method, const char *target,
                 const char *body, unsigned tolerated)
{
    const struct admin_request request = {.method = method,
                                          .target = target,
                                          .api_key = operator ? NULL : d->key,
                                          .user_id = operator ? NULL : "alice",
                                          .body = slice_str(body)};
    enum status status = admin_client_call(&d->http_status, &d->answer, d->serving->admin_path, &request);
    if (status != STATUS_OK) {
        snprintf(d->why, sizeof d->why, "%s %s over %s got no answer (%s)", method, target, d->serving->admin_path,
                 status_name(status));
        return false;
    }
    bool json = d->answer.len && json_parse_copy(d->parser, root, buf_slice(&d->answer)) == JSON_OK;
    if (json && (d->http_status / 100 == 2 || d->http_status == tolerated)) return true;
    struct slice detail = json ? member_text(*root, "detail") : slice_str("");
    snprintf(d->why, sizeof d->why, "%s %s was answered %u %.*s", method, target, d->http_status, SLICE_FMT(detail));
    return false;
}

/* member_copy takes a string member that must be there and fit. */
static bool member_copy(struct demo *d, char *out, size_t cap, struct json_node object, const char *name)
{
    struct slice text = member_text(object, name);
    if (text.len && text.len < cap) {
        memcpy(out, text.data, text.len);
        out[text.len] = '\0';
        return true;
    }
    snprintf(d->why, sizeof d->why, "an answer has no %s", name);
    return false;
}

/* --- the key and the lobby's id, as files ------------------------------------------------------------------------- */

/* store.dir is there, so only a path that is too long has no absolute one; that is left as it is. */
static void demo_paths(struct demo *d)
{
    char *absolute = realpath(d->serving->config->store_dir, NULL);
    int len = snprintf(d->data, sizeof d->data, "%s", absolute ? absolute : d->serving->config->store_dir);
    ASSERT(len > 0 && (size_t)len < sizeof d->data);
    free(absolute);
    snprintf(d->key_path, sizeof d->key_path, "%s/dev-key", d->data);
    snprintf(d->room_path, sizeof d->room_path, "%s/dev-room", d->data);
}

static bool demo_key_load(struct demo *d)
{
    FILE *file = fopen(d->key_path, "re");
    if (!file && errno == ENOENT) return true;
    if (!file || !fgets(d->key, sizeof d->key, file)) d->key[0] = '\0';
    if (file) fclose(file);
    d->key[strcspn(d->key, "\r\n")] = '\0';
    return true; /* a key that cannot be read is replaced, as one that no longer works */
}

/* demo_save writes beside the name and renames: whoever reads the file gets a whole key, or id. */
static bool demo_save(struct demo *d, const char *path, const char *text)
{
    char fresh[sizeof d->key_path + 8];
    snprintf(fresh, sizeof fresh, "%s.new", path);
    unlink(fresh);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool written = fd >= 0 && dprintf(fd, "%s\n", text) > 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    if (written && rename(fresh, path) == 0) return true;
    snprintf(d->why, sizeof d->why, "%.200s cannot be written: %s", path, strerror(errno));
    return false;
}

static bool demo_tenant_make(struct demo *d)
{
    struct json_node root;
    d->room[0] = '\0';
    return call(d, &root, true, "POST", "/v1/admin/tenants", "{\"name\":\"demo\"}", 0) &&
           member_copy(d, d->key, sizeof d->key, root, "api_key") && demo_save(d, d->key_path, d->key);
}

/* --- the rooms ---------------------------------------------------------------------------------------------------- */

/* demo_rooms_find looks for the lobby among alice's rooms; *key_works is false when the key is of another store. */
static bool demo_rooms_find(struct demo *d, bool *key_works)
{
    char target[1024] = "/v1/rooms?limit=1000", next[900];
    for (unsigned page = 0; page < DEMO_PAGES_MAX; page++) {
        struct json_node root, items, item;
        if (!call(d, &root, false, "GET", target, NULL, 401)) return false;
        *key_works = d->http_status != 401;
        if (!*key_works || !json_get(root, "items", &items) || json_type_of(items) != JSON_ARRAY) return true;
        struct json_iter i = json_array(items);
        while (json_array_next(&i, &item))
            if (slice_is(member_text(item, "name"), "lobby"))
                return member_copy(d, d->room, sizeof d->room, item, "room_id");
        if (member_text(root, "next").len == 0) return true;
        if (!member_copy(d, next, sizeof next, root, "next")) return false;
        snprintf(target, sizeof target, "/v1/rooms?limit=1000&cursor=%s", next);
    }
    return true;
}

/* A direct room is asked for each time: there is one at most, and asking again finds it. */
static bool demo_rooms_make(struct demo *d)
{
    struct json_node root;
    if (!d->room[0] && (!call(d, &root, false, "POST", "/v1/rooms",
                              "{\"type\":\"group\",\"name\":\"lobby\",\"members\":[\"alice\",\"bob\"]}", 0) ||
                        !member_copy(d, d->room, sizeof d->room, root, "room_id")))
        return false;
    return call(d, &root, false, "POST", "/v1/rooms", "{\"type\":\"dm\",\"members\":[\"bob\"]}", 0) &&
           member_copy(d, d->direct, sizeof d->direct, root, "room_id");
}

/* --- what to paste ------------------------------------------------------------------------------------------------ */

/* An address to listen on is not always one to connect to: the unspecified ones mean "all of this machine's". */
static void authority_of(char *out, size_t out_len, const char *address)
{
    const char *port = strrchr(address, ':');
    ASSERT(port);
    if (strncmp(address, "0.0.0.0:", 8) == 0) snprintf(out, out_len, "127.0.0.1%s", port);
    else if (strncmp(address, "[::]:", 5) == 0) snprintf(out, out_len, "[::1]%s", port);
    else snprintf(out, out_len, "%s", address);
}

/* carillonctl_path names the carillonctl that was built beside this program, which a shell finds wherever it is. */
static const char *carillonctl_path(char *out, size_t out_len)
{
    ssize_t len = readlink("/proc/self/exe", out, out_len - 1);
    char *slash = len > 0 ? memrchr(out, '/', (size_t)len) : NULL;
    size_t room = slash ? out_len - (size_t)(slash - out) : 0;
    if (!slash || snprintf(slash, room, "/carillonctl") >= (int)room || access(out, X_OK) != 0) return "carillonctl";
    return out;
}

static void demo_print(const struct demo *d)
{
    char authority[128], path[4096];
    char *socket = realpath(d->serving->admin_path, NULL);
    authority_of(authority, sizeof authority, d->serving->address);
    printf("\n"
           "Carillon is running; Ctrl-C ends it. Two users in one room, in a browser:\n"
           "\n"
           "  http://%s/#key=%s\n"
           "\n"
           "Whoever has that address has the key. What you do here is kept in %s.\n"
           "\n"
           "  API        http://%s/v1\n"
           "  API key    %s   (also in %s)\n"
           "  users      alice, bob (a user comes into being by being named)\n"
           "  room       %s   the lobby, with both: the page's   (also in %s)\n"
           "             %s   direct, between both\n"
           "\n",
           authority, d->key, d->data, authority, d->key, d->key_path, d->room, d->room_path, d->direct);
    printf("Listen as bob, in a second terminal (with Debian's python3-websockets, which tools/bootstrap installs):\n"
           "\n"
           "/usr/bin/python3 - <<'END'\n"
           "import asyncio, websockets\n"
           "async def listen():\n"
           "    headers = {'X-API-Key': '%s', 'X-User-Id': 'bob'}\n"
           "    async with websockets.connect('ws://%s/ws', extra_headers=headers) as socket:\n"
           "        async for event in socket:\n"
           "            print(event)\n"
           "try:\n"
           "    asyncio.run(listen())\n"
           "except KeyboardInterrupt:\n"
           "    pass\n"
           "END\n"
           "\n",
           d->key, authority);
    printf("Send as alice, in a third one; bob sees it at once:\n"
           "\n"
           "curl -sS http://%s/v1/rooms/%s/messages \\\n"
           "  -H 'X-API-Key: %s' -H 'X-User-Id: alice' \\\n"
           "  -H 'Content-Type: application/json' -d '{\"content\":\"hello, bob\"}' -w '\\n'\n"
           "\n"
           "Read the room's history:\n"
           "\n"
           "curl -sS 'http://%s/v1/rooms/%s/messages?limit=10' \\\n"
           "  -H 'X-API-Key: %s' -H 'X-User-Id: bob' -w '\\n'\n"
           "\n"
           "Administer it:\n"
           "\n"
           "%s --socket %s tenant list\n"
           "\n",
           authority, d->room, d->key, authority, d->room, d->key, carillonctl_path(path, sizeof path),
           socket ? socket : d->serving->admin_path);
    free(socket);
}
