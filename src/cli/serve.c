#include "serve.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../net/ring.h"
#include "../../storage/backup.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "../base/log_writer.h"
#include "../base/planted.h"
#include "../core/op.h"
#include "cli.h"
#include "cores.h"
#include "memory.h"
#include "process.h"
#include "reload.h"
#include "vitals.h"

#define WHY_BYTES_MAX 1024

struct server {
    const struct options *options;
    struct config loaded;  /* as file, environment and command line have it */
    struct config running; /* the same with what is derived; its texts belong to `loaded` */
    struct store store;
    struct gateway gateway;
    struct listeners listeners;
    struct cores cores;
    struct buf admin_path; /* NUL-terminated */
    sigset_t signals;
    struct reload reload;
    uint64_t descriptors;     /* the limit on open files */
    pthread_t main_thread;
    uint64_t started_ns, drain_deadline_ns, watch_due_ns;
    unsigned num_stop_signals;
    bool core_stuck; /* and it was said */
    bool gateway_opened, writer_started, readers_started;
    char why[WHY_BYTES_MAX];
};

static void control_wake(void *context);
static int configure(struct server *s);
static int open_all(struct server *s);
static int start_threads(struct server *s);
static void announce(const struct server *s);
static void watch(struct server *s);
static void close_all(struct server *s, int code);

int serve_command(int argc, char **argv)
{
    struct options options;
    if (!options_parse(&options, argc, argv)) return CLI_USAGE;
    int code = serve_run(&options, NULL);
    options_free(&options);
    return code;
}

int serve_run(const struct options *options, int (*on_ready)(const struct serving *serving))
{
    struct server *s = calloc(1, sizeof *s);
    ASSERT(s);
    s->options = options;
    s->started_ns = clock_mono_ns(clock_real());
    int code = configure(s);
    if (code == CLI_DONE) code = open_all(s);
    if (code == CLI_DONE) code = start_threads(s);
    if (code == CLI_DONE) {
        announce(s);
        const struct serving serving = {&s->running, s->listeners.addresses[0], s->admin_path.data};
        if (on_ready) code = on_ready(&serving);
    }
    if (code == CLI_DONE) watch(s);
    close_all(s, code);
    log_writer_stop();
    free(s);
    return code;
}

/* --- opening ---------------------------------------------------------------------------------------------------- */

static unsigned cores_wanted(const struct config *config)
{
    int cpus[PROCESS_CPUS_MAX];
    if (config->process_cores) return (unsigned)config->process_cores;
    unsigned num = process_cpus(cpus, PROCESS_CPUS_MAX);
    if (num == 0) num = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    return num < CORES_MAX ? num : CORES_MAX;
}

/* fit_memory derives limits.memory. On a small machine the store's caches would take most of it: there they get a
 * quarter and a sixteenth. */
static void fit_memory(struct server *s)
{
    struct config *c = &s->running;
    c->limits_memory = memory_of_machine() / 100 * MEMORY_PERCENT;
    if (c->store_cache + 2 * c->store_write_buffer <= c->limits_memory / 2) return;
    if (c->store_cache > c->limits_memory / 4) c->store_cache = c->limits_memory / 4;
    if (c->store_write_buffer > c->limits_memory / 16) c->store_write_buffer = c->limits_memory / 16;
    if (c->store_write_buffer < 1u << 20) c->store_write_buffer = 1u << 20;
    LOG(LOG_WARN, "process", "small_memory", LOG_U64("memory_bytes", c->limits_memory),
        LOG_U64("cache_bytes", c->store_cache), LOG_U64("write_buffer_bytes", c->store_write_buffer));
}

/* warn_of_memory: below this even ordinary work comes near the bound, and a burst passes it between two looks. */
static void warn_of_memory(const struct config *c)
{
    uint64_t least = MEMORY_PROCESS_MIN + c->process_cores * MEMORY_CORE_MIN;
    if (c->limits_memory >= least) return;
    LOG(LOG_WARN, "process", "memory_below_minimum", LOG_U64("limit_bytes", c->limits_memory),
        LOG_U64("least_bytes", least), LOG_U64("machine_least_bytes", least / MEMORY_PERCENT * 100 + 100),
        LOG_STR("hint",
                "under overload the kernel may kill the process: give the machine or the cgroup more memory, or "
                "lower process.cores"));
}

