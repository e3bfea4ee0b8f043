/* mark: the low-water mark file, which knows how far the store was once durable.
 *
 * RocksDB's point-in-time recovery silently drops the log's tail behind a damaged record. Before each sync the syncer
 * reads the store's sequence number; after it, it writes that number here. A store that opens with a lower number
 * has lost something acknowledged, and refuses to serve rather than give numbers a second time.
 *
 * Beside it stands a print of RocksDB's MANIFEST as of the mark's last sync (manifest.h).
 *
 * The file holds two checksummed slots. Writes go to one until a sync has made it durable, then to the other, so a torn
 * write leaves a good one. */
#ifndef CARILLON_STORAGE_MARK_H
#define CARILLON_STORAGE_MARK_H

#include <stdint.h>

#include "../src/base/status.h"
#include "manifest.h"

struct mark;

/* The first write or sync that fails is the last that is tried: STATUS_IO or NO_SPACE, then READ_ONLY until the mark is
 * opened again. What was written by then may be there or not, the write that failed included. */
struct mark_ops {
    /* NOT_FOUND: none was there; INVALID: cut short, and no good slot in what is left; CORRUPT: no good slot */
    enum status (*read)(struct mark *m, uint64_t *sequence);
    enum status (*write)(struct mark *m, uint64_t sequence);       /* not synced yet */
    enum status (*sync)(struct mark *m);
    void (*close)(struct mark *m);
};

/* Implementations embed this first. */
struct mark {
    const struct mark_ops *ops;
};

/* mark_open_file opens or creates DIR/MARK, of the database that is open in DIR/db; kv is NULL in a test without
 * one. */
MUST_USE enum status mark_open_file(struct mark **out, const char *dir, struct kv *kv);
/* mark_look_file reads DIR/MARK and changes nothing, for whoever only reads the store: what mark_read answers,
 * NOT_FOUND without a file, IO when it cannot be read. The print's number is 0 when there is none. */
MUST_USE enum status mark_look_file(uint64_t *sequence, struct manifest_print *manifest, const char *dir);

MUST_USE static inline enum status mark_read(struct mark *m, uint64_t *sequence) { return m->ops->read(m, sequence); }
MUST_USE static inline enum status mark_write(struct mark *m, uint64_t sequence) { return m->ops->write(m, sequence); }
MUST_USE static inline enum status mark_sync(struct mark *m) { return m->ops->sync(m); }
static inline void mark_close(struct mark *m) { m->ops->close(m); }

#endif
