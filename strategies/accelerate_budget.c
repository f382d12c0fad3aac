/* accelerate_budget.c - sizes, size strings and the balanced budgets; see accelerate.h.
 * Sources in accelerate utils/modeling.py: dtype_byte_size, compute_module_sizes, get_module_leaves,
 * get_balanced_memory, get_max_memory; utils/other.py: convert_file_size_to_int. */
#include "strategies/accelerate_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/words.h"

int64_t berth_accelerate_bits(const berth_tree_tensor *tensor, int32_t dtype_bits)
{
    if (!tensor->is_counted) return 0;
    bool is_narrowed = tensor->is_float && dtype_bits > 0 && dtype_bits < tensor->element_bits;
    return tensor->n_elements * (is_narrowed ? dtype_bits : tensor->element_bits);
}

bool berth_accelerate_is_float(const berth_tree_tensor *tensor, int32_t dtype_bits)
{
    if (!tensor->is_counted) return false;
    bool is_narrowed = tensor->is_float && dtype_bits > 0 && dtype_bits < tensor->element_bits;
    return (is_narrowed ? dtype_bits : tensor->element_bits) < 8;
}

static bool ends_with(const char *text, size_t len, const char *suffix)
{
    size_t n = strlen(suffix);
    if (n > len) return false;
    for (size_t i = 0; i < n; i++) {
        char c = text[len - n + i];
        if (c >= 'a' && c <= 'z') c = (char)(c - 'a' + 'A');
        if (c != suffix[i]) return false;
    }
    return true;
}

/* Copies digits, which single underscores may part, to *out; false where there are none or an underscore is astray. */
static bool copy_digits(const char **at, const char *end, char **out)
{
    const char *p = *at;
    while (p < end && ((*p >= '0' && *p <= '9') || (*p == '_' && p > *at && p[-1] != '_'))) {
        if (*p != '_') *(*out)++ = *p;
        p++;
    }
    bool ok = p > *at && p[-1] != '_';
    *at = p;
    return ok;
}

/* Python's float(): blanks around, a sign, digits with underscores, an exponent; no hex, no locale. Infinity and NaN are
 * no sizes. */
static bool read_float(const char *p, const char *end, double *out)
{
    enum { MOST = 60 };
    static const char blanks[] = " \t\n\r\v\f";
    char plain[MOST + 4], *to = plain;
    while (p < end && strchr(blanks, *p)) p++;
    while (p < end && strchr(blanks, end[-1])) end--;
    if (end - p > MOST) return false;
    if (p < end && (*p == '+' || *p == '-')) *to++ = *p++;
    bool whole = copy_digits(&p, end, &to), part = false;
    if (!whole && p < end && *p != '.') return false;
    if (p < end && *p == '.') {
        *to++ = *p++;
        part = copy_digits(&p, end, &to);
        if (!part && p < end && *p == '_') return false;
    }
    if (!whole && !part) return false;
    if (p < end && (*p == 'e' || *p == 'E')) {
        *to++ = *p++;
        if (p < end && (*p == '+' || *p == '-')) *to++ = *p++;
        if (!copy_digits(&p, end, &to)) return false;
    }
    *to = '\0';
    *out = strtod(plain, NULL);
    return p == end;
}

bool berth_accelerate_size(const char *text, int64_t *out_bytes)
{
    static const struct {
        const char *suffix;
        double unit;
    } units[] = {{"GIB", 1073741824.0}, {"MIB", 1048576.0}, {"KIB", 1024.0}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}};
    size_t len = strlen(text);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (!ends_with(text, len, units[i].suffix)) continue;
        double value;
        if (!read_float(text, text + len - strlen(units[i].suffix), &value)) return false;
        value *= units[i].unit;
        if (!(value > -1) || !(value < 9e18)) return false;
        *out_bytes = (int64_t)value;
        if (strlen(units[i].suffix) == 2 && text[len - 1] == 'b') *out_bytes /= 8; /* bits */
        return true;
    }
    return false;
}

/* ---- sizes ---- */

