/* truth: what clients may be told, by what the store held when: who was a member, how far the log reached, which
 * positions are good. An answer is given between two versions of the store: the one when it was asked for, and the
 * one when its bytes left the gateway. */
#ifndef CARILLON_TESTS_SIM_TRUTH_H
#define CARILLON_TESTS_SIM_TRUTH_H

#include <stdbool.h>
#include <stdint.h>

struct span {
    uint64_t from, to; /* store_version */
};

enum verdict { VERDICT_NO, VERDICT_YES, VERDICT_EITHER };

/* truth_begin forgets an earlier run. truth_epoch: a gateway begins to serve in this epoch; what earlier epochs
 * reached is what the store holds now. */
void truth_begin(void);
void truth_epoch(uint64_t epoch);
/* truth_position: did `epoch` durably reach `seq` (in a fast room: did it write it), as a gateway in epoch `now`
 * knows it? What is durable it need not know at once; what anybody has `seen` it does. */
enum verdict truth_position(unsigned room, uint64_t epoch, uint64_t seq, uint64_t now, uint64_t seen,
                            struct span span);
/* truth_void_from: the first seq that nobody who was served in that epoch can hold; 1 when there was no such epoch. */
uint64_t truth_void_from(unsigned room, uint64_t epoch, uint64_t now);

/* truth_member: is the user one at `version`, and which seq's join or leave says so (0: from the start or never)? */
bool truth_member(unsigned room, unsigned user, uint64_t version, uint64_t *changed_seq);
/* truth_was_out, truth_was_in: at some moment of the span it may have been so. */
bool truth_was_out(unsigned room, unsigned user, struct span span);
bool truth_was_in(unsigned room, unsigned user, struct span span);
/* truth_takes_out: this seq is the user's leaving. */
bool truth_takes_out(unsigned room, unsigned user, uint64_t seq);
/* truth_durable_head: how far the log reached durably at `version`. truth_visible_head: how far it may have been
 * shown. */
uint64_t truth_durable_head(unsigned room, uint64_t version);
uint64_t truth_visible_head(unsigned room, uint64_t version);
/* truth_is_message: what stands under this seq now is one, and has not been lost. */
bool truth_is_message(unsigned room, uint64_t seq);

#endif
