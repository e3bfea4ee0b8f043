/* table: the faults that a test may order from `carillon-faults`, the gateway linked for tests/fault/resource-errors.
 *
 * io_uring and the allocator cannot be reached by a preloaded object, so this executable is linked with functions that
 * stand before the ring's, liburing's (`ld --wrap`) and the allocator's. The product's objects are the very same, and
 * the product's executable holds nothing of this.
 *
 * The table lies in a file that the test maps as well, named by CARILLON_FAULTS when the process starts. The test sets
 * a site's mode at any time; the process counts how often each site was passed and how often it failed. Without that
 * name, nothing ever fails. Read and written by any thread, one word at a time. */
#ifndef CARILLON_TESTS_FAULT_TABLE_H
#define CARILLON_TESTS_FAULT_TABLE_H

#include <stdint.h>

#ifdef __cplusplus
#include <atomic>
#define FAULT_ATOMIC(type) std::atomic<type>
extern "C" {
#else
#include <stdatomic.h>
#define FAULT_ATOMIC(type) _Atomic(type)
#endif

#define FAULT_CALLERS 16384u /* places that allocate; about 3000 are met */

enum fault_mode { FAULT_OFF, FAULT_ONCE, FAULT_FOR_GOOD };

/* SITE(identifier, name, what fails). Those of `start.` strike while the process starts. */
#define FAULT_SITES(SITE)                                                                                           \
    SITE(ACCEPT_EMFILE, "accept.emfile")             /* no connection is taken from the backlog */                  \
    SITE(ACCEPT_ENFILE, "accept.enfile")                                                                            \
    SITE(ACCEPT_ENOBUFS, "accept.enobufs")                                                                          \
    SITE(ACCEPT_ENOMEM, "accept.enomem")                                                                            \
    SITE(ACCEPT_ECONNABORTED, "accept.econnaborted") /* the peer gave up in the backlog */                          \
    SITE(RECV_ENOBUFS, "recv.enobufs")               /* no provided buffer was left */                              \
    SITE(RECV_ENOMEM, "recv.enomem")                                                                                \
    SITE(RECV_ECONNRESET, "recv.econnreset")                                                                        \
    SITE(RECV_ENDS, "recv.ends")                     /* the kernel ends a multishot receive */                      \
    SITE(RECV_SHORT, "recv.short")                   /* one byte comes alone, the others behind it */               \
    SITE(SEND_SHORT, "send.short")                   /* the socket takes half */                                    \
    SITE(SEND_EAGAIN, "send.eagain")                 /* the socket takes nothing */                                 \
    SITE(SEND_ENOBUFS, "send.enobufs")                                                                              \
    SITE(SEND_ENOMEM, "send.enomem")                                                                                \
    SITE(SEND_EPIPE, "send.epipe")                                                                                  \
    SITE(POLL_ENOMEM, "poll.enomem")                 /* waiting for a socket to become writable fails */            \
    SITE(POLL_IN_ENOMEM, "poll-in.enomem")           /* waiting for something to read fails */                      \
    SITE(CANCEL_ENOENT, "cancel.enoent")             /* what is to be cancelled is not found, and stays armed */    \
    SITE(SHUTDOWN_ENOTCONN, "shutdown.enotconn")                                                                    \
    SITE(BOUND_EOPNOTSUPP, "bound.eopnotsupp")       /* a kernel before 6.7 */                                      \
    SITE(CLOSE_EIO, "close.eio")                                                                                    \
    SITE(WATCH_ENDS, "watch.ends")                   /* the kernel ends the multishot poll on the core's eventfd */ \
    SITE(WATCH_ENOMEM, "watch.enomem")                                                                              \
    SITE(ENTER_EAGAIN, "enter.eagain")               /* io_uring_enter takes nothing */                             \
    SITE(ENTER_EBUSY, "enter.ebusy")                                                                                \
    SITE(ENTER_EINTR, "enter.eintr")                                                                                \
    SITE(START_QUEUES_ENOMEM, "start.queues.enomem") /* io_uring_setup */                                           \
    SITE(START_QUEUES_EPERM, "start.queues.eperm")                                                                  \
    SITE(START_TABLE_EMFILE, "start.table.emfile")   /* the table of descriptors */                                 \
    SITE(START_BUFFERS_ENOMEM, "start.buffers.enomem")                                                              \
    SITE(START_RING_FD_EBUSY, "start.ring_fd.ebusy") /* no place among the registered rings */                      \
    SITE(START_QUEUES_SMALL, "start.queues.small")   /* 8 submissions, 16 completions: real overflows */            \
    SITE(START_BUFFERS_FEW, "start.buffers.few")     /* 8 receive buffers: real ENOBUFS */

enum fault_site {
#define FAULT_ENUM(id, name) FAULT_##id,
    FAULT_SITES(FAULT_ENUM)
#undef FAULT_ENUM
    NUM_FAULT_SITES
};

/* As it lies in the file, in the machine's byte order; fault_table.py reads and writes the same. */
struct fault_table {
    FAULT_ATOMIC(uint64_t) num_sites;
    FAULT_ATOMIC(uint64_t) recording;      /* 1: callers of the allocator are noted */
    FAULT_ATOMIC(uint64_t) memory_caller;  /* the return address that fails */
    FAULT_ATOMIC(uint64_t) memory_mode;    /* enum fault_mode */
    FAULT_ATOMIC(uint64_t) memory_failed;
    uint64_t reserved[3];
    struct {
        char name[40];
        FAULT_ATOMIC(uint64_t) mode; /* enum fault_mode */
        FAULT_ATOMIC(uint64_t) passed;
        FAULT_ATOMIC(uint64_t) failed;
    } sites[64];
    struct {
        FAULT_ATOMIC(uint64_t) address; /* of return, in this process; 0 is a free place */
        FAULT_ATOMIC(uint64_t) passed;
    } callers[FAULT_CALLERS];
};

/* fault_strikes counts that a site was passed, and tells whether it has to fail. */
int fault_strikes(enum fault_site site);
/* fault_memory does the same for an allocation whose caller goes on at `address`. */
int fault_memory(const void *address);

#ifdef __cplusplus
}
#endif

#endif
