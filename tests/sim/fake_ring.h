/* fake_ring: sockets in memory. Behind net/ring.h stands this one instead of io_uring, and in front of it the clients'
 * ends of the connections.
 *
 *   client ── link_write ──▶ up (bounded) ──▶ completions of receives ──▶ net
 *   client ◀── link_read ─── down (bounded) ◀── ring_send takes what fits ─── net
 *
 * Bytes of one link keep their order; everything else does not: when a receive, an accept, a poll or a shutdown
 * completes is the scheduler's choice (link_step), and completions of different links overtake each other. What ring.h
 * says about operations is checked on the way; breaking it fails the run. */
#ifndef CARILLON_TESTS_SIM_FAKE_RING_H
#define CARILLON_TESTS_SIM_FAKE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../src/base/slice.h"

struct ring;
struct park;
struct link;

#define LISTENER_FD_BASE 1000 /* + core: its TCP listener; + ADMIN_FD: its admin socket */
#define ADMIN_FD 100

/* --- the world's side ---------------------------------------------------------------------------------------- */

bool ring_has_arrivals(const struct ring *ring);
/* ring_signal_watch makes the watch of this park complete; false when no ring watches it. */
bool ring_signal_watch(const struct park *park);
/* rings_crash resets every connection and forgets the rings. */
void rings_crash(void);
/* rings_set_faults: how many receive buffers there seem to be (1 to the configured number), how often operations fail
 * or end in unusual but legal ways (once in `of`; 0: never). */
void rings_set_faults(unsigned buffers, unsigned of);

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
