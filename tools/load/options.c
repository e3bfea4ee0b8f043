#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "plain.h"

#define BIT(scenario) (1u << (scenario))
#define TALKS (BIT(SCENARIO_FANOUT) | BIT(SCENARIO_CHAT) | BIT(SCENARIO_DURABLE))
#define EVERY (TALKS | BIT(SCENARIO_CONNECT) | BIT(SCENARIO_IDLE) | BIT(SCENARIO_REST))

struct option_row {
    const char *name;
    enum { OPTION_TEXT, OPTION_COUNT, OPTION_REAL, OPTION_FLAG } kind;
    size_t offset;
    double min, max;
    unsigned scenarios; /* bits of those that take it */
    const char *argument, *help;
};

#define FIELD(name) offsetof(struct options, name)

static const struct option_row option_rows[] = {
    {"url", OPTION_TEXT, FIELD(url), 0, 0, EVERY, "URL", "the gateway, default http://127.0.0.1:8080"},
    {"key", OPTION_TEXT, FIELD(key), 0, 0, EVERY, "KEY", "API key (a `server` key) of the tenant to load"},
    {"master-key", OPTION_TEXT, FIELD(master_key), 0, 0, EVERY, "KEY", "instead of --key: make a tenant of its own"},
    {"admin-socket", OPTION_TEXT, FIELD(admin_socket), 0, 0, EVERY, "PATH", "the same, through the admin Unix socket"},
    {"state", OPTION_TEXT, FIELD(state_path), 0, 0, TALKS | BIT(SCENARIO_IDLE), "FILE",
     "keep key and rooms in FILE, and use them again when it exists"},
    {"rooms", OPTION_COUNT, FIELD(rooms), 1, ROOMS_MAX, TALKS | BIT(SCENARIO_IDLE), "R",
     "rooms (fanout 1, chat 100, durable: one a publisher, idle 1 for each 10000)"},
    {"subscribers", OPTION_COUNT, FIELD(subscribers), 1, MEMBERS_MAX, BIT(SCENARIO_FANOUT), "N",
     "subscribers of each room, default 1000"},
    {"members", OPTION_COUNT, FIELD(members), 2, MEMBERS_MAX, BIT(SCENARIO_CHAT), "M",
     "members of each room, who all talk, default 2"},
    {"publishers", OPTION_COUNT, FIELD(publishers), 1, ENGINE_PEERS_MAX, BIT(SCENARIO_FANOUT) | BIT(SCENARIO_DURABLE),
     "P", "publishers in all, spread over the rooms (fanout: one a room, durable 16)"},
    {"in-flight", OPTION_COUNT, FIELD(in_flight), 1, IN_FLIGHT_MAX, TALKS, "K",
     "messages that each publisher keeps under way (fanout, chat 1; durable 64)"},
    {"rate", OPTION_REAL, FIELD(rate), 0.01, RATE_MAX, TALKS | BIT(SCENARIO_CONNECT), "X",
     "open loop: X messages (connect: upgrades) a second in all, sent on schedule whatever the answers do"},
    {"size", OPTION_COUNT, FIELD(size), CONTENT_BYTES_MIN, CONTENT_BYTES_MAX, TALKS, "BYTES",
     "content of a message, default 128"},
    {"seconds", OPTION_REAL, FIELD(seconds), 0.05, SECONDS_MAX, EVERY & ~BIT(SCENARIO_CONNECT), "S",
     "measured time, default 5"},
    {"warmup", OPTION_REAL, FIELD(warmup), 0, 600, TALKS | BIT(SCENARIO_REST), "S",
     "time before it that is not counted, default 0.5"},
    {"messages", OPTION_COUNT, FIELD(messages), 1, MESSAGES_MAX, TALKS, "N", "stop after N messages, warm-up included"},
    {"connections", OPTION_COUNT, FIELD(connections), 1, UPGRADES_MAX,
     BIT(SCENARIO_CONNECT) | BIT(SCENARIO_IDLE) | BIT(SCENARIO_REST), "N",
     "connect: upgrades in all (10000); idle: sockets held (1000); rest: sockets (64)"},
    {"hold", OPTION_COUNT, FIELD(hold), 1, ENGINE_PEERS_MAX, BIT(SCENARIO_CONNECT), "H",
     "connections open at once, the oldest is closed first, default 1000"},
    {"users", OPTION_COUNT, FIELD(users), 1, ENGINE_PEERS_MAX, BIT(SCENARIO_IDLE), "U",
     "users that the connections belong to, in turns; default one each"},
    {"path", OPTION_TEXT, FIELD(path), 0, 0, BIT(SCENARIO_REST), "PATH", "what to request, default /health"},
    {"method", OPTION_TEXT, FIELD(method), 0, 0, BIT(SCENARIO_REST), "M", "default GET, or POST with --body"},
    {"body", OPTION_TEXT, FIELD(body), 0, 0, BIT(SCENARIO_REST), "JSON", "body of every request"},
    {"peer", OPTION_TEXT, FIELD(peer), 0, 0,
     BIT(SCENARIO_FANOUT) | BIT(SCENARIO_CHAT) | BIT(SCENARIO_CONNECT) | BIT(SCENARIO_IDLE), "KIND",
     "the server is no gateway but one that broadcasts what it gets: websocket (/room/N) or socket.io"},
    {"frame", OPTION_COUNT, FIELD(frame), CONTENT_BYTES_MIN + PLAIN_SHELL_BYTES_MAX, CONTENT_BYTES_MAX,
     BIT(SCENARIO_FANOUT) | BIT(SCENARIO_CHAT), "BYTES",
     "with --peer: length of a message, such as a gateway's push_bytes; default --size and 160"},
    {"source", OPTION_TEXT, FIELD(source), 0, 0, EVERY, "127.x.y.z",
     "first local address to connect from: another one for each of several generators at once"},
    {"pid", OPTION_COUNT, FIELD(pid), 1, 4194304, EVERY, "PID",
     "the gateway's process: reports its CPU time and memory"},
    {"record", OPTION_TEXT, FIELD(record_path), 0, 0, TALKS, "FILE",
     "append what was sent, answered and received, for tests/fault/check-history (JSON lines)"},
    {"client-ids", OPTION_FLAG, FIELD(client_ids), 0, 0, TALKS, NULL,
     "send a client_id with each message (--record does)"},
    {"tolerate-disconnect", OPTION_FLAG, FIELD(tolerate_disconnect), 0, 0, TALKS | BIT(SCENARIO_IDLE), NULL,
     "a lost connection is no failure: exit 0, with what was in flight recorded as unknown"},
    {"timeout", OPTION_REAL, FIELD(timeout), 1, 3600, EVERY, "S", "for setting up and for draining, default 60"},
    {"json", OPTION_FLAG, FIELD(json), 0, 0, EVERY, NULL, "one JSON object instead of the table"},
};

