/* exchange: requests of one command to the gateway, one at a time on one connection, and their last answer.
 *
 * Call order: exchange_open, any number of exchange_call, exchange_close. The answer dies at the next call. */
#ifndef CARILLON_TOOLS_CTL_EXCHANGE_H
#define CARILLON_TOOLS_CTL_EXCHANGE_H

#include "../../src/base/json.h"
#include "../client/http_client.h"
#include "ctl.h"

struct exchange {
    const struct ctl *c;
    struct http_client http;
    struct http_answer answer;
    struct json_parser *parser;
    struct json_node root; /* of the answer, when `parsed` */
    bool parsed, answered;
    struct buf fields;
};

/* exchange_open prepares requests of the operator, or of nobody; exchange_open_as those of the user of --as. */
void exchange_open(struct exchange *x, const struct ctl *c, enum ctl_who who);
void exchange_open_as(struct exchange *x, const struct ctl *c, const char *api_key);
void exchange_close(struct exchange *x);

/* exchange_call sends one request; true for a 2xx answer. `body` without data: none. A GET on a connection that has
 * gone meanwhile is sent once more on a new one. Else exchange_complain says on stderr what went wrong and what to do
 * next. */
bool exchange_call(struct exchange *x, const char *method, const char *target, struct slice body);
void exchange_complain(const struct exchange *x);

/* exchange_text returns a text member of the answer's object, empty when there is none; exchange_number a number at a
 * path as "commit.pending", 0 when there is none. */
struct slice exchange_text(struct json_node object, const char *name);
uint64_t exchange_number(struct json_node root, const char *path);

#endif
