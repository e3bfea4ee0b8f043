/* uws: a uWebSockets server to compare a gateway with: who connects to /room/N is subscribed to that topic, and every
 * message is published to all of it, its sender too. GET /health answers as a gateway does.
 *
 * uWebSockets is no Debian package. The PyPI package `socketify` carries it as a shared library with a C interface,
 * libsocketify_linux_amd64.so; CARILLON_UWS_LIBRARY names that file (perf/README.md says how it is had). The library's
 * event loop is libuv's, which adds a little to each turn over the epoll loop that uWebSockets has by default. What is
 * declared below is the part of that interface that is used, as native.py of socketify 0.0.31 has it.
 *
 * usage: CARILLON_UWS_LIBRARY=FILE uws_peer; prints `port N` when it serves, and ends with SIGTERM.
 * exit code: 77 when CARILLON_UWS_LIBRARY is not set, 1 when the library cannot be used. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_BYTES_MAX 32u
#define PAYLOAD_BYTES_MAX (1u << 20)
#define BACKPRESSURE_BYTES_MAX (64u << 20) /* nothing is dropped: a gateway drops nothing either */
#define IDLE_TIMEOUT_S 120u

struct app; /* uWS::App */
struct response;
struct request;
struct websocket;
struct context;
struct listen_socket;

struct ssl_options { /* struct us_socket_context_options_t; unused without TLS */
    const char *texts[6];
    int prefer_low_memory;
};

struct listen_config { /* uws_app_listen_config_t */
    int port;
    const char *host;
    int options;
};

struct behavior { /* uws_socket_behavior_t */
    int compression;
    unsigned int payload_bytes_max;
    unsigned short idle_timeout_s;
    unsigned int backpressure_bytes_max;
    bool close_on_backpressure, reset_idle_timeout_on_send, send_pings;
    unsigned short lifetime_minutes;
    void (*upgrade)(struct response *, struct request *, struct context *, void *user);
    void (*open)(struct websocket *, void *user);
    void (*message)(struct websocket *, const char *message, size_t len, int opcode, void *user);
    void (*drain)(struct websocket *, void *user);
    void (*ping)(struct websocket *, const char *message, size_t len, void *user);
    void (*pong)(struct websocket *, const char *message, size_t len, void *user);
    void (*close)(struct websocket *, int code, const char *message, size_t len, void *user);
    void (*subscription)(struct websocket *, const char *topic, size_t len, int now, int before, void *user);
};

typedef void on_listening(struct listen_socket *, struct listen_config, void *);

/* The functions of the library: return type, name, parameters. The first is always whether TLS is on: 0. */
#define FUNCTIONS(X)                                                                                                   \
    X(struct app *, uws_create_app, (int, struct ssl_options))                                                         \
    X(void, uws_app_get,                                                                                               \
      (int, struct app *, const char *, void (*)(struct response *, struct request *, void *), void *))                \
    X(void, uws_app_listen_with_config,                                                                                \
      (int, struct app *, struct listen_config, on_listening *, void *))                                               \
    X(void, uws_app_run, (int, struct app *))                                                                          \
    X(int, us_socket_local_port, (int, struct listen_socket *))                                                        \
    X(bool, uws_publish, (int, struct app *, const char *, size_t, const char *, size_t, int, bool))                   \
    X(void, uws_ws, (int, struct app *, const char *, struct behavior, void *))                                        \
    X(void *, uws_ws_get_user_data, (int, struct websocket *))                                                         \
    X(bool, uws_ws_subscribe, (int, struct websocket *, const char *, size_t))                                         \
    X(size_t, uws_req_get_parameter, (struct request *, unsigned short, const char **))                                \
    X(size_t, uws_req_get_header, (struct request *, const char *, size_t, const char **))                             \
    X(void, uws_res_upgrade,                                                                                           \
      (int, struct response *, void *, const char *, size_t, const char *, size_t, const char *, size_t,               \
       struct context *))                                                                                              \
    X(void, uws_res_write_header, (int, struct response *, const char *, size_t, const char *, size_t))                \
    X(void, uws_res_end, (int, struct response *, const char *, size_t, bool))

#define DECLARE(type, name, parameters) static type(*name) parameters;
FUNCTIONS(DECLARE)

struct member { /* user data of a socket */
    size_t room_len;
    char room[ROOM_BYTES_MAX];
};

static struct app *app;
static const char *health_body = "{\"status\":\"ok\"}"; /* PEER_HEALTH_BODY, as long as a gateway's */