#define UNSET (-1.0)
#define MESSAGES_SECONDS 600.0 /* the bound in time of a run that is given a number of messages */

enum { NUM_ROWS = sizeof option_rows / sizeof option_rows[0] };

static const char *const scenario_names[] = {"fanout", "chat", "durable", "connect", "idle", "rest"};

static const char *const scenario_help[] = {
    "publishers send to rooms of many subscribers; counts deliveries",
    "everyone talks in small rooms; counts deliveries",
    "publishers wait for `ok`; counts messages acknowledged, that is: on disk",
    "WebSocket upgrades a second",
    "holds subscribed connections and reports the gateway's memory for each",
    "HTTP requests on kept-alive connections",
};

static void help(void);
static void scenario_print_help(enum scenario scenario);
static bool apply(struct options *o, const struct option_row *row, const char *text);
static bool complete(struct options *o);
static bool complete_peer(struct options *o);

const char *scenario_name(enum scenario scenario)
{
    return scenario_names[scenario];
}

enum options_result options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.url = "http://127.0.0.1:8080",
                          .path = "/health",
                          .size = 128,
                          .seconds = UNSET,
                          .warmup = UNSET,
                          .timeout = 60};
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        help();
        return argc < 2 ? OPTIONS_USAGE : OPTIONS_HELP;
    }
    unsigned found = 0;
    while (found < 6 && strcmp(argv[1], scenario_names[found]) != 0) found++;
    if (found == 6) {
        fprintf(stderr, "carillon-load: there is no scenario '%s' (see carillon-load --help)\n", argv[1]);
        return OPTIONS_USAGE;
    }
    o->scenario = (enum scenario)found;

    struct option table[NUM_ROWS + 2] = {0};
    for (int i = 0; i < NUM_ROWS; i++)
        table[i] = (struct option){option_rows[i].name,
                                   option_rows[i].kind == OPTION_FLAG ? no_argument : required_argument, NULL, 256 + i};
    table[NUM_ROWS] = (struct option){"help", no_argument, NULL, 'h'};
    int choice;
    while ((choice = getopt_long(argc - 1, argv + 1, "h", table, NULL)) != -1) {
        if (choice == 'h') {
            scenario_print_help(o->scenario);
            return OPTIONS_HELP;
        }
        if (choice == '?') return OPTIONS_USAGE;
        if (!apply(o, &option_rows[choice - 256], optarg)) return OPTIONS_USAGE;
    }
    if (optind < argc - 1) {
        fprintf(stderr, "carillon-load: unexpected argument '%s'\n", argv[optind + 1]);
        return OPTIONS_USAGE;
    }
    return complete(o) ? OPTIONS_OK : OPTIONS_USAGE;
}

