#include "mark.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../src/base/assert.h"
#include "../src/base/log.h"

/* DIR/MARK is two 4 KiB blocks, so that one torn page cannot damage both slots. A slot stands at each block's start:
 *
 *   0          8         12       16         24        32         40         48         56         64
 *   +----------+---------+--------+----------+---------+----------+----------+----------+----------+
 *   | CRLNMARK | version | 0      | sequence | counter | MANIFEST | its bytes| its hash | checksum |
 *   | 8 bytes  | u32     | u32    | u64      | u64     | u64      | u64      | 8 bytes  | 8 bytes  |
 *   +----------+---------+--------+----------+---------+----------+----------+----------+----------+
 *
 * Integers are little-endian. The checksum is the first 8 bytes of SHA-256 over the 56 bytes before it. `counter`
 * rises by one a write; the good slot with the higher counter holds. Writes go to one slot until a sync has made it
 * durable, then to the other: at any moment one slot is on disk and left alone, so a torn write never costs both. */

#define SLOT_LEN 64u
#define BLOCK_LEN 4096u
#define FILE_LEN (2ul * BLOCK_LEN)
#define MARK_VERSION 1u

struct slot {
    char magic[8];
    uint32_t version, zero;
    uint64_t sequence, counter;
    struct manifest_print manifest; /* zeros: none */
    uint8_t checksum[8];
};
_Static_assert(sizeof(struct slot) == SLOT_LEN, "as drawn");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a slot is stored as it lies in memory");

enum slot_state { SLOT_EMPTY, SLOT_GOOD, SLOT_BAD };

struct mark_file {
    struct mark mark;
    int fd;
    enum status found; /* what mark_read says: OK, NOT_FOUND, INVALID or CORRUPT */
    uint64_t sequence, counter;
    unsigned target; /* slot of the next write: not the one that holds the newest synced mark */
    bool written;    /* since the last sync */
    struct manifest_print found_manifest; /* of the slot that holds */
    struct manifest_watch manifest;
    bool unprepared; /* cut short, and not completed yet */
    bool failed;     /* a write or sync has: neither is tried again */
};

static enum status write_slot(struct mark_file *f, uint64_t sequence);
static enum status prepare(int fd);
static enum status load(struct mark_file *f, bool *cut_short);
static enum slot_state slot_check(const struct slot *slot);
static void slot_checksum(uint8_t out[8], const struct slot *slot);
static enum status sync_dir(const char *dir);
static enum status io_error(const char *operation, int error);
static const struct mark_ops mark_file_ops;
static const char slot_magic[8] = {'C', 'R', 'L', 'N', 'M', 'A', 'R', 'K'};

enum status mark_open_file(struct mark **out, const char *dir, struct kv *kv)
{
    *out = NULL;
    char path[4096];
    if (snprintf(path, sizeof path, "%s/MARK", dir) >= (int)sizeof path) return STATUS_INVALID;
    bool is_new = access(path, F_OK) != 0, cut_short = false;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return io_error("open", errno);

    struct mark_file *f = calloc(1, sizeof *f);
    ASSERT(f);
    *f = (struct mark_file){.mark = {&mark_file_ops}, .fd = fd};
    enum status s = is_new ? prepare(fd) : STATUS_OK;
    if (s == STATUS_OK && is_new) s = sync_dir(dir);
    if (s == STATUS_OK) s = load(f, &cut_short);
    /* What is left of a mark is not touched before somebody has decided to go on without it. */
    f->unprepared = cut_short && f->found != STATUS_OK;
    if (s == STATUS_OK && cut_short && !f->unprepared) s = prepare(fd);
    /* a killed process may have left its newest slot in the page cache alone: on disk before the other is written
     * over */
    if (s == STATUS_OK && fdatasync(fd) != 0) s = io_error("fdatasync", errno);
    if (s != STATUS_OK) {
        close(fd);
        free(f);
        return s;
    }
    manifest_watch_open(&f->manifest, dir, kv);
    *out = &f->mark;
    return STATUS_OK;
}

enum status mark_look_file(uint64_t *sequence, struct manifest_print *manifest, const char *dir)
{
    char path[4096];
    *sequence = 0;
    *manifest = (struct manifest_print){0};
    if (snprintf(path, sizeof path, "%s/MARK", dir) >= (int)sizeof path) return STATUS_INVALID;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? STATUS_NOT_FOUND : io_error("open", errno);
    struct mark_file f = {.fd = fd};
    bool cut_short = false;
    enum status s = load(&f, &cut_short);
    close(fd);
    *sequence = f.sequence;
    *manifest = f.found_manifest;
    return s == STATUS_OK ? f.found : s;
}

static enum status mark_file_read(struct mark *m, uint64_t *sequence)
{
    struct mark_file *f = (struct mark_file *)m;
    *sequence = f->sequence;
    return f->found;
}

/* A write that fails half way may have torn the newest mark, which lies in the same slot; after a sync that fails the
 * kernel may have dropped the page, and the next one succeeds. Either would turn to the other slot without a good one
 * behind: so the first error is final. */
