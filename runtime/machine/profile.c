/* profile.c - reading profiles and machine files; see profile.h. A machine file names profiles, a profile names
 * nothing: so reading nests one deep. */
#include "machine/profile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"

enum { FILE_LIMIT = 1 << 20, NAME_SIZE = 19, MOST_CORES = 4096 };

typedef struct reader {
    const char *what, *dir;
    berth_error *err;
    berth_status status;
} reader;

static void bad(reader *r, const char *field, const char *why)
{
    if (r->status == BERTH_OK) r->status = BERTH_FAIL(r->err, BERTH_BAD_FILE, "%s: \"%s\" %s", r->what, field, why);
}

/* ---- fields ------------------------------------------------------------------------------------------------------ */

/* The number of a figure, bare or with its source; false when the field is not there. */
static bool figure(reader *r, const berth_json_node *node, const char *field, double *out)
{
    if (!node) return false;
    if (berth_json_type_of(node) == BERTH_JSON_OBJECT) node = berth_json_get(node, "value");
    if (!berth_json_as_f64(node, out) || !isfinite(*out) || *out < 0) {
        bad(r, field, "must be a number that is not negative, alone or as \"value\" of an object");
        return false;
    }
    return true;
}

static void real(reader *r, const berth_json_node *object, const char *field, double *out)
{
    figure(r, berth_json_get(object, field), field, out);
}

/* Of a curve over sizes the middle one: what layers of the models at hand come near. */
static void rate(reader *r, const berth_json_node *object, const char *field, double *out)
{
    const berth_json_node *node = berth_json_get(object, field);
    const berth_json_node *curve = berth_json_type_of(node) == BERTH_JSON_OBJECT ? berth_json_get(node, "value") : NULL;
    if (berth_json_type_of(curve) == BERTH_JSON_ARRAY) {
        node = berth_json_first(curve);
        for (size_t i = 0; node && i < berth_json_size(curve) / 2; i++) node = berth_json_next(node);
        if (!node) bad(r, field, "has no value");
    }
    figure(r, node, field, out);
}

static void bytes(reader *r, const berth_json_node *object, const char *field, uint64_t *out)
{
    const berth_json_node *node = berth_json_get(object, field);
    if (!node) return;
    if (berth_json_type_of(node) == BERTH_JSON_OBJECT) node = berth_json_get(node, "value");
    const char *text = berth_json_as_string(node);
    int64_t value = -1;
    if (text ? !berth_parse_bytes(text, out) : !berth_json_as_i64(node, &value) || value < 0)
        bad(r, field, "must be a number of bytes, or a size such as \"16GiB\"");
    else if (!text)
        *out = (uint64_t)value;
}

static void capability(reader *r, const berth_json_node *object, int32_t *out)
{
    const berth_json_node *node = berth_json_get(object, "compute_capability");
    if (!node) return;
    if (berth_json_type_of(node) == BERTH_JSON_OBJECT) node = berth_json_get(node, "value");
    const char *text = berth_json_as_string(node);
    int major = 0, minor = 0;
    char behind;
    if (!text || sscanf(text, "%2d.%1d%c", &major, &minor, &behind) != 2 || major < 0 || minor < 0)
        bad(r, "compute_capability", "must be text such as \"8.6\"");
    else
        *out = major * 10 + minor;
}

/* A figure that `berth devices --measure` wrote: when it did, else NULL. */
static const char *measured_when(const berth_json_node *node)
{
    static const char by[] = BERTH_MEASURED_BY;
    const char *source = berth_json_as_string(berth_json_get(node, "source"));
    return source && strncmp(source, by, sizeof by - 1) == 0 ? source + sizeof by - 1 : NULL;
}

static void link_rate(reader *r, const berth_json_node *object, berth_link_rate *out)
{
    const char *kind = berth_json_as_string(berth_json_get(object, "kind"));
    snprintf(out->kind, sizeof out->kind, "%s", kind ? kind : "");
    real(r, object, "bytes_per_second", &out->bytes_per_second);
    real(r, object, "latency_ns", &out->latency_ns);
    out->is_measured = measured_when(berth_json_get(object, "bytes_per_second")) != NULL;
}

