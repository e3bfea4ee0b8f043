#include "disk.h"

#include "../../storage/store.h"

const char disk_program[] = "simulator";

static struct kv *fake;

struct kv *disk_open(void) { return fake = kv_fake_new(); }

void disk_wrote(void) {}
void disk_synced(void) {}

size_t disk_unsynced(void) { return kv_fake_unsynced(fake); }

struct kv *disk_crash(size_t keep, bool tear)
{
    kv_fake_crash(fake, keep, tear);
    return fake;
}

struct kv *disk_reopen(void)
{
    kv_fake_hold(fake);
    kv_close(fake);
    return fake;
}

void disk_end(void) { kv_close(fake); }
