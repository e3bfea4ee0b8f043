/* carillonctl: administers a Carillon gateway over its admin socket, or over the network with the master key. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "../../src/base/json.h"
#include "../../src/cli/mistake.h"
#include "../../src/base/standard_streams.h"
#include "../../src/cli/nearest.h"
#include "ctl.h"

#define SOCKET_HERE "./carillon-data/admin.sock"  /* of `carillon dev`, and of serve with its defaults */
#define SOCKET_SERVICE "/run/carillon/admin.sock" /* of the installed service */
#define OPTION_BASE 256 /* behind every character that could be a short option */

static bool socket_find(struct ctl *c);
static int parse(struct ctl *c, int argc, char **argv);
static bool option_take(struct ctl *c, unsigned id, char *argument);
static const struct ctl_command *command_find(struct ctl *c);
static bool command_fits(const struct ctl *c, const struct ctl_command *command);
static void help_all(FILE *out);
static int help(const struct ctl *c);

int main(int argc, char **argv)
{
    struct ctl c = {0};
    standard_streams_open();
    setlocale(LC_CTYPE, "C.UTF-8"); /* what the gateway speaks, whatever the terminal's language */
    c.given[CTL_OPT_MASTER_KEY] = getenv("CARILLON_ADMIN_MASTER_KEY");
    c.given[CTL_OPT_KEY] = getenv("CARILLON_API_KEY");
    if (!c.given[CTL_OPT_KEY]) c.given[CTL_OPT_KEY] = getenv("CARILLONCTL_KEY"); /* its older name */
    c.given[CTL_OPT_AS] = getenv("CARILLONCTL_USER");
    int code = socket_find(&c) ? parse(&c, argc, argv) : CTL_USAGE;
    if (code < 0) {
        const struct ctl_command *command = command_find(&c);
        code = command && command_fits(&c, command) ? ctl_run(&c, command) : CTL_USAGE;
    }
    for (unsigned i = 0; i < CTL_NUM_OPTIONS; i++) free(c.secrets[i]);
    return code;
}

/* there: a path that may not be looked at is there as well; whoever connects is told that it is somebody else's. */
static bool there(const char *path) { return access(path, F_OK) == 0 || errno == EACCES; }

/* socket_find: where the gateway listens, unless an option says so. */
static bool socket_find(struct ctl *c)
{
    const char *named = getenv("CARILLON_ADMIN_SOCKET");
    bool service = !there(SOCKET_HERE) && there(SOCKET_SERVICE);
    if (endpoint_unix(&c->endpoint, named && *named ? named : service ? SOCKET_SERVICE : SOCKET_HERE)) return true;
    fprintf(stderr, "carillonctl: CARILLON_ADMIN_SOCKET: a socket's path has 1 to 107 bytes\n");
    return false;
}

/* --- the command line ------------------------------------------------------------------------------------------- */

static unsigned given_here; /* CTL_TAKES of the options that stand on the command line */

