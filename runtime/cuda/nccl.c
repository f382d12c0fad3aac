/* nccl.c - see nccl.h. NCCL is never required: without it, transports that copy do its work. */
#include "cuda/nccl.h"

#include <string.h>

#include "cuda/library.h"

static const char *const names[] = {"libnccl.so.2", NULL};
static const berth_library library = {
    .what = "NCCL",
    .names = names,
    .advice = "install it (package libnccl2, or pip: nvidia-nccl-cu12 or -cu13), or choose another transport",
    .old_advice = "install NCCL 2.18 or newer, or choose another transport",
    .stays = true,
};

#define SYMBOL(name, args) {#name, offsetof(berth_nccl, name)},
static const berth_symbol symbols[] = {{"ncclGetErrorString", offsetof(berth_nccl, ncclGetErrorString)},
                                       {"ncclGetLastError", offsetof(berth_nccl, ncclGetLastError)},
                                       BERTH_NCCL_FUNCTIONS(SYMBOL)};
#undef SYMBOL

/* NCCL_VERSION of nccl.h: since 2.9, major * 10000 + minor * 100 + patch. */
static berth_status check_version(berth_nccl *nccl, berth_error *err)
{
    const berth_nccl_result code = nccl->ncclGetVersion(&nccl->version);
    if (code != BERTH_NCCL_SUCCESS) return berth_nccl_status(nccl, code, "ncclGetVersion", -1, err);
    if (nccl->version >= BERTH_NCCL_MIN_VERSION) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_UNSUPPORTED, "NCCL is of version code %d, and %d (2.18) is needed; %s", nccl->version,
                      BERTH_NCCL_MIN_VERSION, library.old_advice);
}

berth_status berth_nccl_open(berth_nccl *out, const char *path, berth_error *err)
{
    memset(out, 0, sizeof *out);
    berth_status st = berth_library_open(&library, path, &out->handle, err);
    if (st == BERTH_OK)
        st = berth_library_bind(&library, out->handle, symbols, sizeof symbols / sizeof symbols[0], out, err);
    if (st == BERTH_OK) st = check_version(out, err);
    if (st != BERTH_OK) berth_nccl_close(out);
    return st;
}

void berth_nccl_close(berth_nccl *nccl)
{
    berth_library_close(nccl->handle);
    memset(nccl, 0, sizeof *nccl);
}

berth_status berth_nccl_status(const berth_nccl *nccl, berth_nccl_result code, const char *call, int32_t ordinal,
                               berth_error *err)
{
    if (code == BERTH_NCCL_SUCCESS || code == BERTH_NCCL_IN_PROGRESS) return BERTH_OK;
    const char *text = nccl->ncclGetErrorString(code), *words = nccl->ncclGetLastError(NULL);
    BERTH_FAIL(err, BERTH_DEVICE_ERROR, "%s failed: %s (%d)%s%s; NCCL_DEBUG=WARN says more", call,
               text ? text : "no reason", (int)code, words && words[0] ? ": " : "", words ? words : "");
    if (err) {
        err->device = ordinal;
        err->native_code = code;
        err->native_api = "nccl";
    }
    return BERTH_DEVICE_ERROR;
}
