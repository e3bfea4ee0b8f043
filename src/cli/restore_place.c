#define _GNU_SOURCE /* nftw, renameat2, statx, syncfs */
#include "restore_place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../storage/store.h"
#include "../base/clock.h"

/* The mark of a work directory beside DATA: without it a directory of that name is somebody's, and is left alone. */
#define MARKER "restoring"
#define SUFFIX_BYTES_MAX 64 /* of the names that are made beside and in DATA; ".before-restore-TIME" is the longest */

struct refusal {
    char *why;
    size_t why_len;
};

static enum status resolve(struct restore_place *p, const char *data, const struct refusal *refusal);
static enum status look(struct restore_place *p, const char *backups, bool force, const struct refusal *refusal);
static bool is_content(const char *name);
static bool is_mount(const char *path);
static enum status lock_store(struct restore_place *p, const struct refusal *refusal);
static bool lies_in(const char *path, const char *dir);
static enum status make_work(struct restore_place *p, const struct refusal *refusal);
static enum status clear_work(struct restore_place *p, const struct refusal *refusal);
static enum status swap(struct restore_place *p, uint64_t wall_ms, const struct refusal *refusal);
static enum status move_up(struct restore_place *p, const struct refusal *refusal);
static bool path_of(char out[RESTORE_PATH_BYTES_MAX], const char *dir, const char *name);
static enum status refuse(const struct refusal *refusal, enum status s, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

enum status restore_place_open(struct restore_place *p, const char *data, const char *backups, bool force, char *why,
                               size_t why_len)
{
    const struct refusal refusal = {why, why_len};
    *p = (struct restore_place){._work_fd = -1, ._store_fd = -1};
    enum status s = resolve(p, data, &refusal);
    if (s == STATUS_OK) s = look(p, backups, force, &refusal);
    if (s == STATUS_OK) s = make_work(p, &refusal);
    if (s != STATUS_OK) restore_place_close(p);
    return s;
}

enum status restore_place_take(struct restore_place *p, uint64_t wall_ms, char *why, size_t why_len)
{
    const struct refusal refusal = {why, why_len};
    /* all of it is on disk before its name says that it is whole */
    if (syncfs(p->_work_fd) != 0)
        return refuse(&refusal, STATUS_IO, "%s cannot be synced: %s", p->work, strerror(errno));
    enum status s = p->inside ? move_up(p, &refusal) : swap(p, wall_ms, &refusal);
    if (s != STATUS_OK) return s;
    p->taken = true;
    int fd = open(p->data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && syncfs(fd) == 0; /* with the name that the directory has in its parent */
    if (!synced) s = refuse(&refusal, STATUS_IO, "%s cannot be synced: %s", p->data, strerror(errno));
    if (fd >= 0) close(fd);
    return s;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *place) { return remove(path); }

static int remove_below(const char *path, const struct stat *info, int type, struct FTW *place)
{
    return place->level == 0 ? 0 : remove(path);
}

bool restore_place_close(struct restore_place *p)
{
    bool removed = true;
    if (p->_work_fd >= 0 && !p->taken) removed = nftw(p->work, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0;
    if (p->_work_fd >= 0) close(p->_work_fd);
    if (p->_store_fd >= 0) close(p->_store_fd);
    p->_work_fd = p->_store_fd = -1;
    return removed;
}

/* resolve follows symbolic links: what is moved aside is the directory, not a link to it. */
static enum status resolve(struct restore_place *p, const char *data, const struct refusal *refusal)
{
    char path[RESTORE_PATH_BYTES_MAX], parent[PATH_MAX], found[PATH_MAX];
    size_t len = strlen(data);
    while (len > 1 && data[len - 1] == '/') len--;
    if (len + SUFFIX_BYTES_MAX >= sizeof path)
        return refuse(refusal, STATUS_INVALID, "the path of the data directory is too long");
    memcpy(path, data, len);
    path[len] = '\0';
    struct stat info;
    if (realpath(path, found)) {
        if (stat(found, &info) != 0 || !S_ISDIR(info.st_mode))
            return refuse(refusal, STATUS_INVALID, "%s is no directory: name another one", data);
        if (snprintf(p->data, sizeof p->data, "%s", found) + SUFFIX_BYTES_MAX < (int)sizeof p->data) return STATUS_OK;
        return refuse(refusal, STATUS_INVALID, "the path of the data directory is too long");
    }
    if (errno != ENOENT) return refuse(refusal, STATUS_IO, "%s cannot be looked at: %s", data, strerror(errno));
    if (lstat(path, &info) == 0)
        return refuse(refusal, STATUS_INVALID, "%s is a link to nothing: name another one", data);
    char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (slash == path) strcpy(parent, "/");
    else snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (!realpath(parent, found))
        return refuse(refusal, STATUS_INVALID, "%s cannot be made: %s: %s", data, parent, strerror(errno));
    const char *above = strcmp(found, "/") == 0 ? "" : found;
    if (snprintf(p->data, sizeof p->data, "%s/%s", above, name) + SUFFIX_BYTES_MAX < (int)sizeof p->data)
        return STATUS_OK;
    return refuse(refusal, STATUS_INVALID, "the path of the data directory is too long");
}

/* look decides where to work, and refuses what cannot be moved aside. */
static enum status look(struct restore_place *p, const char *backups, bool force, const struct refusal *refusal)
{
    char found[PATH_MAX];
    DIR *entries = opendir(p->data);
    if (!entries && errno != ENOENT)
        return refuse(refusal, STATUS_IO, "%s cannot be read: %s", p->data, strerror(errno));
    for (struct dirent *e; entries && !p->occupied && (e = readdir(entries));) p->occupied = is_content(e->d_name);
    if (entries) closedir(entries);
    p->inside = entries && !p->occupied;
    const char *suffix = p->inside ? "/" STORE_RESTORE_DIR : ".restoring";
    if (snprintf(p->work, sizeof p->work, "%s%s", p->data, suffix) >= (int)sizeof p->work) return STATUS_INVALID;
    if (!p->occupied) return STATUS_OK;
    enum status s = lock_store(p, refusal);
    if (s != STATUS_OK) return s;
    if (!force)
        return refuse(refusal, STATUS_EXISTS,
                      "%s is not an empty directory: name a new one, or say --force to have it moved aside", p->data);
    if (is_mount(p->data))
        return refuse(refusal, STATUS_INVALID,
                      "%s is a mount point, which cannot be moved aside: empty it, or name a directory below it",
                      p->data);
    if (realpath(backups, found) && lies_in(found, p->data))
        return refuse(refusal, STATUS_INVALID,
                      "the backups lie in %s and would be moved aside with it: name a new directory", p->data);
    return STATUS_OK;
}

/* A new file system has lost+found; restore.tmp is of a restore that was killed, or is locked by one that is not. */
static bool is_content(const char *name)
{
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, "lost+found") != 0 &&
           strcmp(name, STORE_RESTORE_DIR) != 0;
}

static bool is_mount(const char *path)
{
    struct statx info;
    return statx(AT_FDCWD, path, 0, 0, &info) == 0 && info.stx_attributes & STATX_ATTR_MOUNT_ROOT; /* Linux 5.8 */
}

/* lock_store: a running gateway holds DIR/LOCK (store.h); while we do, none starts on what will be moved aside. */
static enum status lock_store(struct restore_place *p, const struct refusal *refusal)
{
    char path[RESTORE_PATH_BYTES_MAX];
    if (p->_store_fd >= 0 || !path_of(path, p->data, "LOCK")) return STATUS_OK;
    p->_store_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (p->_store_fd < 0 || flock(p->_store_fd, LOCK_EX | LOCK_NB) == 0) return STATUS_OK;
    return refuse(refusal, STATUS_LOCKED, "a gateway or another restore is using %s: stop it first", p->data);
}

static bool lies_in(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static enum status make_work(struct restore_place *p, const struct refusal *refusal)
{
    struct stat opened, named;
    char marker[RESTORE_PATH_BYTES_MAX];
    if (mkdir(p->work, 0700) != 0 && errno != EEXIST)
        return refuse(refusal, STATUS_IO, "%s cannot be made: %s", p->work, strerror(errno));
    int fd = open(p->work, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return refuse(refusal, STATUS_IO, "%s cannot be opened: %s", p->work, strerror(errno));
    /* the other restore may have put it in its place, or removed it, since it was opened */
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &opened) != 0 || stat(p->work, &named) != 0 ||
        opened.st_ino != named.st_ino || opened.st_dev != named.st_dev) {
        close(fd);
        return refuse(refusal, STATUS_LOCKED, "another restore into %s is under way", p->data);
    }
    enum status s = clear_work(p, refusal);
    if (s != STATUS_OK) {
        close(fd); /* and nothing of it is ours to remove */
        return s;
    }
    p->_work_fd = fd;
    if (p->inside) return STATUS_OK;
    int made = path_of(marker, p->work, MARKER) ? open(marker, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (made < 0) return refuse(refusal, STATUS_IO, "%s cannot be written to: %s", p->work, strerror(errno));
    close(made);
    return STATUS_OK;
}

/* clear_work takes away what a killed restore left. */
static enum status clear_work(struct restore_place *p, const struct refusal *refusal)
{
    char marker[RESTORE_PATH_BYTES_MAX];
    bool ours = p->inside || (path_of(marker, p->work, MARKER) && access(marker, F_OK) == 0);
    bool empty = true;
    DIR *entries = opendir(p->work);
    for (struct dirent *e; entries && empty && (e = readdir(entries));)
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    if (!entries) return refuse(refusal, STATUS_IO, "%s cannot be read: %s", p->work, strerror(errno));
    closedir(entries);
    if (empty) return STATUS_OK;
    if (!ours)
        return refuse(refusal, STATUS_EXISTS,
                      "%s is in the way, and no restore is at work there: it may hold a store; move it elsewhere",
                      p->work);
    if (nftw(p->work, remove_below, 16, FTW_DEPTH | FTW_PHYS) == 0) return STATUS_OK;
    return refuse(refusal, STATUS_IO, "%s cannot be cleared: %s; remove it", p->work, strerror(errno));
}

/* swap: at every moment DATA is either what was there or what was restored, never missing: a gateway that starts on
 * nothing makes a new store. */
static enum status swap(struct restore_place *p, uint64_t wall_ms, const struct refusal *refusal)
{
    char marker[RESTORE_PATH_BYTES_MAX], time[TIME_TEXT_LEN + 1] = "";
    *time_text(time, wall_ms) = '\0';
    enum status s = p->occupied ? lock_store(p, refusal) : STATUS_OK; /* it may have got a LOCK meanwhile */
    if (s != STATUS_OK) return s;
    if (!p->occupied) {
        if (path_of(marker, p->work, MARKER) && unlink(marker) == 0 && rename(p->work, p->data) == 0) return STATUS_OK;
        return refuse(refusal, STATUS_IO, "%s cannot become %s: %s", p->work, p->data, strerror(errno));
    }
    if (snprintf(p->aside, sizeof p->aside, "%s.before-restore-%s", p->data, time) >= (int)sizeof p->aside)
        return refuse(refusal, STATUS_INVALID, "the path of the data directory is too long");
    if (!path_of(marker, p->work, MARKER) || unlink(marker) != 0 ||
        renameat2(AT_FDCWD, p->work, AT_FDCWD, p->data, RENAME_EXCHANGE) != 0)
        return refuse(refusal, STATUS_IO, "%s and %s cannot change places: %s; restore into a new directory", p->work,
                      p->data, strerror(errno));
    if (rename(p->work, p->aside) != 0) memcpy(p->aside, p->work, sizeof p->aside);
    return STATUS_OK;
}

/* move_up moves the parts to where serve looks for them; it refuses the directory as long as restore.tmp is there. */
static enum status move_up(struct restore_place *p, const struct refusal *refusal)
{
    static const char *const parts[] = {"MARK", "pepper", "db", "LOCK", "rocksdb-log"};
    char from[RESTORE_PATH_BYTES_MAX], to[RESTORE_PATH_BYTES_MAX];
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!path_of(from, p->work, parts[i]) || !path_of(to, p->data, parts[i]) || rename(from, to) != 0)
            return refuse(refusal, STATUS_IO, "%s cannot be moved to its place: %s; empty %s and restore again", from,
                          strerror(errno), p->data);
    if (rmdir(p->work) == 0) return STATUS_OK;
    return refuse(refusal, STATUS_IO, "%s cannot be removed: %s; empty %s and restore again", p->work, strerror(errno),
                  p->data);
}

static bool path_of(char out[RESTORE_PATH_BYTES_MAX], const char *dir, const char *name)
{
    return snprintf(out, RESTORE_PATH_BYTES_MAX, "%s/%s", dir, name) < RESTORE_PATH_BYTES_MAX;
}

static enum status refuse(const struct refusal *refusal, enum status s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(refusal->why, refusal->why_len, format, args);
    va_end(args);
    return s;
}
