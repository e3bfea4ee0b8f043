#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../src/base/assert.h"
#include "../src/base/limits.h"
#include "../src/base/log.h"
#include "keys.h"
#include "records.h"

#define PATH_BYTES_MAX 4096
#define DIR_MODE 0700
#define SECRET_MODE 0600

/* How far a new history jumps. The least is more than the history that is given up can have gone on meanwhile: an epoch
 * a start, a number for each room, user and tenant. The rest is drawn, so that two histories that begin at the same
 * backup do not meet either; no clock is asked, since a clock can go back. */
#define HISTORY_EPOCHS_MIN (1ull << 32)
#define HISTORY_EPOCHS_SPREAD (1ull << 40)
#define HISTORY_NUMBERS_MIN (1ull << 40)
#define HISTORY_NUMBERS_SPREAD (1ull << 52)
#define STORE_EPOCH_MAX ((1ull << 53) - 1) /* what clients can keep exactly in a JSON number (RFC 8259 section 6) */

/* meta rows; each holds a number record */
#define META_FORMAT "format"
#define META_EPOCH "epoch"
#define META_CLEAN "clean" /* 1: the last run closed cleanly */
#define META_PEPPER "pepper" /* pepper_print of the store's pepper */
#define HISTORY_NAME_BYTES (sizeof STORE_HISTORY_META + 20)

/* refusal: where the sentence for people goes; the last one written stays. */
struct refusal {
    char *why;
    size_t why_len;
};

static enum status open_writable(struct store *s, const struct store_options *options, store_kv_open kv_open,
                                 const struct random *random, const struct refusal *refusal);
static enum status open_read_only(struct store *s, const struct store_options *options, store_kv_open kv_open,
                                  const struct refusal *refusal);
static enum status open_kv(struct store *s, const struct store_options *options, store_kv_open kv_open,
                           const struct refusal *refusal);
static enum status make_dir(const char *dir, const struct refusal *refusal);
static enum status check_space(const char *dir, const struct refusal *refusal);
static enum status check_restored(const char *dir, const struct refusal *refusal);
static enum status take_lock(struct store *s, const struct refusal *refusal);
static bool has_pepper(const char *dir);
static void write_pid(int fd);
static long read_pid(int fd);
static enum status load_pepper(struct store *s, const struct random *random, const struct refusal *refusal);
static enum status read_pepper(int fd, uint8_t pepper[32], const char *path, const struct refusal *refusal);
static enum status create_pepper(struct store *s, const struct random *random, const struct refusal *refusal);
static enum status check_pepper(struct store *s, const char *path, const struct refusal *refusal);
static enum status look_at_pepper(struct store *s, const char *dir, const struct refusal *refusal);
static enum status keep_pepper_print(struct store *s, const struct refusal *refusal);
static uint64_t pepper_print(const uint8_t pepper[32]);
static enum status open_parts(struct store *out, struct kv *kv, struct mark *mark, bool held_store,
                              const struct random *random, const struct refusal *refusal);
static enum status check_mark(struct kv *kv, enum status s, uint64_t marked, bool held_store,
                              const struct refusal *refusal);
static enum status check_manifest(enum status *mark_status, uint64_t *marked, const char *dir,
                                  const struct refusal *refusal);
