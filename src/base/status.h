/* status: the one result type of operations that can fail in operation.
 *
 * A function returns either nothing, a value that cannot fail, or `enum status` with its data in an out
 * parameter; status and data are never mixed. Programmer errors are ASSERTs, not statuses. */
#ifndef CARILLON_BASE_STATUS_H
#define CARILLON_BASE_STATUS_H

#define MUST_USE __attribute__((warn_unused_result))

enum status {
    STATUS_OK = 0,
    STATUS_FULL,       /* a bounded queue or pool is at its bound: an ordinary answer, every caller handles it */
    STATUS_NOT_FOUND,  /* no such key, room, user … */
    STATUS_INVALID,    /* input that breaks its format or a limit */
    STATUS_EXISTS,     /* a unique name is taken */
    STATUS_DENIED,     /* known caller, not allowed */
    STATUS_IO,         /* the kernel or the store reported an error */
    STATUS_CORRUPT,    /* stored bytes fail their check */
    STATUS_NEWER,      /* the store was written by a newer format than this program knows */
    STATUS_LOCKED,     /* another process holds the store */
    STATUS_READ_ONLY,  /* the store is poisoned or below its disk reserve: nothing is written any more */
    STATUS_NO_MEMORY,
    STATUS_NO_SPACE,   /* the disk reserve is reached */
    STATUS_UNKNOWN,    /* handed to the store, not known to be durable */
};

/* status_name returns the lower-case name for logs, never NULL. */
const char *status_name(enum status s);

#endif
