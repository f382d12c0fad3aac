/* load_rules.c - tokenizer.json's normalizer, pre_tokenizer, post_processor and decoder: each is one of the few forms
 * that berth computes exactly, or the file is refused by name. No pattern out of a file is run; see cut.h. */
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "text/tokenizer_internal.h"

#define FILE_NAME "tokenizer.json"

static const char *type_of(const berth_json_node *node)
{
    const char *type = berth_json_as_string(berth_json_get(node, "type"));
    return type ? type : "without a type";
}

static berth_status refuse(berth_error *err, const char *key, const char *type, const char *wants)
{
    char shown[64];
    return BERTH_FAIL(err, BERTH_UNSUPPORTED, FILE_NAME ": %s %s is unsupported; berth runs %s", key,
                      berth_quote(shown, sizeof shown, type, strlen(type)), wants);
}

/* The only member of a Sequence of one, else the node itself. */
static const berth_json_node *only_member(const berth_json_node *node, const char *list)
{
    const berth_json_node *members = berth_json_get(node, list);
    if (strcmp(type_of(node), "Sequence") != 0 || berth_json_size(members) != 1) return node;
    return berth_json_first(members);
}

static bool flag_is(const berth_json_node *node, const char *key, bool wanted, bool by_default)
{
    bool value = by_default;
    const berth_json_node *member = berth_json_get(node, key);
    return (!member || berth_json_as_bool(member, &value)) && value == wanted;
}

static berth_status load_normalizer(berth_tokenizer *t, const berth_json_node *node, berth_error *err)
{
    t->nfc = false;
    if (berth_json_type_of(node) == BERTH_JSON_NULL) return BERTH_OK;
    node = only_member(node, "normalizers");
    if (strcmp(type_of(node), "NFC") != 0) return refuse(err, "normalizer type", type_of(node), "NFC, or none");
    t->nfc = true;
    return BERTH_OK;
}

static berth_status load_split(berth_tokenizer *t, const berth_json_node *split, berth_error *err)
{
    const char *behavior = berth_json_as_string(berth_json_get(split, "behavior"));
    const char *pattern = berth_json_as_string(berth_json_get(berth_json_get(split, "pattern"), "Regex"));
    if (!pattern)
        return BERTH_FAIL(err, BERTH_BAD_FILE, FILE_NAME ": the pre_tokenizer's Split has no pattern with a Regex");
    if (!behavior || strcmp(behavior, "Isolated") != 0 || !flag_is(split, "invert", false, false))
        return refuse(err, "pre_tokenizer Split with behavior", behavior ? behavior : "missing or invert",
                      "Isolated, not inverted");
    t->cut = berth_cut_find(pattern);
    if (t->cut) return BERTH_OK;
    char shown[96];
    return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                      FILE_NAME
                      ": the pre_tokenizer's pattern %s is unsupported: berth runs no regular expression out of "
                      "a file, and of the known ones it has Qwen2's",
                      berth_quote(shown, sizeof shown, pattern, strlen(pattern)));
}

static berth_status load_pre_tokenizer(berth_tokenizer *t, const berth_json_node *node, berth_error *err)
{
    static const char wants[] = "a Sequence of Split and ByteLevel";
    const berth_json_node *list = berth_json_get(node, "pretokenizers");
    if (strcmp(type_of(node), "Sequence") != 0 || berth_json_size(list) != 2)
        return refuse(err, "pre_tokenizer type", type_of(node), wants);
    const berth_json_node *split = berth_json_first(list), *bytes = berth_json_next(split);
    if (strcmp(type_of(split), "Split") != 0 || strcmp(type_of(bytes), "ByteLevel") != 0)
        return refuse(err, "pre_tokenizer type Sequence with", type_of(split), wants);
    if (!flag_is(bytes, "add_prefix_space", false, true) || !flag_is(bytes, "use_regex", false, true))
        return refuse(err, "pre_tokenizer type ByteLevel with add_prefix_space or use_regex", "on", "both off");
    return load_split(t, split, err);
}

static berth_status load_decoder(const berth_json_node *node, berth_error *err)
{
    node = only_member(node, "decoders");
    if (strcmp(type_of(node), "ByteLevel") == 0) return BERTH_OK;
    return refuse(err, "decoder type", type_of(node), "ByteLevel");
}

/* ByteLevel's only moves offsets; any other could add tokens of its own. */
static berth_status load_post_processor(const berth_json_node *node, berth_error *err)
{
    if (berth_json_type_of(node) == BERTH_JSON_NULL) return BERTH_OK;
    node = only_member(node, "processors");
    if (strcmp(type_of(node), "ByteLevel") == 0) return BERTH_OK;
    return refuse(err, "post_processor type", type_of(node), "ByteLevel, or none");
}

berth_status berth_load_rule(berth_tokenizer *t, const char *key, const char *json, size_t n, berth_error *err)
{
    berth_json *tree = NULL;
    berth_status st = berth_json_parse(json, n, FILE_NAME, &tree, err);
    if (st != BERTH_OK) return st;
    const berth_json_node *root = berth_json_root(tree);
    if (strcmp(key, "normalizer") == 0)
        st = load_normalizer(t, root, err);
    else if (strcmp(key, "pre_tokenizer") == 0)
        st = load_pre_tokenizer(t, root, err);
    else
        st = strcmp(key, "decoder") == 0 ? load_decoder(root, err) : load_post_processor(root, err);
    berth_json_destroy(tree);
    return st;
}