/* Peak rates, then what products are known to reach, which is better. */
static void rates(reader *r, const berth_json_node *object, double *flops)
{
    static const char *const names[] = {[BERTH_F32] = "fp32", [BERTH_F16] = "fp16", [BERTH_BF16] = "bf16"};
    for (int i = 0; i <= BERTH_BF16; i++) {
        rate(r, berth_json_get(object, "peak_flops"), names[i], &flops[i]);
        rate(r, berth_json_get(object, "gemm_flops"), names[i], &flops[i]);
    }
}

static void check_name(reader *r, const char *name)
{
    size_t len = name ? strlen(name) : 0;
    bool right = len > 0 && len < NAME_SIZE;
    for (size_t i = 0; i < len; i++) right = right && name[i] > ' ' && name[i] < 127 && !strchr(",/*:=\"\\", name[i]);
    if (!right)
        bad(r, "name", "must be 1 to 18 visible characters of ASCII, without any of , / * : = \" and backslash");
}

/* ---- profiles ---------------------------------------------------------------------------------------------------- */

/* What a profile says of a device, over what is there. */
static void read_profile(reader *r, const berth_json_node *root, berth_device *d, berth_link_rate *peer)
{
    const char *name = berth_json_as_string(berth_json_get(root, "name"));
    uint64_t memory = 0;
    double fraction = 1, per_second = 0;
    check_name(r, name);
    snprintf(d->profile, sizeof d->profile, "%s", name ? name : "");
    capability(r, root, &d->capability);
    bytes(r, root, "memory_bytes", &memory);
    bytes(r, root, "context_bytes", &d->context_bytes);
    real(r, root, "memory_bytes_per_second", &per_second);
    real(r, root, "read_fraction", &fraction);
    rates(r, root, d->flops);
    link_rate(r, berth_json_get(root, "host_link"), &d->host_link);
    link_rate(r, berth_json_get(root, "peer_link"), peer);
    if (d->capability <= 0) bad(r, "compute_capability", "is missing");
    if (memory == 0 || memory > INT64_MAX || memory <= d->context_bytes)
        bad(r, "memory_bytes", "is missing, or leaves nothing beside context_bytes");
    if (fraction > 1) bad(r, "read_fraction", "must be at most 1");
    d->memory_bytes = memory - d->context_bytes;
    d->memory_given = true;
    d->bytes_per_second = per_second * fraction;
}

/* ---- machine files ----------------------------------------------------------------------------------------------- */

static void read_cores(reader *r, const berth_json_node *list, berth_device *d)
{
    size_t n = berth_json_size(list);
    if (!list || n == 0) return;
    d->cores = n <= MOST_CORES ? calloc(n, sizeof *d->cores) : NULL;
    if (!d->cores) {
        if (r->status == BERTH_OK) r->status = BERTH_FAIL(r->err, BERTH_OUT_OF_MEMORY, "%s: %zu cores", r->what, n);
        return;
    }
    for (const berth_json_node *e = berth_json_first(list); e; e = berth_json_next(e)) {
        int64_t core = -1;
        if (!berth_json_as_i64(e, &core) || core < 0 || core > INT32_MAX)
            bad(r, "cores", "must be a list of core numbers");
        else
            d->cores[d->n_cores++] = (int32_t)core;
    }
}

static void wear_profile(reader *r, const berth_json_node *node, const char *name, berth_device *d)
{
    berth_worn w;
    berth_error why = {0};
    if (strlen(name) >= NAME_SIZE) {
        bad(r, "profile", "is longer than the name of any profile");
        return;
    }
    berth_status st = berth_worn_find(name, r->dir, &w, &why);
    if (st == BERTH_OK && !w.is_machine && w.n_devices == 1) {
        *d = w.devices[0];
    } else if (st == BERTH_NOT_FOUND && berth_json_get(node, "compute_capability") &&
               berth_json_get(node, "limit_bytes")) {
        snprintf(d->profile, sizeof d->profile, "%s", name); /* the entry says itself what such a device is like */
        check_name(r, name);
    } else if (st == BERTH_OUT_OF_MEMORY) {
        r->status = BERTH_FAIL(r->err, st, "%s: profile \"%s\"", r->what, name);
    } else if (r->status == BERTH_OK) {
        r->status = BERTH_FAIL(r->err, BERTH_BAD_FILE, "%s: profile \"%s\": %s", r->what, name,
                               st == BERTH_OK ? "a machine cannot be one of its devices" : why.message);
    }
    if (st == BERTH_OK) berth_worn_deinit(&w);
}