static void help(void)
{
    printf("carillon-load: load for a Carillon gateway, and what it does with it\n\n"
           "usage: carillon-load SCENARIO [--option VALUE]…      carillon-load SCENARIO --help\n\n");
    for (unsigned i = 0; i < 6; i++) printf("  %-8s %s\n", scenario_names[i], scenario_help[i]);
    printf("\nA gateway to try it on (the master key lets each run make a tenant of its own):\n"
           "  carillon serve --data /tmp/d --set admin.master_key=secret\n\n"
           "examples:\n"
           "  carillon-load fanout --master-key secret\n"
           "      1 room, 1000 subscribers, 1 message in flight, 5 seconds\n"
           "  carillon-load fanout --master-key secret --rooms 100 --subscribers 10 --publishers 100 --in-flight 4 \\\n"
           "      --pid $(pidof carillon)\n"
           "      the same kind of load in small rooms, with the gateway's CPU time for each delivery\n"
           "  carillon-load chat --master-key secret --rooms 100 --members 2 --rate 5000\n"
           "      an open loop: latencies count from the moment a message was due, so a stall is not hidden\n"
           "  carillon-load durable --admin-socket /tmp/d/admin.sock --publishers 16 --in-flight 64 --json\n"
           "  carillon-load idle --key $KEY --connections 10000 --seconds 30 --pid $(pidof carillon)\n"
           "  carillon-load rest --path /health --connections 64\n"
           "  carillon-load fanout --peer websocket --url http://127.0.0.1:9001 --frame 330\n"
           "      the same load for a WebSocket server that broadcasts, to compare a gateway with\n\n"
           "exit code: 0 done, 1 a promise was broken (order, holes, lost connections, refusals for good), 2 usage\n");
}

static void scenario_print_help(enum scenario scenario)
{
    printf("carillon-load %s: %s\n\n", scenario_names[scenario], scenario_help[scenario]);
    for (unsigned i = 0; i < NUM_ROWS; i++) {
        const struct option_row *row = &option_rows[i];
        char left[64];
        if (!(row->scenarios & BIT(scenario))) continue;
        snprintf(left, sizeof left, "--%s %s", row->name, row->argument ? row->argument : "");
        printf("  %-24s %s\n", left, row->help);
    }
    printf("\n`carillon-load --help` shows examples.\n");
}

static bool apply(struct options *o, const struct option_row *row, const char *text)
{
    char *field = (char *)o + row->offset, *end = NULL;
    if (!(row->scenarios & BIT(o->scenario))) {
        fprintf(stderr, "carillon-load: --%s has no meaning for %s\n", row->name, scenario_names[o->scenario]);
        return false;
    }
    switch (row->kind) {
    case OPTION_TEXT: memcpy(field, &text, sizeof text); return true;
    case OPTION_FLAG: *(bool *)field = true; return true;
    case OPTION_COUNT:
    case OPTION_REAL: break;
    }
    errno = 0;
    double number = strtod(text, &end);
    bool whole = number >= 0 && number < 1e18 && (double)(uint64_t)number == number;
    if (errno || end == text || *end || !(number >= row->min && number <= row->max) ||
        (row->kind == OPTION_COUNT && !whole)) {
        fprintf(stderr, "carillon-load: --%s takes a number from %.10g to %.10g, not '%s'\n", row->name, row->min,
                row->max, text);
        return false;
    }
    if (row->kind == OPTION_COUNT)
        *(uint64_t *)field = (uint64_t)number;
    else
        *(double *)field = number; /* cppcheck-suppress invalidPointerCast ; the row says what the field is */
    return true;
}

