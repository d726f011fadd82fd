# Included by the build: defines clm_version, an INTERFACE library that gives "version.h" with CLM_VERSION,
# CLM_BUILD_DATE and CLM_GIT_COMMIT. Run as a script at each build: rewrites the header only when it says something new.
if(NOT CMAKE_SCRIPT_MODE_FILE)
    set(version_dir ${CMAKE_BINARY_DIR}/generated/version)
    add_custom_target(clm_version_header
        COMMAND ${CMAKE_COMMAND} -DOUT=${version_dir}/version.h -DVERSION=${PROJECT_VERSION} -DSOURCE=${CMAKE_SOURCE_DIR}
                -P ${CMAKE_SOURCE_DIR}/cmake/Version.cmake
        BYPRODUCTS ${version_dir}/version.h
        COMMENT "version.h"
        VERBATIM)
    add_library(clm_version INTERFACE)
    target_include_directories(clm_version INTERFACE ${version_dir})
    add_dependencies(clm_version clm_version_header)
    return()
endif()

# Of a source archive without git, the packager says the commit in CLM_GIT_COMMIT.
set(commit "$ENV{CLM_GIT_COMMIT}")
if(commit STREQUAL "")
    execute_process(COMMAND git -C ${SOURCE} rev-parse --short=12 HEAD OUTPUT_VARIABLE commit ERROR_QUIET
                    OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(commit STREQUAL "")
    set(commit unknown)
endif()
string(TIMESTAMP date "%Y-%m-%d" UTC) # honours SOURCE_DATE_EPOCH
file(CONFIGURE OUTPUT ${OUT} CONTENT "#ifndef CLM_VERSION_H
#define CLM_VERSION_H
#define CLM_VERSION    \"${VERSION}\"
#define CLM_BUILD_DATE \"${date}\"
#define CLM_GIT_COMMIT \"${commit}\"
#endif
")
