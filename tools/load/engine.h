/* engine: many client sockets on one io_uring, driven by one thread: connect, multishot receive into provided buffers,
 * one gathered send per socket and turn.
 *
 * It goes to the kernel directly and not through net/ring.h, because that seam accepts connections and this one makes
 * them, and because a generator that shared the server's data path would share its mistakes.
 *
 * Call order: engine_open; for each socket engine_connect, then append to peer->out and engine_send; engine_turn in a
 * loop; engine_close_peer; engine_close when engine_peers is 0 or the process ends. Lifetime: a peer belongs to the
 * caller and must stay in place until on_closed for it was called; then it may be connected again. */
#ifndef CARILLON_TOOLS_LOAD_ENGINE_H
#define CARILLON_TOOLS_LOAD_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "../../src/base/buf.h"
#include "../../src/base/status.h"

#define ENGINE_PEERS_MAX 15000u         /* sockets of one run */
#define ENGINE_PORTS_PER_ADDRESS 20000u /* then the next source address: the range of local ports holds 28,000 */
#define ENGINE_BUFFERS 512u             /* provided receive buffers; each is handed back as soon as it was read */
#define ENGINE_BUFFER_BYTES 16384u

enum peer_state {
    PEER_IDLE = 0,   /* no socket; only `user` fields of the owner are valid */
    PEER_CONNECTING, /* fd is valid */
    PEER_OPEN,       /* fd, out, wire are valid */
    PEER_CLOSING,    /* shut down; waits for the completions of what is in the ring */
};

/* peer: one socket; embedded in its owner's struct. A zeroed peer is idle. */
struct peer {
    enum peer_state state;
    struct buf out; /* to be sent: append, then engine_send */
    int _fd;
    int _error;        /* errno of the first failure, 0: the other side ended the stream */
    unsigned _pending; /* operations in the ring */
    bool _sending, _dirty;
    struct buf _wire; /* bytes in the ring's hands, from _wire_sent on */
    size_t _wire_sent;
    struct peer *_next_dirty, *_next_starved;
};

struct engine_handlers {
    void (*on_connected)(void *context, struct peer *p, uint64_t now_ns);
    /* `bytes` die on return. */
    void (*on_bytes)(void *context, struct peer *p, const char *bytes, size_t len, uint64_t now_ns);
    /* The socket is gone and the peer idle: `error` is an errno value or 0 for the end of the stream. Called exactly
     * once for every engine_connect that returned STATUS_OK. */
    void (*on_closed)(void *context, struct peer *p, int error, uint64_t now_ns);
    void *context;
};

struct engine;

/* engine_open makes the ring; `server` is copied. `source_ipv4` (host's byte order) is the first local address, 0 the
 * one that the kernel chooses. STATUS_IO with a message on stderr (Linux ≥ 6.1 is needed). */
MUST_USE enum status engine_open(struct engine **out, const struct engine_handlers *handlers,
                                 const struct sockaddr_storage *server, socklen_t server_len, uint32_t source_ipv4);
void engine_close(struct engine *e);

/* engine_descriptors raises RLIMIT_NOFILE as far as allowed; false with a message on stderr when `num_peers` sockets do
 * not fit into it or into ENGINE_PEERS_MAX. */
bool engine_descriptors(uint64_t num_peers);

/* engine_connect starts a connection; STATUS_IO when the kernel gives no socket (message on stderr). */
MUST_USE enum status engine_connect(struct engine *e, struct peer *p);
/* engine_send marks p->out as complete; it goes out with this turn. */
void engine_send(struct engine *e, struct peer *p);
/* engine_close_peer ends the connection; on_closed follows in a later turn. */
void engine_close_peer(struct engine *e, struct peer *p);

/* peer_free frees what an idle peer holds, or any peer after engine_close. */
void peer_free(struct peer *p);

/* engine_turn sends what is due, waits until something completes or `until_ns` (CLOCK_MONOTONIC) and handles it. */
void engine_turn(struct engine *e, uint64_t until_ns);
/* engine_peers counts the sockets that are not idle. */
unsigned engine_peers(const struct engine *e);
uint64_t engine_now_ns(void);

#endif
