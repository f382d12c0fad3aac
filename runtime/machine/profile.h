/* profile.h - what a kind of device is like, and the files that say so.
 *
 * Owns the two file forms (schema berth.profile/1 and berth.machine/1, docs/devices.md) and the ones that are built
 * in (bench/profiles). Every figure in a file is a number, or {"value": number, "source": ..., "confidence": ...};
 * only the number is kept here. Knows nothing of the device list's grammar. */
#ifndef BERTH_MACHINE_PROFILE_H
#define BERTH_MACHINE_PROFILE_H

#include "machine/machine.h"

/* Begins the source of a figure that was measured here; the rest says when. */
#define BERTH_MEASURED_BY "berth devices --measure, "

/* The bundled files, in alphabetical order. */
typedef struct berth_bundled {
    const char *name; /* "A10": the file's name without .json */
    const unsigned char *text;
    size_t size;
} berth_bundled;
extern const berth_bundled berth_bundled_profiles[];
extern const int32_t berth_n_bundled_profiles;

/* Devices to be: of a profile one, of a machine file several with their links. Cores are those the file names. */
typedef struct berth_worn {
    berth_device *devices; /* owned, and their cores; number -1 where the file gives none */
    int32_t n_devices;
    berth_link *links; /* owned; indices into devices */
    int32_t n_links;
    berth_link_rate peer; /* of a profile: between two devices of it; bytes_per_second 0 = through host memory */
    bool is_machine;
} berth_worn;

/* Reads either form. `what` names the text in errors. Errors: BERTH_BAD_FILE naming the field. */
berth_status berth_worn_parse(const char *text, size_t n, const char *what, const char *profile_dir, berth_worn *out,
                              berth_error *err);
/* By name or alias, in profile_dir (may be NULL) and then among the bundled. BERTH_NOT_FOUND, with what there is. */
berth_status berth_worn_find(const char *name, const char *profile_dir, berth_worn *out, berth_error *err);
/* The bundled profile of the GPU that the driver calls so ("gpu_names"). BERTH_NOT_FOUND, without a message. */
berth_status berth_worn_find_gpu(const char *model, berth_worn *out, berth_error *err);
berth_status berth_worn_read(const char *path, const char *profile_dir, berth_worn *out, berth_error *err);
void berth_worn_deinit(berth_worn *w);

#endif
