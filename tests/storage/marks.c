#include "marks.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "../../src/base/assert.h"
#include "../../storage/store.h"
#include "pair.h"

#define STEPS 60u
#define UNSYNCED_MAX 64u

enum { FILE_MARK, FAKE, MARKS };

struct marks {
    struct mark *mark[MARKS];
    char dir[300];
    const char *parent;
    unsigned life;
    uint64_t synced, newest;           /* 0: none yet */
    uint64_t unsynced[UNSYNCED_MAX];   /* written since, in order */
    unsigned num_unsynced;
    uint64_t failed;                   /* of a write that failed; it may be in the file for all that. 0: none */
    struct chances *chances;
};

static void crash(struct marks *m);
static void reopen(struct marks *m);

static void open_file(struct marks *m)
{
    AGREE(mark_open_file(&m->mark[FILE_MARK], m->dir, NULL) == STATUS_OK, "the mark file does not open");
}

static void new_life(struct marks *m)
{
    snprintf(m->dir, sizeof m->dir, "%s/mark-%u", m->parent, m->life++);
    ASSERT(mkdir(m->dir, 0700) == 0);
}

static uint64_t compare(struct marks *m)
{
    uint64_t at[MARKS] = {0, 0};
    enum status s[MARKS];
    for (unsigned i = 0; i < MARKS; i++) s[i] = mark_read(m->mark[i], &at[i]);
    AGREE(s[FILE_MARK] == s[FAKE] && at[FILE_MARK] == at[FAKE],
          "a mark: the file says %s %" PRIu64 ", the fake %s %" PRIu64, status_name(s[FILE_MARK]), at[FILE_MARK],
          status_name(s[FAKE]), at[FAKE]);
    return at[FAKE];
}

/* write_both writes the next mark, rising or the same; both must answer as wanted. */
static void write_both(struct marks *m, enum status wanted)
{
    uint64_t next = m->newest + chances_below(m->chances, 3) + (m->newest == 0);
    if (m->num_unsynced == UNSYNCED_MAX) return;
    for (unsigned i = 0; i < MARKS; i++) {
        enum status s = mark_write(m->mark[i], next);
        AGREE(s == wanted, "a mark's write: the %s says %s", i == FAKE ? "fake" : "file", status_name(s));
    }
    if (wanted == STATUS_OK) m->unsynced[m->num_unsynced++] = m->newest = next;
    if (wanted == STATUS_IO) m->failed = next;
    seen->marks++;
}

static void sync_both(struct marks *m, enum status wanted)
{
    for (unsigned i = 0; i < MARKS; i++) {
        enum status s = mark_sync(m->mark[i]);
        AGREE(s == wanted, "a mark's sync: the %s says %s", i == FAKE ? "fake" : "file", status_name(s));
    }
    if (wanted != STATUS_OK || m->newest == 0) return;
    m->synced = m->newest;
    m->num_unsynced = 0;
}

static void refuse_both(struct marks *m)
{
    write_both(m, STATUS_READ_ONLY);
    sync_both(m, STATUS_READ_ONLY);
    compare(m);
}

static void fail(struct marks *m)
{
    bool writes = chances_one_in(m->chances, 2);
    power_fail(writes ? POWER_FAILS_WRITES : POWER_FAILS_SYNCS, "MARK", m->chances);
    mark_fake_fail(m->mark[FAKE], writes, !writes);
    if (writes) write_both(m, STATUS_IO);
    else sync_both(m, STATUS_IO);
    refuse_both(m);
    power_fail(POWER_FAILS_NOTHING, "", m->chances);
    mark_fake_fail(m->mark[FAKE], false, false);
    refuse_both(m); /* the disk works again, and that is too late */
    seen->mark_failures++;
    if (chances_one_in(m->chances, 2)) crash(m);
    else reopen(m);
}

/* opened_again: the file holds what was synced, or one that was written since, be it by a write that failed; it is
 * durable from now on. The fake, which knows the last mark and the synced one alone, is brought to the same. */
static void opened_again(struct marks *m)
{
    uint64_t now = 0;
    open_file(m);
    enum status s = mark_read(m->mark[FILE_MARK], &now);
    AGREE(s == STATUS_OK || s == STATUS_NOT_FOUND, "the mark file says %s", status_name(s));
    bool known = now == m->synced || (m->failed && now == m->failed);
    for (unsigned i = 0; i < m->num_unsynced; i++) known |= m->unsynced[i] == now;
    AGREE(known, "the mark is %" PRIu64 ", synced was %" PRIu64 ", written %" PRIu64, now, m->synced, m->newest);
    mark_fake_hold(m->mark[FAKE]);
    mark_close(m->mark[FAKE]);
    mark_fake_crash(m->mark[FAKE], now < m->newest);
    uint64_t fake = 0;
    if (s == STATUS_OK && (mark_read(m->mark[FAKE], &fake) != STATUS_OK || fake < now)) {
        AGREE(mark_write(m->mark[FAKE], now) == STATUS_OK, "the fake's write fails behind a crash");
        mark_fake_crash(m->mark[FAKE], false);
    }
    m->synced = m->newest = compare(m);
    m->num_unsynced = 0;
    m->failed = 0;
}

static void reopen(struct marks *m)
{
    uint64_t newest = m->newest;
    bool failed = m->failed > 0; /* such a write may have torn the newest mark, which went to the same slot */
    mark_close(m->mark[FILE_MARK]);
    opened_again(m);
    AGREE(m->newest >= newest || failed, "a reopening lost the mark %" PRIu64 " for %" PRIu64, newest, m->newest);
}

static void crash(struct marks *m)
{
    char from[sizeof m->dir];
    snprintf(from, sizeof from, "%s", m->dir);
    new_life(m);
    power_cut(from, m->dir, (enum power_loss)chances_below(m->chances, POWER_LOSSES), m->chances);
    mark_close(m->mark[FILE_MARK]);
    uint64_t synced = m->synced, newest = m->newest;
    opened_again(m);
    seen->marks_lost += m->newest < newest;
    seen->marks_kept += m->newest > synced;
    seen->mark_crashes++;
}

void marks_run(const char *dir, struct chances *chances)
{
    struct marks m = {.parent = dir, .chances = chances};
    power_watch(dir);
    new_life(&m);
    open_file(&m);
    m.mark[FAKE] = mark_fake_new();
    for (unsigned n = 0; n < STEPS; n++) {
        switch (chances_below(chances, 12)) {
        case 0: reopen(&m); break;
        case 1: crash(&m); break;
        case 2: fail(&m); break;
        case 3: case 4: case 5: sync_both(&m, STATUS_OK); break;
        default: write_both(&m, STATUS_OK);
        }
        compare(&m);
    }
    for (unsigned i = 0; i < MARKS; i++) mark_close(m.mark[i]);
}
