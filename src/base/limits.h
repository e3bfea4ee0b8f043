/* limits: every bound of the gateway that is not a setting, with its unit and its reason. Settings' defaults and
 * bounds stand in src/config.def. docs/BACKPRESSURE.md says what happens at each. */
#ifndef CARILLON_BASE_LIMITS_H
#define CARILLON_BASE_LIMITS_H

/* --- threads and rings ------------------------------------------------------------------------------------ */
#define CORES_MAX 64u              /* cores of one process; `--cores` may exceed the CPUs, not this */
#define READERS_MAX 16u            /* threads that read the store: as many as a disk does at a time */
#define MAILBOX_CELLS 4096u        /* cells core → core; 256 KiB a pair; a full one parks on intrusive lists */
#define COMMIT_RING_CELLS 8192u    /* entries core → writer */
#define READ_RING_CELLS 1024u      /* jobs core → reader */
#define READ_BATCH_MAX 32u         /* jobs of one reader step, so that a stop or a fuller core is never far */
#define RING_SQ_ENTRIES 4096u      /* submissions a core prepares before it must enter */
#define RING_CQ_ENTRIES 65536u     /* completions of one burst: every connection at once, and sends that fell short */
#define RECV_BUFFERS 1024u         /* provided receive buffers a core; handed back within the turn */
#define RECV_BUFFER_BYTES 4096u    /* most requests are shorter */
#define RECV_STREAM_AFTER 8u       /* readings soon after one another: a receive is kept armed; a hello and what follows
                                      are fewer */
#define RECV_SOON_MS 1000u         /* between readings that count for that: a poll before each costs under a
                                      microsecond */
#define RECV_QUIET_MS 10000u       /* silence after which a receive is not kept armed any more, when a timer finds it */

/* --- the store -------------------------------------------------------------------------------------------- */
#define COMMIT_PENDING_MAX 65536u  /* entries of one core not durable yet; beyond: 503 store.overloaded */
#define COMMIT_PENDING_BYTES_MAX (128u << 20) /* of one core's events not durable yet; beyond: 503 store.overloaded */
#define COMMIT_AGE_MAX_MS 2000u    /* of the oldest entry not durable; older: the disk stands, 503 store.overloaded */
#define COMMIT_BATCH_MAX 4096u     /* entries in one write: bounds its latency and the WriteBatch's memory */
#define COMMIT_BATCH_BYTES_MAX (8u << 20) /* the same in bytes; one entry may be longer, alone in its batch */
#define FAST_SYNC_DELAY_MS 5u      /* nobody waits for the fsync of class fast: how long it may gather more */
#define MARK_SYNC_INTERVAL_MS 100u /* between two fsyncs of the low-water mark, which may lag: it is a lower bound */
#define STORE_OPEN_FILES_MAX 512u  /* table files RocksDB keeps open: a small share of the process's descriptors */
#define STORE_INFO_LOG_BYTES_MAX (8u << 20) /* one of RocksDB's own log files */
#define STORE_INFO_LOGS_MAX 4u     /* of them, so that they never fill the disk; the oldest is removed */
#define STORE_OPEN_BYTES_MIN (16u << 20) /* free on the disk before the store opens: RocksDB's files of a start */
#define STORE_HISTORIES_MAX 16u    /* restores that a store remembers one by one; older ones as one range of epochs */

/* --- backups ---------------------------------------------------------------------------------------------- */
#define BACKUPS_MAX 1000u          /* backups in one directory: what GET /admin/backups lists, the most to be kept */
#define BACKUP_RETRY_MS 600000u    /* after a scheduled backup that failed: a full disk is not asked every second */
#define BACKUP_STOP_MS 5000u       /* what a stopping gateway gives a backup to end; half a backup is none */
#define BACKUP_ERROR_BYTES_MAX 512u /* the sentence why a backup failed; a longer one is cut */

