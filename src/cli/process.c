#define _GNU_SOURCE /* sched_getaffinity, CPU_ISSET */
#include "process.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "../base/limits.h"
#include "../base/log.h"

_Static_assert(PROCESS_CPUS_MAX == CPU_SETSIZE, "cpu_set_t has a bit for each");

uint64_t process_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024; /* the usual soft limit: nothing less is met in practice */
    rlim_t soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : soft;
}

uint64_t process_connections(uint64_t descriptors, unsigned cores)
{
    uint64_t a_core = descriptors > 2ull * DESCRIPTORS_KEPT ? descriptors - DESCRIPTORS_KEPT : descriptors / 2;
    if (a_core > CONNECTIONS_DERIVED_MAX) a_core = CONNECTIONS_DERIVED_MAX;
    return (uint64_t)cores * (a_core ? a_core : 1);
}

unsigned process_cpus(int *cpus, unsigned max)
{
    cpu_set_t mask; /* a larger machine's mask does not fit, and the call fails (EINVAL) */
    CPU_ZERO(&mask);
    if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 0;
    return process_cpu_list(cpus, max, &mask);
}

unsigned process_cpu_list(int *cpus, unsigned max, const cpu_set_t *mask)
{
    unsigned num = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && num < max; cpu++)
        if (CPU_ISSET(cpu, mask)) cpus[num++] = cpu;
    return num;
}

int process_cpu_of_core(unsigned core, const int *cpus, unsigned num_cpus)
{
    return num_cpus ? cpus[core % num_cpus] : -1;
}

enum status process_become(const char *user, char *why, size_t why_len)
{
    errno = 0;
    const struct passwd *entry = getpwnam(user);
    if (!entry) {
        snprintf(why, why_len, "process.user: there is no user %s%s%s", user, errno ? ": " : "",
                 errno ? strerror(errno) : "");
        return STATUS_NOT_FOUND;
    }
    if (geteuid() == entry->pw_uid && getuid() == entry->pw_uid) return STATUS_OK; /* started as that user already */
    /* groups first: without root's user id the process may no longer change them */
    if (initgroups(user, entry->pw_gid) == 0 && setgid(entry->pw_gid) == 0 && setuid(entry->pw_uid) == 0)
        return STATUS_OK;
    snprintf(why, why_len, "process.user: cannot become %s: %s; only root can", user, strerror(errno));
    return STATUS_DENIED;
}

void process_harden(void)
{
    bool done = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
#ifndef __SANITIZE_ADDRESS__ /* whose search for leaks reads the process like a debugger */
    done = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && done;
#endif
    if (!done) LOG(LOG_WARN, "process", "not_hardened", LOG_ERRNO(errno));
}

/* By hand: libsystemd would bring its whole library, and what that pulls in, into the process for one datagram. */
void process_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof address.sun_path) return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@') address.sun_path[0] = '\0'; /* the abstract namespace (unix(7)) */
    socklen_t address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, address_len) < 0)
        LOG(LOG_WARN, "process", "notify_failed", LOG_ERRNO(errno), LOG_STR("state", state));
    if (fd >= 0) close(fd);
}

uint64_t process_disk_bytes(const char *dir)
{
    char path[PATH_MAX];
    struct statvfs fs;
    if (snprintf(path, sizeof path, "%s", dir) >= (int)sizeof path) return UINT64_MAX;
    while (statvfs(path, &fs) != 0) { /* a directory that is yet to be made lies in the nearest one that exists */
        char *slash = strrchr(path, '/');
        if (!slash) return statvfs(".", &fs) == 0 ? fs.f_blocks * (uint64_t)fs.f_frsize : UINT64_MAX;
        slash[slash == path ? 1 : 0] = '\0';
        if (slash == path && statvfs("/", &fs) != 0) return UINT64_MAX;
    }
    return fs.f_blocks * (uint64_t)fs.f_frsize;
}

uint64_t process_free_bytes(const char *dir)
{
    struct statvfs file_system;
    if (statvfs(dir, &file_system) != 0) return UINT64_MAX;
    return (uint64_t)file_system.f_bavail * file_system.f_frsize;
}
