/* config_side.c - generation_config.json and the preprocessor files. All may be absent; the remote-code layout takes
 * its tile rules from config.json and its mean and deviation from the published load_image, whatever
 * preprocessor_config.json says. Source: InternVL's published load_image; transformers, GotOcr2 image processor and
 * InternVL processor. */
#include "model/config_internal.h"

#include <math.h>

static const berth_preprocess_config imagenet = {.min_tiles = 1,
                                                 .max_tiles = 12,
                                                 .thumbnail = true,
                                                 .mean = {0.485F, 0.456F, 0.406F},
                                                 .std = {0.229F, 0.224F, 0.225F}};

static void add_eos(berth_fields *f, const berth_json_node *node, berth_generation_config *out)
{
    int64_t id = 0;
    if (!berth_json_as_i64(node, &id) || id < 0 || id > INT32_MAX) {
        berth_field_fail(f, BERTH_BAD_FILE,
                         "eos_token_id must be a token id (an integer of 0 or more) or a list of them");
        return;
    }
    for (int32_t i = 0; i < out->n_eos; i++) {
        if (out->eos_ids[i] == id) return;
    }
    if (out->n_eos == (int32_t)(sizeof out->eos_ids / sizeof *out->eos_ids)) {
        berth_field_fail(f, BERTH_UNSUPPORTED, "eos_token_id lists more than 8 ids");
        return;
    }
    out->eos_ids[out->n_eos++] = (int32_t)id;
}

static void read_eos(berth_fields *f, berth_generation_config *out)
{
    if (!berth_field_has(f, "eos_token_id")) return;
    const berth_json_node *node = berth_json_get(f->node, "eos_token_id");
    if (berth_json_type_of(node) != BERTH_JSON_ARRAY) {
        add_eos(f, node, out);
        return;
    }
    for (const berth_json_node *id = berth_json_first(node); id && *f->status == BERTH_OK; id = berth_json_next(id))
        add_eos(f, id, out);
}

berth_status berth_config_generation(const char *dir, berth_fields *text, berth_generation_config *out,
                                     berth_error *err)
{
    berth_json *json = NULL;
    berth_status st = berth_config_load(dir, "generation_config.json", true, &json, err);
    if (st != BERTH_OK) return st;
    if (!json) {
        read_eos(text, out);
        return *text->status;
    }
    berth_fields f = {.file = "generation_config.json",
                      .prefix = "",
                      .node = berth_json_root(json),
                      .status = text->status,
                      .err = err};
    read_eos(&f, out);
    berth_json_destroy(json);
    return *f.status;
}

static void read_triple(berth_fields *f, const char *key, bool is_divisor, float out[3])
{
    if (!berth_field_has(f, key)) return;
    const berth_json_node *node = berth_json_get(f->node, key);
    if (berth_json_type_of(node) != BERTH_JSON_ARRAY || berth_json_size(node) != 3) {
        berth_field_fail(f, BERTH_BAD_FILE, "%s must be an array of three numbers", key);
        return;
    }
    const berth_json_node *item = berth_json_first(node);
    for (int i = 0; i < 3; i++, item = berth_json_next(item)) {
        double value = 0;
        if (!berth_json_as_f64(item, &value) || !isfinite(value) || fabs(value) > 1e6 || (is_divisor && value < 1e-6)) {
            berth_field_fail(f, BERTH_BAD_FILE, "%s[%d] must be a number%s", key, i,
                             is_divisor ? " above 0, for values are divided by it" : "");
            return;
        }
        out[i] = (float)value;
    }
}

static void refuse_false(berth_fields *f, const char *key)
{
    if (!berth_field_bool(f, key, true)) berth_field_fail(f, BERTH_UNSUPPORTED, "%s false is not supported", key);
}

