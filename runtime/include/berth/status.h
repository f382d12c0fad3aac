/* status.h - what every fallible call of berth returns, and the error it fills.
 *
 * Shared by berth.h (the embedder's API) and strategy.h (the plug-in ABI). Plain values only: no handle, no allocation,
 * no thread rule. A berth_error is owned by the caller; the library writes it only when a call fails. */
#ifndef BERTH_STATUS_H
#define BERTH_STATUS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(BERTH_BUILD_SHARED)
#define BERTH_API __attribute__((visibility("default")))
#else
#define BERTH_API
#endif

/* How a call ended. New ones are put before BERTH_STATUS_COUNT. */
typedef enum berth_status {
    BERTH_OK = 0,           /* it did what was asked */
    BERTH_INVALID_ARGUMENT, /* the caller asked for something that cannot be meant: an option, a name, a range */
    BERTH_NOT_FOUND,        /* a file, folder or tensor of that name is not there */
    BERTH_IO_ERROR,         /* the operating system refused a read, write or mapping; native_code is errno */
    BERTH_BAD_FILE,         /* a model, tokenizer or picture is malformed, inconsistent or over a limit */
    BERTH_UNSUPPORTED,      /* well formed, but this build or device cannot do it; the message says what can */
    BERTH_OUT_OF_MEMORY,    /* host memory for berth's own bookkeeping */
    BERTH_DOES_NOT_FIT,     /* a device's memory limit; the message names the missing bytes */
    BERTH_AFFINITY,         /* the checker refused a program: an operand is not where its op runs */
    BERTH_DEVICE_ERROR,     /* an op or a copy failed on a device, or a device that was named is not there */
    BERTH_DEVICE_LOST,      /* the device can no longer be used */
    BERTH_NUMERIC,          /* non-finite or constant logits; the message names the first bad op */
    BERTH_CANCELLED,        /* the caller ended it */
    BERTH_BUSY,             /* no room in a queue, or a handle is in use: later it may go */
    BERTH_DEADLINE,         /* its time was over */
    BERTH_MISMATCH,         /* two results that had to be equal are not */
    BERTH_INTERNAL,         /* a mistake in berth itself */
    BERTH_SLOW_CONSUMER,    /* who asked does not take what it is told; the request was ended */
    BERTH_STATUS_COUNT      /* how many this version knows */
} berth_status;

#define BERTH_ERROR_MESSAGE_SIZE 2048 /* bytes of berth_error.message, its NUL included */

/* Where and why a call failed. Zero-initialise, pass its address as a call's last argument, read it when the status is
 * not BERTH_OK. `message` is valid UTF-8 on one or more lines, without control characters other than '\n'. */
typedef struct berth_error {
    berth_status status;                    /* the same that the call gives */
    int32_t device;                         /* device index where it failed first; -1 = nowhere in particular */
    int32_t native_code;                    /* errno, CUresult, ncclResult_t ...; 0 = none */
    const char *native_api;                 /* "errno", "cuda", "nccl" or NULL; static string */
    const char *file;                       /* source position inside berth; static string */
    int32_t line;                           /* in that file */
    char message[BERTH_ERROR_MESSAGE_SIZE]; /* what was asked, what was found, what to do */
} berth_error;

/* The status's name without prefix, for example "does not fit". Static string; "unknown" for other values. */
BERTH_API const char *berth_status_name(berth_status status);

#ifdef __cplusplus
}
#endif
#endif
