#include "listeners.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../base/assert.h"

static enum status open_address(struct listeners *l, struct slice address, int send_buffer_bytes, char *why,
                                size_t why_len);
static enum status wait_for_port(const char *address, char *why, size_t why_len);
static void add(struct listeners *l, unsigned core, int fd, bool trusted);

enum status listeners_open(struct listeners *l, const struct config *config, unsigned num_cores, char *why,
                           size_t why_len)
{
    *l = (struct listeners){.num_cores = num_cores};
    struct slice rest = slice_str(config->net_listen), address;
    while (config_list_next(&rest, &address)) {
        enum status status = open_address(l, address, (int)config->net_send_buffer, why, why_len);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

enum status listeners_open_admin(struct listeners *l, const char *path, char *why, size_t why_len)
{
    int fd;
    enum status status;
    unsigned waited_ms = 0;
    /* What a killed process leaves in the kernel can answer for a moment, as at a port. */
    while ((status = listener_open_unix(&fd, path, why, why_len)) == STATUS_EXISTS && waited_ms < PORT_WAIT_MS) {
        usleep(BIND_RETRY_MS * 1000);
        waited_ms += BIND_RETRY_MS;
    }
    if (status != STATUS_OK) return status;
    add(l, 0, fd, true);
    l->admin_path = path;
    return STATUS_OK;
}

void listeners_close(struct listeners *l)
{
    if (l->admin_path) unlink(l->admin_path);
    for (unsigned core = 0; core < l->num_cores; core++)
        for (unsigned i = 0; i < l->num_of_core[core]; i++) close(l->of_core[core][i].fd);
    *l = (struct listeners){0};
}

static enum status open_address(struct listeners *l, struct slice address, int send_buffer_bytes, char *why,
                                size_t why_len)
{
    ASSERT(l->num_addresses < LISTENERS_MAX);
    char *name = l->addresses[l->num_addresses];
    if (address.len >= LISTENER_NAME_LEN) {
        snprintf(why, why_len, "cannot listen on %.*s: the address is too long", SLICE_FMT(address));
        return STATUS_INVALID;
    }
    memcpy(name, address.data, address.len);
    name[address.len] = '\0';
    enum status status = wait_for_port(name, why, why_len);
    /* The first socket's port 0 becomes a real one, in `name`, which the others then share. */
    for (unsigned core = 0; core < l->num_cores && status == STATUS_OK; core++) {
        char wanted[LISTENER_NAME_LEN];
        memcpy(wanted, name, sizeof wanted);
        /* Whoever connects sends a request: one wake-up instead of two, and who sends nothing holds no place so
         * soon. */
        struct listener_tcp tcp = {
            .address = wanted, .reuse_port = true, .deferred = true, .send_buffer_bytes = send_buffer_bytes};
        int fd;
        status = listener_open_tcp(&fd, name, &tcp, why, why_len);
        if (status == STATUS_OK) add(l, core, fd, false);
    }
    if (status == STATUS_OK) l->num_addresses++;
    return status;
}

/* wait_for_port makes sure that nobody else listens there. SO_REUSEPORT alone would let two gateways of one user share
 * a port, each getting half of the connections; a socket without it is refused as long as any other is bound. It also
 * sits out what a killed process' ring holds on to. */
static enum status wait_for_port(const char *address, char *why, size_t why_len)
{
    char bound[LISTENER_NAME_LEN], first_why[256];
    struct listener_tcp alone = {.address = address};
    for (unsigned waited_ms = 0;; waited_ms += BIND_RETRY_MS) { /* listener_open_tcp itself waits that long */
        int fd;
        enum status status = listener_open_tcp(&fd, bound, &alone, first_why, sizeof first_why);
        if (status == STATUS_OK) close(fd);
        if (status == STATUS_OK) return status;
        if (status == STATUS_EXISTS && waited_ms < PORT_WAIT_MS) continue;
        const char *advice = ": stop it (`ss -ltnp` names it), or choose another port with --listen";
        snprintf(why, why_len, "%s%s", first_why, status == STATUS_EXISTS ? advice : "");
        return status;
    }
}

static void add(struct listeners *l, unsigned core, int fd, bool trusted)
{
    ASSERT(l->num_of_core[core] < LISTENERS_MAX);
    l->of_core[core][l->num_of_core[core]++] = (struct net_listener){.fd = fd, .trusted = trusted};
}
