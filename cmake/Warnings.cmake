add_compile_options(-Wall -Wextra -Werror -Wshadow -Wvla -Wpointer-arith -Wundef -Wformat=2 -Wno-unused-parameter)
add_compile_options($<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
                    $<$<COMPILE_LANGUAGE:C>:-Wold-style-definition> $<$<COMPILE_LANGUAGE:C>:-Wimplicit-fallthrough>)
if(CARILLON_SANITIZE MATCHES "thread")
  # gcc 12 warns that ThreadSanitizer does not model atomic_thread_fence (park.h uses one on each side)
  add_compile_options($<$<C_COMPILER_ID:GNU>:-Wno-tsan>)
endif()
