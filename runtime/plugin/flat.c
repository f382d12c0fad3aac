/* flat.c - a strategy's input as one block of bytes: a private copy in process, and what a child process is sent.
 *
 * The block is the header, the three arrays and the strings they point to. Made with offsets in place of pointers, it
 * means the same at any address; resolved, it is a berth_strategy_input. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "plugin/plugin_internal.h"

static const char magic[8] = "berthSI";

/* ---- making ---- */

typedef struct sizes {
    size_t nodes, devices, links, strings; /* offsets */
    size_t end;
    bool overflow;
} sizes;

static size_t add_array(sizes *s, size_t n, size_t each)
{
    size_t bytes, at = 0;
    s->overflow |=
        !berth_round_up(s->end, 16, &at) || !berth_mul_size(n, each, &bytes) || !berth_add_size(at, bytes, &s->end);
    return at;
}

static void add_string(sizes *s, const char *text)
{
    if (text) s->overflow |= !berth_add_size(s->end, strlen(text) + 1, &s->end);
}

static sizes measure(const berth_strategy_input *in)
{
    sizes s = {.end = sizeof(berth_flat)};
    if (in) {
        s.nodes = add_array(&s, (size_t)in->n_nodes, sizeof(berth_node_view));
        s.devices = add_array(&s, (size_t)in->n_devices, sizeof(berth_device_view));
        s.links = add_array(&s, (size_t)in->n_links, sizeof(berth_link_view));
        s.strings = s.end;
        for (int32_t i = 0; i < in->n_nodes; i++) {
            add_string(&s, berth_node_at(in, i)->path);
            add_string(&s, berth_node_at(in, i)->class_name);
        }
        for (int32_t i = 0; i < in->n_devices; i++) add_string(&s, berth_device_at(in, i)->name);
        add_string(&s, in->argument);
    }
    add_string(&s, ""); /* the last byte is a NUL: every string ends */
    return s;
}

static const char *put_string(char *block, size_t *at, const char *text)
{
    if (!text) return NULL;
    size_t n = strlen(text) + 1, here = *at;
    memcpy(block + here, text, n);
    *at += n;
    return (const char *)(uintptr_t)here;
}

static void put_input(berth_flat *f, const berth_strategy_input *in, const sizes *s)
{
    char *block = (char *)f;
    size_t at = s->strings;
    berth_node_view *nodes = (berth_node_view *)(void *)(block + s->nodes);
    berth_device_view *devices = (berth_device_view *)(void *)(block + s->devices);
    berth_link_view *links = (berth_link_view *)(void *)(block + s->links);
    for (int32_t i = 0; i < in->n_nodes; i++) {
        nodes[i] = *berth_node_at(in, i);
        nodes[i].path = put_string(block, &at, nodes[i].path);
        nodes[i].class_name = put_string(block, &at, nodes[i].class_name);
    }
    for (int32_t i = 0; i < in->n_devices; i++) {
        devices[i] = *berth_device_at(in, i);
        devices[i].name = put_string(block, &at, devices[i].name);
    }
    for (int32_t i = 0; i < in->n_links; i++) links[i] = *berth_link_at(in, i);
    f->in = (berth_strategy_input){.struct_size = sizeof f->in,
                                   .nodes = (const void *)(uintptr_t)s->nodes,
                                   .node_size = sizeof *nodes,
                                   .n_nodes = in->n_nodes,
                                   .devices = (const void *)(uintptr_t)s->devices,
                                   .device_size = sizeof *devices,
                                   .n_devices = in->n_devices,
                                   .links = (const void *)(uintptr_t)s->links,
                                   .link_size = sizeof *links,
                                   .n_links = in->n_links,
                                   .argument = put_string(block, &at, in->argument),
                                   .context_tokens = in->context_tokens,
                                   .max_tiles = in->max_tiles,
                                   .request_tiles = in->request_tiles,
                                   .request_prompt_tokens = in->request_prompt_tokens,
                                   .request_new_tokens = in->request_new_tokens,
                                   .hidden_bytes_per_token = in->hidden_bytes_per_token,
                                   .hidden_bytes_per_tile = in->hidden_bytes_per_tile};
}

berth_status berth_flat_make(const berth_strategy_input *in, int32_t what, berth_flat **out, berth_error *err)
{
    *out = NULL;
    sizes s = measure(in);
    berth_flat *f = s.overflow ? NULL : calloc(1, s.end);
    if (!f)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a plug-in's copy of %d modules",
                          in ? (int)in->n_nodes : 0);
    memcpy(f->magic, magic, sizeof magic);
    _Static_assert(sizeof BERTH_VERSION <= sizeof f->build, "the version fits");
    memcpy(f->build, BERTH_VERSION, sizeof BERTH_VERSION);
    f->size = s.end;
    f->what = what;
    if (in) put_input(f, in, &s);
    *out = f;
    return BERTH_OK;
}

/* ---- resolving ---- */

static bool fix_string(const char *block, size_t size, const char **p)
{
    size_t at = (size_t)(uintptr_t)*p;
    if (at == 0) return true;
    if (at < sizeof(berth_flat) || at >= size) return false;
    *p = block + at;
    return true;
}

static bool fix_array(const char *block, size_t size, const void **p, int32_t n, size_t each, size_t wanted)
{
    size_t at = (size_t)(uintptr_t)*p, bytes, end;
    if (n < 0 || each != wanted || at % 16 != 0 || at < sizeof(berth_flat)) return false;
    if (!berth_mul_size((size_t)n, each, &bytes) || !berth_add_size(at, bytes, &end) || end > size) return false;
    *p = block + at;
    return true;
}

bool berth_flat_resolve(void *block, size_t size)
{
    berth_flat *f = block;
    if (size <= sizeof *f || ((char *)block)[size - 1] != '\0' || memcmp(f->magic, magic, sizeof magic) != 0 ||
        strncmp(f->build, BERTH_VERSION, sizeof f->build) != 0 || f->size != size)
        return false;
    if (f->what == BERTH_PLUGIN_DESCRIBE) return true;
    berth_strategy_input *in = &f->in;
    if (f->what != BERTH_PLUGIN_PLACE || in->struct_size != sizeof *in || in->n_nodes < 1 || in->n_devices < 1 ||
        !fix_array(block, size, &in->nodes, in->n_nodes, in->node_size, sizeof(berth_node_view)) ||
        !fix_array(block, size, &in->devices, in->n_devices, in->device_size, sizeof(berth_device_view)) ||
        !fix_array(block, size, &in->links, in->n_links, in->link_size, sizeof(berth_link_view)) ||
        !fix_string(block, size, &in->argument))
        return false;
    bool ok = true;
    for (int32_t i = 0; i < in->n_nodes; i++) {
        berth_node_view *node = (berth_node_view *)(uintptr_t)berth_node_at(in, i);
        ok &= fix_string(block, size, &node->path) && fix_string(block, size, &node->class_name);
    }
    for (int32_t i = 0; i < in->n_devices; i++)
        ok &= fix_string(block, size, &((berth_device_view *)(uintptr_t)berth_device_at(in, i))->name);
    return ok;
}
