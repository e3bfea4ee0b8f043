/* carillonctl: administers a Carillon gateway over its admin socket, or over the network with the master key. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../src/base/json.h"
#include "ctl.h"

#define SOCKET_DEFAULT "./carillon-data/admin.sock"

enum { /* behind every character that could be a short option */
    OPTION_SOCKET = 256,
    OPTION_URL,
    OPTION_MASTER_KEY,
    OPTION_KEY,
    OPTION_AS,
    OPTION_ROLE,
    OPTION_TYPE,
    OPTION_MEMBERS,
    OPTION_PRIVATE,
    OPTION_LIMIT,
    OPTION_AFTER,
    OPTION_BEFORE,
    OPTION_JSON,
    OPTION_YES,
};

static int parse(struct ctl *c, int argc, char **argv);
static bool option_take(struct ctl *c, int choice);
static const char *secret_take(char **copy, char *argument);
static const struct ctl_command *command_find(struct ctl *c);
static bool arguments_fit(const struct ctl *c, const struct ctl_command *command);
static bool number_fits(const char *name, const char *text);
static void help(FILE *out);

int main(int argc, char **argv)
{
    struct ctl c = {.master_key = getenv("CARILLON_ADMIN_MASTER_KEY"),
                    .api_key = getenv("CARILLONCTL_KEY"),
                    .user = getenv("CARILLONCTL_USER")};
    endpoint_unix(&c.endpoint, SOCKET_DEFAULT);
    int code = parse(&c, argc, argv);
    if (code < 0) {
        const struct ctl_command *command = command_find(&c);
        code = command && arguments_fit(&c, command) ? ctl_run(&c, command) : CTL_USAGE;
    }
    for (unsigned i = 0; i < CTL_SECRETS; i++) free(c.secrets[i]);
    return code;
}