/* "kind": "cuda" is a GPU of this computer, `physical` its number; anything else that a cpu device may wear. */
static void read_kind(reader *r, const berth_json_node *node, berth_device *d)
{
    const berth_json_node *at = berth_json_get(node, "kind");
    const char *kind = berth_json_as_string(at);
    const char *model = berth_json_as_string(berth_json_get(node, "model"));
    if (at && (!kind || (strcmp(kind, "cpu") != 0 && strcmp(kind, "cuda") != 0)))
        bad(r, "kind", "must be \"cpu\" or \"cuda\"");
    d->kind = kind && strcmp(kind, "cuda") == 0 ? BERTH_DEVICE_CUDA : BERTH_DEVICE_CPU;
    if (d->kind == BERTH_DEVICE_CUDA && !berth_json_get(node, "physical"))
        bad(r, "physical", "is missing: the number of the GPU");
    snprintf(d->model, sizeof d->model, "%s", model ? model : "");
}

static void read_measured(const berth_json_node *node, berth_device *d)
{
    static const char *const names[] = {[BERTH_F32] = "fp32", [BERTH_F16] = "fp16", [BERTH_BF16] = "bf16"};
    const char *when = measured_when(berth_json_get(berth_json_get(node, "host_link"), "bytes_per_second"));
    const char *read = measured_when(berth_json_get(node, "bytes_per_second"));
    d->is_read_measured = read != NULL;
    if (read) when = read;
    for (int i = 0; i <= BERTH_BF16; i++) {
        const char *flops = measured_when(berth_json_get(berth_json_get(node, "gemm_flops"), names[i]));
        if (flops) d->flops_measured |= 1u << i;
        if (flops) when = flops;
    }
    snprintf(d->measured, sizeof d->measured, "%s", when ? when : "");
}

static void read_device(reader *r, const berth_json_node *node, berth_device *d)
{
    *d = (berth_device){.kind = BERTH_DEVICE_CPU};
    if (berth_json_type_of(node) != BERTH_JSON_OBJECT) {
        bad(r, "devices", "must be a list of objects");
        return;
    }
    const berth_json_node *profile = berth_json_get(node, "profile");
    const char *name = berth_json_as_string(profile);
    if (name)
        wear_profile(r, node, name, d);
    else if (profile)
        bad(r, "profile", "must be a profile's name");
    d->number = -1;
    int64_t number = -1, physical = 0;
    const berth_json_node *at = berth_json_get(node, "number");
    if (at && (!berth_json_as_i64(at, &number) || number < 0 || number > 999)) bad(r, "number", "must be 0 to 999");
    at = berth_json_get(node, "physical");
    if (at && (!berth_json_as_i64(at, &physical) || physical < 0 || physical > 999))
        bad(r, "physical", "must be 0 to 999");
    d->number = (int32_t)number;
    d->physical = (int32_t)physical;
    read_kind(r, node, d);
    capability(r, node, &d->capability);
    uint64_t limit = d->memory_bytes;
    bytes(r, node, "limit_bytes", &limit);
    if (berth_json_get(node, "limit_bytes")) {
        if (limit == 0 || limit > INT64_MAX) bad(r, "limit_bytes", "must be larger than 0");
        d->memory_given = true;
    }
    d->memory_bytes = limit;
    bytes(r, node, "context_bytes", &d->context_bytes);
    real(r, node, "bytes_per_second", &d->bytes_per_second);
    rates(r, node, d->flops);
    if (berth_json_get(node, "host_link")) link_rate(r, berth_json_get(node, "host_link"), &d->host_link);
    read_measured(node, d);
    read_cores(r, berth_json_get(node, "cores"), d);
}

