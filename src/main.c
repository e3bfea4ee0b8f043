/* carillon: the gateway and the tools for its store, one command each (src/cli). */
#include "base/standard_streams.h"
#include "cli/cli.h"

/* malloc_conf is jemalloc's (jemalloc(3)): memory that a burst has freed goes back to the kernel after three seconds,
 * by a thread of its own, so that what a quiet server holds is what it needs. Without jemalloc it is an unused text. */
extern const char *malloc_conf;
const char *malloc_conf = "background_thread:true,dirty_decay_ms:3000,muzzy_decay_ms:0";

int main(int argc, char **argv)
{
    standard_streams_open();
    return commands_run(argc, argv);
}
