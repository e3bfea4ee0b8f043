#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../src/base/limits.h"
#include "../src/base/slice.h"

static bool address_parse(struct sockaddr_storage *out, socklen_t *out_len, const char *text);
static bool socket_prepare(int fd, int family, const struct listener_tcp *listener);
static int bind_patiently(int fd, const struct sockaddr *address, socklen_t address_len);
static void bound_name(int fd, char name[LISTENER_NAME_LEN]);
static enum status give_up(int fd, int error, const char *what, const char *where, char *why, size_t why_len);
static bool unix_stale(const struct sockaddr_un *address, const char *path);

enum status listener_open_tcp(int *fd, char name[LISTENER_NAME_LEN], const struct listener_tcp *listener, char *why,
                              size_t why_len)
{
    struct sockaddr_storage address;
    socklen_t address_len;
    *fd = -1;
    if (!address_parse(&address, &address_len, listener->address)) {
        snprintf(why, why_len, "cannot listen on %s: not an address and port like 127.0.0.1:8080 or [::1]:8080",
                 listener->address);
        return STATUS_INVALID;
    }
    int s = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0) return give_up(s, errno, "socket", listener->address, why, why_len);
    if (!socket_prepare(s, address.ss_family, listener))
        return give_up(s, errno, "setsockopt", listener->address, why, why_len);
    int error = bind_patiently(s, (const struct sockaddr *)&address, address_len);
    if (error) return give_up(s, error, "bind", listener->address, why, why_len);
    if (listen(s, LISTEN_BACKLOG) < 0) return give_up(s, errno, "listen", listener->address, why, why_len);
    bound_name(s, name);
    *fd = s;
    return STATUS_OK;
}

static bool address_parse(struct sockaddr_storage *out, socklen_t *out_len, const char *text)
{
    char host[INET6_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!colon || !slice_u64(slice_str(colon + 1), &port) || port > UINT16_MAX) return false;
    bool brackets = text[0] == '[' && colon > text && colon[-1] == ']';
    const char *begin = brackets ? text + 1 : text;
    size_t len = (size_t)((brackets ? colon - 1 : colon) - begin);
    if (len >= sizeof host) return false;
    memcpy(host, begin, len);
    host[len] = '\0';

    memset(out, 0, sizeof *out);
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    if (brackets && inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *out_len = sizeof *v6;
        return true;
    }
    if (brackets || inet_pton(AF_INET, strcmp(host, "*") ? host : "0.0.0.0", &v4->sin_addr) != 1) return false;
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    *out_len = sizeof *v4;
    return true;
}

static bool socket_prepare(int fd, int family, const struct listener_tcp *listener)
{
    int on = 1, bytes = listener->send_buffer_bytes, deferred_s = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) return false;
    if (listener->reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) return false;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) return false;
    if (listener->deferred && setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &deferred_s, sizeof deferred_s) < 0)
        return false;
    if (bytes > 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) < 0) return false;
    return family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0;
}

/* bind_patiently returns 0 or an errno. The kernel tears a dead process' ring down asynchronously, so for a few
 * milliseconds after a crash the port still looks taken. */
static int bind_patiently(int fd, const struct sockaddr *address, socklen_t address_len)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    for (unsigned waited_ms = 0;; waited_ms++) {
        if (bind(fd, address, address_len) == 0) return 0;
        if (errno != EADDRINUSE || waited_ms >= BIND_RETRY_MS) return errno;
        nanosleep(&pause, NULL);
    }
}

static void bound_name(int fd, char name[LISTENER_NAME_LEN])
{
    struct sockaddr_storage address = {0};
    socklen_t address_len = sizeof address;
    char host[INET6_ADDRSTRLEN] = "?";
    getsockname(fd, (struct sockaddr *)&address, &address_len);
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(name, LISTENER_NAME_LEN, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(name, LISTENER_NAME_LEN, "%s:%u", host, ntohs(v4->sin_port));
    }
}

static enum status give_up(int fd, int error, const char *what, const char *where, char *why, size_t why_len)
{
    if (fd >= 0) close(fd);
    const char *advice = "";
    if (error == EADDRINUSE) advice = "; another process listens there";
    if (error == EACCES) advice = "; ports below 1024 need CAP_NET_BIND_SERVICE, paths a writable directory";
    if (error == EADDRNOTAVAIL) advice = "; no interface of this host has that address";
    if (error == ENOENT) advice = "; make its directory first";
    snprintf(why, why_len, "cannot listen on %s: %s: %s%s", where, what, strerror(error), advice);
    if (error == EADDRINUSE) return STATUS_EXISTS;
    return error == EACCES || error == EPERM ? STATUS_DENIED : STATUS_IO;
}

enum status listener_open_unix(int *fd, const char *path, char *why, size_t why_len)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *fd = -1;
    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(why, why_len, "cannot listen on %s: a socket's path has at most %zu bytes", path,
                 sizeof address.sun_path - 1);
        return STATUS_INVALID;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (unix_stale(&address, path)) unlink(path);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0) return give_up(s, errno, "socket", path, why, why_len);
    /* The mode of the descriptor is the mode that bind gives the file: there is no moment at which others may connect,
     * and the process' umask, which all threads share, stays as it is. */
    if (fchmod(s, 0600) < 0) return give_up(s, errno, "fchmod", path, why, why_len);
    if (bind(s, (const struct sockaddr *)&address, sizeof address) < 0)
        return give_up(s, errno, "bind", path, why, why_len);
    if (listen(s, LISTEN_BACKLOG) < 0) {
        int error = errno;
        unlink(path);
        return give_up(s, error, "listen", path, why, why_len);
    }
    *fd = s;
    return STATUS_OK;
}

/* unix_stale: a socket file that refuses connections was left behind by a process that is gone. */
static bool unix_stale(const struct sockaddr_un *address, const char *path)
{
    struct stat info;
    if (lstat(path, &info) < 0 || !S_ISSOCK(info.st_mode)) return false;
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) return false;
    int n = connect(probe, (const struct sockaddr *)address, sizeof *address);
    bool refused = n < 0 && errno == ECONNREFUSED;
    close(probe);
    return refused;
}
