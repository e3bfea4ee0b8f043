/* table: answers of the gateway as text for people: aligned columns, and name-value lists.
 *
 * Texts come from other people's chats, and a terminal obeys what it is sent: control characters are shown, never
 * passed on. */
#ifndef CARILLON_TOOLS_CTL_TABLE_H
#define CARILLON_TOOLS_CTL_TABLE_H

#include <stdio.h>

#include "../../src/base/buf.h"
#include "../../src/base/json.h"

#define TABLE_COLUMNS_MAX 12u

struct table {
    unsigned num_columns;
    struct slice names[TABLE_COLUMNS_MAX]; /* members of the rows' objects; borrowed */
    size_t num_rows;
    struct buf *cells; /* num_rows × num_columns */
};

/* table_init takes the columns as "name,name,…", which must outlive the table. table_free frees the rows. */
void table_init(struct table *t, const char *columns);
void table_free(struct table *t);
/* table_add appends a row from an object; members that are missing or null show as -. */
void table_add(struct table *t, struct json_node object);
/* table_print writes a head of upper-case names, then the rows. */
void table_print(const struct table *t, FILE *out);

/* object_print writes each member of a JSON object (its text, just parsed as `object`) on a line of its own, those of
 * an object in it as "outer.inner", but for one that is shown elsewhere (`without`, NULL: none). Figures alone are set
 * flush right. */
void object_print(struct slice text, struct json_node object, const char *without, FILE *out);

/* text_columns counts the columns that valid UTF-8 takes on a terminal: two for most of East Asia's characters and
 * pictures, none for accents that combine. It asks the C library, whose LC_CTYPE must be UTF-8. */
size_t text_columns(struct slice text);

/* text_shown appends text with its control characters as \n, \t or \xNN. */
void text_shown(struct buf *out, struct slice text);

#endif
