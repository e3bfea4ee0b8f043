#include "line.h"

#include "scenario.h"
#include "world.h"

void line_open(struct line *l, unsigned tenant, bool admin)
{
    unsigned small = scenario.sluggish ? 2 : 3;
    size_t up = world_chance(3) ? 64 + world_below(512) : 16384;
    size_t down = world_chance(small) ? 64 + world_below(512) : 65536;
    l->link = link_open((unsigned)world_below(scenario.num_cores), admin, up, down);
    l->gateway = scenario.gateway;
    l->tenant = tenant;
    l->key = 0;
}

const char *line_key(struct line *l)
{
    const struct scenario_tenant *t = &scenario.tenants[l->tenant];
    l->key = (unsigned)world_below(t->num_keys);
    if (t->keys[l->key].revoked.maybe && (scenario.healing || !world_chance(4))) l->key = 0;
    return t->keys[l->key].text;
}

bool line_disk_failed(const struct line *l) { return scenario.failed_gateways >> l->gateway & 1; }

bool line_draining(const struct line *l) { return scenario.draining_gateways >> l->gateway & 1; }

bool line_late(const struct line *l) { return scenario.late_gateways >> l->gateway & 1; }

uint64_t line_epoch(const struct line *l) { return scenario.epochs[l->gateway]; }

void line_close(struct line *l, bool reset)
{
    if (l->link) link_drop(l->link, reset);
    l->link = NULL;
    l->out.len = l->in.len = 0;
    l->offset = 0;
}

bool line_can_pump(const struct line *l)
{
    return l->link && (link_readable(l->link) || link_ended(l->link) || (l->out.len && link_writable(l->link)));
}

bool line_pump(struct line *l, bool reads)
{
    if (l->out.len && !link_ended(l->link)) {
        size_t len = world_chance(3) ? 1 + world_below(l->out.len) : l->out.len;
        buf_consume(&l->out, link_write(l->link, slice_of(l->out.data, len)));
    }
    size_t ready = reads ? link_readable(l->link) : 0;
    if (ready) {
        size_t len = world_chance(3) ? 1 + world_below(ready) : ready;
        buf_reserve(&l->in, len);
        l->in.len += link_read(l->link, l->in.data + l->in.len, len);
        if (l->tenant != TENANT_ANY) scenario_check_bytes(l->tenant, buf_slice(&l->in));
    }
    return !link_ended(l->link);
}

void line_take(struct line *l, size_t len)
{
    buf_consume(&l->in, len);
    l->offset += len;
}