static enum status begin_history(struct store *s, uint64_t from, const struct random *random);
static enum status load_state(struct store *s, bool *is_new, const struct refusal *refusal);
static enum status load_next_number(struct store *s, const struct refusal *refusal);
static enum status load_histories(struct store *s, const struct refusal *refusal);
static void history_name(char out[HISTORY_NAME_BYTES], uint64_t epoch);
static enum status write_state(struct store *s, bool clean);
static enum status get_number(struct kv *kv, const char *name, uint64_t *out);
static void put_number(struct kv *kv, struct kv_batch *b, const char *name, uint64_t v);
static enum status sync_dir(const char *dir);
static void parent_of(char *out, const char *path);
static enum status status_of_errno(int error);
static enum status refuse(const struct refusal *refusal, enum status s, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum status refuse_path(const struct refusal *refusal, const char *path, const char *what, int error);
static void close_parts(struct store *s);

enum status store_open_using(struct store *out, const struct store_options *options, store_kv_open kv_open,
                             const struct random *random, char *why, size_t why_len)
{
    ASSERT(options->dir && *options->dir && why_len > 0);
    const struct refusal refusal = {why, why_len};
    *why = '\0';
    *out = (struct store){._lock_fd = -1, ._dir = strdup(options->dir)};
    ASSERT(out->_dir);
    enum status s = options->read_only ? open_read_only(out, options, kv_open, &refusal)
                                       : open_writable(out, options, kv_open, random, &refusal);
    if (s == STATUS_OK) return s;
    close_parts(out);
    return s;
}

enum status store_open_with(struct store *out, struct kv *kv, struct mark *mark, const struct random *random,
                            char *why, size_t why_len)
{
    ASSERT(kv && mark && why_len > 0);
    const struct refusal refusal = {why, why_len};
    *why = '\0';
    return open_parts(out, kv, mark, false, random, &refusal);
}

/* open_parts: `held_store` says that the directory held a store before it was opened. Without a mark nobody can tell
 * how much of it is missing, so it goes on as a backup does, in a history of its own, though it may look like new. */
static enum status open_parts(struct store *out, struct kv *kv, struct mark *mark, bool held_store,
                              const struct random *random, const struct refusal *refusal)
{
    struct store store = {.kv = kv, .mark = mark, ._lock_fd = -1};
    *out = (struct store){._lock_fd = -1};

    bool is_new = false;
    uint64_t marked = 0;
    enum status s = mark_read(mark, &marked);
    bool mark_found = s == STATUS_OK;
    s = check_mark(kv, s, marked, held_store, refusal);
    if (s == STATUS_OK) s = load_state(&store, &is_new, refusal);
    if (s == STATUS_OK) s = load_next_number(&store, refusal);
    if (s == STATUS_OK) s = load_histories(&store, refusal);
    if (s != STATUS_OK) return s;

    if (!mark_found && (held_store || !is_new)) {
        s = begin_history(&store, store.epoch, random);
        store.was_clean = false;
        LOG(LOG_WARN, "store", "mark_missing", LOG_U64("epoch", store.epoch),
            LOG_STR("hint",
                    "whether acknowledged writes are missing cannot be known; the store goes on in a new history, "
                    "so that no id is given twice and clients are told what is void"));
    } else if (is_new) {
        store.epoch = 1;
        store.was_clean = true; /* nothing came before that could have ended badly */
    } else if (!store.was_clean) {
        store.epoch++;
    }
    if (s == STATUS_OK) s = write_state(&store, false);
    if (s != STATUS_OK)
        return refuse(refusal, s, "the store cannot be written (%s); check the disk and start again", status_name(s));
    random_fill(random, store.pepper, sizeof store.pepper);
    *out = store;
    return STATUS_OK;
}

void store_close(struct store *s, bool clean)
{
    if (!s->kv) return;
    store_leave(s, clean);
    close_parts(s);
}

/* An error here is only logged: without the clean state the next open raises the epoch, which is always safe. */
void store_leave(struct store *s, bool clean)
{
    if (!clean || !s->mark) return;
    enum status written = write_state(s, true);
    if (written != STATUS_OK) LOG(LOG_WARN, "store", "close_unclean", LOG_STR("status", status_name(written)));
}

enum status store_begin_history(struct store *s, const struct random *random)
{
    ASSERT(s->kv && s->mark);
    /* an open after an unclean end has raised it already, and the other history may have seen that epoch */
    enum status status = begin_history(s, s->was_clean ? s->epoch : s->epoch - 1, random);
    return status == STATUS_OK ? write_state(s, false) : status;
}

/* begin_history writes its rows together; the state that follows makes them durable. With the table of histories full
 * its two oldest become one: what lay between them is refused as well, which is only ever too careful. */
static enum status begin_history(struct store *s, uint64_t from, const struct random *random)
{
    char name[HISTORY_NAME_BYTES];
    struct key k;
    uint64_t to = s->epoch + HISTORY_EPOCHS_MIN + random_u64(random) % HISTORY_EPOCHS_SPREAD;
    uint64_t number = s->next_number + HISTORY_NUMBERS_MIN + random_u64(random) % HISTORY_NUMBERS_SPREAD;
    if (to > STORE_EPOCH_MAX || number < s->next_number || number == UINT64_MAX) return STATUS_FULL;
    struct kv_batch *b = kv_batch_new(s->kv);
    if (s->num_histories == STORE_HISTORIES_MAX) {
        history_name(name, s->histories[0].to);
        key_meta(&k, slice_str(name));
        s->kv->ops->batch_delete(b, KV_META, key_slice(&k));
        s->histories[1].from = s->histories[0].from;
        memmove(s->histories, s->histories + 1, --s->num_histories * sizeof *s->histories);
        history_name(name, s->histories[0].to);
        put_number(s->kv, b, name, s->histories[0].from);
    }
    s->histories[s->num_histories++] = (struct store_history){from, to};
    history_name(name, to);
    put_number(s->kv, b, name, from);
    put_number(s->kv, b, STORE_NUMBER_META "history", number);
    s->next_number = number + 1;
    s->epoch = to;
    enum status status = kv_write(s->kv, b);
    s->kv->ops->batch_free(b);
    return status;
}

bool store_epoch_given_up(const struct store *s, uint64_t epoch)
{
    for (unsigned i = 0; i < s->num_histories; i++)
        if (epoch > s->histories[i].from && epoch < s->histories[i].to) return true;
    return false;
}

static enum status open_writable(struct store *s, const struct store_options *options, store_kv_open kv_open,
                                 const struct random *random, const struct refusal *refusal)
{
    enum status status = make_dir(options->dir, refusal);
    if (status == STATUS_OK) status = take_lock(s, refusal);
    if (status == STATUS_OK) status = check_restored(options->dir, refusal);
    if (status == STATUS_OK) status = check_space(options->dir, refusal);
    bool held_store = has_pepper(options->dir);
    uint64_t marked;
    enum status mark_status;
    if (status == STATUS_OK) status = check_manifest(&mark_status, &marked, options->dir, refusal);
    if (status == STATUS_OK) status = open_kv(s, options, kv_open, refusal);
    if (status != STATUS_OK) return status;
    status = mark_open_file(&s->mark, options->dir, s->kv);
    if (status != STATUS_OK)
        return refuse(refusal, status, "%s/MARK cannot be opened (%s); check the file and the disk", options->dir,
                      status_name(status));
    status = load_pepper(s, random, refusal);
    /* The directory's entries are on disk before anything in them is promised. */
    if (status == STATUS_OK) status = sync_dir(options->dir);
    if (status != STATUS_OK) {
        if (!*refusal->why) refuse(refusal, status, "%s cannot be synced; check the disk", options->dir);
        return status;
    }

    struct store opened;
    status = open_parts(&opened, s->kv, s->mark, held_store, random, refusal);
    if (status != STATUS_OK) return status;
    memcpy(opened.pepper, s->pepper, sizeof opened.pepper);
    opened._lock_fd = s->_lock_fd;
    opened._dir = s->_dir;
    *s = opened;
    return keep_pepper_print(s, refusal);
}

static enum status open_read_only(struct store *s, const struct store_options *options, store_kv_open kv_open,
                                  const struct refusal *refusal)
{
    /* The mark is read first: beside a gateway at work it would otherwise be ahead of the store that was opened. */
    uint64_t marked;
    enum status mark_status, status = check_manifest(&mark_status, &marked, options->dir, refusal);
    if (status == STATUS_OK) status = open_kv(s, options, kv_open, refusal);
    bool is_new = false;
    if (status == STATUS_OK) status = check_mark(s->kv, mark_status, marked, has_pepper(options->dir), refusal);
    if (status == STATUS_OK) status = load_state(s, &is_new, refusal);
    if (status == STATUS_OK && !is_new) status = look_at_pepper(s, options->dir, refusal);
    if (status == STATUS_OK && is_new)
        status = refuse(refusal, STATUS_NOT_FOUND, "%s holds no store; check the path", options->dir);
    if (status == STATUS_OK) status = load_next_number(s, refusal);
    if (status == STATUS_OK) status = load_histories(s, refusal);
    return status;
}

static enum status open_kv(struct store *s, const struct store_options *options, store_kv_open kv_open,
                           const struct refusal *refusal)
{
    enum status status = kv_open(&s->kv, options, refusal->why, refusal->why_len);
    if (status != STATUS_OK && !*refusal->why)
        refuse(refusal, status, "%s cannot be opened (%s)", options->dir, status_name(status));
    return status;
}

/* make_dir makes DIR and its parents, and syncs each new entry: a power loss must not take the whole store back. */
static enum status make_dir(const char *dir, const struct refusal *refusal)
{
    char path[PATH_BYTES_MAX], parent[PATH_BYTES_MAX];
    size_t len = strlen(dir);
    if (len >= sizeof path)
        return refuse(refusal, STATUS_INVALID, "the data directory's path is too long (%zu bytes)", len);
    memcpy(path, dir, len + 1);
    while (len > 1 && path[len - 1] == '/') path[--len] = '\0'; /* the last name gets the private mode */
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        path[i] = '\0';
        if (mkdir(path, i == len ? DIR_MODE : 0755) == 0) {
            parent_of(parent, path);
            enum status s = sync_dir(parent);
            if (s != STATUS_OK) return refuse(refusal, s, "%s cannot be synced; check the disk", parent);
        } else if (errno != EEXIST) {
            int error = errno;
            return refuse_path(refusal, path, "cannot be made", error);
        }
        if (i < len) path[i] = '/';
    }
    struct stat st;
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return refuse(refusal, STATUS_INVALID, "%s is not a directory; name another data directory", dir);
    return STATUS_OK;
}