/* {"between": [a, b]} both ways, {"from": a, "to": b} one way. */
static void read_link(reader *r, const berth_json_node *node, berth_worn *w)
{
    const berth_json_node *between = berth_json_get(node, "between");
    const berth_json_node *first = between ? berth_json_first(between) : berth_json_get(node, "from");
    const berth_json_node *second = between ? (first ? berth_json_next(first) : NULL) : berth_json_get(node, "to");
    int64_t a = -1, b = -1;
    if (!berth_json_as_i64(first, &a) || !berth_json_as_i64(second, &b) || a < 0 || b < 0 || a >= w->n_devices ||
        b >= w->n_devices || a == b || (between && berth_json_size(between) != 2)) {
        bad(r, "links", "must name two of the devices, as \"between\": [0, 1] or \"from\": 0, \"to\": 1");
        return;
    }
    berth_link link = {.from = (int32_t)a, .to = (int32_t)b};
    link_rate(r, node, &link.rate);
    w->links[w->n_links++] = link;
    if (!between) return;
    link.from = (int32_t)b;
    link.to = (int32_t)a;
    w->links[w->n_links++] = link;
}

static void read_machine(reader *r, const berth_json_node *root, berth_worn *w)
{
    const berth_json_node *devices = berth_json_get(root, "devices"), *links = berth_json_get(root, "links");
    size_t n = berth_json_size(devices), n_links = berth_json_size(links);
    w->is_machine = true;
    if (berth_json_type_of(devices) != BERTH_JSON_ARRAY || n < 1 || n > BERTH_MAX_DEVICES)
        bad(r, "devices", "must be a list of 1 to 64 devices");
    if (links &&
        (berth_json_type_of(links) != BERTH_JSON_ARRAY || n_links > (size_t)BERTH_MAX_DEVICES * BERTH_MAX_DEVICES))
        bad(r, "links", "must be a list of links, at most one for each pair");
    if (r->status != BERTH_OK) return;
    w->devices = calloc(n + 1, sizeof *w->devices);
    w->links = calloc(2 * n_links + 1, sizeof *w->links);
    if (!w->devices || !w->links) {
        r->status = BERTH_FAIL(r->err, BERTH_OUT_OF_MEMORY, "%s: %zu devices", r->what, n);
        return;
    }
    for (const berth_json_node *e = berth_json_first(devices); e; e = berth_json_next(e))
        read_device(r, e, &w->devices[w->n_devices++]);
    for (const berth_json_node *e = berth_json_first(links); e; e = berth_json_next(e)) read_link(r, e, w);
}

/* ---- either ------------------------------------------------------------------------------------------------------ */

berth_status berth_worn_parse(const char *text, size_t n, const char *what, const char *profile_dir, berth_worn *out,
                              berth_error *err)
{
    *out = (berth_worn){0};
    berth_json *json;
    berth_status st = berth_json_parse(text, n, what, &json, err);
    if (st != BERTH_OK) return st;
    reader r = {.what = what, .dir = profile_dir, .err = err};
    const berth_json_node *root = berth_json_root(json);
    const char *schema = berth_json_as_string(berth_json_get(root, "schema"));
    if (schema && strcmp(schema, "berth.machine/1") == 0) {
        read_machine(&r, root, out);
    } else if (schema && strcmp(schema, "berth.profile/1") == 0) {
        out->devices = calloc(1, sizeof *out->devices);
        if (!out->devices)
            r.status = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: a profile", what);
        else {
            out->n_devices = 1;
            out->devices[0].number = -1;
            read_profile(&r, root, &out->devices[0], &out->peer);
        }
    } else {
        bad(&r, "schema", "must be \"berth.profile/1\" or \"berth.machine/1\"");
    }
    berth_json_destroy(json);
    if (r.status != BERTH_OK) berth_worn_deinit(out);
    return r.status;
}

void berth_worn_deinit(berth_worn *w)
{
    for (int32_t i = 0; i < w->n_devices; i++) free(w->devices[i].cores);
    free(w->devices);
    free(w->links);
    *w = (berth_worn){0};
}

berth_status berth_worn_read(const char *path, const char *profile_dir, berth_worn *out, berth_error *err)
{
    *out = (berth_worn){0};
    char *text;
    size_t size;
    berth_status st = berth_file_read(path, FILE_LIMIT, &text, &size, err);
    if (st != BERTH_OK) return st;
    st = berth_worn_parse(text, size, path, profile_dir, out, err);
    free(text);
    return st;
}

