/* check-history: judges what clients sent, were told and received against the history that the gateway kept. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "record.h"

static void help(FILE *out)
{
    fputs("Judges what clients sent, were told and received against the history that the gateway kept.\n"
          "\n"
          "usage: check-history [--json] [--up-to T] RECORD… EXPORT…\n"
          "\n"
          "  --json     one JSON object instead of the table\n"
          "  --up-to T  the export is of an older state, such as a restored backup: what was acknowledged or received\n"
          "             at T (ns of CLOCK_MONOTONIC, as in the records) or later may be missing from it; everything\n"
          "             else holds as ever\n"
          "\n"
          "RECORD is what `carillon-load --record` writes, EXPORT what `carillon export-history DIR --room ID` prints;\n"
          "both are JSON lines, a line with \"op\" is a record's, any other an export's, and files may be given in any\n"
          "order. A record's lines (\"t\" is CLOCK_MONOTONIC in ns, and [] are members that may be missing):\n"
          "\n"
          "  member   {\"t\",\"op\",\"room\",\"user\"[,\"until_seq\"]}  may see the room from now on, with until_seq up to\n"
          "           that event: written before whoever adds them asks for it\n"
          "  left     {\"t\",\"op\",\"room\",\"user\"[,\"seq\"]}  their removal was acknowledged, by the event `seq`, and no\n"
          "           join of theirs is under way\n"
          "  invoke   {\"t\",\"op\",\"room\",\"client_id\",\"sender\",\"content\"}  a send begins\n"
          "  ok       {\"t\",\"op\",\"room\",\"client_id\",\"sender\",\"seq\",\"message_id\"[,\"epoch\"]}\n"
          "  fail     {\"t\",\"op\",\"room\",\"client_id\",\"sender\",\"code\"}  it was refused\n"
          "  unknown  {\"t\",\"op\",\"room\",\"client_id\",\"sender\"}  there was no answer (as an invoke without an outcome)\n"
          "  receive  {\"t\",\"op\",\"room\",\"user\",\"connection\",\"type\",\"seq\"[,\"device\",\"message_id\",\"sender\",\"client_id\",\n"
          "           \"content\",\"created_at\",\"epoch\",\"path\",\"asked\"]}  a durable push, in the order of arrival; with\n"
          "           path \"events\" or \"messages\" an item of a page that was asked for at `asked`: `connection` is then\n"
          "           a name of the page's own\n"
          "  resumed  {\"t\",\"op\",\"room\",\"user\",\"connection\",\"epoch\",\"recovered\",\"from\",\"head\"[,\"asked\":[epoch,seq],\"device\"]}\n"
          "  device   {\"t\",\"op\",\"room\",\"user\",\"device\",\"after_seq\"}  it is owed everything behind that event\n"
          "  ack      {\"t\",\"op\",\"room\",\"user\",\"seq\"[,\"device\"]}  an ack begins\n"
          "  acked    {\"t\",\"op\",\"room\",\"user\",\"seq\"[,\"device\",\"asked\"]}  it was acknowledged, and asked for at `asked`\n"
          "  cursor   {\"t\",\"op\",\"room\",\"user\",\"seq\"[,\"device\",\"asked\"]}  a cursor was shown\n"
          "  notify   {\"t\",\"op\",\"key\",\"user\",\"content\"}  a notification for this user begins\n"
          "  notify_ok    {\"t\",\"op\",\"key\",\"notification_id\"}\n"
          "  notified     {\"t\",\"op\",\"user\",\"notification_id\",\"content\"[,\"connection\"]}\n"
          "  dead_letter  {\"t\",\"op\"[,\"notification_id\",\"user\",\"room\",\"device\",\"seq\"]}\n"
          "  room     {\"t\",\"op\",\"room\",\"durability\"}  \"fast\": a power loss may take its newest events\n"
          "  crash    {\"t\",\"op\",\"power\"}  the gateway was killed, with power true by a power loss\n"
          "  healed   {\"t\",\"op\",\"within_ns\"}  no more faults, and the run went on for at least so long\n"
          "\n"
          "A message is named by (room, sender, client_id); sending it again with the same name is the same message. The\n"
          "rules, by what breaks them:\n"
          "\n",
          out);
    for (enum history_rule rule = 0; rule < HISTORY_RULES; rule++)
        fprintf(out, "  %-18s  %s\n", history_rule_name(rule), history_rule_text(rule));
    fputs("\nPrints a table and the first violations of each rule with the lines they come from. Exit code: 0 all rules\n"
          "hold, 1 some do not, 2 usage or a file that cannot be read.\n",
          out);
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
    if (json) history_report_json(&report, stdout);
    else history_report_print(&report, stdout);
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
        if (strcmp(argv[at], "--help") == 0) return help(stdout), 0;
        if (strcmp(argv[at], "--json") == 0) json = true;
        else if (strcmp(argv[at], "--up-to") != 0) return usage("there is no such option");
        else if (!parse_time(&options.up_to, argv[++at])) return usage("--up-to takes a time in nanoseconds");
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