static bool library_open(const char *path);
static void on_health(struct response *response, struct request *request, void *user);
static void on_upgrade(struct response *response, struct request *request, struct context *context, void *user);
static void on_open(struct websocket *ws, void *user);
static void on_message(struct websocket *ws, const char *message, size_t len, int opcode, void *user);
static void on_close(struct websocket *ws, int code, const char *message, size_t len, void *user);
static void on_listen(struct listen_socket *socket, struct listen_config config, void *user);

int main(void)
{
    const char *path = getenv("CARILLON_UWS_LIBRARY");
    if (!path || !*path) {
        fprintf(stderr, "uws_peer: CARILLON_UWS_LIBRARY does not name libsocketify_linux_amd64.so (perf/README.md)\n");
        return 77;
    }
    if (getenv("PEER_HEALTH_BODY")) health_body = getenv("PEER_HEALTH_BODY");
    if (!library_open(path)) return 1;
    app = uws_create_app(0, (struct ssl_options){0});
    if (!app) {
        fprintf(stderr, "uws_peer: the library makes no server\n");
        return 1;
    }
    const struct behavior behavior = {.payload_bytes_max = PAYLOAD_BYTES_MAX,
                                      .idle_timeout_s = IDLE_TIMEOUT_S,
                                      .backpressure_bytes_max = BACKPRESSURE_BYTES_MAX,
                                      .send_pings = true,
                                      .upgrade = on_upgrade,
                                      .open = on_open,
                                      .message = on_message,
                                      .close = on_close};
    uws_ws(0, app, "/room/:room", behavior, NULL);
    uws_app_get(0, app, "/health", on_health, NULL);
    uws_app_listen_with_config(0, app, (struct listen_config){.host = "127.0.0.1"}, on_listen, NULL);
    uws_app_run(0, app);
    return 1; /* the loop ends only when nothing listens */
}

static bool library_open(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "uws_peer: %s\n", dlerror());
        return false;
    }
#define LOOK_UP(type, name, parameters)                                                                                \
    name = (type(*) parameters)dlsym(library, #name);                                                                  \
    if (!name) {                                                                                                       \
        fprintf(stderr, "uws_peer: %s has no %s\n", path, #name);                                                      \
        return false;                                                                                                  \
    }
    FUNCTIONS(LOOK_UP)
    return true;
}

static void on_health(struct response *response, struct request *request, void *user)
{
    static const char type[] = "Content-Type", json[] = "application/json";
    uws_res_write_header(0, response, type, sizeof type - 1, json, sizeof json - 1);
    uws_res_end(0, response, health_body, strlen(health_body), false);
}

static void on_upgrade(struct response *response, struct request *request, struct context *context, void *user)
{
    const char *room, *key, *protocol, *extensions;
    struct member *member = calloc(1, sizeof *member);
    if (!member) abort();
    size_t len = uws_req_get_parameter(request, 0, &room);
    member->room_len = len < ROOM_BYTES_MAX ? len : ROOM_BYTES_MAX;
    memcpy(member->room, room, member->room_len);
    size_t key_len = uws_req_get_header(request, "sec-websocket-key", 17, &key);
    size_t protocol_len = uws_req_get_header(request, "sec-websocket-protocol", 22, &protocol);
    size_t extensions_len = uws_req_get_header(request, "sec-websocket-extensions", 24, &extensions);
    uws_res_upgrade(0, response, member, key, key_len, protocol, protocol_len, extensions, extensions_len, context);
}

static void on_open(struct websocket *ws, void *user)
{
    const struct member *member = uws_ws_get_user_data(0, ws);
    uws_ws_subscribe(0, ws, member->room, member->room_len);
}

/* Publishing to the app reaches the sender too; the library gathers what one turn publishes and corks it itself. */
static void on_message(struct websocket *ws, const char *message, size_t len, int opcode, void *user)
{
    const struct member *member = uws_ws_get_user_data(0, ws);
    uws_publish(0, app, member->room, member->room_len, message, len, opcode, false);
}

static void on_close(struct websocket *ws, int code, const char *message, size_t len, void *user)
{
    free(uws_ws_get_user_data(0, ws));
}

static void on_listen(struct listen_socket *socket, struct listen_config config, void *user)
{
    if (!socket) {
        fprintf(stderr, "uws_peer: no port on 127.0.0.1\n");
        exit(1);
    }
    printf("port %d\n", us_socket_local_port(0, socket));
    fflush(stdout);
}
