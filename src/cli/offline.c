#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../storage/keys.h"
#include "../../storage/records.h"
#include "../../storage/store.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "../chat/event.h"
#include "../chat/ids.h"
#include "cli.h"

#define PATH_BYTES_MAX 4096
#define OFFLINE_CACHE_BYTES (64u << 20)
/* beside a gateway, whose files come and go between RocksDB's reading their list and opening them */
#define OPENINGS_MAX 20
#define OFFLINE_WRITE_BUFFER_BYTES (64u << 20) /* nothing is written; the WAL of an unclean end is read into it */

static bool store_open_offline(struct store *store, const char *dir);
static bool store_exists(const char *dir);
static bool store_in_use(const char *dir);

/* --- verify-store ------------------------------------------------------------------------------------------------- */

static void print_problem(void *context, const char *text)
{
    printf("problem: %s\n", text);
}

int verify_store_command(int argc, char **argv)
{
    static const struct option known[] = {{0}};
    struct store store;
    if (getopt_long(argc, argv, OPTIONS_ALONE, known, NULL) != -1) return cli_mistake(argv, known);
    if (optind + 1 != argc) {
        fprintf(stderr, "%s: name one data directory\n", argv[0]);
        return cli_usage(argv[0]);
    }
    if (!store_open_offline(&store, argv[optind])) return CLI_STORE;
    uint64_t rows = 0, problems = store_verify(store.kv, print_problem, NULL, &rows);
    if (problems == 0) printf("%" PRIu64 " rows checked, no problems\n", rows);
    else printf("%" PRIu64 " rows checked, %" PRIu64 " problem%s\n", rows, problems, problems == 1 ? "" : "s");
    store_close(&store, false);
    return cli_flush(problems ? CLI_FAILED : CLI_DONE);
}

/* --- export-history ----------------------------------------------------------------------------------------------- */

struct export {
    struct kv *kv;
    char *line;
    size_t line_cap;
    bool failed; /* said on stderr */
};

static int export_history(struct kv *kv, const char *room_id);
static bool room_tenant(struct kv *kv, uint64_t room, uint32_t *tenant, bool *found);
static void export_rows(struct export *e, struct slice from, struct slice to);
static bool export_row(struct export *e, struct slice key, struct slice value);

int export_history_command(int argc, char **argv)
{
    static const struct option known[] = {{"room", required_argument, NULL, 'r'}, {"all", no_argument, NULL, 'a'}, {0}};
    const char *room_id = NULL;
    bool all = false;
    for (int choice; (choice = getopt_long(argc, argv, OPTIONS_ALONE, known, NULL)) != -1;) {
        if (choice == 'r') room_id = optarg;
        else if (choice == 'a') all = true;
        else return cli_mistake(argv, known);
    }
    if (optind + 1 != argc || all == (room_id != NULL)) {
        fprintf(stderr, "%s: name one data directory, and either --room ID or --all\n", argv[0]);
        return cli_usage(argv[0]);
    }
    struct store store;
    if (!store_open_offline(&store, argv[optind])) return CLI_STORE;
    int code = export_history(store.kv, room_id);
    store_close(&store, false);
    return code;
}

static int export_history(struct kv *kv, const char *room_id)
{
    struct export e = {.kv = kv};
    struct key from = {0}, to = {0}; /* empty: the whole log, which lies room by room */
    if (room_id) {
        uint64_t room = 0;
        uint32_t tenant = 0;
        bool found = false;
        if (!room_id_parse(slice_str(room_id), &room)) {
            cli_error("%s is not a room_id: those look like r_0123456789abc", room_id);
            return CLI_FAILED;
        }
        if (!room_tenant(kv, room, &tenant, &found)) return CLI_FAILED;
        if (!found) {
            cli_error("the store holds no room %s", room_id);
            return CLI_FAILED;
        }
        key_room(&from, tenant, room);
        key_prefix_end(&to, key_slice(&from));
    }
    export_rows(&e, key_slice(&from), key_slice(&to));
    free(e.line);
    return cli_flush(e.failed ? CLI_FAILED : CLI_DONE);
}

/* room_tenant finds whose room it is by reading the keys of all rooms: they begin with the tenant. */
static bool room_tenant(struct kv *kv, uint64_t room, uint32_t *tenant, bool *found)
{
    struct kv_iter *i = kv_iter_open(kv, KV_ROOMS, (struct slice){0}, (struct slice){0});
    *found = false;
    for (bool on = kv_iter_first(kv, i); on && !*found; on = kv_iter_next(kv, i)) {
        struct slice key = kv_iter_key(kv, i);
        uint64_t number;
        *found = key_parse_u32(&key, tenant) && key_parse_u64(&key, &number) && number == room;
    }
    enum status status = kv_iter_close(kv, i);
    if (status != STATUS_OK) cli_error("the rooms cannot be read (%s)", status_name(status));
    return status == STATUS_OK;
}