/* parse returns -1 to go on, or the exit code. */
static int parse(struct ctl *c, int argc, char **argv)
{
    struct option known[CTL_NUM_OPTIONS + 2] = {{0}};
    for (unsigned i = 0; i < CTL_NUM_OPTIONS; i++)
        known[i] = (struct option){ctl_options[i].name, ctl_options[i].argument ? required_argument : no_argument, NULL,
                                   OPTION_BASE + (int)i};
    known[CTL_NUM_OPTIONS] = (struct option){"version", no_argument, NULL, 'V'};
    for (int choice; (choice = getopt_long(argc, argv, ":hV", known, NULL)) != -1;) {
        if (choice == 'V') {
            printf("carillonctl " CARILLON_VERSION "\n");
            return CTL_DONE;
        }
        bool good = choice == 'h' || choice >= OPTION_BASE;
        if (good && !option_take(c, choice == 'h' ? CTL_OPT_HELP : (unsigned)(choice - OPTION_BASE), optarg))
            return CTL_USAGE;
        if (good) continue;
        mistake_print("carillonctl", argv, known);
        fprintf(stderr, "Try `carillonctl --help`.\n");
        return CTL_USAGE;
    }
    for (int i = optind; i < argc; i++) {
        if (c->num_words == CTL_WORDS_MAX) {
            fprintf(stderr, "carillonctl: too many arguments, from '%s' on; put a text with spaces in quotes\n",
                    argv[i]);
            return CTL_USAGE;
        }
        c->words[c->num_words++] = argv[i];
    }
    if (c->num_words && strcmp(c->words[0], "help") == 0) {
        for (unsigned i = 1; i < c->num_words; i++) c->words[i - 1] = c->words[i];
        c->num_words--;
        return help(c);
    }
    if (ctl_given(c, HELP)) return help(c);
    if (ctl_given(c, TENANT) && !(given_here & CTL_TAKES(KEY))) c->given[CTL_OPT_KEY] = NULL; /* may be another's */
    if (c->num_words) return -1;
    help_all(stderr);
    return CTL_USAGE;
}

/* secret_take copies a secret and overwrites it in the argument vector, which other users can read (proc(5)). */
static const char *secret_take(char **copy, char *argument)
{
    ASSERT(argument);
    free(*copy); /* the option was given twice: the last one counts */
    *copy = strdup(argument);
    ASSERT(*copy);
    memset(argument, '*', strlen(argument));
    return *copy;
}

static bool number_fits(unsigned id, const char *text)
{
    uint64_t number;
    if (slice_u64(slice_str(text), &number)) return true;
    fprintf(stderr, "carillonctl: --%s takes a number, not '%s'\n", ctl_options[id].name, text);
    return false;
}

static bool option_take(struct ctl *c, unsigned id, char *argument)
{
    given_here |= 1u << id;
    c->given[id] = argument ? argument : "";
    switch ((enum ctl_option_id)id) {
    case CTL_OPT_SOCKET:
        if (endpoint_unix(&c->endpoint, argument)) return true;
        fprintf(stderr, "carillonctl: --socket: a socket's path has 1 to 107 bytes\n");
        return false;
    case CTL_OPT_URL:
        if (endpoint_parse(&c->endpoint, argument)) return true;
        fprintf(stderr, "carillonctl: --url takes http://HOST:PORT, not '%s'\n", argument);
        return false;
    case CTL_OPT_MASTER_KEY:
    case CTL_OPT_KEY: c->given[id] = secret_take(&c->secrets[id], argument); return true;
    case CTL_OPT_LIMIT:
    case CTL_OPT_AFTER_SEQ:
    case CTL_OPT_BEFORE_SEQ: return number_fits(id, argument);
    case CTL_OPT_JSON: return c->json = true;
    default: return true;
    }
}

/* --- which command, and whether it is whole --------------------------------------------------------------------- */

static bool names(const struct ctl *c, const struct ctl_command *command)
{
    if (strcmp(c->words[0], command->group) != 0) return false;
    return !command->action || (c->num_words > 1 && strcmp(c->words[1], command->action) == 0);
}

/* unknown says what was probably meant: a group, or an action of the group that was named. */
static void unknown(const struct ctl *c)
{
    unsigned group_distance = UINT_MAX, action_distance = UINT_MAX;
    const char *group = NULL, *action = NULL;
    bool in_group = false;
    for (unsigned i = 0; i < ctl_num_commands; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        if (nearest_better(c->words[0], command->group, &group_distance)) group = command->group;
        if (strcmp(c->words[0], command->group) != 0) continue;
        in_group = true;
        if (c->num_words > 1 && nearest_better(c->words[1], command->action, &action_distance))
            action = command->action;
    }
    if (!in_group) {
        fprintf(stderr, "carillonctl: there is no command '%s'; ", c->words[0]);
        if (group) fprintf(stderr, "did you mean '%s'?\n", group);
        else fprintf(stderr, "`carillonctl --help` lists them\n");
        return;
    }
    fprintf(stderr, "carillonctl: %s takes one of:", c->words[0]);
    for (unsigned i = 0; i < ctl_num_commands; i++)
        if (strcmp(c->words[0], ctl_commands[i].group) == 0) fprintf(stderr, " %s", ctl_commands[i].action);
    if (action) fprintf(stderr, "; did you mean '%s %s'?", c->words[0], action);
    fputc('\n', stderr);
}