/* Is `name` in the file's list `key`? */
static berth_status lists_name(const berth_bundled *b, const char *key, const char *name, bool *out, berth_error *err)
{
    berth_json *json;
    *out = false;
    berth_status st = berth_json_parse((const char *)b->text, b->size, b->name, &json, err);
    if (st != BERTH_OK) return st;
    const berth_json_node *list = berth_json_get(berth_json_root(json), key);
    for (const berth_json_node *e = berth_json_first(list); e && !*out; e = berth_json_next(e)) {
        const char *alias = berth_json_as_string(e);
        *out = alias && strcasecmp(alias, name) == 0;
    }
    berth_json_destroy(json);
    return BERTH_OK;
}

/* *out is NULL when there is none. */
static berth_status find_bundled(const char *name, const berth_bundled **out, berth_error *err)
{
    berth_status st = BERTH_OK;
    *out = NULL;
    for (int32_t i = 0; i < berth_n_bundled_profiles && !*out; i++)
        if (strcasecmp(berth_bundled_profiles[i].name, name) == 0) *out = &berth_bundled_profiles[i];
    for (int32_t i = 0; st == BERTH_OK && i < berth_n_bundled_profiles && !*out; i++) {
        bool found = false;
        st = lists_name(&berth_bundled_profiles[i], "aliases", name, &found, err);
        if (found) *out = &berth_bundled_profiles[i];
    }
    return st;
}

/* The nearest name: the one that begins most alike, or else differs in few letters. */
static const char *nearest(const char *name)
{
    enum { ENOUGH = 3 };
    const char *alike = NULL, *near = NULL;
    size_t most = ENOUGH - 1;
    int best = berth_misspelling_limit(name);
    for (int32_t i = 0; i < berth_n_bundled_profiles; i++) {
        const char *have = berth_bundled_profiles[i].name;
        size_t same = 0;
        while (name[same] && strncasecmp(name, have, same + 1) == 0) same++;
        if (same > most) alike = have;
        if (same > most) most = same;
        int distance = berth_edit_distance(name, have, best);
        if (distance < best) near = have;
        if (distance < best) best = distance;
    }
    return alike ? alike : near;
}

static berth_status not_found(const char *name, berth_error *err)
{
    const char *near = nearest(name);
    berth_status st = BERTH_FAIL(err, BERTH_NOT_FOUND, "no profile or machine \"%s\"", name);
    if (near) berth_error_append(err, "; did you mean %s?", near);
    berth_error_append(err, "%s", near ? " There are" : "; there are");
    for (int32_t i = 0; i < berth_n_bundled_profiles; i++)
        berth_error_append(err, "%s %s", i ? "," : "", berth_bundled_profiles[i].name);
    return st;
}

berth_status berth_worn_find(const char *name, const char *profile_dir, berth_worn *out, berth_error *err)
{
    *out = (berth_worn){0};
    char path[4096];
    int len = profile_dir ? snprintf(path, sizeof path, "%s/%s.json", profile_dir, name) : 0;
    if (profile_dir && len > 0 && (size_t)len < sizeof path && !strchr(name, '/')) {
        berth_error why = {0};
        berth_status read = berth_worn_read(path, profile_dir, out, &why);
        if (read != BERTH_NOT_FOUND) {
            if (err) *err = why;
            return read;
        }
    }
    const berth_bundled *b;
    berth_status st = find_bundled(name, &b, err);
    if (st != BERTH_OK) return st;
    if (!b) return not_found(name, err);
    return berth_worn_parse((const char *)b->text, b->size, b->name, profile_dir, out, err);
}

berth_status berth_worn_find_gpu(const char *model, berth_worn *out, berth_error *err)
{
    *out = (berth_worn){0};
    for (int32_t i = 0; i < berth_n_bundled_profiles; i++) {
        const berth_bundled *b = &berth_bundled_profiles[i];
        bool found = false;
        berth_status st = lists_name(b, "gpu_names", model, &found, err);
        if (st != BERTH_OK) return st;
        if (found) return berth_worn_parse((const char *)b->text, b->size, b->name, NULL, out, err);
    }
    return BERTH_NOT_FOUND;
}