static void export_rows(struct export *e, struct slice from, struct slice to)
{
    struct kv_iter *i = kv_iter_open(e->kv, KV_LOG, from, to);
    for (bool on = kv_iter_first(e->kv, i); on; on = kv_iter_next(e->kv, i))
        if (!export_row(e, kv_iter_key(e->kv, i), kv_iter_value(e->kv, i))) e->failed = true;
    enum status status = kv_iter_close(e->kv, i);
    if (status == STATUS_OK) return;
    cli_error("the log cannot be read to its end (%s)", status_name(status));
    e->failed = true;
}

static bool export_row(struct export *e, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t room, seq;
    struct log_record record;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &room) || !key_parse_u64(&key, &seq)) {
        cli_error("the log holds a row under a key of the wrong form; run `carillon verify-store`");
        return false;
    }
    enum status status = log_record_decode(&record, value);
    bool fits = status == STATUS_OK && record.tenant == tenant && record.room == room && record.seq == seq;
    if (!fits) {
        char id[ID_TEXT_LEN];
        room_id_text(id, room);
        cli_error("room %.*s, seq %" PRIu64 ": the row is damaged; run `carillon verify-store`", (int)ID_TEXT_LEN, id,
                  seq);
        return false;
    }
    size_t len = event_json_len(&record, EVENT_PUSH);
    if (len + 1 > e->line_cap) {
        e->line_cap = 2 * (len + 1);
        e->line = realloc(e->line, e->line_cap);
        ASSERT(e->line);
    }
    char *end = event_json(e->line, &record, EVENT_PUSH);
    *end = '\n';
    fwrite(e->line, 1, len + 1, stdout);
    return true;
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

/* store_open_offline opens read-only, and says on stderr why when it cannot. */
static bool store_open_offline(struct store *store, const char *dir)
{
    char why[1024];
    const struct store_options options = {.dir = dir,
                                          .cache_bytes = OFFLINE_CACHE_BYTES,
                                          .write_buffer_bytes = OFFLINE_WRITE_BUFFER_BYTES,
                                          .read_only = true};
    if (!store_exists(dir)) return false;
    bool in_use = store_in_use(dir);
    int level = atomic_load(&log_level_now);
    log_set_level((enum log_level)(LOG_ERROR + 1)); /* a refusal is told in `why`: log lines would only repeat it */
    enum status status = STATUS_LOCKED;
    for (unsigned i = 0; i < OPENINGS_MAX; i++) {
        status = store_open(store, &options, random_real(), why, sizeof why);
        if (!in_use || (status != STATUS_CORRUPT && status != STATUS_IO)) break;
    }
    log_set_level((enum log_level)level);
    if (in_use && (status == STATUS_CORRUPT || status == STATUS_IO)) {
        cli_error("%s cannot be read beside the gateway that is using it (%s): its files may have changed meanwhile; "
                  "stop the gateway first, or try again", dir, status_name(status));
        return false;
    }
    if (status != STATUS_OK) {
        cli_error("%s%s", why, in_use ? "; a gateway is using this store: stop it first" : "");
        return false;
    }
    if (in_use) cli_error("note: a gateway is using this store; what it writes from now on is not seen");
    return true;
}

/* store_exists looks before RocksDB does, which would make directories for its own log. */
static bool store_exists(const char *dir)
{
    char path[PATH_BYTES_MAX];
    struct stat info;
    int error = stat(dir, &info) != 0 ? errno : S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
    if (error) {
        cli_error("%s is no data directory: %s", dir, strerror(error));
        return false;
    }
    if (snprintf(path, sizeof path, "%s/db", dir) < (int)sizeof path && stat(path, &info) == 0) return true;
    if (errno == EACCES) cli_error("%s cannot be read: %s; run this as the user of the gateway", dir, strerror(errno));
    else cli_error("%s holds no store", dir);
    return false;
}

/* A running gateway holds a lock on DIR/LOCK (store.h). */
static bool store_in_use(const char *dir)
{
    char path[PATH_BYTES_MAX];
    if (snprintf(path, sizeof path, "%s/LOCK", dir) >= (int)sizeof path) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool in_use = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return in_use;
}
