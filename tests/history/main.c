/* check-history: judges what clients sent, were told and received against the history that the gateway kept. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "record.h"

static const char about[] =
    "Judges what clients sent, were told and received against the history that the gateway kept.\n"
    "\n"
    "usage: check-history [--json] [--up-to T] RECORD… EXPORT…\n"
    "\n"
    "  --json     one JSON object instead of the table\n"
    "  --up-to T  the export is of an older state, such as a restored backup: what was acknowledged or received at T\n"
    "             (ns of CLOCK_MONOTONIC, as in the records) or later may be missing from it; everything else holds\n"
    "\n"
    "RECORD is what `carillon-load --record` writes, EXPORT what `carillon export-history DIR --room ID` prints. Both\n"
    "are JSON lines, one object each; a line with \"op\" is a record's, any other an export's, and files may be given\n"
    "in any order. An operation has \"op\", \"t\" (ns of CLOCK_MONOTONIC) and these members; those in [] may be\n"
    "missing:\n"
    "\n";
static const char names[] =
    "\nA message is named by (room, sender, client_id); sending it again with the same name is the same message.\n"
    "\n"
    "The rules, by what breaks them:\n"
    "\n";
static const char verdict[] =
    "\nPrints a table and the first violations of each rule with the lines they come from.\n"
    "Exit code: 0 all rules hold, 1 some do not, 2 usage or a file that cannot be read.\n";

static const struct {
    const char *name, *members, *text;
} ops[] = {
#define OP(id, name, members, text) {name, members, text},
#include "ops.def"
#undef OP
};

static int help(void)
{
    fputs(about, stdout);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (ops[i].name[0]) printf("  %-12s %s\n      %s\n", ops[i].name, ops[i].members, ops[i].text);
    fputs(names, stdout);
    for (enum history_rule rule = 0; rule < HISTORY_RULES; rule++)
        printf("  %-18s %s\n", history_rule_name(rule), history_rule_text(rule));
    fputs(verdict, stdout);
    return 0;
}

static bool parse_time(uint64_t *out, const char *text)
{
    int used = 0;
    return text && *text >= '0' && *text <= '9' && sscanf(text, "%" SCNu64 "%n", out, &used) == 1 && !text[used];
}

static int usage(const char *why)
{
    fprintf(stderr, "check-history: %s; --help tells more\n", why);
    return 2;
}

static int judge(const struct history *h, const struct history_options *options, bool json)
{
    struct history_report report;
    uint64_t violations = history_check(h, options, &report);
    if (json)
        history_report_json(&report, stdout);
    else
        history_report_print(&report, stdout);
    bool nothing = report.rooms == 0 || report.messages == 0;
    history_report_free(&report);
    if (nothing) fputs("check-history: nothing to compare: give records with messages and an export\n", stderr);
    return violations || nothing;
}

int main(int argc, char **argv)
{
    struct history_options options = {.up_to = HISTORY_NEVER};
    bool json = false;
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], "--help") == 0) return help();
        if (strcmp(argv[at], "--json") == 0)
            json = true;
        else if (strcmp(argv[at], "--up-to") != 0)
            return usage("there is no such option");
        else if (!parse_time(&options.up_to, argv[++at]))
            return usage("--up-to takes a time in nanoseconds");
    }
    if (at == argc) return usage("give records and exports");
    struct history *h = history_new();
    char error[RECORD_ERROR_MAX];
    for (; at < argc; at++)
        if (!record_file(h, error, argv[at])) {
            fprintf(stderr, "check-history: %s\n", error);
            history_free(h);
            return 2;
        }
    int code = judge(h, &options, json);
    history_free(h);
    return code;
}
