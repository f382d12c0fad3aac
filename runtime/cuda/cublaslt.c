/* cublaslt.c - see cublaslt.h. */
#include "cuda/cublaslt.h"

#include <string.h>

#include "cuda/library.h"

#define SYMBOL(name, args) {#name, offsetof(berth_cublaslt, name)},
static const berth_symbol symbols[] = {BERTH_CUBLASLT_FUNCTIONS(SYMBOL)};
#undef SYMBOL

static const char *const names_13[] = {"libcublasLt.so.13", NULL};
static const char *const names_12[] = {"libcublasLt.so.12", NULL};

berth_status berth_cublaslt_open(berth_cublaslt *out, int major, berth_error *err)
{
    memset(out, 0, sizeof *out);
    const berth_library library = {
        .what = "cuBLASLt",
        .names = major == 13 ? names_13 : names_12,
        .advice = "it lies beside cuBLAS: put that folder in LD_LIBRARY_PATH",
        .old_advice = "install cuBLAS 12 or 13",
    };
    berth_status st = berth_library_open(&library, NULL, &out->handle, err);
    if (st == BERTH_OK)
        st = berth_library_bind(&library, out->handle, symbols, sizeof symbols / sizeof symbols[0], out, err);
    if (st != BERTH_OK) berth_cublaslt_close(out);
    return st;
}

void berth_cublaslt_close(berth_cublaslt *lt)
{
    berth_library_close(lt->handle);
    memset(lt, 0, sizeof *lt);
}
