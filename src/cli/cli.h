/* cli: what all subcommands of `carillon` share: exit codes, messages for people, the table of commands. */
#ifndef CARILLON_CLI_CLI_H
#define CARILLON_CLI_CLI_H

#include <getopt.h>

#include "../base/slice.h"
#include "mistake.h"

/* What a script may rely on. */
enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,         /* the command line is wrong */
    CLI_CONFIGURATION = 3, /* a setting is wrong */
    CLI_STORE = 4,         /* the store refuses to be opened */
};

/* struct command: one row of `carillon help`. */
struct command {
    const char *name;
    const char *arguments; /* after the name, in a usage line */
    const char *summary;   /* one line */
    const char *details;   /* options and examples, complete lines */
    /* run gets the arguments from the command's name on, with argv[0] as messages should show it ("carillon serve");
     * it returns an enum cli_exit. `--help` never reaches it. */
    int (*run)(int argc, char **argv);
};

/* commands_run is main without its name: finds the command, answers --help and --version, runs it. */
int commands_run(int argc, char **argv);

/* cli_error prints "carillon: …" and a newline on stderr. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* cli_usage points to the help of a command ("carillon serve") on stderr and returns CLI_USAGE. */
int cli_usage(const char *command);
/* cli_mistake says what is wrong with the option at which getopt_long has stopped, and then does what cli_usage
 * does. */
int cli_mistake(char *const argv[], const struct option *known);
/* cli_flush returns `code`, or CLI_FAILED with a message when what was printed could not be written to stdout. */
int cli_flush(int code);

/* The commands, each in the file that its comment names. */
int serve_command(int argc, char **argv);           /* serve.c */
int dev_command(int argc, char **argv);             /* dev.c */
int verify_store_command(int argc, char **argv);    /* offline.c */
int export_history_command(int argc, char **argv);  /* offline.c */
int list_backups_command(int argc, char **argv);    /* backups.c */
int verify_backup_command(int argc, char **argv);   /* backups.c */
int restore_command(int argc, char **argv);         /* backups.c */
int check_config_command(int argc, char **argv);    /* check.c */
int config_command(int argc, char **argv);          /* check.c */
int check_json_command(int argc, char **argv);      /* check.c */

#endif
