#include "disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "../../storage/kv_rocksdb.h"
#include "../../storage/store.h"
#include "world.h"

/* A crash goes on over a copy of the directory, whose log is cut to what stays. The old database is left where it
 * stands, as a killed process leaves it: readers may be in the middle of a walk over it, and it cannot be closed under
 * them. */

#define CACHE_BYTES (1u << 20)
#define WRITE_BUFFER_BYTES (64u << 20) /* more than a run writes: the log of a process is one file */

const char disk_program[] = "simulator_rocksdb";

static struct disk {
    struct kv *kv;
    char base[200];
    unsigned life;       /* names the directory of the database */
    int log;             /* the file that is written to */
    off_t *sizes;        /* of the log: [0] as it was synced, [n] behind n batches */
    size_t num, cap;     /* of sizes */
} disk;

static const char *life_path(unsigned life, const char *below)
{
    static char paths[2][300];
    static unsigned next;
    char *path = paths[next++ % 2];
    ASSERT(snprintf(path, sizeof paths[0], "%s/%u%s", disk.base, life, below) < (int)sizeof paths[0]);
    return path;
}

static bool is_log(const char *name)
{
    size_t len = strlen(name);
    return len > 4 && strcmp(name + len - 4, ".log") == 0;
}

static void size_push(void)
{
    struct stat st;
    ASSERT(fstat(disk.log, &st) == 0);
    if (disk.num == disk.cap) {
        disk.cap = disk.cap ? disk.cap * 2 : 64;
        disk.sizes = realloc(disk.sizes, disk.cap * sizeof *disk.sizes);
        ASSERT(disk.sizes);
    }
    disk.sizes[disk.num++] = st.st_size;
}

/* open_life opens the database of this life; each opening begins a log of its own. */
static struct kv *open_life(void)
{
    char why[512] = "", newest[300] = "";
    struct store_options options = {.dir = life_path(disk.life, ""), .cache_bytes = CACHE_BYTES,
                                    .write_buffer_bytes = WRITE_BUFFER_BYTES};
    CHECK(kv_rocksdb_open(&disk.kv, &options, why, sizeof why) == STATUS_OK, "RocksDB does not open: %s", why);
    const char *db = life_path(disk.life, "/db");
    DIR *d = opendir(db);
    ASSERT(d);
    for (struct dirent *e; (e = readdir(d));)
        if (is_log(e->d_name) && strcmp(e->d_name, newest) > 0) snprintf(newest, sizeof newest, "%s", e->d_name);
    disk.log = openat(dirfd(d), newest, O_RDONLY | O_CLOEXEC);
    ASSERT(disk.log >= 0);
    closedir(d);
    disk.num = 0;
    size_push();
    return disk.kv;
}

struct kv *disk_open(void)
{
    const char *tmp = getenv("TMPDIR");
    if (!tmp) tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    ASSERT(snprintf(disk.base, sizeof disk.base, "%s/carillon-sim-XXXXXX", tmp) < (int)sizeof disk.base);
    ASSERT(mkdtemp(disk.base) && mkdir(life_path(0, ""), 0700) == 0);
    return open_life();
}

void disk_wrote(void) { size_push(); }

void disk_synced(void)
{
    disk.sizes[0] = disk.sizes[disk.num - 1];
    disk.num = 1;
}

size_t disk_unsynced(void) { return disk.num - 1; }

static void copy_file(int from, int to, off_t len)
{
    static char block[1 << 16];
    for (off_t at = 0; at < len;) {
        ssize_t n = pread(from, block, (size_t)(len - at) < sizeof block ? (size_t)(len - at) : sizeof block, at);
        ASSERT(n > 0 && pwrite(to, block, (size_t)n, at) == n);
        at += n;
    }
}

/* copy_life copies the database's files; of the log that is written to `log_len` bytes. */
static void copy_life(unsigned from, unsigned to, off_t log_len)
{
    struct stat log, st;
    ASSERT(mkdir(life_path(to, ""), 0700) == 0 && mkdir(life_path(to, "/db"), 0700) == 0);
    DIR *source = opendir(life_path(from, "/db")), *target = opendir(life_path(to, "/db"));
    ASSERT(source && target && fstat(disk.log, &log) == 0);
    for (struct dirent *e; (e = readdir(source));) {
        if (e->d_type != DT_REG) continue;
        int in = openat(dirfd(source), e->d_name, O_RDONLY | O_CLOEXEC);
        int out = openat(dirfd(target), e->d_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        ASSERT(in >= 0 && out >= 0 && fstat(in, &st) == 0);
        copy_file(in, out, st.st_ino == log.st_ino ? log_len : st.st_size);
        close(in);
        close(out);
    }
    closedir(source);
    closedir(target);
}

static void remove_path(const char *path)
{
    char command[400];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    ASSERT(system(command) == 0);
}

struct kv *disk_crash(size_t keep, bool tear)
{
    ASSERT(keep < disk.num && (!tear || keep > 0));
    off_t len = disk.sizes[keep];
    if (tear) { /* without a draw from the run's chances, which the other disk does not make */
        off_t whole = disk.sizes[keep] - disk.sizes[keep - 1];
        len = disk.sizes[keep - 1] + (whole ? (off_t)(world_hash() % (uint64_t)whole) : 0);
    }
    rocksdb_cancel_all_background_work(kv_rocksdb_handle(disk.kv), 1); /* its files stand still while they are copied */
    copy_life(disk.life, disk.life + 1, len);
    close(disk.log);
    remove_path(life_path(disk.life++, ""));
    return open_life();
}

struct kv *disk_reopen(void)
{
    kv_close(disk.kv);
    close(disk.log);
    return open_life();
}

void disk_end(void)
{
    kv_close(disk.kv);
    close(disk.log);
    free(disk.sizes);
    remove_path(disk.base);
}
