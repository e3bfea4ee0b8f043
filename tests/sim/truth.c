#include "truth.h"

#include <stdio.h>
#include <string.h>

#include "scenario.h"
#include "store_watch.h"
#include "world.h"

#define EPOCHS_MAX 64u

/* reached[room][epoch - first]: how far the log went in that epoch, as far as it has survived. `first` is that of the
 * first gateway: starts before it that failed may have left a store that begins anew, far ahead (storage/store.h). */
static uint64_t reached[SCENARIO_ROOMS_MAX][EPOCHS_MAX], first;

static struct slice id_of(unsigned room) { return slice_str(scenario.rooms[room].id); }

static bool fast(unsigned room) { return scenario.tenants[scenario.rooms[room].tenant].fast; }

/* head_now: 0 for a room that nobody knows yet: it has no events. */
static uint64_t head_now(unsigned room) { return scenario_room_known(room) ? store_head(id_of(room)) : 0; }

/* --- positions ----------------------------------------------------------------------------------------------- */

void truth_begin(void)
{
    memset(reached, 0xff, sizeof reached);
    first = 0;
}

/* reached_in: nobody was served in an epoch before the first one. */
static uint64_t reached_in(unsigned room, uint64_t epoch) { return epoch < first ? 0 : reached[room][epoch - first]; }

void truth_epoch(uint64_t epoch)
{
    if (first == 0) first = epoch;
    CHECK(epoch - first < EPOCHS_MAX, "more epochs than a run has crashes");
    for (unsigned r = 0; r < SCENARIO_ROOMS_MAX; r++) {
        uint64_t head = r < scenario.num_rooms ? head_now(r) : 0;
        for (uint64_t e = 0; e < epoch - first; e++)
            if (reached[r][e] > head) reached[r][e] = head;
    }
}

uint64_t truth_durable_head(unsigned room, uint64_t version)
{
    uint64_t seq = head_now(room);
    while (seq && store_row(id_of(room), seq)->durable_version > version) seq--;
    return seq;
}

uint64_t truth_visible_head(unsigned room, uint64_t version)
{
    const struct watched_row *row;
    uint64_t seq = truth_durable_head(room, version);
    if (!fast(room)) return seq;
    while ((row = store_row(id_of(room), seq + 1)) && row->written_version <= version) seq++;
    return seq;
}

enum verdict truth_position(unsigned room, uint64_t epoch, uint64_t seq, uint64_t now, uint64_t seen,
                            struct span span)
{
    if (epoch == 0 || epoch > now) return VERDICT_NO;
    if (epoch < first && seq == 0) return VERDICT_EITHER; /* a store that began anew may or may not know of it */
    if (epoch < now) return seq <= reached_in(room, epoch) ? VERDICT_YES : VERDICT_NO;
    if (fast(room) && store_num_lost(id_of(room))) return VERDICT_EITHER; /* what was visible then may be gone now */
    if (seq <= seen) return VERDICT_YES;
    return seq > truth_visible_head(room, span.to) ? VERDICT_NO : VERDICT_EITHER;
}

uint64_t truth_void_from(unsigned room, uint64_t epoch, uint64_t now)
{
    if (epoch == 0 || epoch > now) return 1;
    uint64_t seq = reached_in(room, epoch);
    return seq == UINT64_MAX ? UINT64_MAX : seq + 1;
}

/* --- membership ---------------------------------------------------------------------------------------------- */

static struct slice user_name(char text[24], unsigned user)
{
    return slice_of(text, (size_t)snprintf(text, 24, "user%u", user));
}

/* changes: the row makes the user a member (true) or takes them out. */
static bool changes(const struct watched_row *row, unsigned user, bool *joins)
{
    char text[24];
    *joins = row->record.kind == LOG_JOINED;
    return (*joins || row->record.kind == LOG_LEFT) && store_names(row, user_name(text, user));
}

bool truth_member(unsigned room, unsigned user, uint64_t version, uint64_t *changed_seq)
{
    bool joins;
    *changed_seq = 0;
    for (uint64_t seq = truth_visible_head(room, version); seq > 0; seq--) {
        if (!changes(store_row(id_of(room), seq), user, &joins)) continue;
        *changed_seq = seq;
        return joins;
    }
    return scenario.rooms[room].first_members >> user & 1;
}

/* was looks for a moment of the span at which the user was a member, or was not: as it stood durably when the span
 * began, or by any change that may have been seen since. */
static bool was(unsigned room, unsigned user, struct span span, bool member)
{
    bool joins;
    bool state = scenario.rooms[room].first_members >> user & 1;
    const struct watched_row *row;
    uint64_t before = truth_durable_head(room, span.from), to = truth_visible_head(room, span.to);
    if (fast(room) && store_num_lost(id_of(room))) return true; /* what was seen then may be gone now */
    for (uint64_t seq = 1; seq <= before; seq++) {
        row = store_row(id_of(room), seq);
        if (changes(row, user, &joins)) state = joins;
    }
    for (uint64_t seq = before + 1; state != member && seq <= to; seq++)
        if (changes(store_row(id_of(room), seq), user, &joins)) state = joins;
    return state == member;
}

bool truth_was_out(unsigned room, unsigned user, struct span span) { return was(room, user, span, false); }

bool truth_was_in(unsigned room, unsigned user, struct span span) { return was(room, user, span, true); }

bool truth_takes_out(unsigned room, unsigned user, uint64_t seq)
{
    bool joins;
    const struct watched_row *row = store_row(id_of(room), seq);
    return row && changes(row, user, &joins) && !joins;
}

bool truth_is_message(unsigned room, uint64_t seq)
{
    const struct watched_row *row = store_row(id_of(room), seq);
    return row && row->record.kind == LOG_MESSAGE;
}
