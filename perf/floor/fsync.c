/* floor-fsync: what it costs to have bytes on the disk. Closed loop: one write and fdatasync after the other. Open
 * loop: messages are due on a schedule, and each sync takes all that are due (group commit), which is the least that a
 * durable answer at that rate can wait: the commit floor. */
#define _GNU_SOURCE /* fallocate */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "floor.h"

#define BYTES_MAX 65536u
#define GROUP_MAX 1024u        /* messages of one write */
#define FILE_BYTES (64u << 20) /* of --way reserved and overwrite, which begins again at its start */
#define SAMPLES_MAX (1u << 20)

enum way { WAY_APPEND, WAY_RESERVED, WAY_OVERWRITE };
static const char *const way_names[] = {"append", "reserved", "overwrite", NULL};
static unsigned way = WAY_APPEND;
static uint64_t bytes = 330;
static double seconds = 1, rate;
static const char *directory = "/tmp";

static const struct floor_option options[] = {
    {"way", FLOOR_CHOICE, &way, 0, 0, way_names,
     "a file that grows, one that grows into reserved blocks, one that was written before"},
    {"bytes", FLOOR_COUNT, &bytes, 1, BYTES_MAX, NULL, "of one message"},
    {"rate", FLOOR_REAL, &rate, 0, 1e6, NULL, "messages a second, in an open loop; 0: one after the other"},
    {"directory", FLOOR_TEXT, &directory, 0, 0, NULL, "where the file is made; it goes when the program ends"},
    {"seconds", FLOOR_REAL, &seconds, 0.01, FLOOR_SECONDS_MAX, NULL, "measured time"},
    {0},
};

static const struct floor_program program = {
    .name = "floor-fsync",
    .about = "write and fdatasync: the floor under every durable answer",
    .figures =
        "p50_us and p99_us run from when a message was due (open loop) or written (closed loop) until it was on disk.\n"
        "reserved is how RocksDB's WAL grows. The inode changes with each sync of both; overwrite leaves it alone.\n"
        "With --rate the program waits for the next message by looking at the clock, so that no wake-up is counted:\n"
        "what another program adds to the same rate, on the same disk in the same minute, is its own.",
    .examples = "  floor-fsync                    append, one after the other\n"
                "  floor-fsync --rate 5000        the commit floor at 5,000 messages a second\n"
                "  floor-fsync --way overwrite    without changes of the file's size and blocks\n",
    .options = options,
    .seconds = &seconds,
};

struct disk {
    int fd;
    off_t position;
    char *data;
    struct floor_samples samples;
    uint64_t messages, syncs, sync_ns;
};

static void file_open(struct disk *d);
static void commit(struct disk *d, uint64_t messages);
static void closed_loop(struct disk *d, uint64_t until_ns);
static void open_loop(struct disk *d, uint64_t began_ns, uint64_t until_ns);

int main(int argc, char **argv)
{
    floor_begin(&program, argc, argv);
    floor_pin(floor_cpu(0));
    struct disk d = {.data = malloc(GROUP_MAX * bytes)};
    ASSERT(d.data);
    memset(d.data, 'x', GROUP_MAX * bytes);
    floor_samples_init(&d.samples, SAMPLES_MAX);
    file_open(&d);

    uint64_t began = floor_now_ns(), cpu = floor_cpu_ns(), until = began + (uint64_t)(seconds * FLOOR_SECOND_NS);
    if (rate > 0)
        open_loop(&d, began, until);
    else
        closed_loop(&d, until);
    double wall = (double)(floor_now_ns() - began) / (double)FLOOR_SECOND_NS;
    cpu = floor_cpu_ns() - cpu;

    struct stat file;
    floor_must(fstat(d.fd, &file), "fstat");
    off_t expected = way == WAY_OVERWRITE ? (off_t)FILE_BYTES : (off_t)(d.messages * bytes);
    if (file.st_size != expected)
        floor_fail("the file has %lld bytes instead of %lld", (long long)file.st_size, (long long)expected);
    if (d.samples.seen != d.messages) floor_fail("not every message was timed");

    floor_text("way", way_names[way]);
    floor_number("bytes", (double)bytes);
    floor_number("rate", rate);
    floor_number("messages_per_second", (double)d.messages / wall);
    floor_number("syncs_per_second", (double)d.syncs / wall);
    floor_number("messages_per_sync", (double)d.messages / (double)d.syncs);
    floor_number("sync_us", (double)d.sync_ns / (double)d.syncs / 1000);
    floor_number("p50_us", floor_percentile_us(&d.samples, 50));
    floor_number("p99_us", floor_percentile_us(&d.samples, 99));
    floor_number("max_us", floor_percentile_us(&d.samples, 100));
    if (rate == 0) floor_number("cpu_us_per_sync", (double)cpu / (double)d.syncs / 1000);
    floor_end();
    floor_samples_free(&d.samples);
    return 0;
}