/* or_default gives an option that was not set its scenario's value: no count may be 0. */
static void or_default(uint64_t *value, uint64_t otherwise)
{
    if (*value == 0) *value = otherwise;
}

static bool complete(struct options *o)
{
    bool own_tenant = o->master_key || o->admin_socket || (o->state_path && access(o->state_path, R_OK) == 0);
    switch (o->scenario) {
    case SCENARIO_FANOUT:
        or_default(&o->rooms, 1);
        or_default(&o->subscribers, 1000);
        or_default(&o->publishers, o->rooms);
        or_default(&o->in_flight, 1);
        break;
    case SCENARIO_CHAT:
        or_default(&o->rooms, 100);
        or_default(&o->members, 2);
        or_default(&o->in_flight, 1);
        break;
    case SCENARIO_DURABLE:
        or_default(&o->publishers, 16);
        or_default(&o->rooms, o->publishers);
        or_default(&o->in_flight, 64);
        break;
    case SCENARIO_CONNECT:
        or_default(&o->connections, 10000);
        or_default(&o->hold, 1000);
        break;
    case SCENARIO_IDLE:
        or_default(&o->connections, 1000);
        or_default(&o->rooms, (o->connections + 9999) / 10000);
        or_default(&o->users, o->connections);
        break;
    case SCENARIO_REST:
        or_default(&o->connections, 64);
        if (!o->method) o->method = o->body ? "POST" : "GET";
        break;
    }
    if (o->seconds < 0) o->seconds = o->messages ? MESSAGES_SECONDS : 5;
    if (o->warmup < 0) o->warmup = o->messages ? 0 : 0.5;
    if (o->record_path) o->client_ids = true;
    if (!complete_peer(o)) return false;
    if (o->scenario != SCENARIO_REST && !o->dialect && !o->key && !own_tenant) {
        fprintf(stderr, "carillon-load: give --key, or --master-key or --admin-socket to make a tenant\n");
        return false;
    }
    if ((o->scenario == SCENARIO_DURABLE && o->rooms > o->publishers) ||
        (o->scenario == SCENARIO_IDLE && (o->rooms > o->users || o->users > o->connections))) {
        fprintf(stderr, "carillon-load: more rooms than people to be in them, or more users than connections\n");
        return false;
    }
    return true;
}

/* complete_peer reads --peer, --frame and --source. */
static bool complete_peer(struct options *o)
{
    struct in_addr source;
    if (o->source && (inet_pton(AF_INET, o->source, &source) != 1 || ntohl(source.s_addr) >> 24 != 127)) {
        fprintf(stderr, "carillon-load: --source takes an address of 127.0.0.0/8, not '%s'\n", o->source);
        return false;
    }
    if (o->source) o->source_ipv4 = ntohl(source.s_addr);
    if (o->peer && strcmp(o->peer, "websocket") == 0) o->dialect = DIALECT_WEBSOCKET;
    if (o->peer && strcmp(o->peer, "socket.io") == 0) o->dialect = DIALECT_SOCKET_IO;
    if (o->peer && !o->dialect) {
        fprintf(stderr, "carillon-load: --peer takes websocket or socket.io, not '%s'\n", o->peer);
        return false;
    }
    if (o->frame && !o->dialect) {
        fprintf(stderr, "carillon-load: --frame needs --peer: a gateway gives its frames their length itself\n");
        return false;
    }
    if (o->dialect && (o->client_ids || o->record_path || o->state_path)) {
        fprintf(stderr, "carillon-load: --client-ids, --record and --state need a gateway, not --peer\n");
        return false;
    }
    or_default(&o->frame, o->size + PLAIN_SHELL_BYTES_MAX);
    if (o->frame < o->size + PLAIN_SHELL_BYTES_MAX) {
        fprintf(stderr, "carillon-load: --frame must hold --size and %u bytes around it\n", PLAIN_SHELL_BYTES_MAX);
        return false;
    }
    return true;
}