/* check_space keeps RocksDB from starting on a full disk: in a build with assertions on it aborts there, without a
 * word for people, when it cannot write the first lines of its own log. */
static enum status check_space(const char *dir, const struct refusal *refusal)
{
    struct statvfs disk;
    if (statvfs(dir, &disk) != 0) {
        int error = errno;
        return refuse(refusal, status_of_errno(error), "the disk of %s cannot be asked for its space (%s)", dir,
                      log_errno_text(error));
    }
    unsigned long long free_bytes = (unsigned long long)disk.f_bavail * disk.f_frsize;
    if (free_bytes >= STORE_OPEN_BYTES_MIN) return STATUS_OK;
    return refuse(refusal, STATUS_NO_SPACE, "the disk of %s has %llu bytes free and a start needs %u; make room", dir,
                  free_bytes, STORE_OPEN_BYTES_MIN);
}

/* check_restored: a restore that was killed must not be taken for a new, empty store. */
static enum status check_restored(const char *dir, const struct refusal *refusal)
{
    char path[PATH_BYTES_MAX];
    if (snprintf(path, sizeof path, "%s/" STORE_RESTORE_DIR, dir) >= (int)sizeof path) return STATUS_INVALID;
    if (access(path, F_OK) != 0) return STATUS_OK;
    return refuse(refusal, STATUS_CORRUPT,
                  "a restore into %s did not come to its end: remove the directory and restore again", dir);
}

