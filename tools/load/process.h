/* process: what another process (the server under load) has used: CPU time and resident memory. */
#ifndef CARILLON_TOOLS_LOAD_PROCESS_H
#define CARILLON_TOOLS_LOAD_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* process_cpu_ns gives the CPU time of all threads, ended ones too: the sum that utime and stime of /proc/PID/stat show
 * in ticks of 10 ms, read in nanoseconds through the process's CPU clock (clock_getcpuclockid(3)). pid 0: this process.
 */
bool process_cpu_ns(uint64_t *out, pid_t pid);
/* process_resident_bytes gives VmRSS of /proc/PID/status. */
bool process_resident_bytes(uint64_t *out, pid_t pid);

#endif
