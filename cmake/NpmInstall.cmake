# Script mode: `npm ci` in ${DIR}, from the cache where that is enough. A lock keeps two builds apart; the second finds the
# stamp of the first.
file(LOCK ${DIR}/node_modules.lock GUARD PROCESS TIMEOUT 600)
file(SHA256 ${DIR}/package-lock.json wanted)
set(stamp ${DIR}/node_modules/.clm-stamp)
if(EXISTS ${stamp})
    file(READ ${stamp} have)
endif()
if(NOT "${have}" STREQUAL "${wanted}")
    execute_process(COMMAND ${NPM} ci --prefer-offline --no-audit --no-fund --ignore-scripts --loglevel=error
        WORKING_DIRECTORY ${DIR} RESULT_VARIABLE rc OUTPUT_QUIET)
    if(rc)
        message(FATAL_ERROR "npm ci failed in ${DIR}: it needs the npm registry, or what an earlier run left in npm's cache")
    endif()
endif()
file(WRITE ${stamp} "${wanted}")
