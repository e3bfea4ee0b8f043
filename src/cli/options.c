#define _GNU_SOURCE /* explicit_bzero */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/assert.h"
#include "cli.h"

static void assign(struct options *o, const char *name, const char *value);
static void assign_listen(struct options *o, const char *address);
static void hide_secret(struct options *o, char *assignment);
static enum status check_addresses(const struct config *c, struct config_error *err);

bool options_parse(struct options *o, int argc, char **argv)
{
    static const struct option known[] = {
        {"config", required_argument, NULL, 'c'}, {"data", required_argument, NULL, 'd'},
        {"listen", required_argument, NULL, 'l'}, {"cores", required_argument, NULL, 'n'},
        {"set", required_argument, NULL, 's'},    {0},
    };
    *o = (struct options){.config_path = getenv("CARILLON_CONFIG")};
    for (int choice; (choice = getopt_long(argc, argv, OPTIONS_ALONE, known, NULL)) != -1;) {
        switch (choice) {
        case 'c': o->config_path = optarg; break;
        case 'd': assign(o, "store.dir", optarg); break;
        case 'l': assign_listen(o, optarg); break;
        case 'n': assign(o, "process.cores", optarg); break;
        case 's':
            assign(o, NULL, optarg);
            hide_secret(o, optarg);
            break;
        default: cli_mistake(argv, known); return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "%s: unexpected argument '%s'\n", argv[0], argv[optind]);
        cli_usage(argv[0]);
        return false;
    }
    return true;
}

void options_free(struct options *o)
{
    for (unsigned i = 0; i < o->num_assignments; i++) {
        explicit_bzero(o->assignments[i], strlen(o->assignments[i]));
        free(o->assignments[i]);
    }
    free(o->assignments);
    *o = (struct options){0};
}

enum status options_load(struct config *out, const struct options *o, struct config_error *err)
{
    config_defaults(out);
    enum status status = STATUS_OK;
    if (o->config_path && *o->config_path) status = config_load_file(out, o->config_path, err);
    if (status == STATUS_OK) status = config_load_environment(out, environ, err);
    for (unsigned i = 0; i < o->num_assignments && status == STATUS_OK; i++)
        status = config_set(out, o->assignments[i], err);
    if (status == STATUS_OK) status = config_validate(out, err);
    if (status == STATUS_OK) status = check_addresses(out, err);
    if (status != STATUS_OK && o->config_path) config_blame_file(err, out, o->config_path);
    if (status != STATUS_OK) config_free(out);
    return status;
}

/* assign remembers NAME=VALUE, or an argument that has that form already (`name` NULL). */
static void assign(struct options *o, const char *name, const char *value)
{
    o->assignments = realloc(o->assignments, (o->num_assignments + 1) * sizeof *o->assignments);
    ASSERT(o->assignments);
    char *text = NULL;
    int len = name ? asprintf(&text, "%s=%s", name, value) : asprintf(&text, "%s", value);
    ASSERT(len >= 0);
    o->assignments[o->num_assignments++] = text;
}

/* Each --listen adds an address to those of the ones before it. */
static void assign_listen(struct options *o, const char *address)
{
    static const char prefix[] = "net.listen=";
    for (unsigned i = 0; i < o->num_assignments; i++) {
        char *before = o->assignments[i], *both = NULL;
        if (strncmp(before, prefix, sizeof prefix - 1) != 0) continue;
        int len = asprintf(&both, "%s,%s", before, address);
        ASSERT(len >= 0);
        free(before);
        o->assignments[i] = both;
        return;
    }
    assign(o, "net.listen", address);
}

static void hide_secret(struct options *o, char *assignment)
{
    static const char spaces[] = " \t\r\n\v\f"; /* what config_set allows around the name */
    char *name = assignment + strspn(assignment, spaces);
    for (unsigned id = 0; id < SETTINGS; id++) {
        size_t len = strlen(settings[id].name);
        if (settings[id].type != SETTING_SECRET || strncmp(name, settings[id].name, len) != 0) continue;
        char *equals = name + len + strspn(name + len, spaces);
        if (*equals != '=') continue;
        o->secret_given = settings[id].name;
        memset(equals + 1, '*', strlen(equals + 1));
    }
}

/* A core's table of listening sockets is fixed, and one place in it is the admin socket's. */
static enum status check_addresses(const struct config *c, struct config_error *err)
{
    struct slice rest = slice_str(c->net_listen), item;
    unsigned num = 0;
    while (config_list_next(&rest, &item)) num++;
    if (num < LISTENERS_MAX) return STATUS_OK;
    snprintf(err->text, sizeof err->text, "net.listen: at most %u addresses can be served", LISTENERS_MAX - 1);
    return STATUS_INVALID;
}
