/* memory: the allocator of carillon-faults: glibc's, with a caller that can be made to get nothing. All of the process
 * comes by here, RocksDB and the C++ library too, since a symbol of the executable goes before those of its libraries.
 * glibc's (and not jemalloc) because it exports names under which the next one can be reached without looking it up,
 * which allocates. A place is named by its return address. */
#include <cerrno>
#include <cstddef>
#include <new>

#include "table.h"

extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);
}

#define CALLER() __builtin_extract_return_addr(__builtin_return_address(0))
#define FAIL_IF_ORDERED()         \
    if (fault_memory(CALLER())) { \
        errno = ENOMEM;           \
        return nullptr;           \
    }

#pragma GCC diagnostic ignored "-Wmissing-declarations"
#define API extern "C" __attribute__((visibility("default")))

API void *malloc(size_t bytes) noexcept
{
    FAIL_IF_ORDERED();
    return __libc_malloc(bytes);
}

API void *calloc(size_t count, size_t bytes) noexcept
{
    FAIL_IF_ORDERED();
    return __libc_calloc(count, bytes);
}

API void *realloc(void *old, size_t bytes) noexcept
{
    FAIL_IF_ORDERED();
    return __libc_realloc(old, bytes);
}

API void *aligned_alloc(size_t alignment, size_t bytes) noexcept
{
    FAIL_IF_ORDERED();
    return __libc_memalign(alignment, bytes);
}

API void *memalign(size_t alignment, size_t bytes) noexcept
{
    FAIL_IF_ORDERED();
    return __libc_memalign(alignment, bytes);
}

API int posix_memalign(void **out, size_t alignment, size_t bytes) noexcept
{
    if (fault_memory(CALLER())) return ENOMEM;
    *out = __libc_memalign(alignment, bytes);
    return *out ? 0 : ENOMEM;
}

API void free(void *memory) noexcept { __libc_free(memory); }

/* --- C++: the caller of `new` is what names a place, not `new` itself ------------------------------------------- */

static void *given(void *memory, bool ordered)
{
    if (ordered || !memory) throw std::bad_alloc();
    return memory;
}

#define NEW(bytes) given(__libc_malloc(bytes), fault_memory(CALLER()))
#define NEW_ALIGNED(bytes, alignment) given(__libc_memalign((size_t)(alignment), bytes), fault_memory(CALLER()))

void *operator new(size_t bytes) { return NEW(bytes); }
void *operator new[](size_t bytes) { return NEW(bytes); }
void *operator new(size_t bytes, std::align_val_t alignment) { return NEW_ALIGNED(bytes, alignment); }
void *operator new[](size_t bytes, std::align_val_t alignment) { return NEW_ALIGNED(bytes, alignment); }

void *operator new(size_t bytes, const std::nothrow_t &) noexcept
{
    FAIL_IF_ORDERED();
    return __libc_malloc(bytes);
}

void *operator new[](size_t bytes, const std::nothrow_t &) noexcept
{
    FAIL_IF_ORDERED();
    return __libc_malloc(bytes);
}

void operator delete(void *memory) noexcept { __libc_free(memory); }
void operator delete[](void *memory) noexcept { __libc_free(memory); }
void operator delete(void *memory, size_t) noexcept { __libc_free(memory); }
void operator delete[](void *memory, size_t) noexcept { __libc_free(memory); }
void operator delete(void *memory, std::align_val_t) noexcept { __libc_free(memory); }
void operator delete[](void *memory, std::align_val_t) noexcept { __libc_free(memory); }
void operator delete(void *memory, size_t, std::align_val_t) noexcept { __libc_free(memory); }
void operator delete[](void *memory, size_t, std::align_val_t) noexcept { __libc_free(memory); }