/* The file has no name, so nothing is left whatever ends the program. */
static void file_open(struct disk *d)
{
    d->fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (d->fd < 0 && errno == EOPNOTSUPP) floor_absent("%s is on a file system without O_TMPFILE", directory);
    floor_must(d->fd, directory);
    if (way == WAY_APPEND) return;
    int flags = way == WAY_RESERVED ? FALLOC_FL_KEEP_SIZE : 0;
    if (fallocate(d->fd, flags, 0, FILE_BYTES) != 0 && errno == EOPNOTSUPP)
        floor_absent("%s is on a file system without fallocate", directory);
    if (way == WAY_RESERVED) return;
    size_t piece = GROUP_MAX * bytes < FILE_BYTES ? GROUP_MAX * bytes : FILE_BYTES;
    for (off_t at = 0;
         at < (off_t)FILE_BYTES;) { /* written once: else each sync would also turn blocks into written ones */
        size_t len = (size_t)((off_t)FILE_BYTES - at) < piece ? (size_t)((off_t)FILE_BYTES - at) : piece;
        at += floor_must(pwrite(d->fd, d->data, len, at), "pwrite");
    }
    floor_must(fsync(d->fd), "fsync");
}

static void commit(struct disk *d, uint64_t messages)
{
    size_t len = messages * bytes;
    if (way == WAY_OVERWRITE && d->position + (off_t)len > (off_t)FILE_BYTES) d->position = 0;
    if (floor_must(pwrite(d->fd, d->data, len, d->position), "pwrite") != (long)len) floor_fail("a short write");
    uint64_t began = floor_now_ns();
    floor_must(fdatasync(d->fd), "fdatasync");
    d->sync_ns += floor_now_ns() - began;
    d->position += (off_t)len;
    d->messages += messages;
    d->syncs++;
}

static void closed_loop(struct disk *d, uint64_t until_ns)
{
    uint64_t now = floor_now_ns();
    do {
        uint64_t began = now;
        commit(d, 1);
        now = floor_now_ns();
        floor_sample(&d->samples, now - began);
    } while (now < until_ns);
}

/* Message k is due at began + k / rate, whatever the disk does. */
static void open_loop(struct disk *d, uint64_t began_ns, uint64_t until_ns)
{
    double gap_ns = (double)FLOOR_SECOND_NS / rate;
    uint64_t next = 0;
    for (uint64_t now = floor_now_ns(); now < until_ns; now = floor_now_ns()) {
        uint64_t due = (uint64_t)((double)(now - began_ns) / gap_ns) + 1 - next;
        if (due == 0) continue;
        if (due > GROUP_MAX) due = GROUP_MAX; /* the others go with the next one */
        commit(d, due);
        now = floor_now_ns();
        for (uint64_t i = next; i < next + due; i++)
            floor_sample(&d->samples, now - began_ns - (uint64_t)((double)i * gap_ns));
        next += due;
    }
}
