#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../src/base/assert.h"
#include "store.h"

struct value {
    bool present;
    uint64_t sequence;
};

struct fake {
    struct mark mark;
    pthread_mutex_t lock; /* over everything below */
    unsigned owners;
    struct value written, synced;
    bool fail_writes, fail_syncs;
    bool failed; /* a write or sync has: until the mark is opened again neither is tried */
};

static const struct mark_ops fake_ops;
static enum status failure(struct fake *f, bool fails);

struct mark *mark_fake_new(void)
{
    struct fake *f = calloc(1, sizeof *f);
    ASSERT(f);
    f->mark.ops = &fake_ops;
    f->owners = 1;
    ASSERT(pthread_mutex_init(&f->lock, NULL) == 0);
    return &f->mark;
}

void mark_fake_hold(struct mark *m)
{
    struct fake *f = (struct fake *)m;
    pthread_mutex_lock(&f->lock);
    f->owners++;
    pthread_mutex_unlock(&f->lock);
}

void mark_fake_crash(struct mark *m, bool lose_unsynced)
{
    struct fake *f = (struct fake *)m;
    pthread_mutex_lock(&f->lock);
    if (lose_unsynced) f->written = f->synced;
    else f->synced = f->written;
    f->failed = false;
    pthread_mutex_unlock(&f->lock);
}

void mark_fake_fail(struct mark *m, bool writes, bool syncs)
{
    struct fake *f = (struct fake *)m;
    pthread_mutex_lock(&f->lock);
    f->fail_writes = writes;
    f->fail_syncs = syncs;
    pthread_mutex_unlock(&f->lock);
}

static enum status fake_read(struct mark *m, uint64_t *sequence)
{
    struct fake *f = (struct fake *)m;
    pthread_mutex_lock(&f->lock);
    struct value value = f->written;
    pthread_mutex_unlock(&f->lock);
    *sequence = value.sequence;
    return value.present ? STATUS_OK : STATUS_NOT_FOUND;
}

static enum status fake_write(struct mark *m, uint64_t sequence)
{
    struct fake *f = (struct fake *)m;
    pthread_mutex_lock(&f->lock);
    ASSERT(sequence >= f->written.sequence);
    enum status s = failure(f, f->fail_writes);
    if (s == STATUS_OK) f->written = (struct value){true, sequence};
    pthread_mutex_unlock(&f->lock);
    return s;
}

static enum status fake_sync(struct mark *m)
{
    struct fake *f = (struct fake *)m;
    pthread_mutex_lock(&f->lock);
    enum status s = failure(f, f->fail_syncs);
    if (s == STATUS_OK) f->synced = f->written;
    pthread_mutex_unlock(&f->lock);
    return s;
}

static enum status failure(struct fake *f, bool fails)
{
    if (f->failed) return STATUS_READ_ONLY;
    f->failed = fails;
    return fails ? STATUS_IO : STATUS_OK;
}

static void fake_close(struct mark *m)
{
    struct fake *f = (struct fake *)m;
    pthread_mutex_lock(&f->lock);
    ASSERT(f->owners > 0);
    bool last = --f->owners == 0;
    f->failed = false; /* whoever still holds it opens it again */
    pthread_mutex_unlock(&f->lock);
    if (!last) return;
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static const struct mark_ops fake_ops = {fake_read, fake_write, fake_sync, fake_close};