static const struct ctl_command *command_find(struct ctl *c)
{
    for (unsigned i = 0; i < ctl_num_commands; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        if (!names(c, command)) continue;
        unsigned words = command->action ? 2 : 1;
        c->arguments = c->words + words;
        c->num_arguments = c->num_words - words;
        return command;
    }
    unknown(c);
    return NULL;
}

/* field_fits says whether a text may stand in a header field: a line break in it would begin another one. */
static bool field_fits(const char *text)
{
    if (!text) return true;
    for (const char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7F) return false;
    return json_utf8_valid(slice_str(text));
}

static void name_print(FILE *out, const struct ctl_command *command)
{
    fprintf(out, "%s%s%s", command->group, command->action ? " " : "", command->action ? command->action : "");
}

static bool arguments_fit(const struct ctl *c, const struct ctl_command *command)
{
    unsigned least = command->num_arguments, most = least + command->num_optional;
    if (c->num_arguments < least || c->num_arguments > most) {
        fprintf(stderr, "carillonctl: ");
        name_print(stderr, command);
        if (c->num_arguments > most) fprintf(stderr, " does not take '%s'; usage: carillonctl ", c->arguments[most]);
        else fprintf(stderr, " needs more; usage: carillonctl ");
        name_print(stderr, command);
        fprintf(stderr, "%s%s\n", command->usage[0] ? " " : "", command->usage);
        return false;
    }
    for (unsigned i = 0; i < c->num_arguments; i++) {
        if (c->arguments[i][0] && json_utf8_valid(slice_str(c->arguments[i]))) continue;
        fprintf(stderr, "carillonctl: argument %u is %s\n", i + 1, c->arguments[i][0] ? "not UTF-8" : "empty");
        return false;
    }
    return true;
}

/* options_fit: an option that would do nothing is a mistake. */
static bool options_fit(const struct ctl *c, const struct ctl_command *command)
{
    for (unsigned i = 0; i < CTL_NUM_OPTIONS; i++) {
        bool given = given_here & 1u << i;
        if (given && !(ctl_takes(command) & 1u << i)) {
            fprintf(stderr, "carillonctl: ");
            name_print(stderr, command);
            fprintf(stderr, " does not take --%s; see its --help\n", ctl_options[i].name);
            return false;
        }
        if (c->given[i] && !field_fits(c->given[i])) {
            fprintf(stderr, "carillonctl: --%s has no control characters, and is UTF-8\n", ctl_options[i].name);
            return false;
        }
    }
    if (given_here & CTL_TAKES(KEY) && given_here & CTL_TAKES(TENANT)) {
        fprintf(stderr, "carillonctl: say --key or --tenant, not both: a key belongs to one tenant\n");
        return false;
    }
    if (!ctl_given(c, USER) || ctl_given(c, TENANT)) return true;
    fprintf(stderr, "carillonctl: --user needs --tenant: a user belongs to one\n");
    return false;
}

/* member_fits: who acts, and by which right. */
static bool member_fits(const struct ctl *c, const struct ctl_command *command)
{
    if (ctl_given(c, AS) && (ctl_given(c, KEY) || ctl_given(c, TENANT))) return true;
    fprintf(stderr, "carillonctl: ");
    name_print(stderr, command);
    fprintf(stderr, " acts as a user: give --as USER (or CARILLONCTL_USER in the environment), and\n"
                    "--key KEY (or CARILLON_API_KEY), or --tenant TENANT to have a key made for this alone\n");
    return false;
}