/* has_pepper: a store was opened here before. The first start makes it behind db and the mark, and nothing removes
 * it. */
static bool has_pepper(const char *dir)
{
    char path[PATH_BYTES_MAX];
    return snprintf(path, sizeof path, "%s/pepper", dir) < (int)sizeof path && access(path, F_OK) == 0;
}

static enum status take_lock(struct store *s, const struct refusal *refusal)
{
    char path[PATH_BYTES_MAX];
    if (snprintf(path, sizeof path, "%s/LOCK", s->_dir) >= (int)sizeof path) return STATUS_INVALID;
    s->_lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, SECRET_MODE);
    if (s->_lock_fd < 0) {
        int error = errno;
        return refuse_path(refusal, path, "cannot be opened", error);
    }
    if (flock(s->_lock_fd, LOCK_EX | LOCK_NB) == 0) {
        write_pid(s->_lock_fd);
        return STATUS_OK;
    }
    if (errno == EWOULDBLOCK) {
        long pid = read_pid(s->_lock_fd);
        if (!pid)
            return refuse(refusal, STATUS_LOCKED, "%s is in use by another process; stop that one first", s->_dir);
        return refuse(refusal, STATUS_LOCKED, "%s is in use by another process, pid %ld; stop that one first", s->_dir,
                      pid);
    }
    int error = errno;
    return refuse(refusal, status_of_errno(error), "%s cannot be locked (%s)", path, log_errno_text(error));
}

