#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../storage/backup_engine.h"
#include "../../storage/store.h"
#include "../base/assert.h"
#include "../base/limits.h"
#include "../base/log.h"
#include "cli.h"
#include "restore_place.h"

#define PATH_BYTES_MAX 4096
#define WHY_BYTES_MAX 1024
#define PEPPER_LEN 32
#define RESTORE_CACHE_BYTES (64u << 20)
#define RESTORE_WRITE_BUFFER_BYTES (64u << 20)

/* rows_read lists a directory's backups; false, and said, when there are none or it cannot be read. */
static bool rows_read(const char *dir, struct backup_row *rows, unsigned *num)
{
    char why[WHY_BYTES_MAX] = "";
    struct stat info;
    int error = stat(dir, &info) != 0 ? errno : S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
    if (error) cli_error("%s is no directory of backups: %s", dir, strerror(error));
    else if (backup_list(dir, rows, BACKUPS_MAX, num, why, sizeof why) != STATUS_OK) cli_error("%s", why);
    else if (*num == 0) cli_error("%s holds no backups", dir);
    else return true;
    return false;
}

static bool id_parse(const char *text, uint32_t *id)
{
    uint64_t number;
    if (!slice_u64(slice_str(text), &number) || number == 0 || number > UINT32_MAX) return false;
    *id = (uint32_t)number;
    return true;
}

static int id_refused(const char *command)
{
    fprintf(stderr, "%s: --id takes the number of a backup, not '%s'\n", command, optarg);
    return cli_usage(command);
}

/* --- list-backups ----------------------------------------------------------------------------------------------- */

int list_backups_command(int argc, char **argv)
{
    static const struct option known[] = {{0}};
    static struct backup_row rows[BACKUPS_MAX];
    unsigned num = 0;
    if (getopt_long(argc, argv, OPTIONS_ALONE, known, NULL) != -1) return cli_mistake(argv, known);
    if (optind + 1 != argc) {
        fprintf(stderr, "%s: name one directory of backups\n", argv[0]);
        return cli_usage(argv[0]);
    }
    if (!rows_read(argv[optind], rows, &num)) return CLI_STORE;
    printf("%-8s %-24s %16s %8s  %s\n", "ID", "CREATED", "BYTES", "FILES", "STATE");
    for (unsigned i = 0; i < num; i++) {
        char time[TIME_TEXT_LEN + 1] = "-";
        if (!rows[i].damaged) *time_text(time, rows[i].created_ms) = '\0';
        printf("%-8" PRIu32 " %-24s %16" PRIu64 " %8" PRIu32 "  %s\n", rows[i].id, time, rows[i].bytes, rows[i].files,
               rows[i].damaged ? "damaged" : "complete");
    }
    return cli_flush(CLI_DONE);
}

/* --- verify-backup ---------------------------------------------------------------------------------------------- */

int verify_backup_command(int argc, char **argv)
{
    static const struct option known[] = {{"id", required_argument, NULL, 'i'}, {0}};
    static struct backup_row rows[BACKUPS_MAX];
    uint32_t wanted = 0;
    unsigned num = 0, checked = 0, bad = 0;
    for (int choice; (choice = getopt_long(argc, argv, OPTIONS_ALONE, known, NULL)) != -1;)
        if (choice != 'i') return cli_mistake(argv, known);
        else if (!id_parse(optarg, &wanted)) return id_refused(argv[0]);
    if (optind + 1 != argc) {
        fprintf(stderr, "%s: name one directory of backups\n", argv[0]);
        return cli_usage(argv[0]);
    }
    const char *dir = argv[optind];
    if (!rows_read(dir, rows, &num)) return CLI_STORE;
    for (unsigned i = 0; i < num; i++) {
        char why[WHY_BYTES_MAX] = "";
        if (wanted && rows[i].id != wanted) continue;
        checked++;
        enum status status = rows[i].damaged ? STATUS_CORRUPT : backup_verify(dir, rows[i].id, why, sizeof why);
        bad += status != STATUS_OK;
        if (status == STATUS_OK) printf("backup %" PRIu32 ": good\n", rows[i].id);
        else printf("backup %" PRIu32 ": %s\n", rows[i].id, *why ? why : "files of it are missing; use another one");
        fflush(stdout);
    }
    if (checked == 0) {
        cli_error("%s holds no backup %" PRIu32 "; `carillon list-backups` shows those there are", dir, wanted);
        return CLI_FAILED;
    }
    return cli_flush(bad ? CLI_FAILED : CLI_DONE);
}