/* parse returns -1 to go on, or the exit code. */
static int parse(struct ctl *c, int argc, char **argv)
{
    static const struct option known[] = {
        {"socket", required_argument, NULL, OPTION_SOCKET},
        {"url", required_argument, NULL, OPTION_URL},
        {"master-key", required_argument, NULL, OPTION_MASTER_KEY},
        {"key", required_argument, NULL, OPTION_KEY},
        {"as", required_argument, NULL, OPTION_AS},
        {"role", required_argument, NULL, OPTION_ROLE},
        {"type", required_argument, NULL, OPTION_TYPE},
        {"members", required_argument, NULL, OPTION_MEMBERS},
        {"private", no_argument, NULL, OPTION_PRIVATE},
        {"limit", required_argument, NULL, OPTION_LIMIT},
        {"after-seq", required_argument, NULL, OPTION_AFTER},
        {"before-seq", required_argument, NULL, OPTION_BEFORE},
        {"json", no_argument, NULL, OPTION_JSON},
        {"yes", no_argument, NULL, OPTION_YES},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    for (int choice; (choice = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
        if (choice == 'h') {
            help(stdout);
            return CTL_DONE;
        }
        if (!option_take(c, choice)) {
            fprintf(stderr, "Try `carillonctl --help`.\n");
            return CTL_USAGE;
        }
    }
    if (optind == argc) {
        help(stderr);
        return CTL_USAGE;
    }
    if (strcmp(argv[optind], "help") == 0) {
        help(stdout);
        return CTL_DONE;
    }
    for (int i = optind; i < argc; i++) {
        if (c->num_words == CTL_WORDS_MAX) {
            fprintf(stderr, "carillonctl: too many arguments, from '%s' on; put a text with spaces in quotes\n",
                    argv[i]);
            return CTL_USAGE;
        }
        c->words[c->num_words++] = argv[i];
    }
    return -1;
}

static bool option_take(struct ctl *c, int choice)
{
    switch (choice) {
    case OPTION_SOCKET:
        if (endpoint_unix(&c->endpoint, optarg)) return true;
        fprintf(stderr, "carillonctl: --socket: a socket's path has at most 107 bytes\n");
        return false;
    case OPTION_URL:
        if (endpoint_parse(&c->endpoint, optarg)) return true;
        fprintf(stderr, "carillonctl: --url takes http://HOST:PORT, not '%s'\n", optarg);
        return false;
    case OPTION_MASTER_KEY: c->master_key = secret_take(&c->secrets[CTL_MASTER_KEY], optarg); return true;
    case OPTION_KEY: c->api_key = secret_take(&c->secrets[CTL_API_KEY], optarg); return true;
    case OPTION_AS: c->user = optarg; return true;
    case OPTION_ROLE: c->role = optarg; return true;
    case OPTION_TYPE: c->type = optarg; return true;
    case OPTION_MEMBERS: c->members = optarg; return true;
    case OPTION_PRIVATE: return c->is_private = true;
    case OPTION_LIMIT: c->limit = optarg; return number_fits("limit", optarg);
    case OPTION_AFTER: c->after_seq = optarg; return number_fits("after-seq", optarg);
    case OPTION_BEFORE: c->before_seq = optarg; return number_fits("before-seq", optarg);
    case OPTION_JSON: return c->json = true;
    case OPTION_YES: return c->yes = true;
    default: return false; /* getopt_long has said what is wrong */
    }
}

/* secret_take copies a secret and overwrites it in the argument vector, which other users can read (proc(5)). */
static const char *secret_take(char **copy, char *argument)
{
    free(*copy); /* the option was given twice: the last one counts */
    *copy = strdup(argument);
    ASSERT(*copy);
    memset(argument, '*', strlen(argument));
    return *copy;
}

static bool number_fits(const char *name, const char *text)
{
    uint64_t number;
    if (slice_u64(slice_str(text), &number)) return true;
    fprintf(stderr, "carillonctl: --%s takes a number, not '%s'\n", name, text);
    return false;
}

static const struct ctl_command *command_find(struct ctl *c)
{
    bool group_known = false;
    for (unsigned i = 0; i < ctl_num_commands; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        if (strcmp(c->words[0], command->group) != 0) continue;
        group_known = true;
        if (command->action && (c->num_words < 2 || strcmp(c->words[1], command->action) != 0)) continue;
        c->arguments = c->words + (command->action ? 2 : 1);
        return command;
    }
    if (!group_known) {
        fprintf(stderr, "carillonctl: there is no command '%s'; see carillonctl --help\n", c->words[0]);
        return NULL;
    }
    fprintf(stderr, "carillonctl: %s takes one of:", c->words[0]);
    for (unsigned i = 0; i < ctl_num_commands; i++)
        if (strcmp(c->words[0], ctl_commands[i].group) == 0) fprintf(stderr, " %s", ctl_commands[i].action);
    fputc('\n', stderr);
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

static bool arguments_fit(const struct ctl *c, const struct ctl_command *command)
{
    unsigned num = c->num_words - (command->action ? 2 : 1);
    const char *action = command->action ? command->action : "";
    if (num != command->num_arguments) {
        fprintf(stderr, "usage: carillonctl %s %s %s\n", command->group, action, command->usage);
        return false;
    }
    for (unsigned i = 0; i < num; i++) {
        if (c->arguments[i][0] && json_utf8_valid(slice_str(c->arguments[i]))) continue;
        fprintf(stderr, "carillonctl: argument %u is %s\n", i + 1, c->arguments[i][0] ? "not UTF-8" : "empty");
        return false;
    }
    if (!field_fits(c->master_key) || !field_fits(c->api_key) || !field_fits(c->user)) {
        fprintf(stderr, "carillonctl: keys and users have no control characters, and are UTF-8\n");
        return false;
    }
    if (command->who == CTL_MEMBER && (!c->api_key || !c->user)) {
        fprintf(stderr, "carillonctl: %s %s acts as a user: give --key API_KEY and --as USER\n"
                        "(or CARILLONCTL_KEY and CARILLONCTL_USER in the environment)\n",
                command->group, action);
        return false;
    }
    if (command->who == CTL_OPERATOR && !c->endpoint.local && !c->master_key) {
        fprintf(stderr, "carillonctl: over the network the operator needs --master-key K\n"
                        "(or CARILLON_ADMIN_MASTER_KEY in the environment)\n");
        return false;
    }
    return true;
}

static void help(FILE *out)
{
    fprintf(out, "carillonctl: administers a Carillon gateway\n\nusage: carillonctl [OPTION]… COMMAND [ARGUMENT]…\n\n");
    for (unsigned i = 0; i < ctl_num_commands; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        char left[96];
        snprintf(left, sizeof left, "%s%s%s %s", command->group, command->action ? " " : "",
                 command->action ? command->action : "", command->usage);
        if (strlen(left) > 36) fprintf(out, "  %s\n  %-36s %s\n", left, "", command->summary);
        else fprintf(out, "  %-36s %s\n", left, command->summary);
    }
    fprintf(out,
            "\n"
            "where:\n"
            "  --socket PATH      the gateway's admin socket; default " SOCKET_DEFAULT "\n"
            "  --url URL          over the network: http://HOST:PORT\n"
            "who:\n"
            "  --master-key K     the operator over the network (or CARILLON_ADMIN_MASTER_KEY)\n"
            "  --key K, --as USER a tenant's key and the acting user, for room and message (CARILLONCTL_KEY, _USER)\n"
            "how:\n"
            "  --json             the server's JSON instead of a table, one line an answer\n"
            "  --yes              destroy without asking\n"
            "\n"
            "examples:\n"
            "  carillonctl tenant create \"Example Ltd\"\n"
            "  carillonctl --json tenant list | jq -r '.items[].tenant_id'\n"
            "  carillonctl --url http://127.0.0.1:8080 --master-key secret stats\n"
            "  carillonctl --key ck_… --as alice message send r_3k9m2q0v7hx4c \"hello, all\"\n"
            "  carillonctl --key ck_… --as alice room messages r_3k9m2q0v7hx4c --limit 5\n"
            "\n"
            "exit codes: 0 done, 1 failed, 2 usage\n");
}
