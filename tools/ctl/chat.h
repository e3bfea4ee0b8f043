/* chat: one user in one room, on a terminal or in a pipe.
 *
 *   chat.c         the loop: connection, what is typed, when to try again
 *   chat_frames.c  what the gateway says, as lines for people
 *   pending.c      what was typed and not acknowledged
 *
 * The position [epoch, seq] of what was shown outlives the connection: a new one resumes there, so nothing is missing
 * and nothing is shown twice. Nothing is acknowledged: the user's own cursors stay where they are. */
#ifndef CARILLON_TOOLS_CTL_CHAT_H
#define CARILLON_TOOLS_CTL_CHAT_H

#include "../client/ws_client.h"
#include "exchange.h"
#include "own_key.h"
#include "pending.h"

enum chat_link {
    CHAT_AWAY,    /* no connection; the next attempt is at retry_ms */
    CHAT_GREETED, /* hello is on its way */
    CHAT_HERE,    /* welcome has come: messages may be sent */
};

struct chat {
    const struct ctl *c;
    const char *room_id, *user;
    struct own_key own_key;     /* made for this chat, unless one was given */
    struct exchange rest;       /* as the user */
    struct json_parser *parser; /* of frames */
    struct buf fields;          /* of the upgrade */
    struct ws_client ws;
    enum chat_link link;
    uint64_t epoch, seq;        /* shown up to here */
    bool was_here;              /* a welcome has come before: the next one is a return */
    bool told_away;             /* that the connection is lost has been said */
    unsigned attempts;          /* since the last welcome */
    uint64_t retry_ms, reconnect_after_ms;
    struct pendings pending;
    struct buf typed;           /* the line that is not whole yet */
    bool input_ended;           /* nothing more can be read; lines may be left in `typed` */
    bool typed_end;             /* no more lines: the last one was taken, or /quit */
    uint64_t end_ms;            /* with typed_end: when waiting for answers ends */
    bool ended;
    int code;                   /* enum ctl_exit */
};

uint64_t chat_now_ms(void);
/* chat_note prints a line of the chat's own, faint, on stdout, or on stderr when stdout is for JSON; chat_problem one
 * that
 * --quiet does not hold back, but sends to stderr. */
void chat_note(const struct chat *chat, const char *format, ...) __attribute__((format(printf, 2, 3)));
void chat_problem(const struct chat *chat, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* chat_end ends the chat with that exit code. */
void chat_end(struct chat *chat, int code);

/* chat_frame takes in one frame of the gateway. */
void chat_frame(struct chat *chat, struct slice text);
/* chat_message prints a message object (a push, or a row of the history). */
void chat_message(const struct chat *chat, struct json_node message);

#endif