/* check_admin_path: bind(2) would find it out only after the store has been opened. */
static int check_admin_path(const struct server *s)
{
    size_t len = s->admin_path.len - 1;
    if (len <= UNIX_PATH_BYTES_MAX) return CLI_DONE;
    cli_error("the admin socket's path %s has %zu bytes, and a socket's path has at most %u: set admin.socket to a "
              "shorter one", s->admin_path.data, len, UNIX_PATH_BYTES_MAX);
    return CLI_CONFIGURATION;
}

#define MASTER_KEY_BYTES_WISE 16u /* a shorter one can be guessed over the network */

/* warn_of_secrets: the master key opens every tenant. */
static void warn_of_secrets(const struct server *s)
{
    struct stat file;
    const struct config *c = &s->loaded;
    if (s->options->secret_given)
        LOG(LOG_WARN, "config", "secret_in_arguments", LOG_STR("setting", s->options->secret_given),
            LOG_STR("hint", "other users may have seen it before it was overwritten; give it in the environment "
                            "(CARILLON_ADMIN_MASTER_KEY) or in a file that only the gateway reads (--config)"));
    if (c->admin_master_key[0] && strlen(c->admin_master_key) < MASTER_KEY_BYTES_WISE)
        LOG(LOG_WARN, "config", "master_key_short", LOG_STR("setting", "admin.master_key"),
            LOG_STR("hint", "it can be guessed; `od -An -N16 -tx1 /dev/urandom | tr -d ' '` makes a good one"));
    if (c->file_line[SETTING_ID_admin_master_key] && stat(s->options->config_path, &file) == 0 && file.st_mode & 077)
        LOG(LOG_WARN, "config", "secret_readable", LOG_STR("file", s->options->config_path),
            LOG_STR("hint", "others can read the master key in it: chmod 600, as the gateway's user"));
}

static int configure(struct server *s)
{
    struct config_error err;
    if (options_load(&s->loaded, s->options, &err) != STATUS_OK) {
        cli_error("%s", err.text);
        return CLI_CONFIGURATION;
    }
    log_set_levels((enum log_level)s->loaded.log_level, slice_str(s->loaded.log_scopes));
    if (PLANTED_BUILD)
        LOG(LOG_ERROR, "process", "planted_bugs", LOG_STR("on", planted_name()),
            LOG_STR("hint",
                    "this gateway is built to be broken, for tests (CARILLON_PLANTED); never serve anybody with it"));
    warn_of_secrets(s);
    s->running = s->loaded;
    s->running.process_cores = cores_wanted(&s->loaded);
    s->descriptors = process_descriptors();
    if (s->running.limits_connections == 0)
        s->running.limits_connections = process_connections(s->descriptors, (unsigned)s->running.process_cores);
    if (s->running.limits_memory == 0) fit_memory(s);
    warn_of_memory(&s->running);
    reload_init(&s->reload, s->options, &s->loaded, &s->running);
    s->main_thread = pthread_self();
    if (s->loaded.admin_socket[0]) buf_printf(&s->admin_path, "%s", s->loaded.admin_socket);
    else buf_printf(&s->admin_path, "%s/admin.sock", s->loaded.store_dir);
    buf_char(&s->admin_path, '\0');
    if (check_admin_path(s) != CLI_DONE) return CLI_CONFIGURATION;

    /* Signals are for the main thread alone, at places of its choosing: blocked before any other thread is there. */
    sigemptyset(&s->signals);
    sigaddset(&s->signals, SIGTERM);
    sigaddset(&s->signals, SIGINT);
    sigaddset(&s->signals, SIGHUP);
    sigaddset(&s->signals, SIGUSR1); /* wakes this thread: an op of the operator waits (control_wake) */
    ASSERT(pthread_sigmask(SIG_BLOCK, &s->signals, NULL) == 0);
    signal(SIGPIPE, SIG_IGN);
    umask(077); /* what the store holds is nobody else's */
    return CLI_DONE;
}