/* --- connections ------------------------------------------------------------------------------------------ */
#define HTTP_HEAD_BYTES_MAX 16384u   /* request line and fields */
#define HTTP_TARGET_BYTES_MAX 8192u  /* path and query, of that */
#define HTTP_BODY_BYTES_MAX (1u << 20)   /* a REST body: 10,000 characters escaped are 120 KB; member lists 130 KB */
#define HTTP_CHUNK_EXTENSION_BYTES_MAX 16384u /* of a whole body: nobody means anything by them */
#define HTTP_TRAILER_BYTES_MAX 4096u /* the trailer section, which is read and dropped */
#define WS_MESSAGE_BYTES_MAX (256u << 10) /* an inbound WebSocket message: the largest content escaped, plus meta */
#define ECHO_MESSAGE_BYTES_MAX (16u << 20) /* debug.echo only */
#define SEND_QUEUE_BYTES_MIN 8192u     /* a reader's cap when frames have taken most of FRAMES_BYTES_MAX */
#define EPHEMERAL_QUEUE_BYTES_MAX (64u << 10) /* presence and typing of one socket: some 600 of them; beyond: dropped */
#define REPLY_QUEUE_BYTES_MAX (4u << 20) /* replies and controls; beyond it the connection is not answered but closed */
#define REPLIES_BYTES_MAX (256u << 20) /* a core's answers and replays that wait for readers; see api/admission.h */
#define PAGES_BYTES_MAX (256u << 20) /* a core's pages and replays that are being read and made; see api/pages.h */
#define PAGES_WAITING_BYTES 1024u    /* what a request that waits for that takes, and … */
#define PAGES_WAITING_PART 2u        /* … one part in so many of half of those bytes is for such requests, on top */
#define REPLIES_ANYONE_PART 8u       /* one in so many of those bytes is for clients that have shown no credential */
#define REPLAYS_RETRY_MS 100u        /* replays that had to wait for that are tried again */
#define REPLAYS_RETRIED_MAX 256u     /* at a time, a core */
#define CONNECTIONS_REFUSED_MAX 128u /* a core's connections that are being told that they are too many */
#define REQUESTS_IN_FLIGHT_MAX 256u  /* commands of one connection in the pipeline; at it the socket is not read */
#define SUBSCRIPTIONS_MAX 5000u      /* rooms one connection is subscribed to */
#define HEADER_TIMEOUT_MS 10000u     /* from a request's first byte to the end of its head */
#define BODY_TIMEOUT_MS 30000u       /* from there to the end of its body: the largest one at 35 KB a second */
#define HELLO_TIMEOUT_MS 10000u      /* from the handshake to hello; then close 4001 */
#define CLOSE_TIMEOUT_MS 2000u       /* wait for the peer's close frame, or for a refused body to end */
#define STALL_TIMEOUT_MS 30000u      /* queued bytes and not one taken by the peer */
#define PEER_TIMEOUT_MS 30000u       /* the same behind the close, when only the kernel still has the bytes: it
                                        resets */
#define CONNECTIONS_LINGERING_MAX 128u /* a core's connections that have ended, until the peer has, too: room for 60 a
                                          second of peers who never do */
#define LISTEN_BACKLOG 4096u         /* connections that the kernel completes before they are accepted */
#define LISTENERS_MAX 16u            /* listening sockets of one core */
#define ACCEPTS_ARMED_MAX 64u        /* one-shot accepts in flight a listener, 144 bytes each: one that waits, and in a
                                        burst one for each connection that does */
#define ACCEPT_LOOK_MS 100u          /* slots are short: between two looks for clients at a listener that has no accept
                                        armed */
#define ACCEPT_BACKOFF_MS 100u       /* pause after an accept that failed for want of descriptors or memory */
#define BIND_RETRY_MS 50u            /* a killed process' ring gives its port back up to 5 ms late */
#define INPUT_HELD_BYTES_MAX (64u << 10) /* kept of a connection that is not read from; then its receive ends */
#define REPLY_PAUSE_BYTES (256u << 10)   /* queued reply bytes at which a connection is not read from */
#define HTTP_REPLY_PAUSE_BYTES (16u << 10) /* the same of HTTP, where who pipelines need not wait for one answer at a
                                              time */
#define LINGER_BYTES_MAX (20u << 20) /* discarded behind the last answer, within CLOSE_TIMEOUT_MS: who sends a whole
                                        body or message before it reads gets to the answer that refuses it */
#define ASSEMBLY_BYTES_MAX (256u << 20) /* a core's bodies and messages under assembly; beyond: 503 or close 4100 */
#define ASSEMBLY_SMALL_BYTES (16u << 10) /* one connection's share that is there for everybody: a head, an ordinary
                                            message */
#define SEND_COPY_BYTES_MAX (16u << 10)  /* several frames up to this are copied together: cheaper than an iovec each */
#define SEND_VECTOR_MAX 64u          /* frames of one send */
#define SEND_BYTES_MAX (256u << 10)  /* of one send of several frames: no more than a socket buffer takes */
#define ZERO_COPY_BYTES_MIN 4096u        /* a frame from which on its pages are worth a notification instead of a
                                            copy */
