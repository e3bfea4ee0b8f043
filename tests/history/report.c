#include "history.h"

#include <inttypes.h>
#include <stdlib.h>

static const struct {
    const char *name, *text;
} rules[] = {
#define RULE(id, name, text) [HISTORY_##id] = {name, text},
#include "rules.def"
#undef RULE
};

const char *history_rule_name(enum history_rule rule)
{
    return rules[rule].name;
}
const char *history_rule_text(enum history_rule rule)
{
    return rules[rule].text;
}

void history_report_free(struct history_report *r)
{
    for (size_t i = 0; i < r->num_violations; i++) {
        free(r->violations[i].sentence);
        for (size_t p = 0; p < r->violations[i].num_places; p++) free(r->violations[i].places[p]);
    }
    free(r->violations);
    *r = (struct history_report){0};
}

void history_report_print(const struct history_report *r, FILE *out)
{
    fprintf(out,
            "rooms %" PRIu64 ", events in the log %" PRIu64 ", messages sent %" PRIu64 " (acknowledged %" PRIu64
            ", refused %" PRIu64 ", open %" PRIu64 "), receipts %" PRIu64 "\n",
            r->rooms, r->events, r->messages, r->acknowledged, r->refused, r->open, r->receipts);
    for (unsigned rule = 0; rule < HISTORY_RULES; rule++) {
        if (r->found[rule])
            fprintf(out, "  %-18s %" PRIu64 "\n", rules[rule].name, r->found[rule]);
        else
            fprintf(out, "  %-18s holds\n", rules[rule].name);
    }
    for (unsigned rule = 0; rule < HISTORY_RULES; rule++) {
        for (size_t i = 0; i < r->num_violations; i++) {
            const struct history_violation *v = &r->violations[i];
            if (v->rule != rule) continue;
            fprintf(out, "VIOLATION %s: %s\n", rules[rule].name, v->sentence);
            for (size_t p = 0; p < v->num_places; p++) fprintf(out, "    %s\n", v->places[p]);
        }
        if (r->found[rule] > HISTORY_SHOWN)
            fprintf(out, "    … and %" PRIu64 " more of %s\n", r->found[rule] - HISTORY_SHOWN, rules[rule].name);
    }
}

static void print_json_string(const char *text, FILE *out)
{
    fputc('"', out);
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at < 0x20)
            fprintf(out, "\\u%04x", *at);
        else
            fputc(*at, out);
    }
    fputc('"', out);
}

static void print_json_violation(const struct history_violation *v, FILE *out)
{
    fprintf(out, "{\"rule\":\"%s\",\"text\":", rules[v->rule].name);
    print_json_string(v->sentence, out);
    fputs(",\"places\":[", out);
    for (size_t p = 0; p < v->num_places; p++) {
        if (p) fputc(',', out);
        print_json_string(v->places[p], out);
    }
    fputs("]}", out);
}

void history_report_json(const struct history_report *r, FILE *out)
{
    fprintf(out,
            "{\"violations\":%" PRIu64 ",\"rooms\":%" PRIu64 ",\"events\":%" PRIu64 ",\"messages\":%" PRIu64
            ",\"acknowledged\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"open\":%" PRIu64 ",\"receipts\":%" PRIu64
            ",\"rules\":{",
            r->total, r->rooms, r->events, r->messages, r->acknowledged, r->refused, r->open, r->receipts);
    for (unsigned rule = 0; rule < HISTORY_RULES; rule++)
        fprintf(out, "%s\"%s\":%" PRIu64, rule ? "," : "", rules[rule].name, r->found[rule]);
    fputs("},\"shown\":[", out);
    for (size_t i = 0; i < r->num_violations; i++) {
        if (i) fputc(',', out);
        print_json_violation(&r->violations[i], out);
    }
    fputs("]}\n", out);
}
