# Every dependency is a Debian 12 package; a missing one is an error that names the package to install.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

function(need target module package)
  pkg_check_modules(${target} QUIET IMPORTED_TARGET ${module})
  if(NOT ${target}_FOUND)
    message(FATAL_ERROR "${module} was not found: install the Debian package ${package} (or run tools/bootstrap)")
  endif()
endfunction()

need(LIBURING liburing>=2.3 liburing-dev)
need(JEMALLOC jemalloc libjemalloc-dev)
need(SIMDJSON simdjson libsimdjson-dev)
need(INIH inih libinih-dev)
need(ZLIB zlib zlib1g-dev)
need(LIBCRYPT libcrypt libcrypt-dev)
need(CMOCKA cmocka libcmocka-dev)

# wslay ships no pkg-config file in Debian 12.
find_path(WSLAY_INCLUDE wslay/wslay.h)
find_library(WSLAY_LIBRARY wslay)
if(NOT WSLAY_INCLUDE OR NOT WSLAY_LIBRARY)
  message(FATAL_ERROR "wslay was not found: install the Debian package libwslay-dev (or run tools/bootstrap)")
endif()
add_library(PkgConfig::WSLAY INTERFACE IMPORTED)
target_include_directories(PkgConfig::WSLAY INTERFACE ${WSLAY_INCLUDE})
target_link_libraries(PkgConfig::WSLAY INTERFACE ${WSLAY_LIBRARY})

find_package(RocksDB QUIET CONFIG)
if(NOT RocksDB_FOUND OR RocksDB_VERSION VERSION_LESS 7.7)
  message(FATAL_ERROR "RocksDB 7.7 or newer was not found: install the Debian package librocksdb-dev (or run tools/bootstrap)")
endif()

# BoringSSL is Debian's android-libboringssl-dev: headers and shared objects in folders of their own, so that they
# never mix with OpenSSL's; the objects need an rpath.
find_path(BORINGSSL_INCLUDE openssl/is_boringssl.h PATHS /usr/include/android NO_DEFAULT_PATH)
find_library(BORINGSSL_CRYPTO crypto PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/android NO_DEFAULT_PATH)
find_library(BORINGSSL_SSL ssl PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/android NO_DEFAULT_PATH)
if(NOT BORINGSSL_INCLUDE OR NOT BORINGSSL_CRYPTO OR NOT BORINGSSL_SSL)
  message(FATAL_ERROR "BoringSSL was not found: install the Debian package android-libboringssl-dev (or run tools/bootstrap)")
endif()
get_filename_component(BORINGSSL_DIR ${BORINGSSL_CRYPTO} DIRECTORY)
foreach(part crypto ssl)
  string(TOUPPER ${part} upper)
  add_library(boringssl_${part} INTERFACE IMPORTED)
  target_include_directories(boringssl_${part} SYSTEM INTERFACE ${BORINGSSL_INCLUDE})
  target_link_libraries(boringssl_${part} INTERFACE ${BORINGSSL_${upper}})
  # RPATH, not RUNPATH: libcrypto must be found for libssl as well
  target_link_options(boringssl_${part} INTERFACE -Wl,--disable-new-dtags,-rpath,${BORINGSSL_DIR})
endforeach()