#define ZERO_COPY_CONN_SENDS_MAX 31u     /* sends of one connection whose frames the kernel may still read; beyond:
                                            copied */
#define ZERO_COPY_SENDS_MAX 4096u        /* the same of a core */
#define ZERO_COPY_BYTES_MAX (64u << 20)  /* of their frames, counted for each send */
#define ZERO_COPY_ACCOUNT_PART 4u        /* of what frames in flight may take, one part is held so; beyond: copied */
#define ZERO_COPY_HELD_MS_MAX 120000u    /* of one of them while no other of its connection ends: 256 KiB at 17 kbit/s;
                                            who acknowledges less is too slow */
#define ZERO_COPY_REST_MS 1000u          /* sends of a core copy for so long when the kernel had no memory to do
                                            without */
#define SEND_SCRATCH_BYTES (1u << 20)    /* a core's copied bytes of one turn; beyond it sends wait for the next turn */
#define TIMER_TICK_MS 100u           /* resolution of connection deadlines */

/* --- domain ----------------------------------------------------------------------------------------------- */
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
#define PAGE_LIMIT_DEFAULT 50u
#define PAGE_LIMIT_MAX 1000u
#define LIST_SLICE_ROOMS 32u         /* rooms of a list that are asked for at a time, 200 KB each at worst */
#define SYNC_LIMIT_DEFAULT 500u
#define SYNC_LIMIT_MAX 1000u
#define WEBSOCKET_PAGE_BYTES_MAX (256u << 10) /* the same over a WebSocket, where several may wait in one queue */
#define HISTORY_BYTES_MAX (4u << 20) /* one page's JSON; a page ends early at it, `next` goes on */
#define REPLAY_BATCH_EVENTS 256u     /* events of one replay read */
#define REPLAY_BATCH_BYTES (256u << 10)
#define REPLAY_TURN_BYTES (256u << 10) /* what a core gives in one turn to those who are behind, 0.1 ms: the live ones
                                          wait for it */
#define REPLAY_SEND_BYTES (8u << 10)   /* … where each of them counts as this much more: what a send costs beside its
                                          bytes */
#define DEVICE_CURSORS_MAX 16384u    /* devices × rooms of a user; beyond, a new device shares the user's own cursor */
#define ROOM_WAITING_MAX 4096u       /* commands parked at one room that loads */
#define USER_WAITING_MAX 8192u       /* commands, and openings, at one user: a bot may open thousands of sockets */
#define USERS_LOADED_MAX 200000u     /* a core; idle users are evicted above it */
#define KNOWN_IDLE_MAX 65536u        /* users without a socket whose number a core remembers; asking costs a trip */
#define ROOMS_FULL_AGAIN_MS 20u      /* a room that was just left may not have told the user's home yet */
#define CURSOR_FLUSH_MS 100u         /* a moved cursor is in the WAL after at most this */
#define ROOMS_LOADED_MAX 100000u     /* a core; idle rooms are evicted above it */
#define FRAMES_BYTES_MAX (256u << 20) /* memory of frames in flight from one core; beyond: 503 server.overloaded */
#define RUN_BYTES_MAX (256u << 10)   /* a room's concatenated run */
#define TAIL_BYTES_MAX (8u << 20)    /* a core's newest runs, and pages read lately, for who is behind: seconds of a
                                        busy room */
#define TAIL_PART 8u                 /* … at most one part in this of what frames may take */
#define TAIL_BLOCK_BYTES_MIN (4u << 10)  /* of them lie together: a room that says little … */
#define TAIL_BLOCK_BYTES_MAX (64u << 10) /* … and a busy one, whose readers get as much by one reference */
#define FANOUT_SLICE 16u             /* subscribers that a turn sends to, 0.1 ms; the others come in the next */
#define FANOUT_SLICE_PART 4u         /* … or, in a turn that receives much, one for so many completions */
#define FANOUT_ROOM_SLICE 8u         /* … of one room: it receives and commits some ten times while a hundred are sent
                                        to */
#define FANOUT_ROOM_PART 2u          /* … or one part in this of what a turn sends that has received much */
#define FANOUT_RUNS_MAX 8u           /* runs of a room that are being walked; then its news wait, and become one run */
#define FANOUT_RUNS_BYTES (12u << 10) /* and their bytes, from half as many runs on: a longer send is no cheaper for
                                         what it carries */
