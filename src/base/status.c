#include "status.h"

const char *status_name(enum status s)
{
    switch (s) {
    case STATUS_OK: return "ok";
    case STATUS_FULL: return "full";
    case STATUS_NOT_FOUND: return "not_found";
    case STATUS_INVALID: return "invalid";
    case STATUS_EXISTS: return "exists";
    case STATUS_DENIED: return "denied";
    case STATUS_IO: return "io_error";
    case STATUS_CORRUPT: return "corrupt";
    case STATUS_NEWER: return "newer_format";
    case STATUS_LOCKED: return "locked";
    case STATUS_READ_ONLY: return "read_only";
    case STATUS_NO_MEMORY: return "no_memory";
    case STATUS_NO_SPACE: return "no_space";
    case STATUS_UNKNOWN: return "unknown";
    }
    return "?";
}
