#include "process.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

bool process_cpu_ns(uint64_t *out, pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0) return false;
    *out = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    return true;
}

bool process_resident_bytes(uint64_t *out, pid_t pid)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *status = fopen(path, "re");
    if (!status) return false;
    bool found = false;
    uint64_t kib = 0;
    while (!found && fgets(line, sizeof line, status)) found = sscanf(line, "VmRSS: %" SCNu64 " kB", &kib) == 1;
    fclose(status);
    *out = kib * 1024;
    return found;
}