static int failed(const struct server *s, int code)
{
    cli_error("%s", s->why);
    return code;
}

/* fit_disk: on a small file system the defaults would refuse every send. There the reserve is at most a quarter of it,
 * and a write buffer at most a thirty-second, so that what is in memory still fits into the reserve. */
static void fit_disk(struct server *s)
{
    uint64_t total = process_disk_bytes(s->running.store_dir);
    if (s->running.store_reserve <= total / 4) return;
    s->running.store_reserve = total / 4;
    if (s->running.store_write_buffer > total / 32) s->running.store_write_buffer = total / 32;
    if (s->running.store_write_buffer < 1u << 20) s->running.store_write_buffer = 1u << 20;
    LOG(LOG_WARN, "store", "small_disk", LOG_U64("disk_bytes", total),
        LOG_U64("reserve_bytes", s->running.store_reserve),
        LOG_U64("write_buffer_bytes", s->running.store_write_buffer));
}

/* check_system: what no setting can help is found out before anything is opened. */
static enum status check_system(struct server *s)
{
    if (s->descriptors < DESCRIPTORS_MIN) {
        snprintf(s->why, sizeof s->why, "the limit on open files is %" PRIu64 " and at least %u are needed: raise it "
                                        "(ulimit -n, LimitNOFILE=)", s->descriptors, DESCRIPTORS_MIN);
        return STATUS_FULL;
    }
    bool zero_copy = s->loaded.net_zero_copy == CONFIG_ZERO_COPY_ON;
    return ring_check(zero_copy, s->why, sizeof s->why);
}

/* store_files: tables that RocksDB may keep open. With few descriptors it opens and closes them more often. */
static unsigned store_files(const struct server *s)
{
    uint64_t half = s->descriptors / 2;
    return half < STORE_OPEN_FILES_MAX ? (unsigned)half : STORE_OPEN_FILES_MAX;
}

/* control_wake runs on cores. The signal is blocked in every thread and waits for the main thread's sigtimedwait. */
static void control_wake(void *context)
{
    struct server *s = context;
    pthread_kill(s->main_thread, SIGUSR1);
}

/* Addresses first: they may need the starter's privileges, which are given up before the store makes any file; and a
 * port that is taken is found before a recovery is paid for. Clients that come early wait in the backlog. */
static int open_all(struct server *s)
{
    const struct config *c = &s->running;
    unsigned num_cores = (unsigned)c->process_cores;
    if (check_system(s) != STATUS_OK) return failed(s, CLI_FAILED);
    if (listeners_open(&s->listeners, c, num_cores, s->why, sizeof s->why) != STATUS_OK) return failed(s, CLI_FAILED);
    if (c->process_user[0] && process_become(c->process_user, s->why, sizeof s->why) != STATUS_OK)
        return failed(s, CLI_CONFIGURATION);
    process_harden();
    /* From here on lines are written by a thread of their own, into log.file; as the user that will open it again. */
    if (log_writer_start() != STATUS_OK) {
        snprintf(s->why, sizeof s->why, "the log's thread cannot be started: raise the limit on processes");
        return failed(s, CLI_FAILED);
    }
    if (c->log_file[0] && reload_logs(c, s->why, sizeof s->why) != STATUS_OK) return failed(s, CLI_CONFIGURATION);
    fit_disk(s);
    const struct store_options store = {
        .dir = c->store_dir, .cache_bytes = c->store_cache, .write_buffer_bytes = c->store_write_buffer,
        .open_files_max = store_files(s)};
    if (store_open(&s->store, &store, random_real(), s->why, sizeof s->why) != STATUS_OK) return failed(s, CLI_STORE);

    s->gateway = (struct gateway){.config = c,
                                  .clock = clock_real(),
                                  .random = random_real(),
                                  .store = &s->store,
                                  .store_property = kv_rocksdb_property,
                                  .descriptors = s->descriptors,
                                  .num_cores = num_cores,
                                  .control = {.wake = control_wake, .context = s}};
    s->gateway_opened = true;
    if (gateway_open(&s->gateway, s->why, sizeof s->why) != STATUS_OK) return failed(s, CLI_FAILED);
    if (listeners_open_admin(&s->listeners, s->admin_path.data, s->why, sizeof s->why) != STATUS_OK)
        return failed(s, CLI_FAILED);
    return CLI_DONE;
}