#define FANOUT_QUEUE_PART 4u         /* … and at most one part in this of what a socket's queue may hold */
#define FANOUT_WAITING_BYTES (4u << 20) /* of news that wait for that; beyond, a core takes up no more that is
                                           durable */

/* --- presence and typing ---------------------------------------------------------------------------------- */
#define PRESENCE_GRACE_MS 5000u      /* between a user's last socket and offline; who is back by then was never away */
#define PRESENCE_SLICE 32768u        /* sockets a core looks at before it pauses telling who came and went, 1.3 ms … */
#define PRESENCE_SENDS 2048u         /* … or that get something to send for it, 12 ms; a room that was begun is told */
#define PRESENCE_SHARE 5u            /* the pause: so long that telling takes at most a fifth of the core */
#define PRESENCE_LEAVING_TURN 256u   /* users a core tells to be offline in one turn: thousands may fall away at once */
#define PRESENCE_BYTES_MAX (128u << 20) /* a core's changes that wait to be told: a million users; beyond: dropped */
#define PRESENCE_REMEMBERED_MAX 65536u /* users who are offline whose last_seen a core remembers, 64 bytes each */
#define TYPING_REPEAT_MS 3000u       /* others are told at most once in this that a user types in a room */
#define TYPING_TIMEOUT_MS 10000u     /* typing ends by itself when it was not renewed for this long */
#define TYPING_SHOWN_MAX 20u         /* users of one room who are shown to type: nobody reads more names */
#define TYPING_MAX 65536u            /* users and rooms with typing at home on one core, 160 bytes each */

/* --- idempotency ------------------------------------------------------------------------------------------ */
#define IDEMPOTENCY_WINDOW 262144u   /* keys of recent messages a core keeps in memory before they live on disk only */
#define IDEMPOTENCY_RUN 4096u        /* events of a room covered by one run; a room that loads reads at most as many */
#define IDEMPOTENCY_KEEP_MS (8ull * 24 * 3600 * 1000) /* protocol: at least 7 days */
#define SWEEP_LOOKS 256u             /* rows of one step of the sweep for older ones: at most 16 MiB of runs */
#define SWEEP_PAUSE_MS 100u          /* between its steps */
#define SWEEP_INTERVAL_MS (6ull * 3600 * 1000) /* between its passes */
#define ROOM_FILTER_BYTES_MAX (32u << 20) /* a room's filter, 11 million keys; repeats of those beyond are looked up */

/* --- keys and tickets ------------------------------------------------------------------------------------- */
#define TICKET_LIFE_MS 30000u        /* protocol: a ticket is for the socket that is opened next */
#define TICKETS_USED_MAX 131072u     /* used tickets a core remembers, 80 bytes each: 4000 browsers a second */
#define SHOWN_KEYS_MAX 1024u         /* API keys kept in memory for a repeated request; the oldest is forgotten */
#define SHOWN_KEYS_MS 600000u        /* and for how long: a client that tries again does so within minutes */

/* --- rates ------------------------------------------------------------------------------------------------ */
#define REQUEST_RATE_MAX 100000000u  /* requests a second that a limit may name */
#define RATE_SLOTS 65536u            /* addresses whose rate is counted at one time, 1 MiB a limit */
#define RATE_WAYS 8u                 /* places where one address may stand: two cache lines */
#define RATE_REFUSALS_MAX 256u       /* refused operations of a socket in ABUSE_WINDOW_MS: what may be in flight */
#define MISUSES_MAX 64u              /* messages in a row, within it, that are no operation; then close 4008 */
#define ABUSE_WINDOW_MS 10000u       /* in which both are counted: a mistake now and then is forgiven */

/* --- notifications ---------------------------------------------------------------------------------------- */
#define TOPIC_BYTES_MAX 128u         /* part of two keys */
#define PAYLOAD_BYTES_MAX (16u << 10) /* of a notification: it is stored for each user; more belongs behind a link */
#define NOTIFY_USERS_MAX 1000u       /* named in one request, as members are */
#define NOTIFY_TARGETS_MAX 10000u    /* users of one notification: a room of the default bound */
#define NOTIFY_BYTES_MAX (8u << 20)  /* of one notification's rows, over all its users: one batch of the pipeline */
#define CREATIONS_READ_MAX 16u       /* notifications of a core that readers work on: rows not counted elsewhere yet */
#define PENDING_USER_MAX 1000u       /* notifications that wait for one user; beyond, a new one is a dead letter */
#define PENDING_TENANT_MAX 100000u   /* and for all users of a tenant; beyond: 409 notification.outbox_full */
#define OUTBOX_USERS_MAX 1000000u    /* users for whom something waits, known to a core: 64 bytes each */
#define OUTBOX_NUMBERS_MAX 4000000u  /* and what waits for them: 8 to 16 bytes each */
#define OUTBOX_COUNT_ROWS 512u       /* counted by one read, and the rest of the last user's */
#define PAST_USERS 16384u            /* users of a core of whom it remembers where their outbox begins, 512 KiB */
#define INBOX_AGAIN_MS 500u          /* after which an inbox that could not be loaded is tried again; doubles each time
                                        … */
