/* layout.c - what the tables of layout.h share: sizes by letter, renaming, and the list of layouts. */
#include "model/layout.h"

#include <stdio.h>
#include <string.h>

#include "model/model_internal.h"

int64_t berth_layout_dim(const berth_model_config *config, char letter)
{
    const berth_vision_config *v = &config->vision;
    const berth_text_config *t = &config->text;
    switch (letter) {
    case '1': return 1;
    case '3': return 3;
    case 'C': return v->hidden;
    case 'F': return v->ffn;
    case 'P': return 1 + (int64_t)v->n_patches;
    case 'p': return v->patch;
    case 'Q': return 3 * (int64_t)v->hidden;
    case 'M': return (int64_t)v->downsample * v->downsample * v->hidden;
    case 'D': return t->hidden;
    case 'I': return t->ffn;
    case 'V': return t->vocab;
    case 'q': return (int64_t)t->n_heads * t->head_dim;
    case 'k': return (int64_t)t->n_kv_heads * t->head_dim;
    case 'h': return t->head_dim;
    case 'r': return t->head_dim / 2;
    default: return 0;
    }
}

const berth_layout_desc *berth_layout_of(berth_layout layout)
{
    static const berth_layout_desc *const all[] = {
        [BERTH_LAYOUT_INTERNVL_CHAT] = &berth_layout_internvl_chat,
        [BERTH_LAYOUT_INTERNVL] = &berth_layout_internvl,
        [BERTH_LAYOUT_QWEN2] = &berth_layout_qwen,
        [BERTH_LAYOUT_QWEN3] = &berth_layout_qwen,
    };
    return all[layout];
}

bool berth_layout_canonical(const berth_layout_desc *layout, const char *name, char *out, size_t n)
{
    const berth_layout_rename *r = layout->renames;
    while (r->from && strncmp(name, r->from, strlen(r->from)) != 0) r++;
    int len = r->from ? snprintf(out, n, "%s%s", r->to, name + strlen(r->from)) : snprintf(out, n, "%s", name);
    return len >= 0 && (size_t)len < n;
}
