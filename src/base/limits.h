/* limits: every bound of the gateway that is not a setting, with its unit and its reason. Settings' defaults and
 * bounds stand in src/config.def. docs/BACKPRESSURE.md says what happens at each. */
#ifndef CARILLON_BASE_LIMITS_H
#define CARILLON_BASE_LIMITS_H

/* --- threads and rings -------------------------------------------------------------------------------------- */
#define CORES_MAX 64u              /* cores of one process; `--cores` may exceed the CPUs, not this */
#define READERS_MAX 16u
#define MAILBOX_CELLS 4096u        /* cells core → core; 256 KiB a pair; a full one parks on intrusive lists */
#define COMMIT_RING_CELLS 8192u    /* entries core → writer */
#define COMMIT_PENDING_MAX 65536u  /* entries of one core not durable yet; beyond: 503 store.overloaded */
#define COMMIT_BATCH_MAX 4096u     /* entries in one write: bounds its latency and the WriteBatch's memory */
#define COMMIT_BATCH_BYTES_MAX (8u << 20)
#define READ_RING_CELLS 1024u      /* jobs core → reader */
#define RING_SQ_ENTRIES 4096u      /* submissions a core prepares before it must enter */
#define RING_CQ_ENTRIES 65536u     /* completions of one burst: every connection at once, and sends that fell short */
#define RECV_BUFFERS 1024u         /* provided receive buffers a core; handed back within the turn */
#define RECV_BUFFER_BYTES 4096u

/* --- connections --------------------------------------------------------------------------------------------- */
#define HTTP_HEAD_BYTES_MAX 16384u   /* request line and fields */
#define HTTP_TARGET_BYTES_MAX 8192u
#define HTTP_BODY_BYTES_MAX (1u << 20)   /* a REST body: 10,000 characters escaped are 120 KB; member lists 130 KB */
#define WS_MESSAGE_BYTES_MAX (256u << 10) /* an inbound WebSocket message: the largest content escaped, plus meta */
#define ECHO_MESSAGE_BYTES_MAX (16u << 20) /* debug.echo only */
#define SEND_QUEUE_BYTES_MAX (1u << 20)  /* queued durable bytes before a reader is too slow */
#define EPHEMERAL_QUEUE_BYTES_MAX (64u << 10)
#define REPLY_QUEUE_BYTES_MAX (4u << 20) /* replies and controls; beyond it the connection is not answered but closed */
#define REQUESTS_IN_FLIGHT_MAX 256u  /* commands of one connection in the pipeline; at it the socket is not read */
#define SUBSCRIPTIONS_MAX 5000u      /* rooms one connection is subscribed to */
#define HEADER_TIMEOUT_MS 10000u
#define BODY_TIMEOUT_MS 30000u
#define HELLO_TIMEOUT_MS 10000u
#define IDLE_TIMEOUT_MS 60000u       /* silence before a socket is closed */
#define PING_INTERVAL_MS 30000u
#define CLOSE_TIMEOUT_MS 2000u       /* wait for the peer's close frame, or for a refused body to end */
#define STALL_TIMEOUT_MS 30000u      /* queued bytes and not one taken by the peer */

/* --- domain --------------------------------------------------------------------------------------------------- */
#define USER_ID_BYTES_MAX 128u
#define CLIENT_ID_BYTES_MAX 64u
#define DEVICE_BYTES_MAX 64u
#define REQUEST_ID_BYTES_MAX 64u     /* a WebSocket request's string `id` */
#define MESSAGE_TYPE_BYTES_MAX 32u
#define META_BYTES_MAX (64u << 10)
#define NAME_CHARS_MAX 256u
#define TENANT_NAME_CHARS_MAX 128u
#define DESCRIPTION_CHARS_MAX 2000u
#define AVATAR_URL_BYTES_MAX 2048u
#define SETTINGS_BYTES_MAX (16u << 10)
#define MEMBERS_PER_REQUEST_MAX 1000u
#define ROOMS_PER_USER_MAX 5000u
#define PAGE_LIMIT_DEFAULT 50u
#define PAGE_LIMIT_MAX 1000u
#define SYNC_LIMIT_DEFAULT 500u
#define SYNC_LIMIT_MAX 1000u
#define HISTORY_BYTES_MAX (4u << 20) /* one page's JSON; a page ends early at it, `next` goes on */
#define REPLAY_BATCH_EVENTS 256u     /* events of one replay read */
#define REPLAY_BATCH_BYTES (256u << 10)
#define ROOM_WAITING_MAX 4096u       /* commands parked at one room that loads */
#define USER_WAITING_MAX 1024u
#define CURSOR_FLUSH_MS 100u         /* a moved cursor is in the WAL after at most this */
#define IDEMPOTENCY_WINDOW 262144u   /* keys of recent messages a core keeps in memory before they live on disk only */
#define IDEMPOTENCY_RUN 4096u        /* keys written in one sorted run */
#define IDEMPOTENCY_FLUSH_MS 2000u
#define IDEMPOTENCY_KEEP_MS (8ull * 24 * 3600 * 1000) /* protocol: at least 7 days */
#define FRAMES_BYTES_MAX (256u << 20) /* bytes of frames in flight from one core; beyond: 503 server.overloaded */
#define RUN_BYTES_MAX (256u << 10)   /* a room's concatenated run */
#define ROOMS_LOADED_MAX 100000u     /* a core; idle rooms are evicted above it */

_Static_assert((COMMIT_RING_CELLS & (COMMIT_RING_CELLS - 1)) == 0, "rings are powers of two");
_Static_assert((MAILBOX_CELLS & (MAILBOX_CELLS - 1)) == 0, "rings are powers of two");
_Static_assert(COMMIT_PENDING_MAX >= COMMIT_RING_CELLS, "what is parked comes on top of the ring");
_Static_assert(RECV_BUFFER_BYTES <= HTTP_HEAD_BYTES_MAX, "a head may span buffers");
_Static_assert(RING_CQ_ENTRIES >= 2 * RING_SQ_ENTRIES, "io_uring asks for at least twice");
_Static_assert(WS_MESSAGE_BYTES_MAX > META_BYTES_MAX + 12 * 10000, "the largest allowed message fits escaped");

#endif
