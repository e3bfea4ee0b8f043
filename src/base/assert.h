/* assert: invariants that stay on in release builds.
 *
 * ASSERT is for what only a bug in this program can break. It prints the place and aborts: a gateway that
 * goes on with a broken invariant could acknowledge what is not on disk. Recovery is a restart (crash-only). */
#ifndef CARILLON_BASE_ASSERT_H
#define CARILLON_BASE_ASSERT_H

#include <stdnoreturn.h>

noreturn void assert_failed(const char *condition, const char *file, int line, const char *function);

#define ASSERT(cond) \
    do { \
        if (__builtin_expect(!(cond), 0)) assert_failed(#cond, __FILE__, __LINE__, __func__); \
    } while (0)

/* UNREACHABLE marks a branch that no input can reach. */
#define UNREACHABLE() assert_failed("unreachable", __FILE__, __LINE__, __func__)

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
