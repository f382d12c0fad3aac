/* emu_image.c - see emu_image.h. Every image becomes a shared object in memory of its own, so that modules have
 * variables of their own and are told apart by their handles. */
#include "emu_image.h"

#include <dlfcn.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cuda/driver.h"
#include "kernels/cuda/units.h"

#if defined(__aarch64__)
enum { HERE = EM_AARCH64 };
#else
enum { HERE = EM_X86_64 };
#endif

int emu_max_shared(int capability)
{
    static const struct {
        int capability, kib;
    } limits[] = {{120, 99}, {100, 227}, {90, 227}, {89, 99}, {87, 163}, {86, 99}, {80, 163}, {75, 64}, {70, 96}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        if (capability >= limits[i].capability) return limits[i].kib << 10;
    return 48 << 10;
}

/* ---- shared objects ---------------------------------------------------------------------------------------------- */

/* The bytes of a shared object end with its section headers. 0 = no shared object of this processor. */
static size_t object_size(const void *image)
{
    Elf64_Ehdr h;
    memcpy(&h, image, SELFMAG);
    if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0) return 0;
    memcpy(&h, image, sizeof h);
    if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_machine != HERE) return 0;
    return h.e_shoff + (size_t)h.e_shnum * h.e_shentsize;
}

static void close_object(emu_opened *o)
{
    if (o->handle) dlclose(o->handle);
    if (o->fd >= 0) close(o->fd);
    *o = (emu_opened){.fd = -1};
}

/* The descriptor stays open as long as the module: the dynamic linker knows libraries by their paths, and this
 * path is the descriptor's. */
static bool open_object(const void *bytes, size_t size, emu_opened *out)
{
    *out = (emu_opened){.fd = memfd_create("kernels", MFD_CLOEXEC)};
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", out->fd);
    if (out->fd >= 0 && write(out->fd, bytes, size) == (ssize_t)size) out->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (out->handle) out->image = dlsym(out->handle, "emu_image");
    if (out->image) return true;
    const char *why = dlerror();
    fprintf(stderr, "cuda_emu: kernel image: %s\n", why ? why : "its bytes cannot be had again");
    close_object(out);
    return false;
}

static const berth_cuda_unit *unit_of_source(const char *source)
{
    for (int32_t i = 0; i < berth_cuda_embedded.n_units; i++)
        if (strcmp(berth_cuda_embedded.units[i].source, source) == 0) return &berth_cuda_embedded.units[i];
    return NULL;
}

/* A cubin runs on GPUs of its major capability from its own on (CUDA C++ Programming Guide, "Binary Compatibility"). */
static bool cubin_runs(int cubin, int capability)
{
    return cubin / 10 == capability / 10 && cubin <= capability;
}

static int check_object(const emu_image *image, int capability)
{
    if (image->source && !unit_of_source(image->source)) {
        fprintf(stderr, "cuda_emu: a kernel image was made of other sources than this emulator's\n");
        return BERTH_CU_INVALID_IMAGE;
    }
    if (image->source && !cubin_runs(image->stamp->capability, capability)) return BERTH_CU_NO_BINARY_FOR_GPU;
    return image->min_capability > capability ? BERTH_CU_NO_BINARY_FOR_GPU : 0;
}

/* ---- fatbins ----------------------------------------------------------------------------------------------------- */

/* As nvcc 12 and 13 write them; there is no public description. An entry: what it is, where the next one is, for
 * which GPU. */
typedef struct fatbin_header {
    uint32_t magic;
    uint16_t version, header_bytes;
    uint64_t bytes;
} fatbin_header;
typedef struct fatbin_entry {
    uint16_t kind, version;
    uint32_t header_bytes;
    uint64_t bytes;
    uint32_t unknown[3], capability;
} fatbin_entry;
enum { FATBIN_MAGIC = (int)0xBA55ED50, FATBIN_PTX = 1, FATBIN_CUBIN = 2 };

/* What a test said is one of berth's, and what was taken of the last one; under the driver's lock. */
static struct {
    const char *unit;
    const void *image;
    size_t bytes;
    int toolkit;
} known;
static int architecture_taken;

