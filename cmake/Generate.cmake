# Code made at build time; none of it is ever committed.

find_program(PROTOC_C protoc-c REQUIRED)

# clm_proto(<target> <import root> a.proto b.proto …): a static library of the generated messages.
# Other targets include them as "proto/<name>.pb-c.h" below the import root's name.
function(clm_proto target)
    cmake_parse_arguments(ARG "" "ROOT" "FILES;IMPORTS" ${ARGN})
    set(out ${CMAKE_BINARY_DIR}/generated)
    set(sources)
    foreach(proto ${ARG_FILES})
        string(REGEX REPLACE "\\.proto$" "" stem ${proto})
        add_custom_command(
            OUTPUT ${out}/${stem}.pb-c.c ${out}/${stem}.pb-c.h
            COMMAND ${CMAKE_COMMAND} -E make_directory ${out}
            COMMAND ${PROTOC_C} --proto_path=${CMAKE_SOURCE_DIR} --c_out=${out} ${proto}
            WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
            DEPENDS ${CMAKE_SOURCE_DIR}/${proto} ${ARG_IMPORTS}
            COMMENT "protoc-c ${proto}"
            VERBATIM)
        list(APPEND sources ${out}/${stem}.pb-c.c ${out}/${stem}.pb-c.h)
    endforeach()
    add_library(${target} STATIC ${sources})
    target_include_directories(${target} SYSTEM PUBLIC ${out})
    target_compile_options(${target} PRIVATE -w)
    target_link_libraries(${target} PUBLIC PkgConfig::PROTOBUF_C)
endfunction()

# clm_embed(<target> <symbol> file…): each file as bytes in a table `const struct embed <symbol>[]`, in the
# order given and ended by a row whose name is NULL (lib/base/embed.h).
function(clm_embed target symbol)
    set(c ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.embed.c)
    set(files)
    foreach(f ${ARGN})
        list(APPEND files ${CMAKE_CURRENT_SOURCE_DIR}/${f})
    endforeach()
    add_custom_command(
        OUTPUT ${c}
        COMMAND ${CMAKE_COMMAND} -DOUT=${c} -DSYMBOL=${symbol} "-DFILES=${files}" -P ${CMAKE_SOURCE_DIR}/cmake/Embed.cmake
        DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/Embed.cmake
        COMMENT "embed ${symbol}"
        VERBATIM)
    target_sources(${target} PRIVATE ${c})
endfunction()

# clm_web(<target> <symbol> <dir>): builds the npm project in <dir> and embeds what came of it, each file under its path
# and, where it is smaller so, once more as <path>.gz. node_modules stays beside package.json and is shared by all
# builds; its stamp says which lock file it holds. Nothing runs when nothing changed.
function(clm_web target symbol dir)
    set(source ${CMAKE_CURRENT_SOURCE_DIR}/${dir})
    set(out ${CMAKE_CURRENT_BINARY_DIR}/${dir})
    set(c ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.embed.c)
    find_program(NODE node REQUIRED)
    find_program(NPM npm REQUIRED)
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${source}/src/*)
    add_custom_command(
        OUTPUT ${source}/node_modules/.clm-stamp
        COMMAND ${CMAKE_COMMAND} -DNPM=${NPM} -DDIR=${source} -P ${CMAKE_SOURCE_DIR}/cmake/NpmInstall.cmake
        DEPENDS ${source}/package-lock.json ${source}/package.json ${source}/.npmrc
        COMMENT "npm ci (${dir})"
        VERBATIM)
    add_custom_command(
        OUTPUT ${c}
        COMMAND ${CMAKE_COMMAND} -E env CLM_WEB_OUT=${out} ${NPM} run --silent build
        COMMAND ${CMAKE_COMMAND} -DOUT=${c} -DSYMBOL=${symbol} -DDIR=${out} -P ${CMAKE_SOURCE_DIR}/cmake/Embed.cmake
        WORKING_DIRECTORY ${source}
        DEPENDS ${sources} ${source}/index.html ${source}/vite.config.ts ${source}/tsconfig.json
            ${source}/node_modules/.clm-stamp ${CMAKE_SOURCE_DIR}/cmake/Embed.cmake
        COMMENT "build and embed ${dir}"
        VERBATIM)
    target_sources(${target} PRIVATE ${c})
endfunction()

# clm_unit_test(lib/base/status [LIBS …] [SOURCES …]): builds tests/unit/lib/base/test_status.c as one cmocka
# binary, named lib.base.status in ctest. SOURCES adds files (link-time fakes, or the module itself).
function(clm_unit_test path)
    cmake_parse_arguments(ARG "" "" "LIBS;SOURCES;OPTIONS" ${ARGN})
    get_filename_component(dir ${path} DIRECTORY)
    get_filename_component(stem ${path} NAME)
    string(REPLACE "/" "." name ${path})
    set(exe test_${name})
    add_executable(${exe} ${CMAKE_SOURCE_DIR}/tests/unit/${dir}/test_${stem}.c ${ARG_SOURCES})
    target_include_directories(${exe} PRIVATE ${CMAKE_SOURCE_DIR}/tests/unit)
    target_link_libraries(${exe} PRIVATE ${ARG_LIBS} PkgConfig::CMOCKA)
    target_link_options(${exe} PRIVATE ${ARG_OPTIONS})
    set_target_properties(${exe} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/unit)
    add_test(NAME ${name} COMMAND ${exe} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    # ThreadSanitizer: the libraries are not built with it, and what it says of their insides is not true.
    set_tests_properties(${name} PROPERTIES TIMEOUT 300
        ENVIRONMENT "ASAN_OPTIONS=abort_on_error=1:detect_leaks=1;UBSAN_OPTIONS=print_stacktrace=1;TSAN_OPTIONS=ignore_noninstrumented_modules=1")
endfunction()
