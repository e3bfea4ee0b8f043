/* Fuzzes the low-water mark (storage/mark.h) with what it is there for: crashes. An input is a run of writes, syncs,
 * restarts and crashes; at a crash each of the file's two blocks is as it was synced, as it was written, or torn in
 * between. It holds:
 * - what was synced is found again: a mark never goes back behind the last sync;
 * - and never beyond the last write: nothing is made up out of damage;
 * - where nothing was ever synced, or the file was cut short, that is said. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../src/base/assert.h"
#include "../src/base/log.h"
#include "../src/base/slice.h"
#include "../storage/mark.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define BLOCK_BYTES 4096u
#define FILE_BYTES (2 * BLOCK_BYTES)
#define SLOT_BYTES 64u
#define STEPS_MAX 64u

enum step { WRITE, SYNC, RESTART, CRASH, CUT, STEPS };

static char dir[64], path[80];

/* model: what is known of the file from outside. */
struct model {
    struct mark *mark;
    uint64_t written, synced;
    bool ever_synced, ever_written;
    uint8_t on_disk[FILE_BYTES]; /* as of the last sync */
};

static void drop_line(struct slice line)
{
    (void)line;
}
static const struct log_sink nowhere = {drop_line, NULL};

static void remove_dir(void)
{
    unlink(path);
    rmdir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    log_set_sink(&nowhere);
    snprintf(dir, sizeof dir, "/dev/shm/mark_fuzz.XXXXXX");
    ASSERT(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/MARK", dir);
    atexit(remove_dir);
    return 0;
}

static void file_read(uint8_t out[FILE_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ASSERT(fd >= 0 && pread(fd, out, FILE_BYTES, 0) == (ssize_t)FILE_BYTES);
    close(fd);
}

static void file_write(const uint8_t bytes[FILE_BYTES], size_t len)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ASSERT(fd >= 0 && pwrite(fd, bytes, len, 0) == (ssize_t)len && ftruncate(fd, (off_t)len) == 0);
    close(fd);
}

static void open_mark(struct model *m)
{
    enum status s = mark_open_file(&m->mark, dir, NULL);
    ASSERT(s == STATUS_OK);
}

/* found holds a mark that was just opened against the model, which then goes on from it. */
static void found(struct model *m)
{
    uint64_t sequence = 0;
    enum status s = mark_read(m->mark, &sequence);
    if (m->ever_synced) ASSERT(s == STATUS_OK);
    if (s == STATUS_OK) {
        ASSERT(m->ever_written && sequence >= m->synced && sequence <= m->written);
        m->synced = m->written = sequence; /* opening has synced what was found */
        m->ever_synced = true;
    } else {
        ASSERT(s == STATUS_NOT_FOUND);
        m->written = 0; /* lost, and nobody was told of it: the first write of all was never synced */
        m->ever_written = false;
    }
    file_read(m->on_disk);
}

static uint8_t take_byte(struct slice *input)
{
    if (input->len == 0) return 0;
    uint8_t byte = (uint8_t)input->data[0];
    *input = slice_from(*input, 1);
    return byte;
}

/* crash leaves each block as it was synced, as it was written, or as both up to a byte of it. */
static void crash(struct model *m, struct slice *input)
{
    uint8_t now[FILE_BYTES];
    mark_close(m->mark);
    file_read(now);
    for (unsigned block = 0; block < 2; block++) {
        size_t torn_at = take_byte(input) % (SLOT_BYTES + 1);
        memcpy(m->on_disk + block * BLOCK_BYTES, now + block * BLOCK_BYTES, torn_at);
    }
    file_write(m->on_disk, FILE_BYTES);
    open_mark(m);
    found(m);
}

/* cut shortens the file. What is left of a mark is no mark that was never written, and is not written over unasked. */
static void cut(struct model *m, struct slice *input)
{
    uint8_t now[FILE_BYTES];
    uint64_t sequence = 0;
    size_t len = (size_t)take_byte(input) * 33 % FILE_BYTES;
    mark_close(m->mark);
    file_read(now);
    file_write(now, len);
    open_mark(m);
    enum status s = mark_read(m->mark, &sequence);
    ASSERT(s == STATUS_OK || s == STATUS_INVALID);
    if (s == STATUS_OK) ASSERT(m->ever_written && sequence <= m->written);
    mark_close(m->mark);
    unlink(path); /* as an operator does who accepts the loss */
    *m = (struct model){0};
    open_mark(m);
    ASSERT(mark_read(m->mark, &sequence) == STATUS_NOT_FOUND);
    file_read(m->on_disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct slice input = slice_of(data, len);
    struct model m = {0};
    unlink(path);
    open_mark(&m);
    found(&m);
    for (unsigned step = 0; step < STEPS_MAX && input.len; step++) {
        switch ((enum step)(take_byte(&input) % STEPS)) {
        case WRITE:
            m.written += take_byte(&input);
            m.ever_written = true;
            ASSERT(mark_write(m.mark, m.written) == STATUS_OK);
            break;
        case SYNC:
            ASSERT(mark_sync(m.mark) == STATUS_OK);
            m.synced = m.written;
            m.ever_synced = m.ever_written;
            file_read(m.on_disk);
            break;
        case RESTART: /* a killed process: what was written stays */
            mark_close(m.mark);
            open_mark(&m);
            found(&m);
            break;
        case CRASH: crash(&m, &input); break;
        case CUT: cut(&m, &input); break;
        case STEPS: UNREACHABLE();
        }
    }
    mark_close(m.mark);
    return 0;
}