void emu_image_know(const char *unit, const void *image, size_t bytes, int toolkit)
{
    known.unit = unit;
    known.image = image;
    known.bytes = bytes;
    known.toolkit = toolkit;
}

int emu_image_architecture(void)
{
    return architecture_taken;
}

static bool is_known(const void *image, const fatbin_header *h)
{
    return known.image && known.bytes == h->header_bytes + h->bytes && memcmp(known.image, image, known.bytes) == 0;
}

static const berth_cuda_unit *unit_of_fatbin(const void *image, const fatbin_header *h)
{
    for (int32_t i = 0; is_known(image, h) && i < berth_cuda_embedded.n_units; i++)
        if (strcmp(berth_cuda_embedded.units[i].name, known.unit) == 0) return &berth_cuda_embedded.units[i];
    for (int32_t i = 0; i < berth_cuda_embedded.n_units; i++) {
        const berth_cuda_unit *u = &berth_cuda_embedded.units[i];
        if (u->image && u->image_bytes == h->header_bytes + h->bytes && memcmp(u->image, image, u->image_bytes) == 0)
            return u;
    }
    return NULL;
}

/* The entry that runs there: the newest cubin, else PTX of this or an older capability, which the driver compiles.
 * 0: none does; else the architecture that is compiled for. */
static int fatbin_choice(const unsigned char *image, const fatbin_header *h, int capability)
{
    int cubin = 0;
    bool ptx = false;
    fatbin_entry e;
    for (uint64_t at = h->header_bytes; at + sizeof e <= h->header_bytes + h->bytes; at += e.header_bytes + e.bytes) {
        memcpy(&e, image + at, sizeof e);
        if (e.kind == FATBIN_CUBIN && cubin_runs((int)e.capability, capability) && (int)e.capability > cubin)
            cubin = (int)e.capability;
        ptx = ptx || (e.kind == FATBIN_PTX && (int)e.capability <= capability);
    }
    return cubin ? cubin : ptx ? capability : 0;
}

static int open_fatbin(const void *image, const fatbin_header *h, int capability, int driver_version, emu_opened *out)
{
    const berth_cuda_unit *unit = unit_of_fatbin(image, h);
    if (!unit) fprintf(stderr, "cuda_emu: a fatbin is not of this emulator's build\n");
    /* images of a newer major version of CUDA are not known to older drivers */
    const int architecture = unit ? fatbin_choice(image, h, capability) : 0;
    const int toolkit = is_known(image, h) ? known.toolkit : berth_cuda_embedded.toolkit;
    architecture_taken = 0;
    if (!architecture || toolkit / 1000 > driver_version / 1000) return BERTH_CU_NO_BINARY_FOR_GPU;
    size_t bytes = 0;
    void *object = emu_unit_bytes(unit->name, architecture, &bytes);
    if (!object) fprintf(stderr, "cuda_emu: the host's object of %s is not there\n", unit->name);
    const bool ok = object && open_object(object, bytes, out);
    free(object);
    if (ok && out->image->source && strcmp(out->image->source, unit->source) == 0) {
        architecture_taken = architecture;
        return 0;
    }
    if (ok) fprintf(stderr, "cuda_emu: the host's object of %s is of another build\n", unit->name);
    if (ok) close_object(out);
    return BERTH_CU_NO_BINARY_FOR_GPU;
}

int emu_image_open(const void *image, int capability, int driver_version, emu_opened *out)
{
    *out = (emu_opened){.fd = -1};
    fatbin_header h;
    memcpy(&h, image, sizeof h.magic);
    if (h.magic == (uint32_t)FATBIN_MAGIC) {
        memcpy(&h, image, sizeof h);
        return open_fatbin(image, &h, capability, driver_version, out);
    }
    const size_t size = object_size(image);
    if (size == 0) return memcmp(image, ELFMAG, SELFMAG) == 0 ? BERTH_CU_NO_BINARY_FOR_GPU : BERTH_CU_INVALID_IMAGE;
    if (!open_object(image, size, out)) return BERTH_CU_INVALID_IMAGE;
    const int code = check_object(out->image, capability);
    if (code) close_object(out);
    return code;
}
