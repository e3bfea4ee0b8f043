/* carillon: the gateway and the tools for its store, one command each (src/cli). */
#include "cli/cli.h"

int main(int argc, char **argv) { return commands_run(argc, argv); }
