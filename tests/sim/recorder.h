/* recorder: what the clients of a run did, were told and saw, as a history (tests/history): at the end it is held, with
 * the log that the store then has, against the very rules that fault tests are judged by. The oracle judges each answer
 * as it comes, by what it knows; this judges all of them together, and knows nothing of the run but what was recorded.
 *
 * Nothing here takes part in the run: neither its chance nor its clock is touched. One world a process. */
#ifndef CARILLON_TESTS_SIM_RECORDER_H
#define CARILLON_TESTS_SIM_RECORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/slice.h"

struct client;
struct message;
struct watched_notice;
struct kv;

void recorder_open(void);
/* recorder_joins: the user is about to be let in; recorder_joined: that was answered by this gateway, somehow. */
void recorder_joins(unsigned room, unsigned user);
void recorder_joined(unsigned room, unsigned user, unsigned gateway);
/* recorder_left: the removal that was asked for at `moment` was acknowledged. It is taken for one unless somebody may
 * have let the user in again meanwhile. */
void recorder_left(unsigned room, unsigned user, uint64_t moment);
/* recorder_deleted: the tenant's end was acknowledged: its users are shown nothing younger, and owed nothing. */
void recorder_deleted(unsigned tenant);

/* recorder_connect: the client opens another socket; what it is told on it is a connection of its own. */
void recorder_connect(const struct client *c);
/* recorder_invoke is called before the request can leave the client. */
void recorder_invoke(const struct client *c, const struct message *m);
void recorder_ok(const struct client *c, const struct message *m, struct slice answer, uint64_t epoch);
/* recorder_fail: refused for good. A refusal that may pass is as good as no answer. */
void recorder_fail(const struct client *c, const struct message *m, struct slice code);
/* recorder_subscribed: what comes from now on need not go on with what came before. */
void recorder_subscribed(const struct client *c);
/* recorder_push takes a durable push, recorder_page the member of a page that holds its events: `whole` when it leaves
 * out none. Epochs are those of the gateway that said it. */
void recorder_push(const struct client *c, struct slice event, uint64_t epoch);
void recorder_page(const struct client *c, struct slice page, const char *items, bool whole, uint64_t epoch);
/* recorder_resumed takes `resumed`; the epoch asked for is 0 when the client named no position. */
void recorder_resumed(const struct client *c, struct slice resumed, uint64_t asked_epoch, uint64_t asked_seq);

void recorder_ack(const struct client *c, struct slice room_id, uint64_t seq);
void recorder_acked(const struct client *c, struct slice room_id, uint64_t seq, unsigned gateway);
/* recorder_cursor: the welcome showed where the device stands. */
void recorder_cursor(const struct client *c, struct slice room_id, uint64_t seq);

/* recorder_notify: this creation (creations.h) is asked for; those whose users cannot be told beforehand are left out
 * of the history. recorder_notified: its user has been told of it, by a push to the client or otherwise (NULL). */
void recorder_notify(unsigned creation);
void recorder_notify_ok(unsigned creation);
void recorder_notified(const struct watched_notice *n, const struct client *c);

void recorder_crash(bool power);
/* recorder_forgotten: weeks have passed, and the ids of messages with them: one may rightly be appended again. */
void recorder_forgotten(void);
/* recorder_healed: there were no faults since, and the run has come to rest: each client's device has what it is owed.
 */
void recorder_healed(uint64_t since_ns);
/* recorder_judge reads the log that the store has, and fails the run when a rule does not hold. */
void recorder_judge(struct kv *kv);
void recorder_close(void);

#endif
