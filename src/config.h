/* config: every setting of the gateway, one row each in config.def.
 *
 * Call order: config_defaults; then any of config_load_file, config_load_environment, config_set, each later one
 * overriding (the command line comes last); config_validate; config_free at the end. One thread. A function that fails
 * leaves one sentence in `err` that names the place (file and line, variable, or argument) and never a secret's value;
 * what stood before the fault has been taken over. */
#ifndef CARILLON_CONFIG_H
#define CARILLON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/slice.h"
#include "base/status.h"

/* The values of ENUM settings, in the order of their rows. log.level is an enum log_level. */
enum config_durability { CONFIG_DURABILITY_FSYNC, CONFIG_DURABILITY_FAST };
enum config_zero_copy { CONFIG_ZERO_COPY_AUTO, CONFIG_ZERO_COPY_ON, CONFIG_ZERO_COPY_OFF };
enum config_log_access { CONFIG_ACCESS_OFF, CONFIG_ACCESS_ERRORS, CONFIG_ACCESS_ALL };
enum config_log_actions { CONFIG_ACTIONS_OPERATOR, CONFIG_ACTIONS_CHANGES, CONFIG_ACTIONS_ALL };
enum config_tls_version { CONFIG_TLS_1_2, CONFIG_TLS_1_3 };

enum setting_type {
    SETTING_STRING,      /* char *, never NULL */
    SETTING_SECRET,      /* a STRING that is never shown */
    SETTING_BOOL,        /* true, on, yes, 1; false, off, no, 0 */
    SETTING_U64,         /* a decimal number */
    SETTING_SIZE,        /* uint64_t bytes; in text with k, m, g for powers of 1024 */
    SETTING_DURATION_MS, /* uint64_t milliseconds; in text with ms (or nothing), s, m, h */
    SETTING_ENUM,        /* unsigned, the value's place in the row's list */
    SETTING_LIST,        /* char *, comma separated; walk with config_list_next */
};

#define CONFIG_MEMBER_STRING char *
#define CONFIG_MEMBER_SECRET char *
#define CONFIG_MEMBER_LIST char *
#define CONFIG_MEMBER_BOOL bool
#define CONFIG_MEMBER_U64 uint64_t
#define CONFIG_MEMBER_SIZE uint64_t
#define CONFIG_MEMBER_DURATION_MS uint64_t
#define CONFIG_MEMBER_ENUM unsigned

enum setting_id {
#define SETTING(field, name, type, standard, min, max, unit, reloadable, help) SETTING_ID_##field,
#include "config.def"
#undef SETTING
    SETTINGS
};

struct config {
#define SETTING(field, name, type, standard, min, max, unit, reloadable, help) CONFIG_MEMBER_##type field;
#include "config.def"
#undef SETTING
    unsigned file_line[SETTINGS]; /* where the file set what is in effect; 0: it did not */
};

struct setting {
    const char *name;     /* "section.key" or "key" */
    const char *standard; /* the default, as text */
    const char *unit;     /* of an ENUM: its values, separated by | */
    const char *help;
    uint64_t min, max; /* of a number in its base unit; of a text's length in bytes */
    size_t offset;     /* of the member in struct config */
    enum setting_type type;
    bool reloadable;
};
/* settings is the table for whoever walks the rows: documentation, tests, the admin interface. */
extern const struct setting settings[SETTINGS];

struct config_error {
    char text[512];
};

/* config_defaults fills a struct that holds nothing yet. config_free also takes a zeroed one. */
void config_defaults(struct config *c);
void config_free(struct config *c);

/* config_load_file reads `[section]` and `key = value` lines; # and ; begin a comment at a line's start only. A name is
 * set once a file. STATUS_IO: the file cannot be read; STATUS_INVALID: anything wrong in it. */
MUST_USE enum status config_load_file(struct config *c, const char *path, struct config_error *err);

/* config_load_environment takes CARILLON_SECTION_KEY=value out of a NULL-ended list like environ. Other CARILLON_…
 * names but CARILLON_CONFIG and carillonctl's CARILLON_API_KEY get a warning in the log that names the nearest setting,
 * since a misspelt limit is no limit; a bad value is STATUS_INVALID. */
MUST_USE enum status config_load_environment(struct config *c, char *const *environment, struct config_error *err);

/* config_set takes "section.key=value", the argument of --set. */
MUST_USE enum status config_set(struct config *c, const char *assignment, struct config_error *err);

/* config_validate holds the settings against each other and checks addresses, networks and origins. The sentence begins
 * with the name of a setting; config_blame_file puts "path:line: " in front when the file set that one. */
MUST_USE enum status config_validate(const struct config *c, struct config_error *err);
void config_blame_file(struct config_error *err, const struct config *c, const char *path);

/* config_value appends a setting's value as a file would have it; a secret that is set as "********". */
void config_value(struct buf *out, const struct config *c, enum setting_id id);
/* config_print writes all values as a file, config_print_defaults the defaults with help, unit and bounds. */
void config_print(FILE *out, const struct config *c);
void config_print_defaults(FILE *out);

/* CONFIG_NOW reads a reloadable number, flag or choice of the settings that are running, while config_borrow may be
 * giving it another value. Reloadable texts are read by whoever takes them over, and by nobody else. */
#define CONFIG_NOW(config, field) __atomic_load_n(&(config)->field, __ATOMIC_RELAXED)
/* config_same compares one setting, secrets too. */
bool config_same(const struct config *a, const struct config *b, enum setting_id id);
/* config_take gives one setting of `c` the value that it has in `from`; texts are exchanged, so that both stay whole.
 * config_borrow does the same for a `c` that owns no text. */
void config_take(struct config *c, struct config *from, enum setting_id id);
void config_borrow(struct config *c, const struct config *from, enum setting_id id);

/* config_list_next takes the next item, without the spaces around it, off the front of a LIST's text; empty items are
 * skipped; false at the end. Start with slice_str(list). */
bool config_list_next(struct slice *rest, struct slice *item);

/* config_address reads a numeric "ADDR:PORT" or "[V6]:PORT" (an item of net.listen) for bind(2). */
bool config_address(struct slice text, struct sockaddr_storage *out, socklen_t *out_len);

/* config_time_of_day reads "HH:MM" into minutes since midnight. */
bool config_time_of_day(const char *text, unsigned *minutes);

/* A network: the first `bits` bits of an IPv6 address; IPv4 stands in ::ffff:0:0/96 (RFC 4291 section 2.5.5.2). */
struct config_network {
    uint8_t address[16];
    unsigned bits;
};
/* config_network reads "ADDR" or "ADDR/BITS" (an item of limits.trusted_networks). */
bool config_network(struct slice text, struct config_network *out);
/* config_network_contains is false for anything but an IPv4 or IPv6 peer. */
bool config_network_contains(const struct config_network *n, const struct sockaddr_storage *peer);
/* config_network_has is the same for an address that stands like the network's own. */
bool config_network_has(const struct config_network *n, const uint8_t address[16]);

#endif
