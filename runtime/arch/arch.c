/* arch.c - the list of architectures, and the defaults of what they are built with. To add one: a file, and a line in
 * `all`. */
#include "arch/arch.h"

#include <string.h>

#include "arch/arch_internal.h"
#include "base/status.h"

static const berth_arch *const all[] = {
    &berth_arch_internvl,
    &berth_arch_qwen,
};

int32_t berth_arch_count(void)
{
    return (int32_t)(sizeof all / sizeof all[0]);
}

const berth_arch *berth_arch_at(int32_t i)
{
    return i >= 0 && i < berth_arch_count() ? all[i] : NULL;
}

const berth_arch *berth_arch_find(const berth_model_config *config)
{
    for (int32_t i = 0; i < berth_arch_count(); i++)
        if (all[i]->can(config)) return all[i];
    return NULL;
}

void berth_programs_deinit(berth_programs *p)
{
    berth_program_destroy(p->encode);
    berth_program_destroy(p->step);
    *p = (berth_programs){0};
}

static void set_default(int64_t *field, int64_t value)
{
    if (*field == 0) *field = value;
}

static berth_status fill_defaults(const berth_model_config *config, berth_build_options *o, berth_error *err)
{
    set_default(&o->max_tiles, 1);
    set_default(&o->max_tokens, 512);
    set_default(&o->max_seqs, 1);
    set_default(&o->max_logits, o->trace ? o->max_tokens : o->max_seqs);
    if (o->block == 0) o->block = BERTH_DEFAULT_BLOCK;
    struct {
        const char *name;
        int64_t value, most;
    } const counts[] = {
        {"max_tiles", o->max_tiles, 1 << 16}, {"max_tokens", o->max_tokens, 1 << 24},
        {"max_seqs", o->max_seqs, 1 << 20},   {"max_logits", o->max_logits, 1 << 24},
        {"block", o->block, 1 << 16},
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (counts[i].value < 1 || counts[i].value > counts[i].most)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s is %lld; it can be 1 to %lld", counts[i].name,
                              (long long)counts[i].value, (long long)counts[i].most);
    set_default(&o->n_blocks, (o->max_tokens + o->block - 1) / o->block);
    set_default(&o->max_blocks, o->n_blocks);
    set_default(&o->feature_rows, config->has_vision ? o->max_tiles * config->vision.tokens_per_tile : 1);
    if (o->n_blocks < 1 || o->n_blocks > INT32_MAX / o->block || o->max_blocks < 1 ||
        o->max_blocks > INT32_MAX / o->block)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "%lld KV blocks (%lld for one sequence) of %d tokens; slots are counted in 31 bits",
                          (long long)o->n_blocks, (long long)o->max_blocks, o->block);
    if (o->feature_rows < 1 || o->feature_rows > INT32_MAX)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a feature store of %lld rows; it can have 1 to %d",
                          (long long)o->feature_rows, INT32_MAX);
    return BERTH_OK;
}

berth_status berth_arch_build(const berth_model_data *m, const berth_build_options *options, berth_programs *out,
                              berth_error *err)
{
    *out = (berth_programs){0};
    const berth_model_config *config = berth_model_data_config(m);
    const berth_arch *arch = berth_arch_find(config);
    if (!arch)
        return BERTH_FAIL(err, BERTH_UNSUPPORTED, "%s: no builder for this architecture", berth_model_data_dir(m));
    berth_build_options o = *options;
    berth_status st = fill_defaults(config, &o, err);
    if (st == BERTH_OK) st = arch->build(m, &o, out, err);
    if (st != BERTH_OK) berth_programs_deinit(out);
    return st;
}
