/* line: one connection as a client sees it: a link of fake_ring with what is to be sent and what has come. Bytes go and
 * come in pieces of any size, and nothing of another tenant is among them. */
#ifndef CARILLON_TESTS_SIM_LINE_H
#define CARILLON_TESTS_SIM_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/buf.h"
#include "fake_ring.h"

#define TENANT_ANY UINT32_MAX /* the operator's line: bytes of all tenants come over it */

struct line {
    struct link *link; /* NULL: none */
    struct buf out, in;
    uint64_t offset; /* of in's first byte in the stream */
    unsigned gateway; /* the one it was opened to: its last words may come after its end */
    unsigned tenant;
    unsigned key; /* of the tenant, that it shows */
};

/* line_open connects to any core of the gateway that runs, through small buffers now and then. */
void line_open(struct line *l, unsigned tenant, bool admin);
/* line_close drops the connection, if there is one, and what was on its way. */
void line_close(struct line *l, bool reset);
/* line_can_pump: bytes or the end have come, or some can go. */
bool line_can_pump(const struct line *l);
/* line_pump moves some bytes each way; false when the gateway has ended the connection. */
bool line_pump(struct line *l, bool reads);
/* line_take forgets the first `len` bytes that came. */
void line_take(struct line *l, size_t len);
/* line_key chooses one of the tenant's API keys that may be good, and returns its text. */
const char *line_key(struct line *l);
/* line_disk_failed: the disk of the gateway that it was opened to has failed. line_draining: that gateway was
 * asked to stop in good order. line_late: time has jumped for it. */
bool line_disk_failed(const struct line *l);
bool line_draining(const struct line *l);
bool line_late(const struct line *l);
/* line_epoch of the gateway that it was opened to. */
uint64_t line_epoch(const struct line *l);

#endif