/* "size": 448, or {"height": 448, "width": 448}: a tile must be what the vision tower takes. */
static void check_size(berth_fields *f, int32_t image_size)
{
    if (!berth_field_has(f, "size")) return;
    const berth_json_node *node = berth_json_get(f->node, "size");
    int32_t height, width;
    if (berth_json_type_of(node) == BERTH_JSON_OBJECT) {
        berth_fields size = {.file = f->file, .prefix = "size.", .node = node, .status = f->status, .err = f->err};
        height = berth_field_int(&size, "height", 1, BERTH_MAX_IMAGE, image_size);
        width = berth_field_int(&size, "width", 1, BERTH_MAX_IMAGE, image_size);
    } else {
        height = width = berth_field_int(f, "size", 1, BERTH_MAX_IMAGE, image_size);
    }
    if (height != image_size || width != image_size) {
        berth_field_fail(f, BERTH_UNSUPPORTED, "size is %d x %d, but vision_config.image_size in config.json is %d",
                         height, width, image_size);
    }
}

static void read_native(berth_fields *f, int32_t image_size, berth_preprocess_config *out)
{
    out->max_tiles = berth_field_int(f, "max_patches", 1, BERTH_MAX_TILES, out->max_tiles);
    out->min_tiles = berth_field_int(f, "min_patches", 1, BERTH_MAX_TILES, out->min_tiles);
    if (out->min_tiles > out->max_tiles) {
        berth_field_fail(f, BERTH_BAD_FILE, "min_patches %d is over max_patches %d", out->min_tiles, out->max_tiles);
    }
    read_triple(f, "image_mean", false, out->mean);
    read_triple(f, "image_std", true, out->std);
    refuse_false(f, "do_resize");
    refuse_false(f, "do_rescale");
    refuse_false(f, "do_normalize");
    check_size(f, image_size);
}

static berth_status preprocess_native(const char *dir, int32_t image_size, berth_preprocess_config *out,
                                      berth_error *err)
{
    berth_status status = BERTH_OK;
    berth_json *json = NULL;
    const char *name = "preprocessor_config.json";
    berth_status st = berth_config_load(dir, name, true, &json, err);
    if (st != BERTH_OK) return st;
    if (json) {
        berth_fields f = {.file = name, .prefix = "", .node = berth_json_root(json), .status = &status, .err = err};
        read_native(&f, image_size, out);
        berth_json_destroy(json);
        return status;
    }
    /* transformers 5 writes the image processor into processor_config.json. */
    name = "processor_config.json";
    st = berth_config_load(dir, name, true, &json, err);
    if (st != BERTH_OK || !json) return st;
    berth_fields top = {.file = name, .prefix = "", .node = berth_json_root(json), .status = &status, .err = err};
    berth_fields f = top;
    f.prefix = "image_processor.";
    f.node = berth_field_object(&top, "image_processor");
    read_native(&f, image_size, out);
    berth_json_destroy(json);
    return status;
}

berth_status berth_config_preprocess(const char *dir, berth_fields *top, const berth_model_config *config,
                                     berth_preprocess_config *out, berth_error *err)
{
    *out = imagenet;
    if (!config->has_vision) return BERTH_OK;
    if (config->layout != BERTH_LAYOUT_INTERNVL_CHAT)
        return preprocess_native(dir, config->vision.image_size, out, err);
    out->max_tiles = berth_field_int(top, "max_dynamic_patch", 1, BERTH_MAX_TILES, out->max_tiles);
    out->min_tiles = berth_field_int(top, "min_dynamic_patch", 1, BERTH_MAX_TILES, out->min_tiles);
    if (out->min_tiles > out->max_tiles) {
        berth_field_fail(top, BERTH_BAD_FILE, "min_dynamic_patch %d is over max_dynamic_patch %d", out->min_tiles,
                         out->max_tiles);
    }
    out->thumbnail = berth_field_bool(top, "use_thumbnail", false);
    if (!berth_field_bool(top, "dynamic_image_size", false)) out->min_tiles = out->max_tiles = 1;
    return *top->status;
}
