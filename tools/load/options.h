/* options: the command line of carillon-load, checked: every number inside its bounds, every scenario with its own
 * defaults. */
#ifndef CARILLON_TOOLS_LOAD_OPTIONS_H
#define CARILLON_TOOLS_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define ROOMS_MAX 15000u          /* as many as sockets: a room without one would measure nothing */
#define MEMBERS_MAX 15000u        /* of one room */
#define IN_FLIGHT_MAX 4096u       /* messages of one publisher */
#define CONTENT_BYTES_MIN 40u     /* the stamp that each message carries: run, publisher, number, time */
#define CONTENT_BYTES_MAX 200000u /* below the gateway's 256 KiB WebSocket message */
#define SECONDS_MAX 86400.0
#define RATE_MAX 5e6 /* messages or connections a second */
#define MESSAGES_MAX 1000000000ull
#define UPGRADES_MAX 10000000ull /* connections of one `connect` run, in all */

enum scenario { SCENARIO_FANOUT, SCENARIO_CHAT, SCENARIO_DURABLE, SCENARIO_CONNECT, SCENARIO_IDLE, SCENARIO_REST };

/* What the server speaks: a gateway, or one of those that it is compared with (plain.h). */
enum dialect { DIALECT_CARILLON = 0, DIALECT_WEBSOCKET, DIALECT_SOCKET_IO };

struct options {
    enum scenario scenario;
    const char *url, *key, *master_key, *admin_socket, *record_path, *state_path, *path, *method, *body,
        *peer, *source;
    uint64_t rooms, subscribers, members, publishers, in_flight, size, connections, messages, hold, users, pid, frame;
    double seconds, warmup, rate, timeout; /* seconds; rate: a second, 0 none */
    bool json, tolerate_disconnect, client_ids;
    enum dialect dialect;
    uint32_t source_ipv4; /* of --source, in the host's byte order; 0: none */
};

enum options_result { OPTIONS_OK, OPTIONS_HELP, OPTIONS_USAGE };

/* options_parse fills `o`. OPTIONS_HELP: help was printed on stdout; OPTIONS_USAGE: what is wrong, on stderr. */
enum options_result options_parse(struct options *o, int argc, char **argv);

const char *scenario_name(enum scenario scenario);

#endif
