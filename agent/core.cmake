# The journal stands alone: the kinds write their steps into it.
add_library(clm_agent_journal STATIC journal.c)
target_include_directories(clm_agent_journal PUBLIC ${agent_include})
target_link_libraries(clm_agent_journal PUBLIC clm_base clm_agent_proto PRIVATE clm_pki)

# The core: two processes, the journal, envelopes and receipts. The program links it with the kinds.
set(core_sources
    ipc.c facts.c
    exec/state.c exec/safemode.c exec/order.c exec/receipt.c exec/enrol.c exec/runner.c exec/spawn.c exec/trust.c exec/job.c exec/rotation.c exec/exec.c
    net/net.c net/link.c
    status.c)
set(core_present)
foreach(source ${core_sources})
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${source})
        list(APPEND core_present ${source})
    endif()
endforeach()
add_library(clm_agent_core STATIC ${core_present})
target_include_directories(clm_agent_core PUBLIC ${agent_include})
target_link_libraries(clm_agent_core
    PUBLIC clm_base clm_wire clm_pki clm_agent_proto clm_agent_journal clm_loop
    PRIVATE clm_http clm_sandbox clm_scope)

if(TARGET clm_agent_kinds AND EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/main.c)
    add_executable(clm-agent main.c)
    target_link_libraries(clm-agent PRIVATE clm_agent_core clm_agent_kinds clm_base)
endif()
