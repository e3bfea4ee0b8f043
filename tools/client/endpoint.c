#define _GNU_SOURCE /* strerrordesc_np (glibc 2.32) */
#include "endpoint.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static bool copy_text(char *out, size_t cap, const char *text, size_t len)
{
    if (len == 0 || len >= cap) return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

static bool port_parse(struct endpoint *out, const char *text, size_t len)
{
    unsigned port = 0;
    if (len == 0 || len > 5) return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return port >= 1 && port <= UINT16_MAX && copy_text(out->port, sizeof out->port, text, len);
}

bool endpoint_parse(struct endpoint *out, const char *url)
{
    *out = (struct endpoint){.port = "80"};
    if (strncmp(url, "unix:", 5) == 0) return endpoint_unix(out, url + 5);
    if (strncmp(url, "http://", 7) == 0)
        url += 7;
    else if (strstr(url, "://"))
        return false;

    size_t len = strcspn(url, "/");
    if (url[len] == '/' && url[len + 1] != '\0') return false; /* a path has no meaning here */
    const char *host = url, *host_end, *rest;
    if (*url == '[') {
        host = url + 1;
        host_end = memchr(url, ']', len);
        if (!host_end) return false;
        rest = host_end + 1;
    } else {
        const char *colon = memchr(url, ':', len);
        host_end = rest = colon ? colon : url + len;
    }
    if (!copy_text(out->host, sizeof out->host, host, (size_t)(host_end - host))) return false;
    /* Brackets are around an IPv6 address and nowhere else (RFC 3986 3.2.2). */
    if (strpbrk(out->host, "[]") || (*url == '[' && !strchr(out->host, ':'))) return false;
    if (rest == url + len) return true;
    return *rest == ':' && port_parse(out, rest + 1, (size_t)(url + len - rest - 1));
}

bool endpoint_unix(struct endpoint *out, const char *path)
{
    *out = (struct endpoint){.local = true};
    struct sockaddr_un address;
    size_t len = strlen(path);
    return len < sizeof address.sun_path && copy_text(out->host, sizeof out->host, path, len);
}

const char *endpoint_resolve(const struct endpoint *e, struct sockaddr_storage *out, socklen_t *len)
{
    memset(out, 0, sizeof *out);
    if (e->local) {
        struct sockaddr_un *address = (struct sockaddr_un *)out;
        address->sun_family = AF_UNIX;
        snprintf(address->sun_path, sizeof address->sun_path, "%.*s", (int)sizeof address->sun_path - 1, e->host);
        *len = sizeof *address;
        return NULL;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int error = getaddrinfo(e->host, e->port, &hints, &found);
    if (error) return gai_strerror(error);
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *len = found->ai_addrlen;
    freeaddrinfo(found);
    return NULL;
}

int endpoint_connect(const struct endpoint *e, unsigned timeout_ms, const char **why)
{
    struct sockaddr_storage address;
    socklen_t len = 0;
    *why = endpoint_resolve(e, &address, &len);
    if (*why) return -1;
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        *why = strerrordesc_np(errno);
        return -1;
    }
    /* SO_SNDTIMEO bounds connect(2) as well (socket(7)) */
    struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    int on = 1;
    if (!e->local) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&address, len) < 0) {
        *why = errno == EINPROGRESS ? "Connection timed out" : strerrordesc_np(errno);
        close(fd);
        return -1;
    }
    return fd;
}

void endpoint_authority(const struct endpoint *e, char *out, size_t out_cap)
{
    if (e->local)
        snprintf(out, out_cap, "localhost");
    else if (strchr(e->host, ':'))
        snprintf(out, out_cap, "[%s]:%s", e->host, e->port);
    else
        snprintf(out, out_cap, "%s:%s", e->host, e->port);
}
