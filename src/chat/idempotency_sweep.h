/* idempotency_sweep: deletes what nobody may repeat any more: kept answers and runs of message keys older than
 * IDEMPOTENCY_KEEP_MS. The newest run of a room stays however old it is: it says where the log goes on without one.
 *
 * A pass walks the whole family in steps: a reader looks at SWEEP_LOOKS rows, then core 0 deletes what it found, in one
 * entry. Of each room it reads no further than to the first run that is young enough. A pass that fails, because the
 * store cannot be read or takes nothing, ends; the next one begins at the front again.
 *
 * Owner: core 0. */
#ifndef CARILLON_CHAT_IDEMPOTENCY_SWEEP_H
#define CARILLON_CHAT_IDEMPOTENCY_SWEEP_H

struct core;
struct idempotency_sweep;

/* idempotency_sweep_run makes the next step when it is due; every turn. */
void idempotency_sweep_run(struct core *core);
/* idempotency_sweep_free: no step may be under way. */
void idempotency_sweep_free(struct idempotency_sweep *s);

#endif
