/* ctl: one invocation of carillonctl: what was typed, and the table of what can be. */
#ifndef CARILLON_TOOLS_CTL_CTL_H
#define CARILLON_TOOLS_CTL_CTL_H

#include <stdbool.h>

#include "../../src/base/buf.h"
#include "../client/endpoint.h"

#define CTL_WORDS_MAX 5u /* group, action, three arguments */

/* What a script may rely on. */
enum ctl_exit { CTL_DONE = 0, CTL_FAILED = 1, CTL_USAGE = 2 };

enum { CTL_MASTER_KEY, CTL_API_KEY, CTL_SECRETS };

/* ctl: borrowed from argv and the environment, but for secrets given as options: those are copied before they are
 * overwritten there. */
struct ctl {
    char *secrets[CTL_SECRETS]; /* owned */
    struct endpoint endpoint;
    const char *master_key, *api_key, *user; /* NULL: not given */
    const char *role, *type, *members;
    const char *limit, *after_seq, *before_seq;
    bool json, is_private, yes;
    const char *words[CTL_WORDS_MAX];
    unsigned num_words;
    const char *const *arguments; /* the words behind the command's name */
};

enum ctl_who { CTL_ANYONE, CTL_OPERATOR, CTL_MEMBER /* --key and --as */ };
enum ctl_shape { CTL_LIST, CTL_OBJECT, CTL_NOTHING };

struct ctl_command {
    const char *group, *action; /* action NULL: the group alone is the command */
    const char *usage;          /* what follows the name */
    const char *summary;
    unsigned num_arguments;
    enum ctl_who who;
    const char *method, *target; /* {0} … {2} are arguments, percent-encoded */
    enum ctl_shape shape;
    const char *columns;        /* of a list */
    const char *done;           /* of an answer without a body: a sentence with {0} … */
    bool destroys;              /* asks first, when somebody is there to answer */
    void (*query)(struct buf *out, const struct ctl *c); /* appends "?…", NULL: none */
    void (*body)(struct buf *out, const struct ctl *c);  /* appends JSON, NULL: none */
};

extern const struct ctl_command ctl_commands[];
extern const unsigned ctl_num_commands;

/* ctl_run sends the command's request and prints the answer; returns an enum ctl_exit. */
int ctl_run(const struct ctl *c, const struct ctl_command *command);

#endif
