#!/bin/sh
# abi_test.sh BUILD ABI HEADERS COMPILER - the library keeps the recorded ABI; and the comparison notices what breaks a program, and lets
# pass what does not: tried on small libraries made from edited headers.
set -u
build=$1 abi=$2 headers=$3 compiler=$4
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
bad=0
"$abi" check "$build"
status=$?
[ "$status" = 77 ] && exit 77
[ "$status" = 0 ] || bad=1

# A few of berth's functions, with empty bodies. ADDED and REMOVED come from the case.
cat >"$work/few.c" <<'END'
#include <berth/berth.h>
const char *berth_version(void) { return ""; }
berth_status berth_plan_create(const berth_model *m, const berth_plan_options *o, berth_plan **out, berth_error *e) { (void)m; (void)o; (void)out; (void)e; return BERTH_OK; }
berth_status berth_engine_run(berth_engine *g, const berth_request *r, berth_result *out, berth_error *e) { (void)g; (void)r; (void)out; (void)e; return BERTH_OK; }
berth_status berth_queue_next(berth_queue *q, int64_t t, berth_completion *out, berth_error *e) { (void)q; (void)t; (void)out; (void)e; return BERTH_OK; }
berth_status berth_plan_limits_find(const berth_model *m, const berth_plan_options *o, berth_plan_limits *out, berth_error *e) { (void)m; (void)o; (void)out; (void)e; return BERTH_OK; }
berth_status berth_engine_get_stats(berth_engine *g, berth_stats *out, berth_error *e) { (void)g; (void)out; (void)e; return BERTH_OK; }
#ifndef REMOVED
void berth_plan_destroy(berth_plan *p) { (void)p; }
#endif
#ifdef ADDED
int berth_added(void) { return 1; }
#endif
END

# make NAME [FLAG]: a library from the headers in $work/NAME
make() {
    "$compiler" -g -shared -fPIC ${2:+"$2"} -I"$work/$1" "$work/few.c" -o "$work/$1.so" || {
        echo "$1: does not compile"
        bad=1
    }
}
mkdir "$work/old" && cp -r "$headers/berth" "$work/old" && make old

# try WANTED NAME FLAG SCRIPT: after `sed SCRIPT` over the headers the comparison must say WANTED (0 compatible, 1 not).
try() {
    mkdir "$work/$2" && cp -r "$headers/berth" "$work/$2"
    sed -i "$4" "$work/$2"/berth/*.h
    [ -n "$3" ] || ! diff -rq "$work/old" "$work/$2" >/dev/null || {
        echo "$2: the headers were not changed; is the case right?"
        bad=1
    }
    make "$2" "$3"
    "$abi" diff "$work/old.so" "$work/$2.so" >"$work/said"
    [ $? = "$1" ] || {
        echo "$2: should be $1 (0 compatible, 1 not)"
        cat "$work/said"
        bad=1
    }
}
try 0 nothing -DNOTHING ''
try 0 function_added -DADDED ''
try 0 options_field_appended '' 's/^} berth_plan_options;/    int64_t appended;\n&/'
try 0 status_appended '' 's/^    BERTH_STATUS_COUNT .*$/    BERTH_APPENDED,\n&/'
try 0 stats_field_appended '' 's/^} berth_stats;/    int64_t appended;\n&/'
try 1 field_put_into_padding '' 's/^} berth_plan_limits;/    int32_t padding;\n&/'
try 1 function_removed -DREMOVED ''
try 1 options_field_inserted '' 's/^    const char \*dtype;/    const char *inserted;\n&/'
try 1 options_field_widened '' 's/^    int32_t chunk;/    int64_t chunk;/'
try 1 options_field_removed '' '/^    int32_t top_k; /d'
try 1 plain_struct_grown '' 's/^} berth_content;/    int32_t appended;\n&/'
try 1 struct_inside_another_grown '' 's/^} berth_token;/    int64_t appended;\n&/'
try 1 status_inserted '' 's/^    BERTH_BUSY,/    BERTH_INSERTED,\n&/'
[ "$bad" = 0 ] && echo "the recorded ABI holds"
exit "$bad"
