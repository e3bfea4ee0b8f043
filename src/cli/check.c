#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/json.h"
#include "cli.h"
#include "options.h"

static bool read_all(struct buf *out, const char *path);

int check_config_command(int argc, char **argv)
{
    struct options options;
    struct config config;
    struct config_error err;
    if (!options_parse(&options, argc, argv)) return CLI_USAGE;
    enum status status = options_load(&config, &options, &err);
    if (status == STATUS_OK) config_print(stdout, &config);
    else cli_error("%s", err.text);
    if (status == STATUS_OK) config_free(&config);
    options_free(&options);
    return status == STATUS_OK ? cli_flush(CLI_DONE) : CLI_CONFIGURATION;
}

int config_command(int argc, char **argv)
{
    static const struct option known[] = {{"defaults", no_argument, NULL, 'd'}, {0}};
    bool defaults = false;
    for (int choice; (choice = getopt_long(argc, argv, OPTIONS_ALONE, known, NULL)) != -1;) {
        if (choice != 'd') return cli_mistake(argv, known);
        defaults = true;
    }
    if (!defaults || optind < argc) {
        fprintf(stderr, "%s: the only form is --defaults; `carillon check-config` prints what is in effect\n", argv[0]);
        return cli_usage(argv[0]);
    }
    config_print_defaults(stdout);
    return cli_flush(CLI_DONE);
}

int check_json_command(int argc, char **argv)
{
    static const struct option known[] = {{0}};
    if (getopt_long(argc, argv, OPTIONS_ALONE, known, NULL) != -1) return cli_mistake(argv, known);
    if (optind + 1 != argc) {
        fprintf(stderr, "%s: name one file\n", argv[0]);
        return cli_usage(argv[0]);
    }
    struct buf text = {0};
    bool read = read_all(&text, argv[optind]);
    bool valid = read && json_valid(buf_slice(&text));
    if (!read) cli_error("%s cannot be read: %s", argv[optind], strerror(errno));
    else if (!valid) cli_error("%s is not valid JSON", argv[optind]);
    buf_free(&text);
    return valid ? CLI_DONE : CLI_FAILED;
}

/* read_all takes in a whole file, or standard input for "-"; false with errno set. */
static bool read_all(struct buf *out, const char *path)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!file) return false;
    size_t got;
    do {
        buf_reserve(out, 65536);
        got = fread(out->data + out->len, 1, 65536, file);
        out->len += got;
    } while (got > 0);
    int error = ferror(file) ? errno : 0;
    if (file != stdin) fclose(file);
    errno = error;
    return error == 0;
}
