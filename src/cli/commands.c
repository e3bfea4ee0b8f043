#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "../../storage/records.h"
#include "../base/assert.h"
#include "../base/buf.h"
#include "../base/log.h"
#include "../base/planted.h"
#include "cli.h"
#include "nearest.h"

#define SETTINGS_HELP \
    "options, each also a setting (defaults < file < environment < command line):\n" \
    "  --config FILE          read settings from FILE; CARILLON_CONFIG names one, too\n" \
    "  --data DIR             where everything durable is kept (store.dir)\n" \
    "  --listen ADDR:PORT     serve this address; may be repeated; port 0 picks a free one (net.listen)\n" \
    "  --cores N              threads that serve connections (process.cores)\n" \
    "  --set section.key=VALUE\n" \
    "                         any setting; `carillon config --defaults` shows all of them. In the environment it\n" \
    "                         is CARILLON_SECTION_KEY, which is also where secrets belong: arguments can be seen\n" \
    "                         by other users of the machine\n"

static const struct command commands[] = {
    {"serve", "[OPTION]…", "run the gateway", SETTINGS_HELP
     "\n"
     "Says {\"event\":\"ready\",\"listen\":\"127.0.0.1:8080\",…} on stderr, among other log lines, once it serves.\n"
     "SIGTERM or Ctrl-C lets clients leave first (drain.timeout_s), a second one ends at once; SIGHUP reads the\n"
     "settings again, takes over those that need no restart, and opens log.file anew.\n"
     "\n"
     "examples:\n"
     "  carillon serve --data /var/lib/carillon --listen 0.0.0.0:8080\n"
     "  CARILLON_ADMIN_MASTER_KEY=… carillon serve --config /etc/carillon.ini\n"
     "  carillon serve --listen 127.0.0.1:8080 --listen '[::1]:8080' --set log.level=debug\n",
     serve_command},
    {"dev", "[OPTION]…", "run a gateway to try things on, with a demo tenant and examples to paste", SETTINGS_HELP
     "\n"
     "Like serve on ./carillon-data and 127.0.0.1:8080. The first start makes the tenant demo, the users alice and\n"
     "bob, a room with both and a direct one. Prints the demo's key and that room's id, which it keeps in DIR/dev-key\n"
     "and DIR/dev-room.\n"
     "\n"
     "examples:\n"
     "  carillon dev\n"
     "  carillon dev --data /tmp/try --listen 127.0.0.1:0\n",
     dev_command},
    {"check-config", "[OPTION]…", "check the settings and print those that would be in effect", SETTINGS_HELP
     "\n"
     "Ends with 0, or with 3 and a sentence that names the place. Secrets are shown as ********.\n"
     "\n"
     "examples:\n"
     "  carillon check-config --config /etc/carillon.ini\n"
     "  carillon check-config --set limits.connections=50000 | grep connections\n",
     check_config_command},
    {"config", "--defaults", "print a commented configuration file with every setting",
     "example:\n"
     "  carillon config --defaults > carillon.ini\n",
     config_command},
    {"verify-store", "DIR", "check every row of a store",
     "Reads the whole store and changes nothing: each row decodes, room logs have no gap, indexes agree. Prints each\n"
     "problem. Stop the gateway first. Ends with 0 when all is well, 1 with problems, 4 when it cannot be opened.\n"
     "\n"
     "example:\n"
     "  carillon verify-store /var/lib/carillon\n",
     verify_store_command},
    {"export-history", "DIR (--room ID | --all)", "print room logs as JSON lines, in seq order",
     "options:\n"
     "  --room ID    one room, by its room_id\n"
     "  --all        every room of every tenant, room by room\n"
     "\n"
     "Each line is the event as clients were sent it. Reads the store without changing it; stop the gateway first.\n"
     "\n"
     "examples:\n"
     "  carillon export-history /var/lib/carillon --room r_3k9m2q0v7hx4c > room.jsonl\n"
     "  carillon export-history /var/lib/carillon --all | gzip > history.jsonl.gz\n",
     export_history_command},
    {"list-backups", "DIR", "list the backups in a directory",
     "DIR is what backup.dir was when they were made. Changes nothing; a gateway may be using it. Ends with 4 when\n"
     "there are none.\n"
     "\n"
     "example:\n"
     "  carillon list-backups /backup/carillon\n",
     list_backups_command},
    {"verify-backup", "DIR [--id N]", "read the files of backups and compare their checksums",
     "options:\n"
     "  --id N    one backup instead of all\n"
     "\n"
     "Changes nothing. Ends with 0 when all are good, 1 when one is damaged, 4 when there are none.\n"
     "\n"
     "example:\n"
     "  carillon verify-backup /backup/carillon --id 12\n",
     verify_backup_command},
    {"restore", "--backup DIR [--id N] --data DIR [--force]", "make a data directory out of a backup",
     "options:\n"
     "  --backup DIR   what backup.dir was when the backups were made\n"
     "  --id N         which one; else the newest\n"
     "  --data DIR     the data directory to make: a new one, or an empty one\n"
     "  --force        if it is not empty, move what is there aside at the end (to DIR.before-restore-TIME)\n"
     "\n"
     "Compares all checksums, checks all rows as verify-store does, and begins a new epoch: what happened after the\n"
     "backup is gone, and clients that saw it are told so when they resume. Ends with 0, with 1 when it failed, "
     "with 4\n"
     "when there is no such backup or DIR is refused.\n"
     "\n"
     "examples:\n"
     "  carillon restore --backup /backup/carillon --data /var/lib/carillon\n"
     "  carillon restore --backup /backup/carillon --id 12 --data /tmp/look\n",
     restore_command},
    {"check-json", "FILE", "say whether a file is valid JSON, by the gateway's own parser",
     "FILE may be - for standard input. Ends with 0 when it is an RFC 8259 text, else with 1.\n"
     "\n"
     "example:\n"
     "  echo '{\"a\":1}' | carillon check-json -\n",
     check_json_command},
};