static bool command_fits(const struct ctl *c, const struct ctl_command *command)
{
    if (!arguments_fit(c, command) || !options_fit(c, command)) return false;
    if (command->who == CTL_MEMBER && !member_fits(c, command)) return false;
    bool operates = command->who == CTL_OPERATOR || (command->who == CTL_MEMBER && !ctl_given(c, KEY));
    if (operates && !c->endpoint.local && !ctl_given(c, MASTER_KEY)) {
        fprintf(stderr, "carillonctl: over the network the operator needs --master-key KEY\n"
                        "(or CARILLON_ADMIN_MASTER_KEY in the environment)\n");
        return false;
    }
    return true;
}

/* --- help ------------------------------------------------------------------------------------------------------- */

static void help_options(FILE *out, unsigned takes)
{
    for (unsigned i = 0; i < CTL_NUM_OPTIONS; i++) {
        char left[64];
        if (!(takes & 1u << i)) continue;
        const struct ctl_option *o = &ctl_options[i];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
        fprintf(out, "  %-18s %s\n", left, o->help);
    }
}

static void help_command(const struct ctl_command *command)
{
    printf("usage: carillonctl [OPTION]… ");
    name_print(stdout, command);
    printf("%s%s\n\n%c%s.\n\noptions:\n", command->usage[0] ? " " : "", command->usage, command->summary[0] - 'a' + 'A',
           command->summary + 1);
    help_options(stdout, ctl_takes(command));
    printf("\n%s", command->details);
}

/* help shows the command that the words name, or all that could be meant. */
static int help(const struct ctl *c)
{
    bool found = false;
    if (c->num_words == 0) {
        help_all(stdout);
        return fflush(stdout) ? CTL_FAILED : CTL_DONE;
    }
    for (unsigned i = 0; i < ctl_num_commands; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        bool whole_group = c->num_words == 1 && strcmp(c->words[0], command->group) == 0;
        if (!whole_group && !names(c, command)) continue;
        if (found) putchar('\n');
        help_command(command);
        found = true;
    }
    if (!found) unknown(c);
    return !found ? CTL_USAGE : fflush(stdout) ? CTL_FAILED : CTL_DONE;
}

static void help_all(FILE *out)
{
    fprintf(out, "carillonctl: administers a Carillon gateway\n\nusage: carillonctl [OPTION]… COMMAND [ARGUMENT]…\n\n");
    for (unsigned i = 0; i < ctl_num_commands; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        char left[96];
        snprintf(left, sizeof left, "%s%s%s%s%s", command->group, command->action ? " " : "",
                 command->action ? command->action : "", command->usage[0] ? " " : "", command->usage);
        fprintf(out, "  %-29s  %s\n", left, command->summary);
    }
    fprintf(out, "\noptions of all commands:\n");
    help_options(out, CTL_TAKES_ALWAYS);
    fprintf(out, "the operator's:\n");
    help_options(out, CTL_TAKES(MASTER_KEY));
    fprintf(out, "a member's (room, message, chat):\n");
    help_options(out, CTL_TAKES(KEY) | CTL_TAKES(AS));
    fprintf(out, "  %-18s %s\n", "--tenant TENANT", "instead of --key: the operator makes one for this command alone");
    fprintf(out, "\n"
                 "`carillonctl COMMAND --help` shows a command's own options, with examples.\n"
                 "\n"
                 "to begin:\n"
                 "  carillonctl status\n"
                 "  carillonctl tenant create \"Example Ltd\"\n"
                 "  carillonctl --url http://127.0.0.1:8080 --master-key secret connections\n"
                 "  carillonctl chat r_3k9m2q0v7hx4c --as alice --tenant t_9wdvsq7gqt1dc\n"
                 "\n"
                 "exit codes: 0 done, 1 failed, 2 usage\n");
}
