# How the parts of berth are declared: one static library a folder, its tests beside its sources.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(CJSON REQUIRED IMPORTED_TARGET libcjson)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(JPEG REQUIRED IMPORTED_TARGET libjpeg)
pkg_check_modules(SPNG REQUIRED IMPORTED_TARGET spng)
pkg_check_modules(WEBP REQUIRED IMPORTED_TARGET libwebp)
pkg_check_modules(WEBPDEMUX REQUIRED IMPORTED_TARGET libwebpdemux)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
if(BERTH_TESTS)
    pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
endif()

add_library(berth_flags INTERFACE)
target_include_directories(berth_flags INTERFACE ${PROJECT_SOURCE_DIR}/runtime/include ${PROJECT_SOURCE_DIR}/runtime
                                                 ${PROJECT_SOURCE_DIR})
# BERTH_BUILD_SHARED: the parts also go into libberth.so, where only the functions of the public headers are visible.
target_compile_definitions(berth_flags INTERFACE _GNU_SOURCE BERTH_VERSION="${PROJECT_VERSION}" BERTH_BUILD_SHARED)
target_compile_options(berth_flags INTERFACE -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes
                                             -Wvla -Wno-missing-field-initializers -fno-math-errno -ffp-contract=off -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=
                                             $<$<BOOL:${BERTH_WERROR}>:-Werror>)
if(BERTH_SANITIZE)
    target_compile_options(berth_flags INTERFACE -fsanitize=${BERTH_SANITIZE} -fno-omit-frame-pointer
                                                 -fno-sanitize-recover=all)
    target_link_options(berth_flags INTERFACE -fsanitize=${BERTH_SANITIZE})
endif()

# berth_part(NAME SOURCES a.c b.c LINKS berth_base PkgConfig::X): the static library berth_NAME.
function(berth_part name)
    cmake_parse_arguments(P "" "" "SOURCES;LINKS" ${ARGN})
    add_library(berth_${name} STATIC ${P_SOURCES})
    target_link_libraries(berth_${name} PUBLIC berth_flags Threads::Threads m PRIVATE ${P_LINKS})
endfunction()

# berth_test(NAME SOURCES a_test.c LINKS berth_base ARGS ... LABELS ...): a cmocka program, registered with ctest under NAME.
# FAILING malloc calloc ...: these may be made to fail, see tests/failing.h. The label "threads" marks what the thread sanitizer is to see.
# The macro BERTH_SOURCE_DIR names the checkout, for tests that read bundled files.
function(berth_test name)
    if(NOT BERTH_TESTS)
        return()
    endif()
    cmake_parse_arguments(T "" "" "SOURCES;LINKS;ARGS;LABELS;FAILING" ${ARGN})
    add_executable(${name} ${T_SOURCES})
    if(T_FAILING)
        target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/failing.c)
        list(TRANSFORM T_FAILING PREPEND "-Wl,--wrap=")
        target_link_options(${name} PRIVATE ${T_FAILING})
    endif()
    target_compile_definitions(${name} PRIVATE BERTH_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    target_link_libraries(${name} PRIVATE ${T_LINKS} PkgConfig::CMOCKA)
    add_test(NAME ${name} COMMAND ${name} ${T_ARGS})
    if(T_LABELS)
        set_tests_properties(${name} PROPERTIES LABELS "${T_LABELS}")
    endif()
endfunction()
