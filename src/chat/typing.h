/* typing: who types in a room, kept at the room's home, in memory alone.
 *
 * A user says start, again every few seconds while it goes on, and stop. Others are told (NOTICE_TYPING, presence.c):
 * start at most once in TYPING_REPEAT_MS for a user and room, and stop when it was said, when nothing renewed it for
 * TYPING_TIMEOUT_MS, when the user sends a message to the room, leaves it, or is without a socket. At most
 * TYPING_SHOWN_MAX users of a room are shown at a time; who comes later is shown when it says start again and there is
 * room. At most TYPING_MAX records are kept on a core; what does not fit is not shown. */
#ifndef CARILLON_CHAT_TYPING_H
#define CARILLON_CHAT_TYPING_H

#include "../core/core.h"

struct notice;
struct room;

void typing_start(struct core *core, struct room *r, uint64_t user, struct slice user_id);
/* typing_stop: also of a user who does not type; asked for only while room->num_typing says that somebody does. */
void typing_stop(struct core *core, struct room *r, uint64_t user);
/* typing_on_notice: the user's last socket is gone. */
void typing_on_notice(struct core *core, struct notice *n);
/* typing_timers ends what was not renewed, once a turn. typing_wake_at: when something is due, else UINT64_MAX. */
void typing_timers(struct core *core);
uint64_t typing_wake_at(const struct core *core);
void typing_free(struct core *core);

#endif
