#include "line.h"

#include "client.h"
#include "world.h"

void line_open(struct line *l, bool admin)
{
    size_t up = world_chance(3) ? 64 + world_below(512) : 16384, down = world_chance(3) ? 64 + world_below(512) : 65536;
    l->link = link_open((unsigned)world_below(scenario.num_cores), admin, up, down);
    l->gateway = scenario.gateway;
}

bool line_disk_failed(const struct line *l) { return scenario.failed_gateways >> l->gateway & 1; }

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
    }
    return !link_ended(l->link);
}

void line_take(struct line *l, size_t len)
{
    buf_consume(&l->in, len);
    l->offset += len;
}
