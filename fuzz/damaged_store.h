/* damaged_store: a store that a gateway made, in memory, and damages to its rows, which an input lists: bytes changed
 * in values and keys, values cut or exchanged, rows removed or added.
 *
 * Call order: sound_store_make once; then for each input damages_begin, damage_next until it says no, rows_write. */
#ifndef CARILLON_FUZZ_DAMAGED_STORE_H
#define CARILLON_FUZZ_DAMAGED_STORE_H

#include "../storage/kv.h"
#include "../tests/unit/harness.h"

#define ROWS_MAX 512u
#define SOUND_ROOMS 3u

struct row {
    enum kv_cf cf;
    struct buf key, value;
    bool removed;
};

enum damage { CHANGE_VALUE, CUT_VALUE, CHANGE_KEY, EXCHANGE_VALUE, REMOVE, ADD, DAMAGES };

/* sound_store: what the gateway left, and who is in it. */
struct sound_store {
    struct row rows[ROWS_MAX];
    unsigned num_rows;
    uint32_t tenant;
    char api_key[API_KEY_TEXT_MAX + 1];
    struct person alice, bob, carol;
    uint64_t rooms[SOUND_ROOMS], heads[SOUND_ROOMS]; /* alice and bob, bob and carol, alice and carol */
};
extern struct sound_store sound;
extern struct row damaged_rows[ROWS_MAX];
extern unsigned num_damaged_rows;

void sound_store_make(void);
/* damages_begin makes the damaged rows the sound ones again. */
void damages_begin(void);
/* damage_next does the next damage of the input to a row of a family in `families` (a bit each); false at its end. */
bool damage_next(struct slice *input, enum damage *kind, unsigned *row, uint32_t families);
/* rows_write puts the damaged rows into a store; returns how many. */
unsigned rows_write(struct kv *kv);

#endif
