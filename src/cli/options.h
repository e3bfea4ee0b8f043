/* options: what the command line says to serve, dev and check-config, and the settings it adds up to.
 *
 * Call order: options_parse once; options_load any number of times (again at SIGHUP: the file and the environment are
 * read anew, the command line is remembered); options_free. One thread. */
#ifndef CARILLON_CLI_OPTIONS_H
#define CARILLON_CLI_OPTIONS_H

#include "../config.h"

struct options {
    const char *config_path; /* borrowed from argv or the environment; NULL: no file */
    char **assignments;      /* "section.key=value" in the order given, owned */
    unsigned num_assignments;
    const char *secret_given; /* name of a secret that stood in the arguments, or NULL */
};

/* options_parse reads the options (argv[0] is the command as messages show it); false: the command line is wrong and
 * stderr says how. A secret's value is overwritten in argv, where other users could read it (proc(5), cmdline). */
bool options_parse(struct options *o, int argc, char **argv);
void options_free(struct options *o);

/* options_load makes the settings in effect: defaults, then file, environment and command line, each overriding, held
 * against each other. On failure `out` is empty and `err` says why and where. */
MUST_USE enum status options_load(struct config *out, const struct options *o, struct config_error *err);

#endif
