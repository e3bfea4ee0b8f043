/* mistake: what is told about an option that getopt_long(3) does not know, or that is not whole: with the nearest one
 * there is. getopt's own words name the program by its path, and guess nothing. */
#ifndef CARILLON_CLI_MISTAKE_H
#define CARILLON_CLI_MISTAKE_H

#include <getopt.h>

/* OPTIONS_ALONE is the short options of a command that has none: getopt_long says nothing itself, and returns ':' for
 * an option without its argument. */
#define OPTIONS_ALONE ":"

/* mistake_print says on stderr what is wrong with the option at which getopt_long, begun with ":", has just returned
 * '?' or ':'. `program` begins the line; `known` is what getopt_long was given, and ends with zeros. */
void mistake_print(const char *program, char *const argv[], const struct option *known);

#endif