/* The process id is a courtesy to whoever meets the lock: an error in writing it costs nothing but that. */
static void write_pid(int fd)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)len, 0) == len) return;
    LOG(LOG_WARN, "store", "pid_not_written", LOG_ERRNO(errno));
}

static long read_pid(int fd)
{
    char text[24] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    return n > 0 ? strtol(text, NULL, 10) : 0;
}

static enum status load_pepper(struct store *s, const struct random *random, const struct refusal *refusal)
{
    char path[PATH_BYTES_MAX];
    if (snprintf(path, sizeof path, "%s/pepper", s->_dir) >= (int)sizeof path) return STATUS_INVALID;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        uint64_t format = 0;
        if (get_number(s->kv, META_FORMAT, &format) == STATUS_NOT_FOUND) return create_pepper(s, random, refusal);
        return refuse(refusal, STATUS_CORRUPT,
                      "%s is missing, so no API key could be checked; put it back from a backup", path);
    }
    if (fd < 0) {
        int error = errno;
        return refuse(refusal, status_of_errno(error), "%s cannot be opened (%s)", path, log_errno_text(error));
    }
    enum status status = read_pepper(fd, s->pepper, path, refusal);
    close(fd);
    return status == STATUS_OK ? check_pepper(s, path, refusal) : status;
}

/* check_pepper: with another pepper no API key would be known any more, and a message that is sent again would be taken
 * for a new one. A store of before this check has no print yet. */
static enum status check_pepper(struct store *s, const char *path, const struct refusal *refusal)
{
    uint64_t print = 0;
    enum status status = get_number(s->kv, META_PEPPER, &print);
    if (status == STATUS_NOT_FOUND) return STATUS_OK;
    if (status == STATUS_OK && print == pepper_print(s->pepper)) return STATUS_OK;
    if (status == STATUS_OK)
        return refuse(refusal, STATUS_CORRUPT,
                      "%s is damaged, or another store's: no API key would be known; put it back from a backup", path);
    return refuse(refusal, status, "whether %s is this store's cannot be read (%s); restore the store from a backup",
                  path, status_name(status));
}

/* look_at_pepper is for whoever only reads and authenticates nobody: a copy without the pepper, or without the right to
 * read it, is as good. */
static enum status look_at_pepper(struct store *s, const char *dir, const struct refusal *refusal)
{
    char path[PATH_BYTES_MAX];
    if (snprintf(path, sizeof path, "%s/pepper", dir) >= (int)sizeof path) return STATUS_INVALID;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return STATUS_OK;
    enum status status = read_pepper(fd, s->pepper, path, refusal);
    close(fd);
    if (status == STATUS_OK) status = check_pepper(s, path, refusal);
    explicit_bzero(s->pepper, sizeof s->pepper);
    return status;
}

/* keep_pepper_print is not synced by itself: lost, it is written again by the next start. */
static enum status keep_pepper_print(struct store *s, const struct refusal *refusal)
{
    uint64_t print = 0;
    if (get_number(s->kv, META_PEPPER, &print) == STATUS_OK) return STATUS_OK;
    struct kv_batch *b = kv_batch_new(s->kv);
    put_number(s->kv, b, META_PEPPER, pepper_print(s->pepper));
    enum status status = kv_write(s->kv, b);
    s->kv->ops->batch_free(b);
    if (status == STATUS_OK) return STATUS_OK;
    return refuse(refusal, status, "the store cannot be written (%s); check the disk and start again",
                  status_name(status));
}