#define INBOX_AGAIN_MAX_MS 60000u    /* … up to this */
#define CREATIONS_TENANT_MAX 256u    /* of a tenant, under way; beyond: 503 server.overloaded */
#define CREATIONS_AT_WORK_MAX 8u     /* of those, whose rows are being made: one slice each in front of others' reads */
#define CREATION_SLICE 256u          /* users looked at, or whose rows are made, at a time: others get their turn */
#define CREATION_SLICE_BYTES (256u << 10) /* of rows, likewise */
#define PUSH_BATCH 64u               /* notifications of one push to a user: a bit each */
#define PUSH_BYTES_MAX (256u << 10)  /* of them; the one that passes it is the last */
#define PUSH_AGAIN_MS 250u           /* after which a push is tried again that no socket had room for */
#define RETRY_MAX_MS 3600000u        /* the longest wait between two attempts */
#define SUBSCRIPTIONS_USER_MAX 1000u /* topics of one user */
#define DEAD_KEEP_MS (30ull * 24 * 3600 * 1000) /* dead letters that nobody retried: long enough to be looked into */
#define NOTIFY_SWEEP_MS 60000u       /* between two walks through the outbox for what has expired */
#define NOTIFY_SWEEP_HISTORY_MS 600000u /* and through the history for what is old enough to go */
#define NOTIFY_SWEEP_ROWS 512u       /* looked at by one read of a sweep, so that others get their turn */

/* --- configuration ---------------------------------------------------------------------------------------- */
#define CONFIG_LINE_BYTES_MAX 8192u  /* a line of the file */
#define CONFIG_VALUE_BYTES_MAX 4096u /* a text setting: a list of some hundred addresses or origins */
#define UNIX_PATH_BYTES_MAX 107u     /* sun_path without its NUL (unix(7)) */

/* --- the process ------------------------------------------------------------------------------------------ */
#define DESCRIPTORS_MIN 128u         /* RLIMIT_NOFILE below which nothing is tried: RocksDB's files and a core's */
#define DESCRIPTORS_KEPT 384u        /* of RLIMIT_NOFILE, when limits.connections is derived: for connections that are
                                      * refused or linger */
#define CONNECTIONS_DERIVED_MAX 262144u /* a core's share of it; whoever wants more connections says so */
#define CORE_STACK_BYTES (2u << 20)  /* a core's thread; only what is touched takes memory */
#define PORT_WAIT_MS 1000u           /* a listening address that is taken: a killed process' ring may take that long */
#define WATCH_INTERVAL_MS 1000u      /* between two looks at the free disk space and the memory in use */
#define MEMORY_INTERVAL_MS 20u       /* and at the memory once more than half of limits.memory is in use: a burst takes
                                        100 MB a second */
#define MEMORY_SHARES 8u             /* of limits.memory: each kind of queue that core_bytes_max bounds may hold one,
                                        over all cores; they are five */
#define MEMORY_SHARE_MIN (4u << 20)  /* of a core: a few of the largest bodies and pages */
#define MEMORY_PERCENT 70u           /* of the machine's memory, when limits.memory is derived: the kernel's sockets and
                                      * page cache, and what a second adds, need the rest */
#define MEMORY_PROCESS_MIN (14u << 20) /* limits.memory below which overload may end in the kernel's killing the process
                                          … */
#define MEMORY_CORE_MIN (10u << 20)  /* … and this a core on top (tests/fault/memory-limit): it is told at the start */
#define CORE_STUCK_MS 5000u        /* a core without a turn for so long is not healthy; an idle one turns each second */
#define DRAIN_POLL_MS 20u            /* between two looks whether the last client has left */
#define SETTLE_TIMEOUT_MS 2000u      /* at the end, for what is still on its way between cores and the store */
#define LOG_QUEUE_BYTES (1u << 20)   /* log lines not yet written, some 4000; beyond it they are dropped and counted */
#define LOG_STOP_MS 1000u            /* at the end, for a reader of stderr that does not read */
#define LOG_FLUSH_MS 100u            /* before an abort, for the lines that lead up to it */
#define ADMIN_TIMEOUT_MS 10000u      /* of the program's own requests to its admin socket */

