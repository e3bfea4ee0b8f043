/* fake_ring: sockets in memory. Behind net/ring.h stands this one instead of io_uring, and in front of it the clients'
 * ends of the connections.
 *
 *   client ── link_write ──▶ up (bounded) ──▶ completions of receives ──▶ net
 *   client ◀── link_read ─── down (bounded) ◀── ring_send takes what fits ─── net
 *
 * Bytes of one link keep their order; everything else does not: when a receive, an accept, a poll or a shutdown
 * completes is the scheduler's choice (link_step), and completions of different links overtake each other. A send
 * without a copy is notified of once its client has read the bytes, or is gone, in half of the links as copied. What
 * ring.h says about operations is checked on the way; breaking it fails the run. */
#ifndef CARILLON_TESTS_SIM_FAKE_RING_H
#define CARILLON_TESTS_SIM_FAKE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../src/base/slice.h"

struct ring;
struct park;
struct link;

#define LINKS_MAX 160u
#define LISTENER_FD_BASE 1000 /* + core: its TCP listener; + ADMIN_FD: its admin socket */
#define ADMIN_FD 100

/* --- the world's side ---------------------------------------------------------------------------------------- */

bool ring_has_arrivals(const struct ring *ring);
/* rings_have_arrivals: one of them would take a completion now. */
bool rings_have_arrivals(void);
/* ring_signal_watch makes the watch of this park complete, at `due_ns`; false when no ring watches it. */
bool ring_signal_watch(const struct park *park, uint64_t due_ns);
/* rings_crash resets every connection and forgets the rings. */
void rings_crash(void);
/* ring_wake_coming: a wake-up of the ring's park was sent, and the ring has not shown it yet. ring_due_ns: when the
 * next completion that is held back comes; WORLD_NEVER when none is. */
bool ring_wake_coming(const struct ring *ring);
uint64_t ring_due_ns(const struct ring *ring);
/* ring_outstanding counts the operations of one connection (of tag.h's slot and generation) that have not had their
 * last completion taken. Of a silent send nothing is known but that it fell short: *send_told. */
unsigned ring_outstanding(const struct ring *ring, uint32_t slot, uint32_t generation, bool *send_told);

/* ring_zero_copies counts sends without a copy whose last completion has not been taken; the one at `at` has this tag
 * and these bytes. */
unsigned ring_zero_copies(const struct ring *ring, unsigned at, uint64_t *tag, struct slice *bytes);

/* rings_reading: a socket, perhaps one that is closed, still has the bytes of such a send. */
bool rings_reading(void);

/* ring_faults: what happens to operations beside what they are for; all of it is legal. `_of`: once in so many times on
 * average, 0: never. */
struct ring_faults {
    unsigned buffers;    /* receive buffers there seem to be; 0: as many as configured */
    unsigned odd_of;     /* multishots end with any completion, cancellations come too late */
    unsigned error_of;   /* accepts, receives, sends and polls fail */
    unsigned tiny_of;    /* one byte is sent or received */
    unsigned starved_of; /* no receive finds a buffer, for long */
    unsigned delay_of;   /* a completion comes later than all others */
    unsigned sq_entries; /* prepared operations that make the queue full; 0: it never is */
    unsigned cq_entries; /* completions that fit, the others wait in the kernel's backlog; 0: all do */
};
void rings_set_faults(const struct ring_faults *faults);
/* rings_fail_open lets the next ring_open fail, as on a kernel that is short of memory or descriptors. */
void rings_fail_open(void);

/* --- the clients' side --------------------------------------------------------------------------------------- */

/* link_open connects to a core's listener; capacities in bytes. The link is the caller's until link_drop. */
struct link *link_open(unsigned core, bool admin, size_t up_bytes, size_t down_bytes);
/* link_write hands over a prefix of the bytes; returns how many. */
size_t link_write(struct link *l, struct slice bytes);
/* link_read takes at most `len` bytes. */
size_t link_read(struct link *l, void *out, size_t len);
size_t link_readable(const struct link *l);
size_t link_writable(const struct link *l);
/* link_ended: the gateway's end is closed, or the connection reset, and all bytes that came have been read. */
bool link_ended(const struct link *l);
/* link_version: what store_version was when the byte at this offset of the stream left the gateway. Offsets only grow
 * from call to call. */
uint64_t link_version(struct link *l, uint64_t offset);
/* link_finish ends the client's direction, as shutdown(2) does: it still reads. */
void link_finish(struct link *l);
/* link_drop ends the client's end: with a reset, or as close(2) does after everything was read. */
void link_drop(struct link *l, bool reset);

/* --- the network --------------------------------------------------------------------------------------------- */

unsigned links_len(void);
/* link_can_step: some operation on the link could complete. link_step lets one of them. */
bool link_can_step(unsigned index);
void link_step(unsigned index);
/* links_open counts connections that the gateway has not closed. */
unsigned links_open_at_gateway(void);
/* links_sweep frees those that both ends are done with. */
void links_sweep(void);

#endif