/* --- restore ---------------------------------------------------------------------------------------------------- */

struct restore {
    const char *backups, *data;
    struct backup_row row;
    struct restore_place place;
    char work_db[RESTORE_PATH_BYTES_MAX]; /* place.work/db */
    uint8_t pepper[PEPPER_LEN];
};

static bool choose(struct restore *r, uint32_t wanted);
static bool read_pepper(struct restore *r);
static bool place_open(struct restore *r, bool force);
static bool copy_files(struct restore *r);
static bool write_pepper(const struct restore *r);
static bool begin_history(const struct restore *r);
static bool place_take(struct restore *r);

int restore_command(int argc, char **argv)
{
    static const struct option known[] = {{"backup", required_argument, NULL, 'b'},
                                          {"id", required_argument, NULL, 'i'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"force", no_argument, NULL, 'f'},
                                          {0}};
    struct restore r = {0};
    uint32_t wanted = 0;
    bool force = false;
    for (int choice; (choice = getopt_long(argc, argv, OPTIONS_ALONE, known, NULL)) != -1;) {
        if (choice == 'b') r.backups = optarg;
        else if (choice == 'd') r.data = optarg;
        else if (choice == 'f') force = true;
        else if (choice != 'i') return cli_mistake(argv, known);
        else if (!id_parse(optarg, &wanted)) return id_refused(argv[0]);
    }
    if (!r.backups || !r.data || !*r.data || optind != argc) {
        fprintf(stderr, "%s: say --backup DIR and --data DIR\n", argv[0]);
        return cli_usage(argv[0]);
    }
    umask(077); /* what a store holds is nobody else's */
    log_set_level((enum log_level)(LOG_ERROR + 1)); /* what fails is said in a sentence */
    if (!choose(&r, wanted) || !read_pepper(&r) || !place_open(&r, force)) return CLI_STORE;
    bool done = copy_files(&r) && write_pepper(&r) && begin_history(&r) && place_take(&r);
    if (!restore_place_close(&r.place))
        cli_error("%s cannot be removed: %s; remove it before you restore there again", r.place.work, strerror(errno));
    if (!done) return CLI_FAILED;
    printf("restored: `carillon serve --data %s` goes on from here\n", r.data);
    return cli_flush(CLI_DONE);
}

static bool choose(struct restore *r, uint32_t wanted)
{
    static struct backup_row rows[BACKUPS_MAX];
    unsigned num = 0;
    if (!rows_read(r->backups, rows, &num)) return false;
    for (unsigned i = 0; i < num; i++)
        if (!rows[i].damaged && (!wanted || rows[i].id == wanted)) r->row = rows[i];
    if (r->row.id) return true;
    if (wanted)
        cli_error("%s holds no good backup %" PRIu32 "; `carillon list-backups` shows those there are", r->backups,
                  wanted);
    else cli_error("all backups in %s are damaged", r->backups);
    return false;
}

static bool read_pepper(struct restore *r)
{
    char path[PATH_BYTES_MAX], bytes[PEPPER_LEN + 1];
    if (snprintf(path, sizeof path, "%s/pepper", r->backups) >= (int)sizeof path) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
    int error = errno;
    if (fd >= 0) close(fd);
    if (n == PEPPER_LEN) {
        memcpy(r->pepper, bytes, PEPPER_LEN);
        return true;
    }
    cli_error("%s %s: without it no API key could be checked; put it back from another copy", path,
              n < 0 ? strerror(error) : "does not hold exactly 32 bytes");
    return false;
}

static bool place_open(struct restore *r, bool force)
{
    char why[WHY_BYTES_MAX] = "";
    if (restore_place_open(&r->place, r->data, r->backups, force, why, sizeof why) != STATUS_OK) {
        cli_error("%s", why);
        return false;
    }
    return snprintf(r->work_db, sizeof r->work_db, "%s/db", r->place.work) < (int)sizeof r->work_db;
}