static void disk_look(struct server *s);
static void memory_look(struct server *s);

/* open_backup needs an open store and threads that may start: the first scheduled backup may be due at once. */
static enum status open_backup(struct server *s)
{
    const struct config *c = &s->running;
    struct backup_options options = {.target = {.dir = c->backup_dir,
                                                .store_dir = c->store_dir,
                                                .pepper = s->store.pepper,
                                                .bytes_per_second = c->backup_rate,
                                                .reserve_bytes = c->store_reserve},
                                     .kv = s->store.kv,
                                     .engine = &backup_engine_rocksdb,
                                     .clock = s->gateway.clock,
                                     .interval_ms = c->backup_interval,
                                     .at_minutes = BACKUP_AT_NEVER,
                                     .keep = (unsigned)c->backup_keep};
    if (!c->backup_dir[0]) return STATUS_OK;
    if (c->backup_at[0])
        ASSERT(config_time_of_day(c->backup_at, &options.at_minutes)); /* config_validate has seen it */
    s->gateway.backup = backup_open(&options);
    return backup_start_thread(s->gateway.backup);
}

static int start_threads(struct server *s)
{
    disk_look(s);
    vitals_look(&s->gateway);
    memory_look(s);
    s->writer_started = commit_start_threads(s->gateway.commit) == STATUS_OK;
    s->readers_started = s->writer_started && readers_start_threads(s->gateway.readers) == STATUS_OK;
    if (!s->readers_started || open_backup(s) != STATUS_OK) {
        snprintf(s->why, sizeof s->why, "the store's threads cannot be started: raise the limit on processes");
        return failed(s, CLI_FAILED);
    }
    enum status status = cores_start(&s->cores, &s->gateway, &s->listeners, s->why, sizeof s->why);
    return status == STATUS_OK ? CLI_DONE : failed(s, CLI_FAILED);
}

static void announce(const struct server *s)
{
    struct buf all = {0};
    for (unsigned i = 0; i < s->listeners.num_addresses; i++)
        buf_printf(&all, "%s%s", i ? "," : "", s->listeners.addresses[i]);
    LOG(LOG_INFO, "process", "ready", LOG_STR("listen", s->listeners.addresses[0]),
        LOG_SLICE("addresses", buf_slice(&all)), LOG_STR("admin", s->admin_path.data),
        LOG_U64("cores", s->gateway.num_cores), LOG_U64("epoch", s->gateway.epoch),
        LOG_FLAG("was_clean", s->store.was_clean), LOG_U64("connections_max", s->running.limits_connections),
        LOG_U64("took_ms", (clock_mono_ns(s->gateway.clock) - s->started_ns) / 1000000), LOG_U64("pid", getpid()),
        LOG_STR("version", CARILLON_VERSION));
    buf_free(&all);
    char state[64 + LISTENER_NAME_LEN];
    snprintf(state, sizeof state, "READY=1\nSTATUS=Serving %s", s->listeners.addresses[0]);
    process_notify(state);
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static void on_signal(struct server *s, int signal_number);
static void look(struct server *s);
static bool memory_near(const struct server *s);
static void drain_look(struct server *s);
static void drain(struct server *s, const char *by);
static void control_serve(struct server *s);
static void stop(struct server *s);

static void watch(struct server *s)
{
    struct gateway *g = &s->gateway;
    while (!atomic_load(&g->stop)) {
        unsigned wait_ms = atomic_load(&g->draining) ? DRAIN_POLL_MS
                           : memory_near(s)          ? MEMORY_INTERVAL_MS
                                                     : WATCH_INTERVAL_MS;
        const struct timespec wait = {.tv_sec = wait_ms / 1000, .tv_nsec = (wait_ms % 1000) * 1000000l};
        int signal_number = sigtimedwait(&s->signals, NULL, &wait);
        ASSERT(signal_number > 0 || errno == EAGAIN || errno == EINTR);
        if (signal_number > 0) on_signal(s, signal_number);
        control_serve(s);
        memory_look(s);
        if (clock_mono_ns(g->clock) >= s->watch_due_ns) look(s);
        if (atomic_load(&g->draining)) drain_look(s);
    }
}

/* The time makes it one of Type=notify-reload, too (systemd 253). */
static void notify_reloading(const struct server *s)
{
    char state[64];
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_mono_ns(s->gateway.clock) / 1000);
    process_notify(state);
}

