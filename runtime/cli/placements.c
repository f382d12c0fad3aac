/* placements.c - see placements.h. */
#include "cli/placements.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

enum { MAX_PLACEMENTS = 4096 };

/* Where the item that begins at p ends. */
static const char *item_end(const char *p, bool numbers)
{
    const char *end = p + strcspn(p, ",");
    while (!numbers && *end == ',' && isdigit((unsigned char)end[1])) end += 1 + strcspn(end + 1, ",");
    return end;
}

berth_status cli_split_list(const char *list, cli_option option, char ***out, berth_error *err)
{
    const bool numbers = isdigit((unsigned char)*list);
    size_t n = 0;
    for (const char *p = list; *p; p++) n += *p == ',';
    *out = calloc(n + 2, sizeof **out);
    if (*out == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for --%s", cli_options[option].name);
    n = 0;
    for (const char *p = list;;) {
        const char *end = item_end(p, numbers);
        if (end == p)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--%s %s: an item of the list is empty",
                              cli_options[option].name, list);
        (*out)[n] = strndup(p, (size_t)(end - p));
        if ((*out)[n++] == NULL)
            return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for --%s", cli_options[option].name);
        if (*end == '\0') return BERTH_OK;
        p = end + 1;
    }
}

void cli_free_list(char **list)
{
    for (char **p = list; p != NULL && *p != NULL; p++) free(*p);
    free(list);
}

static size_t count(char *const *list)
{
    size_t n = 0;
    while (list[n] != NULL) n++;
    return n;
}

berth_status cli_placements_read(const cli_args *a, cli_placements *out, berth_error *err)
{
    static const char *const plain_cpu[] = {"cpu"};
    const int32_t n_devices = a->n_list[OPT_DEVICES] > 0 ? a->n_list[OPT_DEVICES] : 1;
    const char *const *devices = a->n_list[OPT_DEVICES] > 0 ? a->list[OPT_DEVICES] : plain_cpu;
    *out = (cli_placements){0};
    berth_status st =
        cli_split_list(a->set[OPT_STRATEGY] ? a->text[OPT_STRATEGY] : "auto", OPT_STRATEGY, &out->strategies, err);
    if (st == BERTH_OK)
        st = cli_split_list(a->set[OPT_DTYPE] ? a->text[OPT_DTYPE] : "auto", OPT_DTYPE, &out->dtypes, err);
    if (st == BERTH_OK) {
        const size_t n = (size_t)n_devices * count(out->strategies) * count(out->dtypes);
        if (n > MAX_PLACEMENTS)
            st =
                BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%zu placements; at most %d in one command", n, MAX_PLACEMENTS);
        else if (a->set[OPT_DEVICE_MAP] && out->strategies[1] != NULL)
            st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--device-map replaces the strategy; leave out --strategy");
        else if ((out->list = calloc(n, sizeof *out->list)) == NULL)
            st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %zu placements", n);
    }
    for (int32_t d = 0; st == BERTH_OK && d < n_devices; d++) {
        for (char **s = out->strategies; *s != NULL; s++) {
            for (char **t = out->dtypes; *t != NULL; t++)
                out->list[out->n++] = (cli_placement){.devices = devices[d], .strategy = *s, .dtype = *t};
        }
    }
    if (st != BERTH_OK) cli_placements_deinit(out);
    return st;
}

void cli_placements_deinit(cli_placements *p)
{
    free(p->list);
    cli_free_list(p->strategies);
    cli_free_list(p->dtypes);
    *p = (cli_placements){0};
}

cli_args cli_placement_args(const cli_args *a, const cli_placement *p)
{
    cli_args v = *a;
    v.text[OPT_DEVICES] = p->devices;
    v.text[OPT_STRATEGY] = p->strategy;
    v.text[OPT_DTYPE] = p->dtype;
    v.set[OPT_DEVICES] = v.set[OPT_DTYPE] = true;
    v.set[OPT_STRATEGY] = a->set[OPT_STRATEGY]; /* a map, --layers or --split may stand in its place */
    return v;
}

void cli_placement_arithmetic(const berth_plan *plan, const cli_placement *p, char *out, size_t n)
{
    char one[16] = "";
    bool differ = false;
    for (int32_t i = 0; i < berth_plan_n_devices(plan); i++) {
        berth_plan_device d = {.struct_size = sizeof d};
        if (berth_plan_get_device(plan, i, &d, NULL) != BERTH_OK || d.weights == 0) continue;
        if (one[0] == '\0') snprintf(one, sizeof one, "%s", d.dtype);
        differ = differ || strcmp(one, d.dtype) != 0;
    }
    if (differ)
        snprintf(out, n, "%s on %s in %s", p->strategy, p->devices, p->dtype);
    else
        snprintf(out, n, "%s", one);
}