static bool place_take(struct restore *r)
{
    char why[WHY_BYTES_MAX] = "";
    enum status status = restore_place_take(&r->place, clock_wall_ms(clock_real()), why, sizeof why);
    if (r->place.taken && r->place.aside[0]) printf("what was in %s is now %s\n", r->data, r->place.aside);
    if (status != STATUS_OK) cli_error("%s", why);
    return status == STATUS_OK;
}

/* --- progress: a thread that looks how much has arrived --- */

struct progress {
    const char *dir;
    uint64_t bytes;
    _Atomic bool done;
};

static uint64_t bytes_in(const char *dir)
{
    uint64_t sum = 0;
    DIR *files = opendir(dir);
    for (struct dirent *e; files && (e = readdir(files));) {
        struct stat info;
        if (fstatat(dirfd(files), e->d_name, &info, 0) == 0 && S_ISREG(info.st_mode)) sum += (uint64_t)info.st_size;
    }
    if (files) closedir(files);
    return sum;
}

static void *progress_thread(void *context)
{
    struct progress *p = context;
    for (unsigned tenths = 1; !atomic_load(&p->done); tenths++) {
        usleep(100000);
        if (tenths % 20) continue;
        printf("  %" PRIu64 " of %" PRIu64 " MB\n", bytes_in(p->dir) >> 20, p->bytes >> 20);
        fflush(stdout);
    }
    return NULL;
}

static bool copy_files(struct restore *r)
{
    char why[WHY_BYTES_MAX] = "", time[TIME_TEXT_LEN + 1] = "";
    *time_text(time, r->row.created_ms) = '\0';
    printf("restoring backup %" PRIu32 " of %s: %" PRIu32 " files, %" PRIu64 " bytes\n", r->row.id, time, r->row.files,
           r->row.bytes);
    fflush(stdout);
    struct progress progress = {.dir = r->work_db, .bytes = r->row.bytes};
    pthread_t thread;
    bool watched = pthread_create(&thread, NULL, progress_thread, &progress) == 0;
    enum status status = backup_restore_files(r->backups, r->row.id, r->work_db, why, sizeof why);
    atomic_store(&progress.done, true);
    if (watched) pthread_join(thread, NULL);
    if (status != STATUS_OK) cli_error("%s", why);
    return status == STATUS_OK;
}

static bool write_pepper(const struct restore *r)
{
    char path[PATH_BYTES_MAX];
    if (snprintf(path, sizeof path, "%s/pepper", r->place.work) >= (int)sizeof path) return false;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, r->pepper, sizeof r->pepper) == (ssize_t)sizeof r->pepper && fsync(fd) == 0;
    if (!good) cli_error("%s cannot be written: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return good;
}

static void print_problem(void *context, const char *text) { printf("problem: %s\n", text); }

/* begin_history opens the store as a gateway would, makes it safe to serve, and looks at every row of it. */
static bool begin_history(const struct restore *r)
{
    char why[WHY_BYTES_MAX] = "";
    struct store store;
    const struct store_options options = {.dir = r->place.work,
                                          .cache_bytes = RESTORE_CACHE_BYTES,
                                          .write_buffer_bytes = RESTORE_WRITE_BUFFER_BYTES};
    if (store_open(&store, &options, random_real(), why, sizeof why) != STATUS_OK) {
        cli_error("the restored store does not open: %s", why);
        return false;
    }
    enum status status = store_begin_history(&store, random_real());
    printf("checking all rows\n");
    fflush(stdout);
    uint64_t rows = 0, problems = status == STATUS_OK ? store_verify(store.kv, print_problem, NULL, &rows) : 0;
    if (status != STATUS_OK) cli_error("the restored store cannot be written (%s)", status_name(status));
    else if (problems) cli_error("the restored store has %" PRIu64 " problems in %" PRIu64 " rows", problems, rows);
    else printf("%" PRIu64 " rows checked, no problems; the store goes on in epoch %" PRIu64 "\n", rows, store.epoch);
    store_close(&store, status == STATUS_OK);
    return status == STATUS_OK && problems == 0;
}