_Static_assert((COMMIT_RING_CELLS & (COMMIT_RING_CELLS - 1)) == 0, "rings are powers of two");
_Static_assert((MAILBOX_CELLS & (MAILBOX_CELLS - 1)) == 0, "rings are powers of two");
_Static_assert(COMMIT_PENDING_MAX >= COMMIT_RING_CELLS, "what is parked comes on top of the ring");
_Static_assert(3 * NOTIFY_TARGETS_MAX + 3 <= 65535, "a notification's rows are one commit entry");
/* NOLINTNEXTLINE(misc-redundant-expression): equal today, and either may change */
_Static_assert(NOTIFY_BYTES_MAX <= COMMIT_BATCH_BYTES_MAX, "and one batch");
_Static_assert(NOTIFY_USERS_MAX <= NOTIFY_TARGETS_MAX && PENDING_USER_MAX <= PENDING_TENANT_MAX, "a part of the whole");
_Static_assert(PAYLOAD_BYTES_MAX < PUSH_BYTES_MAX && PUSH_BATCH <= 64, "a push has a bit for each notification");
_Static_assert(CREATIONS_READ_MAX * NOTIFY_BYTES_MAX <= COMMIT_PENDING_BYTES_MAX, "as much as may wait for the disk");
_Static_assert(3 * SWEEP_LOOKS <= 65535 && 2 * NOTIFY_SWEEP_ROWS <= 65535, "what a step finds is one commit entry");
_Static_assert(IDEMPOTENCY_KEEP_MS >= 7ull * 24 * 3600 * 1000, "the protocol's promise");
_Static_assert(DESCRIPTORS_KEPT > CONNECTIONS_REFUSED_MAX + CONNECTIONS_LINGERING_MAX, "a ring has room for them");
/* NOLINTNEXTLINE(misc-redundant-expression): equal today, and either may change */
_Static_assert(REPLY_QUEUE_BYTES_MAX <= MEMORY_SHARE_MIN, "one socket's answers fit the smallest share");
_Static_assert(TYPING_REPEAT_MS < TYPING_TIMEOUT_MS, "who renews is told before it ends");
_Static_assert(REPLY_PAUSE_BYTES < REPLY_QUEUE_BYTES_MAX && REPLY_QUEUE_BYTES_MAX < REPLIES_BYTES_MAX / 2,
               "a socket is not read from before it is closed, and is closed before it weighs on others");
_Static_assert(REPLAY_BATCH_BYTES < REPLY_QUEUE_BYTES_MAX, "a page of a replay fits its queue");
_Static_assert(SEND_QUEUE_BYTES_MIN <= EPHEMERAL_QUEUE_BYTES_MAX, "the least a reader has");
_Static_assert(REQUEST_RATE_MAX <= 1000000000u, "a bucket counts nanoseconds");
_Static_assert(ABUSE_WINDOW_MS % 1000 == 0 && BACKUP_STOP_MS % 1000 == 0, "counted in whole seconds");
_Static_assert(LOG_STOP_MS % 1000 == 0, "and so is this");
_Static_assert((LOG_QUEUE_BYTES & (LOG_QUEUE_BYTES - 1)) == 0, "rings are powers of two");
_Static_assert(LINGER_BYTES_MAX > ECHO_MESSAGE_BYTES_MAX, "what is just too large is read to its end");
_Static_assert(RECV_BUFFER_BYTES <= HTTP_HEAD_BYTES_MAX, "a head may span buffers");
_Static_assert(RING_CQ_ENTRIES >= 2 * RING_SQ_ENTRIES, "io_uring asks for at least twice");
_Static_assert(ZERO_COPY_ACCOUNT_PART > 2, "who acknowledges nothing stops no room, nor makes queues shorter");
_Static_assert(SEND_SCRATCH_BYTES > 2 * SEND_COPY_BYTES_MAX, "one connection's send always fits an empty scratch");
_Static_assert(WS_MESSAGE_BYTES_MAX > META_BYTES_MAX + 12 * 10000, "the largest allowed message fits escaped");

#endif
