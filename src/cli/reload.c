#include "reload.h"

#include "../base/assert.h"
#include "../base/log.h"
#include "../base/log_writer.h"

static void compare(struct reload *r, const struct config *fresh, struct reload_report *report);
static void take_over(struct reload *r, struct config *fresh);
static void log_report(const struct reload_report *report);

void reload_init(struct reload *r, const struct options *options, struct config *loaded, struct config *running)
{
    *r = (struct reload){.options = options, .loaded = loaded, .running = running};
    ASSERT(pthread_mutex_init(&r->lock, NULL) == 0);
}

void reload_settings(struct reload *r, struct reload_report *report)
{
    struct config fresh;
    struct config_error err;
    ASSERT(pthread_mutex_lock(&r->lock) == 0);
    if (options_load(&fresh, r->options, &err) != STATUS_OK) {
        buf_printf(&report->problems, "%s\n", err.text);
    } else {
        /* the one thing that can fail comes first */
        if (reload_logs(&fresh, err.text, sizeof err.text) != STATUS_OK) {
            buf_printf(&report->problems, "%s\n", err.text);
        } else {
            compare(r, &fresh, report);
            take_over(r, &fresh);
        }
        config_free(&fresh);
    }
    log_report(report);
    ASSERT(pthread_mutex_unlock(&r->lock) == 0);
}

enum status reload_logs(const struct config *c, char *why, size_t why_len)
{
    enum status status = log_writer_open(c->log_file, why, why_len);
    if (status == STATUS_OK) log_set_levels((enum log_level)c->log_level, slice_str(c->log_scopes));
    return status;
}

static void compare(struct reload *r, const struct config *fresh, struct reload_report *report)
{
    for (unsigned i = 0; i < SETTINGS; i++) {
        enum setting_id id = (enum setting_id)i;
        if (config_same(r->loaded, fresh, id)) continue;
        struct buf *out = settings[id].reloadable ? &report->applied : &report->unchanged_needs_restart;
        buf_printf(out, "%s: ", settings[id].name);
        config_value(out, r->loaded, id);
        BUF_LIT(out, " -> ");
        config_value(out, fresh, id);
        BUF_LIT(out, "\n");
    }
}

/* take_over: texts are owned by `loaded`, so `running` borrows the new one. */
static void take_over(struct reload *r, struct config *fresh)
{
    for (unsigned i = 0; i < SETTINGS; i++) {
        enum setting_id id = (enum setting_id)i;
        if (!settings[id].reloadable || config_same(r->loaded, fresh, id)) continue;
        config_take(r->loaded, fresh, id);
        config_borrow(r->running, r->loaded, id);
    }
}

/* log_lines writes one line of the log for each line of a list. */
static void log_lines(struct slice lines, enum log_level level, const char *event)
{
    while (lines.len) {
        const char *end = memchr(lines.data, '\n', lines.len);
        ASSERT(end != NULL);
        struct slice line = slice_of(lines.data, (size_t)(end - lines.data));
        lines = slice_from(lines, line.len + 1);
        const char *colon = memchr(line.data, ':', line.len);
        ASSERT(colon != NULL);
        size_t name_len = (size_t)(colon - line.data);
        LOG_ALWAYS(level, "config", event, LOG_SLICE("setting", slice_of(line.data, name_len)),
                   LOG_SLICE("change", slice_from(line, name_len + 2)));
    }
}

static void log_report(const struct reload_report *report)
{
    if (!reload_good(report)) {
        struct slice why = buf_slice(&report->problems);
        LOG_ALWAYS(LOG_ERROR, "config", "reload_failed", LOG_SLICE("why", slice_of(why.data, why.len - 1)));
        return;
    }
    log_lines(buf_slice(&report->applied), LOG_INFO, "setting_applied");
    log_lines(buf_slice(&report->unchanged_needs_restart), LOG_WARN, "restart_needed");
    LOG_ALWAYS(LOG_INFO, "config", "reload", LOG_FLAG("changed", report->applied.len > 0),
               LOG_FLAG("restart_needed", report->unchanged_needs_restart.len > 0));
}
