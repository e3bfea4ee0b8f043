/* ctl: one invocation of carillonctl: what was typed, and the tables of what can be. Help, completions and manual page
 * come from these tables. */
#ifndef CARILLON_TOOLS_CTL_CTL_H
#define CARILLON_TOOLS_CTL_CTL_H

#include <stdbool.h>

#include "../../src/base/buf.h"
#include "../client/endpoint.h"

#define CTL_WORDS_MAX 5u /* group, action, three arguments */

/* What a script may rely on. */
enum ctl_exit { CTL_DONE = 0, CTL_FAILED = 1, CTL_USAGE = 2 };

/* Every option; OPTION(id, name, argument or NULL, help). */
#define CTL_OPTIONS(OPTION) \
    OPTION(SOCKET, "socket", "PATH", \
           "the admin socket (or CARILLON_ADMIN_SOCKET); default ./carillon-data/ or /run/carillon/admin.sock") \
    OPTION(URL, "url", "URL", "over the network instead: http://HOST:PORT") \
    OPTION(JSON, "json", NULL, "the server's JSON instead of text for people, one line an answer") \
    OPTION(MASTER_KEY, "master-key", "KEY", "the operator's key over the network (or CARILLON_ADMIN_MASTER_KEY)") \
    OPTION(KEY, "key", "KEY", "a tenant's API key (or CARILLON_API_KEY)") \
    OPTION(AS, "as", "USER", "the acting user (or CARILLONCTL_USER)") \
    OPTION(TENANT, "tenant", "TENANT", "the tenant's id") \
    OPTION(USER, "user", "USER", "the user's id; needs --tenant") \
    OPTION(YES, "yes", NULL, "do not ask; needed where there is no terminal") \
    OPTION(ALL, "all", NULL, "those that are revoked as well") \
    OPTION(ROLE, "role", "ROLE", "server (default), admin or read") \
    OPTION(TYPE, "type", "TYPE", "group (default) or channel") \
    OPTION(MEMBERS, "members", "USERS", "user ids with commas between them") \
    OPTION(PRIVATE, "private", NULL, "only whom an admin adds gets in") \
    OPTION(LIMIT, "limit", "N", "at most so many") \
    OPTION(AFTER_SEQ, "after-seq", "SEQ", "what follows that one") \
    OPTION(BEFORE_SEQ, "before-seq", "SEQ", "what comes before that one") \
    OPTION(REASON, "reason", "TEXT", "what the closed sockets are told") \
    OPTION(WAIT, "wait", NULL, "return when the gateway has ended") \
    OPTION(QUIET, "quiet", NULL, "print nothing but what went wrong, on stderr") \
    OPTION(ONCE, "once", NULL, "one second's figures, then end") \
    OPTION(HELP, "help", NULL, "this text")

enum ctl_option_id {
#define OPTION(id, name, argument, help) CTL_OPT_##id,
    CTL_OPTIONS(OPTION)
#undef OPTION
    CTL_NUM_OPTIONS
};
#define CTL_TAKES(id) (1u << CTL_OPT_##id)
/* every command takes these, and operators' and members' those of their kind */
#define CTL_TAKES_ALWAYS (CTL_TAKES(SOCKET) | CTL_TAKES(URL) | CTL_TAKES(JSON) | CTL_TAKES(HELP))
_Static_assert(CTL_NUM_OPTIONS <= 32, "a set of options is 32 bits");

struct ctl_option {
    const char *name, *argument /* NULL: a flag */, *help;
};
extern const struct ctl_option ctl_options[CTL_NUM_OPTIONS];

/* ctl: borrowed from argv and the environment, but for secrets given as options: those are copied before they are
 * overwritten there. */
struct ctl {
    const char *given[CTL_NUM_OPTIONS]; /* the options' arguments, "" for a flag; NULL: not given */
    char *secrets[CTL_NUM_OPTIONS];     /* owned: copies of the secret ones */
    struct endpoint endpoint;
    bool json;
    const char *words[CTL_WORDS_MAX];
    unsigned num_words;
    const char *const *arguments; /* the words behind the command's name */
    unsigned num_arguments;
};

/* ctl_given returns an option's argument, or NULL. */
#define ctl_given(c, id) ((c)->given[CTL_OPT_##id])

enum ctl_who { CTL_ANYONE, CTL_OPERATOR, CTL_MEMBER /* --as, and --key or --tenant */ };
enum ctl_shape { CTL_LIST, CTL_OBJECT, CTL_NOTHING };

struct ctl_command {
    const char *group, *action; /* action NULL: the group alone is the command */
    const char *usage;          /* the arguments behind the name, "" for none */
    const char *summary;
    const char *details;        /* more about it, and examples: complete lines */
    unsigned num_arguments, num_optional; /* needed, and allowed beyond those */
    unsigned options;           /* CTL_TAKES of its own */
    enum ctl_who who;
    int (*run)(const struct ctl *c, const struct ctl_command *command); /* NULL: the request below, once */
    const char *method, *target; /* {0} … {2} are arguments, percent-encoded */
    enum ctl_shape shape;
    const char *columns;        /* of a list */
    const char *without_state;  /* of a list: rows that are left out of the table, unless --all is given; NULL: none */
    const char *part;           /* member of an object that is shown as a table below it */
    const char *done;           /* of an answer without a body: a sentence with {0} … */
    bool destroys;              /* asks first; without a terminal it needs --yes */
    bool one_page;              /* of a list: its user chooses the page */
    void (*query)(struct buf *out, const struct ctl *c); /* appends "?…" or nothing, NULL: none */
    void (*body)(struct buf *out, const struct ctl *c);  /* appends JSON, NULL: none */
};

extern const struct ctl_command ctl_commands[];
extern const unsigned ctl_num_commands;

/* ctl_takes returns the set of options that a command takes. */
unsigned ctl_takes(const struct ctl_command *command);

/* ctl_encode appends a text as one segment of a path or one value of a query. */
void ctl_encode(struct buf *out, const char *text);

/* The commands that are more than one request; each returns an enum ctl_exit. */
int status_run(const struct ctl *c, const struct ctl_command *command); /* status.c */
int top_run(const struct ctl *c, const struct ctl_command *command);    /* top.c */
int chat_run(const struct ctl *c, const struct ctl_command *command);   /* chat.c */
int user_show_run(const struct ctl *c, const struct ctl_command *command); /* run.c, like those below */
int drain_run(const struct ctl *c, const struct ctl_command *command);
int reload_run(const struct ctl *c, const struct ctl_command *command);

/* ctl_run does what the command says and returns an enum ctl_exit. */
int ctl_run(const struct ctl *c, const struct ctl_command *command);

#endif