static enum status mark_file_write(struct mark *m, uint64_t sequence)
{
    struct mark_file *f = (struct mark_file *)m;
    ASSERT(sequence >= f->sequence); /* a mark that goes back would hide a loss */
    if (f->failed) return STATUS_READ_ONLY;
    enum status s = f->unprepared ? prepare(f->fd) : STATUS_OK;
    if (s == STATUS_OK) {
        f->unprepared = false;
        s = write_slot(f, sequence);
    }
    f->failed = s != STATUS_OK;
    return s;
}

static enum status write_slot(struct mark_file *f, uint64_t sequence)
{
    struct slot slot = {.version = MARK_VERSION, .sequence = sequence, .counter = f->counter + 1,
                        .manifest = f->manifest.print};
    memcpy(slot.magic, slot_magic, sizeof slot_magic);
    slot_checksum(slot.checksum, &slot);
    off_t at = (off_t)f->target * BLOCK_LEN;
    ssize_t n = pwrite(f->fd, &slot, sizeof slot, at);
    if (n != (ssize_t)sizeof slot) return io_error("write", n < 0 ? errno : EIO);
    f->counter = slot.counter;
    f->sequence = sequence;
    f->found = STATUS_OK;
    f->written = true;
    return STATUS_OK;
}

static enum status mark_file_sync(struct mark *m)
{
    struct mark_file *f = (struct mark_file *)m;
    if (f->failed) return STATUS_READ_ONLY;
    uint64_t number = f->manifest.print.number, bytes = f->manifest.print.bytes;
    manifest_look(&f->manifest);
    bool changed = f->manifest.print.number != number || f->manifest.print.bytes != bytes;
    enum status s = changed && f->found == STATUS_OK ? write_slot(f, f->sequence) : STATUS_OK;
    if (s == STATUS_OK && fdatasync(f->fd) != 0) s = io_error("fdatasync", errno);
    f->failed = s != STATUS_OK;
    if (f->failed) return s;
    if (f->written) f->target ^= 1;
    f->written = false;
    return STATUS_OK;
}

static void mark_file_close(struct mark *m)
{
    struct mark_file *f = (struct mark_file *)m;
    close(f->fd);
    manifest_watch_close(&f->manifest);
    free(f);
}

static const struct mark_ops mark_file_ops = {mark_file_read, mark_file_write, mark_file_sync, mark_file_close};

/* prepare writes a new file's blocks once, so that later an fdatasync has no size and no allocation to record. They are
 * synced before anything relies on them: only a crash of the very first start leaves a short file behind. */
static enum status prepare(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return io_error("stat", errno);
    if (st.st_size >= (off_t)FILE_LEN) return STATUS_OK;
    static const char zeros[FILE_LEN];
    size_t missing = FILE_LEN - (size_t)st.st_size;
    ssize_t n = pwrite(fd, zeros, missing, st.st_size);
    if (n != (ssize_t)missing) return io_error("write", n < 0 ? errno : ENOSPC);
    return fsync(fd) == 0 ? STATUS_OK : io_error("fsync", errno);
}

static enum status load(struct mark_file *f, bool *cut_short)
{
    unsigned good = 0, empty = 0;
    struct stat st;
    if (fstat(f->fd, &st) != 0) return io_error("stat", errno);
    *cut_short = st.st_size < (off_t)FILE_LEN;
    for (unsigned i = 0; i < 2; i++) {
        struct slot slot = {0};
        ssize_t n = pread(f->fd, &slot, sizeof slot, (off_t)i * BLOCK_LEN);
        if (n < 0 || (n < (ssize_t)sizeof slot && !*cut_short)) return io_error("read", n < 0 ? errno : EIO);
        enum slot_state state = slot_check(&slot);
        empty += state == SLOT_EMPTY;
        if (state != SLOT_GOOD) continue;
        good++;
        if (slot.counter < f->counter) continue;
        f->counter = slot.counter;
        f->sequence = slot.sequence;
        f->found_manifest = slot.manifest;
        f->target = i ^ 1;
    }
    /* With one slot never written and the other bad, the first write of all was torn: nothing relied on it yet. */
    if (good) f->found = STATUS_OK;
    else if (*cut_short) f->found = STATUS_INVALID;
    else f->found = empty ? STATUS_NOT_FOUND : STATUS_CORRUPT;
    return STATUS_OK;
}

static enum slot_state slot_check(const struct slot *slot)
{
    static const struct slot empty;
    if (memcmp(slot, &empty, sizeof empty) == 0) return SLOT_EMPTY;
    uint8_t checksum[8];
    slot_checksum(checksum, slot);
    bool good = memcmp(slot->magic, slot_magic, sizeof slot_magic) == 0 && slot->version == MARK_VERSION &&
                memcmp(checksum, slot->checksum, sizeof checksum) == 0;
    return good ? SLOT_GOOD : SLOT_BAD;
}

static void slot_checksum(uint8_t out[8], const struct slot *slot)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256((const uint8_t *)slot, offsetof(struct slot, checksum), digest);
    memcpy(out, digest, 8);
}

static enum status sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return io_error("open", errno);
    int error = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return error ? io_error("fsync", error) : STATUS_OK;
}

static enum status io_error(const char *operation, int error)
{
    LOG(LOG_ERROR, "store", "mark_error", LOG_STR("operation", operation), LOG_ERRNO(error));
    return error == ENOSPC || error == EDQUOT ? STATUS_NO_SPACE : STATUS_IO;
}
