# cmake -DSTEP=texts -DOUT=folder -DROOT=... "-DFILES=a.cu;b.cu" -P EmbedCudaCode.cmake
#   OUT/a.cu.txt: each file with its includes in their places, so that NVRTC needs no file.
# cmake -DSTEP=units -DOUT=folder -DROOT=... "-DFILES=a.cu;b.cu" -DCC=cc -DTOOLKIT=13000 -P EmbedCudaCode.cmake
#   OUT/units.c: device code as the data that kernels/cuda/units.h describes: those texts, the names of their kernels, as
#   the C preprocessor sees them, and with TOOLKIT > 0 the images OUT/a.cu.fatbin.
cmake_minimum_required(VERSION 3.22)

# What has not changed keeps its time, so that nothing is made again from it.
function(write path text)
    set(old "")
    if(EXISTS ${path})
        file(READ ${path} old)
    endif()
    if(NOT old STREQUAL text)
        file(WRITE ${path} "${text}")
    endif()
endfunction()

# The file with what it includes, each once, lines still counted as in their files.
function(read_whole path out)
    file(READ ${ROOT}/${path} text)
    string(REGEX REPLACE "\r" "" text "${text}")
    set(whole "#line 1 \"${path}\"\n")
    set(lines "")
    while(text MATCHES "#include \"([^\"]+)\"\n")
        set(name ${CMAKE_MATCH_1})
        set(directive "${CMAKE_MATCH_0}")
        string(FIND "${text}" "${directive}" at)
        string(SUBSTRING "${text}" 0 ${at} before)
        string(LENGTH "${directive}" length)
        math(EXPR rest "${at} + ${length}")
        string(SUBSTRING "${text}" ${rest} -1 text)
        string(APPEND whole "${before}")
        string(REGEX REPLACE "[^\n]" "" lines "${lines}${before}\n")
        get_property(seen GLOBAL PROPERTY seen)
        if(NOT name IN_LIST seen)
            set_property(GLOBAL APPEND PROPERTY seen ${name})
            read_whole(${name} included)
            string(APPEND whole "${included}")
        endif()
        string(LENGTH "${lines}" line)
        math(EXPR line "${line} + 1")
        string(APPEND whole "#line ${line} \"${path}\"\n")
    endwhile()
    set(${out} "${whole}${text}" PARENT_SCOPE)
endfunction()

# Names in the order of the file. Every architecture's: those of a newer one are not found when an older one's image is
# loaded.
function(read_kernels path out)
    set(mark "-DBERTH_KERNEL(name,args)=kernel_begin name kernel_end")
    execute_process(COMMAND ${CC} -E -P -x c -D__CUDA_ARCH__=900 ${mark} -I${ROOT} ${ROOT}/${path}
                    OUTPUT_VARIABLE text ERROR_VARIABLE why RESULT_VARIABLE code)
    if(code)
        message(FATAL_ERROR "${path}: the preprocessor fails: ${why}")
    endif()
    string(REGEX MATCHALL "kernel_begin[ \n]+[a-zA-Z0-9_]+[ \n]+kernel_end" found "${text}")
    list(TRANSFORM found REPLACE "kernel_begin[ \n]+([a-zA-Z0-9_]+)[ \n]+kernel_end" "\\1")
    list(LENGTH found n)
    if(n EQUAL 0)
        message(FATAL_ERROR "${path}: no BERTH_KERNEL in it")
    endif()
    set(${out} "${found}" PARENT_SCOPE)
endfunction()

# The file's bytes and a NUL as the symbol `name`. Its digest stands beside it so that a compiler's cache sees a change.
function(bytes_of name path out)
    file(SHA256 ${path} digest)
    set(${out} "/* ${digest} */\nFILE_BYTES(${name}, \"${path}\");\n" PARENT_SCOPE)
endfunction()

if(STEP STREQUAL "texts")
    foreach(path IN LISTS FILES)
        get_filename_component(name ${path} NAME)
        set_property(GLOBAL PROPERTY seen "")
        read_whole(${path} whole)
        file(WRITE ${OUT}/${name}.txt.part "${whole}")
        file(COPY_FILE ${OUT}/${name}.txt.part ${OUT}/${name}.txt ONLY_IF_DIFFERENT)
    endforeach()
    return()
endif()

set(text "/* Made by cmake/EmbedCudaCode.cmake from kernels/cuda. */\n#include \"kernels/cuda/units.h\"\n\n")
string(APPEND text "#define FILE_BYTES(name, path) \\\n"
    "    __asm__(\".pushsection .rodata\\n.balign 64\\n\" #name \":\\n.incbin \\\"\" path \"\\\"\\n.byte 0\\n.popsection\\n\"); \\\n"
    "    extern __attribute__((visibility(\"hidden\"))) const char name[]\n\n")
set(rows "")
set(digests "")
set(n 0)
foreach(path IN LISTS FILES)
    get_filename_component(name ${path} NAME)
    file(SHA256 ${OUT}/${name}.txt digest)
    string(APPEND digests ${digest})
    read_kernels(${path} kernels)
    list(JOIN kernels "\", \"" kernels)
    bytes_of(berth_cuda_source_${n} ${OUT}/${name}.txt bytes)
    string(APPEND text "${bytes}static const char *const kernels_${n}[] = {\"${kernels}\", 0};\n")
    set(image ".image = 0")
    if(TOOLKIT)
        file(SIZE ${OUT}/${name}.fatbin size)
        bytes_of(berth_cuda_image_${n} ${OUT}/${name}.fatbin bytes)
        string(APPEND text "${bytes}")
        set(image ".image = berth_cuda_image_${n}, .image_bytes = ${size}")
    endif()
    string(APPEND rows "    {.name = \"${name}\", .source = berth_cuda_source_${n}, .digest = \"${digest}\",\n"
                       "     .kernels = kernels_${n}, ${image}},\n")
    math(EXPR n "${n} + 1")
endforeach()
string(SHA256 digest "${digests}")
string(APPEND text "\nstatic const berth_cuda_unit units[] = {\n${rows}};\n"
    "const berth_cuda_units berth_cuda_embedded = {\n"
    "    .units = units, .n_units = ${n}, .toolkit = ${TOOLKIT}, .digest = \"${digest}\"};\n")
write(${OUT}/units.c "${text}")
