/* rest_backups: on-line backups, for the operator. The work is storage/backup.h's own thread's. */
#include <stdlib.h>

#include "../../storage/backup.h"
#include "../base/assert.h"
#include "api.h"

static void item_json(struct buf *out, const struct backup_item *item)
{
    buf_printf(out, "{\"backup_id\":\"%u\",\"created_at\":", item->row.id);
    char time[TIME_TEXT_LEN];
    time_text(time, item->row.created_ms);
    if (item->row.created_ms) buf_printf(out, "\"%.*s\"", (int)TIME_TEXT_LEN, time);
    else BUF_LIT(out, "null"); /* of a damaged one nothing is known */
    buf_printf(out, ",\"state\":\"%s\",\"bytes\":%llu,\"files\":%u", backup_state_name(item->state),
               (unsigned long long)item->row.bytes, item->row.files);
    if (item->state == BACKUP_FAILED) {
        BUF_LIT(out, ",\"error\":");
        buf_json_string(out, slice_str(item->error));
    }
    BUF_LIT(out, "}");
}

void rest_backup_create(struct call *call)
{
    struct backup *backup = call->core->gateway->backup;
    struct backup_item item;
    if (!backup) {
        call_fail(call, ERR_BACKUP_OFF, NULL, NULL);
        return;
    }
    if (backup_request(backup, &item) == STATUS_EXISTS) {
        call_fail(call, ERR_BACKUP_RUNNING, NULL, NULL);
        return;
    }
    struct buf out = {0};
    item_json(&out, &item);
    call_reply(call, 202, buf_slice(&out));
    buf_free(&out);
}

void rest_backup_list(struct call *call)
{
    struct backup *backup = call->core->gateway->backup;
    if (!backup) {
        call_fail(call, ERR_BACKUP_OFF, NULL, NULL);
        return;
    }
    struct backup_item *items = calloc(BACKUPS_MAX + 1, sizeof *items);
    ASSERT(items);
    unsigned num = backup_list_items(backup, items);
    struct buf out = {0};
    BUF_LIT(&out, "{\"items\":[");
    for (unsigned i = 0; i < num; i++) {
        if (i) BUF_LIT(&out, ",");
        item_json(&out, &items[i]);
    }
    BUF_LIT(&out, "],\"next\":null}");
    call_reply(call, 200, buf_slice(&out));
    buf_free(&out);
    free(items);
}