void berth_accelerate_read_sizes(const berth_tree *t, int32_t dtype_bits, int64_t *bits, bool *is_float)
{
    for (int32_t i = 0; i < t->n_tensors; i++) {
        int64_t own = bits[t->n_modules + i] = berth_accelerate_bits(&t->tensors[i], dtype_bits);
        bool own_is_float = is_float[t->n_modules + i] = berth_accelerate_is_float(&t->tensors[i], dtype_bits);
        for (int32_t m = t->tensors[i].module; m >= 0; m = t->modules[m].parent) {
            bits[m] += own;
            is_float[m] |= own_is_float;
        }
    }
}

/* ---- balanced budgets ---- */

/* Python's class of a tensor itself: its name is looked up like a module's. */
static const char *tensor_class(const berth_tree_tensor *tensor)
{
    return tensor->is_buffer ? "Tensor" : "Parameter";
}

/* Bytes of the first entry of each no-split class, in the order in which entries get a size: by their first tensor,
 * parameters before buffers. */
static double first_of_each_class(const berth_accelerate_request *req, const int64_t *bits)
{
    const berth_tree *t = req->tree;
    double largest = 0;
    for (int32_t c = 0; c < req->n_no_split; c++) {
        int32_t first = -1;
        for (int pass = 0; pass < 2 && first < 0; pass++)
            for (int32_t i = 0; i < t->n_tensors && first < 0; i++) {
                if (t->tensors[i].is_buffer != (pass == 1) || !t->tensors[i].is_counted) continue;
                if (strcmp(tensor_class(&t->tensors[i]), req->no_split[c]) == 0) first = t->n_modules + i;
                for (int32_t m = t->tensors[i].module; m > 0; m = t->modules[m].parent) /* the outermost is met first */
                    if (strcmp(t->modules[m].class_name, req->no_split[c]) == 0) first = m;
            }
        if (first >= 0 && (double)bits[first] / 8 > largest) largest = (double)bits[first] / 8;
    }
    return largest;
}

/* Mean over modules that hold tensors but no module that does. */
static bool mean_over_leaves(const berth_tree *t, const int64_t *bits, berth_accelerate_result *out)
{
    bool *has_tensor = calloc((size_t)t->n_modules, sizeof *has_tensor),
         *has_module = calloc((size_t)t->n_modules, sizeof *has_module);
    double sum = 0;
    for (int32_t i = 0; has_tensor && has_module && i < t->n_tensors; i++) {
        if (!t->tensors[i].is_counted) continue;
        has_tensor[t->tensors[i].module] = true;
    }
    for (int32_t m = t->n_modules - 1; has_tensor && has_module && m > 0; m--) {
        if (!has_tensor[m]) continue;
        has_tensor[t->modules[m].parent] = has_module[t->modules[m].parent] = true;
        if (has_module[m]) continue;
        sum += (double)bits[m] / 8;
        out->n_leaves++;
    }
    bool ok = has_tensor && has_module;
    free(has_tensor);
    free(has_module);
    if (ok) out->mean_leaf_bytes = trunc(sum / (out->n_leaves > 0 ? out->n_leaves : 1));
    return ok;
}

/* transformers 5: the mean over modules that own tensors, of the bytes they own themselves. */
static bool mean_over_owners(const berth_tree *t, berth_accelerate_result *out)
{
    bool *owns = calloc((size_t)t->n_modules, sizeof *owns);
    if (!owns) return false;
    for (int32_t i = 0; i < t->n_tensors; i++) {
        if (!t->tensors[i].is_counted || owns[t->tensors[i].module]) continue;
        owns[t->tensors[i].module] = true;
        out->n_leaves++;
    }
    free(owns);
    out->mean_leaf_bytes = trunc(out->total_bytes / (out->n_leaves > 0 ? out->n_leaves : 1));
    return true;
}

/* transformers 5 since July 2026: the largest module of the no-split classes, or without children. */
static double largest_undivided(const berth_accelerate_request *req, const int64_t *bits)
{
    double largest = 0;
    for (int32_t m = 1; m < req->tree->n_modules; m++) {
        bool counts = req->tree->modules[m].first_child < 0;
        for (int32_t c = 0; c < req->n_no_split && !counts; c++)
            counts = strcmp(req->tree->modules[m].class_name, req->no_split[c]) == 0;
        if (counts) largest = fmax(largest, (double)bits[m] / 8);
    }
    return largest;
}

