# Script mode: writes ${OUT}, a C table of the files ${FILES}, or of all files below ${DIR} with their paths from there
# (see clm_embed and clm_web in Generate.cmake). The assembler reads the bytes, so that size costs nothing; a digest
# of each is in the text, so that nothing takes another content for the same compilation.
if(DIR)
    file(GLOB_RECURSE FILES LIST_DIRECTORIES false ${DIR}/*)
endif()
set(bodies "")
set(rows "")
set(n 0)
foreach(file ${FILES})
    if(DIR)
        file(RELATIVE_PATH name ${DIR} ${file})
    else()
        get_filename_component(name ${file} NAME)
    endif()
    file(SIZE ${file} size)
    file(SHA256 ${file} digest)
    set(label "${SYMBOL}_${n}")
    string(APPEND bodies "__asm__(\".section .rodata\\n${label}: # ${digest}\\n"
        ".incbin \\\"${file}\\\"\\n.byte 0\\n.previous\\n\");\n"
        "extern const unsigned char ${label}[] __attribute__((visibility(\"hidden\")));\n")
    string(APPEND rows "    {\"${name}\", ${label}, ${size}},\n")
    math(EXPR n "${n} + 1")
endforeach()
file(WRITE ${OUT} "#include \"base/embed.h\"\n\n${bodies}\nextern const struct embed ${SYMBOL}[];\n"
    "const struct embed ${SYMBOL}[] = {\n${rows}    {0, 0, 0},\n};\n")