/* pepper_print tells peppers apart and gives none of its 256 random bits away: 8 bytes of a hash under a name of its
 * own. */
static uint64_t pepper_print(const uint8_t pepper[32])
{
    static const char name[] = "carillon pepper print";
    uint8_t digest[SHA256_DIGEST_LENGTH];
    uint64_t print;
    SHA256_CTX hash;
    SHA256_Init(&hash);
    SHA256_Update(&hash, name, sizeof name);
    SHA256_Update(&hash, pepper, 32);
    SHA256_Final(digest, &hash);
    memcpy(&print, digest, sizeof print);
    return print;
}

static enum status read_pepper(int fd, uint8_t pepper[32], const char *path, const struct refusal *refusal)
{
    char bytes[33]; /* one more than it should hold, to see that it ends there */
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n < 0) {
        int error = errno;
        return refuse(refusal, status_of_errno(error), "%s cannot be read (%s)", path, log_errno_text(error));
    }
    if (n != 32)
        return refuse(refusal, STATUS_CORRUPT, "%s does not hold exactly 32 bytes; put it back from a backup", path);
    memcpy(pepper, bytes, 32);
    return STATUS_OK;
}

/* create_pepper writes beside the name and renames, so that a crash leaves a whole pepper or none. */
static enum status create_pepper(struct store *s, const struct random *random, const struct refusal *refusal)
{
    char path[PATH_BYTES_MAX], fresh[PATH_BYTES_MAX];
    if (snprintf(path, sizeof path, "%s/pepper", s->_dir) >= (int)sizeof path) return STATUS_INVALID;
    if (snprintf(fresh, sizeof fresh, "%s/pepper.new", s->_dir) >= (int)sizeof fresh) return STATUS_INVALID;
    random_fill(random, s->pepper, sizeof s->pepper);

    int error = 0;
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, SECRET_MODE);
    if (fd < 0) {
        error = errno;
    } else {
        ssize_t n = write(fd, s->pepper, sizeof s->pepper);
        if (n != (ssize_t)sizeof s->pepper) error = n < 0 ? errno : ENOSPC;
        else if (fchmod(fd, SECRET_MODE) != 0 || fsync(fd) != 0) error = errno;
        close(fd);
    }
    if (!error && rename(fresh, path) != 0) error = errno;
    if (error)
        return refuse(refusal, status_of_errno(error), "%s cannot be written (%s); check the disk", path,
                      log_errno_text(error));
    return sync_dir(s->_dir);
}

/* check_mark holds the store against its mark: `s` is how reading that went, `marked` what it said. */
static enum status check_mark(struct kv *kv, enum status s, uint64_t marked, bool held_store,
                              const struct refusal *refusal)
{
    uint64_t sequence = kv_sequence(kv);
    if (s == STATUS_NOT_FOUND) return STATUS_OK;
    if (s == STATUS_IO)
        return refuse(refusal, s, "the low-water mark cannot be read; check the file MARK and the disk");
    /* a crash of the very first start left it short: the pepper is made behind it */
    if (s == STATUS_INVALID && sequence == 0 && !held_store) return STATUS_OK;
    if (s != STATUS_OK)
        return refuse(refusal, s,
                      "the low-water mark is %s, so a lost tail would go unseen; restore the store from a backup, or "
                      "remove the file MARK to serve what is there",
                      s == STATUS_INVALID ? "cut short" : "damaged");
    if (sequence >= marked) return STATUS_OK;
    return refuse(refusal, STATUS_CORRUPT,
                  "the store ends at operation %llu but %llu were once durable: acknowledged writes are lost; restore "
                  "the store from a backup, or remove the file MARK to go on without them",
                  (unsigned long long)sequence, (unsigned long long)marked);
}

/* check_manifest comes before RocksDB opens anything, since opening removes the tables that a damaged MANIFEST does not
 * name. It tells what the mark says on the way; a mark that is no good is refused later, by check_mark. */
