# The distribution's libraries as imported targets. Only the library that wraps one links it, PRIVATE.
find_package(PkgConfig REQUIRED)
# A program that needs nothing of the host but its C library: archives are taken where the distribution has them. For
# clm-agent and clmctl (ninja clm-agent clmctl); what the services need has no archives.
if(CLM_STATIC)
    set(CMAKE_FIND_LIBRARY_SUFFIXES .a .so)
    set(OPENSSL_USE_STATIC_LIBS ON)
endif()
find_package(OpenSSL 3.0 REQUIRED)
find_package(Threads REQUIRED)

pkg_check_modules(LIBPQ REQUIRED IMPORTED_TARGET libpq)
pkg_check_modules(LIBEVENT REQUIRED IMPORTED_TARGET libevent_core)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(INIH REQUIRED IMPORTED_TARGET inih)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(SYSTEMD REQUIRED IMPORTED_TARGET libsystemd)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(EXPAT REQUIRED IMPORTED_TARGET expat)
if(CLM_TESTS)
    pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
endif()

# libnats and http_parser ship no pkg-config file that can be relied on.
function(clm_plain_library target header library)
    find_path(${target}_INCLUDE ${header} REQUIRED)
    find_library(${target}_LIBRARY ${library} REQUIRED)
    add_library(${target} INTERFACE IMPORTED GLOBAL)
    target_include_directories(${target} SYSTEM INTERFACE ${${target}_INCLUDE})
    target_link_libraries(${target} INTERFACE ${${target}_LIBRARY})
endfunction()
clm_plain_library(NATS nats/nats.h nats)
clm_plain_library(HTTP_PARSER http_parser.h http_parser)
