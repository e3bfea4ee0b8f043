/* entry: how a history is kept: one list of operations and rows in the order in which they were added, texts by number
 * (texts.h). Only the files of this folder see it. */
#ifndef CARILLON_TESTS_HISTORY_ENTRY_H
#define CARILLON_TESTS_HISTORY_ENTRY_H

#include "history.h"
#include "texts.h"

enum entry_kind {
#define OP(id, name, members, text) ENTRY_##id,
#include "ops.def"
#undef OP
    ENTRY_KINDS
};

/* entry: which members mean something depends on the kind; 0 is "none" for texts, epochs and sequence numbers. */
struct entry {
    enum entry_kind kind;
    uint32_t file, line;
    uint64_t t;
    uint64_t seq;
    uint64_t until_seq; /* of a member */
    uint64_t asked;     /* of a page or cursor: time */
    uint64_t within_ns; /* of healed */
    uint64_t epoch;
    uint64_t asked_epoch, asked_seq, from, head; /* of resumed */
    uint32_t room, user;                         /* user: also the sender of a message */
    uint32_t device, connection;
    uint32_t type, message_id, client_id, content, created_at;
    uint32_t sender; /* of a receipt */
    uint32_t key, notification_id, code;
    uint32_t users_at, num_users; /* in history.users */
    enum history_path path;
    bool recovered, power;
};

struct history {
    struct entry *entries;
    size_t len, cap;
    struct texts texts;
    uint32_t *users; /* lists of texts */
    size_t num_users, cap_users;
    uint32_t *files; /* [number]: texts */
    size_t num_files;
    uint32_t file, line; /* of what is added next */
};

static inline struct history_text entry_text(const struct history *h, uint32_t number)
{
    return h->texts.items[number];
}

/* entry_op returns the op's name in records; "" for a row of the export. entry_kind_of finds a name, ENTRY_KINDS: none.
 */
const char *entry_op(enum entry_kind kind);
enum entry_kind entry_kind_of(struct history_text op);
/* entry_describe returns "file:line: " where there is one, and the entry as the line of a record; free it. */
char *entry_describe(const struct history *h, const struct entry *e);

#endif