static enum status check_manifest(enum status *mark_status, uint64_t *marked, const char *dir,
                                  const struct refusal *refusal)
{
    struct manifest_print print;
    *mark_status = mark_look_file(marked, &print, dir);
    return *mark_status == STATUS_OK ? manifest_check(&print, dir, refusal->why, refusal->why_len) : STATUS_OK;
}

/* load_state reads format, epoch and how the last run ended; *is_new when nothing was ever written. */
static enum status load_state(struct store *s, bool *is_new, const struct refusal *refusal)
{
    uint64_t format = 0, clean = 0;
    enum status status = get_number(s->kv, META_FORMAT, &format);
    *is_new = status == STATUS_NOT_FOUND && kv_sequence(s->kv) == 0;
    if (*is_new) return STATUS_OK;
    if (status == STATUS_OK && format > STORE_FORMAT)
        return refuse(refusal, STATUS_NEWER,
                      "the store has format %llu and this version knows %u; run the newer version",
                      (unsigned long long)format, STORE_FORMAT);
    if (status == STATUS_OK && format < STORE_FORMAT_OLDEST)
        return refuse(refusal, STATUS_INVALID,
                      "the store has format %llu, and this version reads %u and newer; start it once with a version "
                      "between the two, which brings it forward",
                      (unsigned long long)format, STORE_FORMAT_OLDEST);
    if (status == STATUS_OK) status = get_number(s->kv, META_EPOCH, &s->epoch);
    if (status == STATUS_OK) status = get_number(s->kv, META_CLEAN, &clean);
    if (status == STATUS_OK && (s->epoch == 0 || clean > 1)) status = STATUS_CORRUPT;
    s->was_clean = clean == 1;
    if (status == STATUS_OK) return STATUS_OK;
    if (status == STATUS_NOT_FOUND) status = STATUS_CORRUPT; /* the three are written together */
    return refuse(refusal, status, "the store's format and epoch cannot be read (%s); restore the store from a backup",
                  status_name(status));
}

static enum status load_next_number(struct store *s, const struct refusal *refusal)
{
    struct slice prefix = SLICE(STORE_NUMBER_META);
    struct key end;
    key_prefix_end(&end, prefix);
    uint64_t highest = 0;
    enum status status = STATUS_OK;
    struct kv_iter *i = kv_iter_open(s->kv, KV_META, prefix, key_slice(&end));
    for (bool on = kv_iter_first(s->kv, i); on && status == STATUS_OK; on = kv_iter_next(s->kv, i)) {
        uint64_t number = 0;
        status = number_record_decode(&number, kv_iter_value(s->kv, i));
        if (number == UINT64_MAX) status = STATUS_CORRUPT;
        if (number > highest) highest = number;
    }
    enum status walk = kv_iter_close(s->kv, i);
    if (status == STATUS_OK) status = walk;
    if (status != STATUS_OK)
        return refuse(refusal, status,
                      "the internal numbers in use cannot be read (%s); restore the store from a backup",
                      status_name(status));
    s->next_number = highest + 1;
    return STATUS_OK;
}

static void history_name(char out[HISTORY_NAME_BYTES], uint64_t epoch)
{
    snprintf(out, HISTORY_NAME_BYTES, STORE_HISTORY_META "%020llu", (unsigned long long)epoch);
}

/* load_histories reads them in the order of their names, which is that of the epochs. */
static enum status load_histories(struct store *s, const struct refusal *refusal)
{
    struct slice prefix = SLICE(STORE_HISTORY_META);
    struct key end;
    key_prefix_end(&end, prefix);
    enum status status = STATUS_OK;
    struct kv_iter *i = kv_iter_open(s->kv, KV_META, prefix, key_slice(&end));
    for (bool on = kv_iter_first(s->kv, i); on && status == STATUS_OK; on = kv_iter_next(s->kv, i)) {
        struct store_history h = {0};
        struct slice digits = slice_from(kv_iter_key(s->kv, i), prefix.len);
        status = number_record_decode(&h.from, kv_iter_value(s->kv, i));
        bool good = slice_u64(digits, &h.to) && h.from < h.to && s->num_histories < STORE_HISTORIES_MAX;
        if (!good) status = STATUS_CORRUPT;
        if (status == STATUS_OK) s->histories[s->num_histories++] = h;
    }
    enum status walk = kv_iter_close(s->kv, i);
    if (status == STATUS_OK) status = walk;
    if (status == STATUS_OK) return status;
    return refuse(refusal, status, "the histories of the store cannot be read (%s); restore the store from a backup",
                  status_name(status));
}

