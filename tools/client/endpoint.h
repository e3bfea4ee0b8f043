/* endpoint: where a server listens: a TCP address from an http:// URL, or a Unix socket. The tools' first step.
 *
 * A plain value: no owner, no cleanup. */
#ifndef CARILLON_TOOLS_CLIENT_ENDPOINT_H
#define CARILLON_TOOLS_CLIENT_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define ENDPOINT_HOST_BYTES_MAX 256u /* a DNS name is at most 253 (RFC 1035 2.3.4), a socket path 108 (unix(7)) */

struct endpoint {
    char host[ENDPOINT_HOST_BYTES_MAX]; /* name or address without brackets; the path of a Unix socket */
    char port[8];                       /* decimal; empty for a Unix socket */
    bool local;                         /* a Unix socket */
};

/* endpoint_parse takes "http://HOST[:PORT][/]", "HOST:PORT", "http://[V6]:PORT" or "unix:PATH"; port 80 when none.
 * False for anything else: https too, because the tools speak plain HTTP only (use a tunnel or the local listener). */
bool endpoint_parse(struct endpoint *out, const char *url);
/* endpoint_unix names a Unix socket; false when the path is empty or longer than sun_path. */
bool endpoint_unix(struct endpoint *out, const char *path);

/* endpoint_resolve gives the first socket address. Returns NULL, or a sentence that says why not. */
const char *endpoint_resolve(const struct endpoint *e, struct sockaddr_storage *out, socklen_t *len);

/* endpoint_connect opens a blocking, connected stream socket whose sends and receives time out after `timeout_ms`.
 * Returns the descriptor, or -1 with *why set to a sentence (static text). TCP sockets have TCP_NODELAY. */
int endpoint_connect(const struct endpoint *e, unsigned timeout_ms, const char **why);

/* endpoint_authority writes what a Host field says (RFC 9110 7.2): "host:port", "[v6]:port", or "localhost". */
void endpoint_authority(const struct endpoint *e, char *out, size_t out_cap);

#endif
