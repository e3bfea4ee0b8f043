/* listener: opens listening sockets. What they set (TCP_NODELAY, SO_SNDBUF) is inherited by what they accept, which
 * saves two system calls a connection. Errors are told in `why`, for people. */
#ifndef CARILLON_NET_LISTENER_H
#define CARILLON_NET_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/base/status.h"

#define LISTENER_NAME_LEN 64u /* "[2001:db8::1]:65535" and an IPv6 scope */

struct listener_tcp {
    const char *address; /* "127.0.0.1:8080", "[::1]:0", "*:8080" (all IPv4 addresses); port 0 lets the kernel choose */
    bool reuse_port;     /* SO_REUSEPORT: every core listens on the same port and the kernel spreads connections */
    bool deferred;       /* TCP_DEFER_ACCEPT: a client is accepted with its first bytes, or when it has sent none for a
                            second */
    int send_buffer_bytes; /* SO_SNDBUF, doubled by the kernel (socket(7)); 0 leaves the kernel's own sizing */
};

/* listener_open_tcp opens, binds and listens; *fd is non-blocking and close-on-exec. `name` gets the bound address with
 * its real port. STATUS_INVALID: the address does not parse; STATUS_EXISTS: in use, tried for BIND_RETRY_MS;
 * STATUS_DENIED: a privileged port; STATUS_IO: anything else. */
MUST_USE enum status listener_open_tcp(int *fd, char name[LISTENER_NAME_LEN], const struct listener_tcp *listener,
                                       char *why, size_t why_len);

/* listener_open_unix listens on a Unix socket that only its owner may use (mode 0600). A socket file that nobody
 * listens on is removed; STATUS_EXISTS when somebody does, or when the path is something else. */
MUST_USE enum status listener_open_unix(int *fd, const char *path, char *why, size_t why_len);

#endif
