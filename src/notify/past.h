/* past: where what waits for a user begins, remembered at the user's home, so that an inbox is not loaded by way of
 * everything that its user has ever acknowledged: what was deleted stands in the store until it is compacted.
 *
 * Everything below `from` has ended, or is still to be heard of (NOTICE_NOTIFIED), which lowers it then. It is
 * knowledge of this process only, in a table in which a newer user may take an older one's place: whoever is not found
 * there is loaded from the front. */
#ifndef CARILLON_NOTIFY_PAST_H
#define CARILLON_NOTIFY_PAST_H

#include <stdbool.h>
#include <stdint.h>

#define PAST_NOTHING_WAITS UINT64_MAX /* as `from` */

struct past {
    uint32_t tenant;
    uint64_t user;
    uint64_t from; /* a notification's number */
    uint64_t seen; /* the highest number that was ever read from the outbox: none above it can have ended unheard of */
};

struct past_table {
    struct past *slots; /* PAST_USERS; NULL: nobody yet */
};

void past_free(struct past_table *t);
/* past_find returns what is known, until the next past_set; or NULL. */
const struct past *past_find(const struct past_table *t, uint32_t tenant, uint64_t user);
void past_set(struct past_table *t, const struct past *p);
/* past_heard: this one waits, or may. */
void past_heard(struct past_table *t, uint32_t tenant, uint64_t user, uint64_t number);

#endif