/* write_state makes the run's state durable, and the mark with it. */
static enum status write_state(struct store *s, bool clean)
{
    struct kv_batch *b = kv_batch_new(s->kv);
    put_number(s->kv, b, META_FORMAT, STORE_FORMAT);
    put_number(s->kv, b, META_EPOCH, s->epoch);
    put_number(s->kv, b, META_CLEAN, clean);
    enum status status = kv_write(s->kv, b);
    s->kv->ops->batch_free(b);
    uint64_t sequence = kv_sequence(s->kv);
    if (status == STATUS_OK) status = kv_sync(s->kv);
    if (status == STATUS_OK) status = mark_write(s->mark, sequence);
    if (status == STATUS_OK) status = mark_sync(s->mark);
    return status;
}

static enum status get_number(struct kv *kv, const char *name, uint64_t *out)
{
    struct key k;
    struct buf value = {0};
    key_meta(&k, slice_str(name));
    enum status s = kv_get(kv, KV_META, key_slice(&k), &value);
    if (s == STATUS_OK) s = number_record_decode(out, buf_slice(&value));
    buf_free(&value);
    return s;
}

static void put_number(struct kv *kv, struct kv_batch *b, const char *name, uint64_t v)
{
    struct key k;
    struct buf value = {0};
    key_meta(&k, slice_str(name));
    number_record_encode(&value, v);
    kv->ops->batch_put(b, KV_META, key_slice(&k), buf_slice(&value));
    buf_free(&value);
}

static enum status sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return status_of_errno(errno);
    enum status s = fsync(fd) == 0 ? STATUS_OK : status_of_errno(errno);
    close(fd);
    return s;
}

/* parent_of writes the directory that holds `path`; `out` has room for PATH_BYTES_MAX bytes, as `path` has. */
static void parent_of(char *out, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 1;
    if (slash == path) len = 1;
    memcpy(out, slash ? path : ".", len);
    out[len] = '\0';
}

static enum status status_of_errno(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT: return STATUS_NO_SPACE;
    case ENOTDIR:
    case ENAMETOOLONG: return STATUS_INVALID;
    }
    return STATUS_IO;
}

static enum status refuse(const struct refusal *refusal, enum status s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(refusal->why, refusal->why_len, format, args);
    va_end(args);
    return s;
}

/* refuse_path says what to do about the errors that a data directory of the wrong owner or disk gives. */
static enum status refuse_path(const struct refusal *refusal, const char *path, const char *what, int error)
{
    enum status s = status_of_errno(error);
    switch (error) {
    case EACCES:
    case EPERM:
        return refuse(refusal, s,
                      "%s %s (EACCES): user %ld may not write there; give it the data directory (chown -R), or "
                      "start as its owner",
                      path, what, (long)geteuid());
    case EROFS:
        return refuse(refusal, s, "%s %s (EROFS): the file system is read-only; mount it writable, or name another "
                                  "data directory", path, what);
    case ENOSPC:
    case EDQUOT: return refuse(refusal, s, "%s %s (%s); make room", path, what, log_errno_text(error));
    }
    return refuse(refusal, s, "%s %s (%s); name another data directory", path, what, log_errno_text(error));
}

/* close_parts ends what is open, the lock last: nobody else opens what is still being closed. */
static void close_parts(struct store *s)
{
    if (s->kv) kv_close(s->kv);
    if (s->mark) mark_close(s->mark);
    if (s->_lock_fd >= 0) close(s->_lock_fd);
    free(s->_dir);
    explicit_bzero(s->pepper, sizeof s->pepper);
    *s = (struct store){._lock_fd = -1};
}