static void on_signal(struct server *s, int signal_number)
{
    if (signal_number == SIGUSR1) return; /* control_serve comes next */
    if (signal_number == SIGHUP) {
        struct reload_report report = {0};
        notify_reloading(s);
        reload_settings(&s->reload, &report);
        process_notify("READY=1");
        reload_report_free(&report);
    } else if (s->num_stop_signals++) {
        LOG(LOG_INFO, "process", "stopping_at_once", LOG_U64("stop_signals", s->num_stop_signals));
        stop(s);
    } else {
        drain(s, signal_number == SIGINT ? "SIGINT" : "SIGTERM");
    }
}

/* drain begins to stop: clients are told, and the process ends when they have left. A second request changes nothing; a
 * second signal ends at once. */
static void drain(struct server *s, const char *by)
{
    if (atomic_load(&s->gateway.draining)) return;
    LOG(LOG_INFO, "process", "stopping", LOG_STR("by", by),
        LOG_U64("timeout_s", CONFIG_NOW(&s->running, drain_timeout_s)));
    process_notify("STOPPING=1");
    s->drain_deadline_ns = clock_mono_ns(s->gateway.clock) + CONFIG_NOW(&s->running, drain_timeout_s) * 1000000000ull;
    atomic_store(&s->gateway.draining, true);
    cores_wake(&s->cores);
}

/* control_serve does what the operator has asked for over the admin routes. */
static void control_serve(struct server *s)
{
    for (struct op *op; (op = control_take(&s->gateway));) {
        struct reload_report report = {0};
        if (op->kind == OP_DRAIN) {
            drain(s, "operator");
            buf_printf(&op->out, "{\"draining\":true,\"timeout_s\":%llu}",
                       (unsigned long long)CONFIG_NOW(&s->running, drain_timeout_s));
            op->http_status = 202;
        } else {
            reload_settings(&s->reload, &report);
            reload_report_json(&op->out, &report);
            op->http_status = 200;
        }
        reload_report_free(&report);
        control_answer(&s->gateway, op);
    }
}

static void drain_look(struct server *s)
{
    bool drained;
    uint32_t left = cores_left(&s->cores, &drained);
    bool late = clock_mono_ns(s->gateway.clock) >= s->drain_deadline_ns;
    if (!drained && late) LOG(LOG_WARN, "process", "drain_timeout", LOG_U64("left", left));
    if (drained || late) stop(s);
}

static void stop(struct server *s)
{
    atomic_store(&s->gateway.stop, true);
    cores_wake(&s->cores);
}

static void cores_look(struct server *s)
{
    struct gateway *g = &s->gateway;
    unsigned stuck;
    bool alive = gateway_cores_alive(g, &stuck, clock_mono_ns(g->clock));
    if (!alive && !s->core_stuck)
        LOG(LOG_ERROR, "process", "core_stuck", LOG_U64("core", stuck),
            LOG_STR("hint",
                    "it has not turned for seconds, and /health says so; `top -H` shows whether it runs or waits"));
    if (alive && s->core_stuck) LOG(LOG_WARN, "process", "cores_turn_again", LOG_U64("cores", g->num_cores));
    s->core_stuck = !alive;
}

/* look: what is looked at once a second; memory is by `watch`, more often when it is short. */
static void look(struct server *s)
{
    disk_look(s);
    vitals_look(&s->gateway);
    cores_look(s);
}