static berth_accelerate_budget *find_budget(berth_accelerate_result *out, int32_t device)
{
    for (int32_t i = 0; i < out->n_budgets; i++)
        if (out->budgets[i].device == device) return &out->budgets[i];
    return NULL;
}

/* min(bytes, b->bytes) in Python: the first of two that are equal. */
static void lower(berth_accelerate_budget *b, double bytes, bool is_float)
{
    if (b->bytes < bytes) return;
    b->bytes = bytes;
    b->is_float = is_float;
}

/* The GPUs' budgets stand first, ascending; caps all used ones but the last. */
static void cap_budgets(berth_accelerate_result *out, bool low_zero, bool is_float)
{
    int32_t last = -1;
    for (int32_t i = 0; i < out->n_budgets && out->budgets[i].device >= 0; i++)
        if (out->budgets[i].bytes > 0) last = i;
    for (int32_t i = 0; i < last; i++) {
        berth_accelerate_budget *b = &out->budgets[i];
        if (!(b->bytes > 0) || (low_zero && b->device == 0)) continue;
        lower(b, out->budget_bytes, is_float);
    }
}

/* GPU 0 gets what the others' budgets leave over. accelerate looks the others up as 1 .. n-1 whatever their ids are,
 * and fails where one is missing. */
static berth_status lower_zero(berth_accelerate_result *out, int32_t n_used, bool is_float, berth_error *err)
{
    double others = 0;
    for (int32_t i = 0; i < n_used; i++) {
        const berth_accelerate_budget *b = find_budget(out, i);
        if (!b) {
            out->raises = "KeyError";
            return berth_refuse(err, BERTH_UNSUPPORTED,
                                "accelerate raises KeyError: balanced_low_0 with %d GPUs looks up GPU %d, which has no "
                                "budget; number the GPUs from 0 without gaps",
                                n_used, i);
        }
        if (i == 0) continue;
        others += b->bytes;
        is_float |= b->is_float;
    }
    double left = out->total_bytes - others;
    lower(find_budget(out, 0), fmax(0, left), is_float && left > 0);
    return BERTH_OK;
}

berth_status berth_accelerate_balance(const berth_accelerate_request *req, const int64_t *bits, bool is_float,
                                      berth_accelerate_result *out, berth_error *err)
{
    int32_t n_used = 0;
    bool low_zero = req->strategy == BERTH_ACCELERATE_BALANCED_LOW_0;
    for (int32_t i = 0; i < out->n_budgets; i++) {
        n_used += out->budgets[i].device >= 0 && out->budgets[i].bytes > 0;
        if (out->budgets[i].device != BERTH_ACCELERATE_DISK) continue;
        out->raises = "RuntimeError";
        return berth_refuse(err, BERTH_UNSUPPORTED,
                            "accelerate raises RuntimeError: balanced budgets with an entry for \"disk\"; leave it "
                            "out, disk needs no budget");
    }
    if (n_used == 0) return BERTH_OK;
    if (n_used == 1) {
        low_zero = false;
        if (req->budgets_are_free_memory && out->budgets[0].device >= 0) {
            out->budgets[0].bytes *= 0.9;
            out->budgets[0].is_float = true;
        }
    }
    out->share_bytes = floor(out->total_bytes / (low_zero ? n_used - 1 : n_used));
    out->no_split_bytes =
        req->flavour == BERTH_TRANSFORMERS_5_X ? largest_undivided(req, bits) : first_of_each_class(req, bits);
    bool ok =
        req->flavour == BERTH_ACCELERATE_1 ? mean_over_leaves(req->tree, bits, out) : mean_over_owners(req->tree, out);
    if (!ok) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the list of leaves");
    out->buffer_bytes = trunc(1.25 * fmax(out->no_split_bytes, out->mean_leaf_bytes));
    out->budget_bytes = out->share_bytes + out->buffer_bytes;
    cap_budgets(out, low_zero, is_float);
    return low_zero ? lower_zero(out, n_used, is_float, err) : BERTH_OK;
}
