/* probe: static tracepoints (USDT) on a message's way. Each is one nop in the code and a note in the binary; who looks
 * (perf/latency.bt, `perf probe`, `bpftrace -l 'usdt:build/release/carillon:*'`) has the kernel put a breakpoint there,
 * and only then anything is paid: one to two microseconds for each time it is passed.
 *
 * Each function is a probe of provider `carillon`; its parameters are arg0, arg1, …: ids, counts, bytes, nanoseconds,
 * never content. perf/README.md has the same table for who looks; tests/integration/test_probes.py compares it, this
 * header and the binary.
 *
 * Built in when <sys/sdt.h> is installed (Debian: systemtap-sdt-dev); without it a probe is nothing. Thread-neutral. */
#ifndef CARILLON_BASE_PROBE_H
#define CARILLON_BASE_PROBE_H

#include <stddef.h>
#include <stdint.h>

#if __has_include(<sys/sdt.h>)
#define SDT_USE_VARIADIC /* STAP_PROBEV: as many arguments as there are */
#include <sys/sdt.h>
#define PROBE(name, ...) STAP_PROBEV(carillon, name, ##__VA_ARGS__)
#else
#define PROBE(name, ...) ((void)0)
#endif

/* Always inlined: a probe stands where it is passed, and nobody calls a function to get to a nop. */
#define PROBE_FUNCTION static inline __attribute__((always_inline)) void

/* A core begins a turn of its loop: what it queued for sockets before went out with the last one. */
PROBE_FUNCTION probe_turn(uint32_t core) { PROBE(turn, core); }
/* A connection was accepted; its slot names it among the core's until it is closed. */
PROBE_FUNCTION probe_accept(uint32_t core, uint32_t connection) { PROBE(accept, core, connection); }
/* A whole WebSocket message or HTTP request has come, and is about to be parsed; bytes of text or body. */
PROBE_FUNCTION probe_parse(uint32_t core, uint32_t connection, size_t bytes) { PROBE(parse, core, connection, bytes); }
/* A room has given its next seq to an event, which goes to the writer; core is the room's home. origin and connection
 * say who asked for it, as in parse; connection is UINT32_MAX when nobody waits for the answer. */
PROBE_FUNCTION probe_commit(uint32_t core, uint64_t room, uint64_t seq, size_t bytes, uint32_t origin,
                            uint32_t connection)
{
    PROBE(commit, core, room, seq, bytes, origin, connection);
}
/* The writer has put a batch into the log of the store, unsynced. */
PROBE_FUNCTION probe_written(size_t entries, size_t bytes) { PROBE(written, entries, bytes); }
/* The syncer has synced that log; how long it took. */
PROBE_FUNCTION probe_synced(uint64_t took_ns) { PROBE(synced, took_ns); }
/* The room's home has learnt that an event is durable (class fast: written). */
PROBE_FUNCTION probe_durable(uint32_t core, uint64_t room, uint64_t seq) { PROBE(durable, core, room, seq); }
/* A core has queued runs of a room to as many of its subscribers as a turn sends to; the next slice of them says it
 * again. deliveries: events that sockets took. */
PROBE_FUNCTION probe_fanout(uint32_t core, uint64_t room, uint64_t first_seq, uint64_t last_seq, size_t bytes,
                            uint64_t deliveries)
{
    PROBE(fanout, core, room, first_seq, last_seq, bytes, deliveries);
}
/* A send is put into the core's ring; the kernel takes it with the turn's system call. frames: those it begins with or
 * continues. */
PROBE_FUNCTION probe_send(uint32_t core, uint32_t connection, size_t bytes, uint32_t frames)
{
    PROBE(send, core, connection, bytes, frames);
}

#endif