enum { NUM_COMMANDS = sizeof commands / sizeof *commands };

static int help(int argc, char **argv);
static void help_all(FILE *out);
static void help_command(FILE *out, const struct command *command);
static const struct command *command_find(const char *name);
static int unknown(const char *name);
static bool wants_help(int argc, char **argv);

static const char *program_path = "carillon"; /* as it was called, which need not be in PATH */

int commands_run(int argc, char **argv)
{
    if (argc > 0 && argv[0][0]) program_path = argv[0];
    if (argc < 2) {
        help_all(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return help(argc - 1, argv + 1);
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("carillon %s (store format %u)\n", CARILLON_VERSION, STORE_FORMAT);
        if (PLANTED_BUILD) printf("NOT FOR USE: built with planted bugs; on: %s\n", planted_name());
        return cli_flush(CLI_DONE);
    }
    const struct command *command = command_find(name);
    if (!command) return unknown(name);
    if (wants_help(argc - 2, argv + 2)) {
        help_command(stdout, command);
        return cli_flush(CLI_DONE);
    }
    char shown[64];
    snprintf(shown, sizeof shown, "carillon %s", command->name);
    argv[1] = shown; /* getopt begins its messages with it */
    return command->run(argc - 1, argv + 1);
}

static int help(int argc, char **argv)
{
    if (argc < 2) {
        help_all(stdout);
        return cli_flush(CLI_DONE);
    }
    const struct command *command = command_find(argv[1]);
    if (!command) return unknown(argv[1]);
    help_command(stdout, command);
    return cli_flush(CLI_DONE);
}

static void help_all(FILE *out)
{
    fprintf(out, "Carillon, a self-hosted multi-tenant chat gateway\n\nusage: carillon COMMAND [OPTION]…\n\n");
    for (unsigned i = 0; i < NUM_COMMANDS; i++) fprintf(out, "  %-15s %s\n", commands[i].name, commands[i].summary);
    fprintf(out,
            "\n"
            "  carillon help COMMAND shows its options; carillon --version names the version.\n"
            "\n"
            "to begin:\n"
            "  carillon dev                                a gateway on 127.0.0.1:8080, and what to paste\n"
            "  carillon config --defaults > carillon.ini   every setting, explained\n"
            "  carillon serve --config carillon.ini        the real thing; carillonctl administers it\n"
            "\n"
            "exit codes: 0 done, 1 failed, 2 usage, 3 configuration, 4 store refused\n");
}

static void help_command(FILE *out, const struct command *command)
{
    fprintf(out, "usage: carillon %s %s\n\n%c%s.\n\n%s", command->name, command->arguments,
            command->summary[0] - 'a' + 'A', command->summary + 1, command->details);
}

static const struct command *command_find(const char *name)
{
    for (unsigned i = 0; i < NUM_COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0) return &commands[i];
    return NULL;
}

static int unknown(const char *name)
{
    unsigned distance = UINT_MAX;
    const char *nearest = NULL;
    for (unsigned i = 0; i < NUM_COMMANDS; i++)
        if (nearest_better(name, commands[i].name, &distance)) nearest = commands[i].name;
    if (nearest) cli_error("there is no command '%s'; did you mean '%s'?", name, nearest);
    else cli_error("there is no command '%s'; `carillon --help` lists them", name);
    return CLI_USAGE;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

/* --- messages --------------------------------------------------------------------------------------------------- */

void cli_error(const char *format, ...)
{
    va_list args;
    struct buf sentence = {0};
    BUF_LIT(&sentence, "carillon: ");
    va_start(args, format);
    buf_vprintf(&sentence, format, args);
    va_end(args);
    buf_char(&sentence, '\n');
    /* In one piece and behind what was logged: the log's thread writes to stderr as well. */
    log_flush();
    fwrite(sentence.data, 1, sentence.len, stderr);
    buf_free(&sentence);
}

int cli_mistake(char *const argv[], const struct option *known)
{
    mistake_print(argv[0], argv, known);
    return cli_usage(argv[0]);
}

int cli_usage(const char *command)
{
    static const char program[] = "carillon "; /* as commands_run puts it in front */
    ASSERT(strncmp(command, program, sizeof program - 1) == 0);
    fprintf(stderr, "Try `%s help %s`.\n", program_path, command + sizeof program - 1);
    return CLI_USAGE;
}

int cli_flush(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    cli_error("standard output cannot be written");
    return CLI_FAILED;
}
