#include "memory.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../base/buf.h"

static void file_read(struct buf *out, const char *path);
static uint64_t limit_upwards(const char *mount, const char *file, struct slice path);

uint64_t memory_of_machine(void)
{
    uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    struct buf cgroups = {0};
    file_read(&cgroups, "/proc/self/cgroup");
    uint64_t cgroup = memory_of_cgroup(buf_slice(&cgroups), "/sys/fs/cgroup");
    buf_free(&cgroups);
    return cgroup < host ? cgroup : host;
}

static void file_read(struct buf *out, const char *path)
{
    char bytes[512];
    FILE *f = fopen(path, "re");
    if (!f) return;
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, f)) > 0;) buf_append(out, bytes, n);
    fclose(f);
}

/* next_part takes what stands before `end` off the front. */
static struct slice next_part(struct slice *rest, char end)
{
    const char *at = rest->len ? memchr(rest->data, end, rest->len) : NULL;
    struct slice part = slice_of(rest->data, at ? (size_t)(at - rest->data) : rest->len);
    *rest = slice_from(*rest, at ? part.len + 1 : part.len);
    return part;
}

/* A line is "hierarchy:controllers:path"; version 2 has hierarchy 0 and names no controller. */
uint64_t memory_of_cgroup(struct slice cgroups, const char *mounts)
{
    uint64_t least = UINT64_MAX;
    while (cgroups.len) {
        struct slice line = next_part(&cgroups, '\n'), hierarchy = next_part(&line, ':'), names = next_part(&line, ':');
        char mount[PATH_MAX];
        uint64_t limit = UINT64_MAX;
        bool memory = false;
        while (names.len) memory |= slice_is(next_part(&names, ','), "memory");
        if (memory) {
            snprintf(mount, sizeof mount, "%s/memory", mounts);
            limit = limit_upwards(mount, "memory.limit_in_bytes", line);
        } else if (slice_is(hierarchy, "0")) {
            limit = limit_upwards(mounts, "memory.max", line);
        }
        if (limit < least) least = limit;
    }
    return least;
}

/* limit_upwards: a cgroup is held to its own limit and to those of all above it. In a container the path may be the
 * host's, whose upper part is not mounted: what is not there says nothing. */
static uint64_t limit_upwards(const char *mount, const char *file, struct slice path)
{
    uint64_t least = UINT64_MAX, limit;
    for (;;) {
        char name[PATH_MAX];
        struct buf text = {0};
        if (snprintf(name, sizeof name, "%s%.*s/%s", mount, SLICE_FMT(path), file) >= (int)sizeof name) return least;
        file_read(&text, name);
        struct slice all = buf_slice(&text);
        if (slice_u64(next_part(&all, '\n'), &limit) && limit < least) least = limit; /* "max" is none */
        buf_free(&text);
        if (path.len == 0) return least;
        while (path.len && path.data[--path.len] != '/') {} /* the parent */
    }
}
