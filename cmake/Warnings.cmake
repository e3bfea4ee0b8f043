add_compile_options(-Wall -Wextra -Werror -Wshadow -Wvla -Wpointer-arith -Wundef -Wformat=2 -Wno-unused-parameter)
add_compile_options($<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
                    $<$<COMPILE_LANGUAGE:C>:-Wold-style-definition> $<$<COMPILE_LANGUAGE:C>:-Wimplicit-fallthrough>)
