/* record: reads the JSON lines of records and exports into a history.
 *
 * A line with "op" is an operation of a client (the members stand in the program's --help), any other a row of an
 * export. Members that are not known are passed over. A line is refused, with a sentence that names file and line, when
 * it is no JSON object, is longer than RECORD_LINE_MAX, names an unknown op, or lacks a member that its op needs or has
 * it in another type. Nothing is read twice: reading goes on behind a refused line only when the caller wants it to. */
#ifndef CARILLON_TESTS_HISTORY_RECORD_H
#define CARILLON_TESTS_HISTORY_RECORD_H

#include "history.h"

#define RECORD_LINE_MAX (4u << 20) /* bytes; the gateway's largest event is far below */
#define RECORD_LINES_MAX (1u << 31)
#define RECORD_ERROR_MAX 512u

/* record_line adds one line without its end; false: refused, and `error` says what is wrong with it. */
bool record_line(struct history *h, char error[RECORD_ERROR_MAX], struct history_text line);
/* record_file adds a file; false: it could not be read, or a line of it was refused; `error` names file and line. */
bool record_file(struct history *h, char error[RECORD_ERROR_MAX], const char *path);
/* record_stream is record_file for what is open already; `path` is what errors call it. */
bool record_stream(struct history *h, char error[RECORD_ERROR_MAX], FILE *in, const char *path);

#endif
