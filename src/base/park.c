#define _GNU_SOURCE /* ppoll */
#include "park.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "assert.h"

enum status park_init(struct park *p, const struct park_ops *ops, void *ops_context)
{
    *p = (struct park){.fd = -1, .ops = ops, .ops_context = ops_context};
    if (ops) return STATUS_OK;
    p->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return p->fd < 0 ? STATUS_IO : STATUS_OK;
}

void park_close(struct park *p)
{
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
}

void park_block(struct park *p, uint64_t timeout_ns)
{
    if (p->ops) {
        p->ops->block(p, timeout_ns);
        return;
    }
    struct pollfd wait = {.fd = p->fd, .events = POLLIN};
    struct timespec limit = {.tv_sec = (time_t)(timeout_ns / 1000000000u), .tv_nsec = (long)(timeout_ns % 1000000000u)};
    int n = ppoll(&wait, 1, timeout_ns == UINT64_MAX ? NULL : &limit, NULL);
    ASSERT(n >= 0 || errno == EINTR);
    if (n > 0) park_drain(p);
}

void park_drain(struct park *p)
{
    if (p->fd < 0) return;
    uint64_t count;
    ssize_t n = read(p->fd, &count, sizeof count);
    ASSERT(n == (ssize_t)sizeof count || errno == EAGAIN || errno == EINTR);
}

void park_signal(struct park *p)
{
    atomic_fetch_add_explicit(&p->wakes, 1, memory_order_relaxed);
    if (p->ops) {
        p->ops->signal(p);
        return;
    }
    uint64_t one = 1;
    ssize_t n = write(p->fd, &one, sizeof one);
    ASSERT(n == (ssize_t)sizeof one || errno == EAGAIN || errno == EINTR);
}