/* Below the reserve sends are refused, so that RocksDB never meets a full disk. A tenth above it they are taken again:
 * at one mark for both the answer would change with every file that comes and goes. */
static void disk_look(struct server *s)
{
    s->watch_due_ns = clock_mono_ns(s->gateway.clock) + WATCH_INTERVAL_MS * 1000000ull;
    uint64_t reserve = s->running.store_reserve, free_bytes = process_free_bytes(s->running.store_dir);
    int before = atomic_load(&s->gateway.disk);
    atomic_store_explicit(&s->gateway.disk_free, free_bytes, memory_order_relaxed);
    if (before == DISK_OK && free_bytes < reserve) {
        atomic_store(&s->gateway.disk, DISK_RESERVE);
        LOG(LOG_ERROR, "store", "disk_reserve_reached", LOG_U64("free_bytes", free_bytes),
            LOG_U64("reserve_bytes", reserve),
            LOG_STR("hint", "sends are answered 507 until there is space again; store.reserve sets the mark"));
    } else if (before == DISK_RESERVE && free_bytes > reserve + reserve / 10) {
        atomic_store(&s->gateway.disk, DISK_OK);
        LOG(LOG_INFO, "store", "disk_reserve_left", LOG_U64("free_bytes", free_bytes),
            LOG_U64("reserve_bytes", reserve));
    }
}

/* memory_near: a burst may take what is left within a second. */
static bool memory_near(const struct server *s)
{
    return atomic_load_explicit(&s->gateway.memory_used, memory_order_relaxed) > s->running.limits_memory / 2;
}

/* Above limits.memory new work is refused, so that the kernel does not end the process for having too much. It is taken
 * again a twentieth below. */
static void memory_look(struct server *s)
{
    struct gateway *g = &s->gateway;
    uint64_t used = vitals_memory_used(), most = s->running.limits_memory;
    if (used > most) {
        vitals_give_back();
        used = vitals_memory_used();
    }
    int before = atomic_load(&g->memory);
    atomic_store_explicit(&g->memory_used, used, memory_order_relaxed);
    atomic_store_explicit(&g->memory_max, most, memory_order_relaxed);
    if (before == MEMORY_OK && used > most) {
        atomic_store(&g->memory, MEMORY_FULL);
        LOG(LOG_ERROR, "process", "memory_full", LOG_U64("used_bytes", used), LOG_U64("limit_bytes", most),
            LOG_STR("hint", "new work is answered 503 until there is memory again; limits.memory sets the mark"));
    } else if (before == MEMORY_FULL && used < most - most / 20) {
        atomic_store(&g->memory, MEMORY_OK);
        LOG(LOG_INFO, "process", "memory_left", LOG_U64("used_bytes", used), LOG_U64("limit_bytes", most));
    }
}

/* --- closing ------------------------------------------------------------------------------------------------------ */

/* close_all takes down whatever part of the way up was gone, in the reverse order. The admin socket's name goes before
 * the store's lock does: then nobody else can have put theirs there. */
static void close_all(struct server *s, int code)
{
    bool running = s->cores.num_threads > 0;
    if (s->cores.gateway) {
        stop(s);
        cores_join(&s->cores);
    }
    bool backup_ended = backup_stop(s->gateway.backup);
    if (s->writer_started) commit_stop_threads(s->gateway.commit);
    if (s->readers_started) readers_stop_threads(s->gateway.readers);
    bool clean = !s->gateway.commit || !commit_poisoned(s->gateway.commit);
    if (s->gateway_opened) gateway_close(&s->gateway);
    listeners_close(&s->listeners);
    if (!backup_ended) {
        /* A backup cannot be broken off and still reads the store: all is on disk, so the process just ends. */
        store_leave(&s->store, clean);
        LOG(LOG_INFO, "process", "stopped", LOG_FLAG("clean", clean));
        log_writer_stop();
        _exit(code);
    }
    store_close(&s->store, clean);
    if (running) LOG(LOG_INFO, "process", "stopped", LOG_FLAG("clean", clean));
    buf_free(&s->admin_path);
    config_free(&s->loaded);
}
