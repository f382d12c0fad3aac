/* cmd_strategies.c - `berth strategies`: the list that the registry holds, and the plug-ins of a folder. */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "cli/cli.h"
#include "plugin/plugin.h"
#include "strategies/registry.h"

typedef struct row {
    const char *name, *about;
    const char *source;  /* NULL = none */
    const char *plugin;  /* its file; NULL: built in */
    const char *problem; /* why it cannot be used; NULL = nothing */
} row;

static void put_text_row(berth_buffer *out, const row *r)
{
    char name[128], plugin[512]; /* a plug-in's are file names, which may hold anything */
    berth_quote(name, sizeof name, r->name, strlen(r->name));
    if (r->problem) {
        berth_buffer_printf(out, "%-16s (cannot be used: %s)\n", name, r->problem);
        return;
    }
    berth_buffer_printf(out, "%-16s %s\n", name, r->about);
    if (r->source) berth_buffer_printf(out, "%-16s   after %s\n", "", r->source);
    if (r->plugin)
        berth_buffer_printf(out, "%-16s   plug-in %s\n", "",
                            berth_quote(plugin, sizeof plugin, r->plugin, strlen(r->plugin)));
}

static void put_member(berth_buffer *out, const char *key, const char *text)
{
    berth_buffer_printf(out, ",\"%s\":", key);
    if (text)
        berth_buffer_json_string(out, text, strlen(text));
    else
        berth_buffer_puts(out, "null");
}

static void put_json_row(berth_buffer *out, const row *r)
{
    if (out->len > 0 && out->data[out->len - 1] == '}') berth_buffer_putc(out, ',');
    berth_buffer_puts(out, "{\"name\":");
    berth_buffer_json_string(out, r->name, strlen(r->name));
    put_member(out, "about", r->about);
    put_member(out, "source", r->source);
    if (r->plugin) put_member(out, "plugin", r->plugin);
    if (r->problem) put_member(out, "error", r->problem);
    berth_buffer_putc(out, '}');
}

static void put_row(berth_buffer *out, const row *r, bool json)
{
    if (json)
        put_json_row(out, r);
    else
        put_text_row(out, r);
}

/* One that does not load is listed with the reason: the others are still wanted. */
static berth_status put_plugin(berth_buffer *out, const char *name, const berth_plugin_options *o, bool json,
                               berth_error *err)
{
    char *path;
    const char *argument;
    berth_plugin_words words = {0};
    berth_status st = berth_plugin_find(name, o, &path, &argument, err);
    if (st != BERTH_OK || path == NULL) return st;
    berth_error why = {0};
    if (berth_strategy_find(name, &argument) != NULL)
        st = BERTH_FAIL(&why, BERTH_INVALID_ARGUMENT, "a strategy of that name is built in; rename %s", path);
    else
        st = berth_plugin_describe(path, o, &words, &why);
    const bool bad = st != BERTH_OK;
    put_row(out,
            &(row){.name = name,
                   .about = bad ? NULL : words.about,
                   .source = bad || words.source[0] == '\0' ? NULL : words.source,
                   .plugin = path,
                   .problem = bad ? why.message : NULL},
            json);
    free(path);
    return BERTH_OK;
}

static berth_status put_folder(berth_buffer *out, const cli_args *a, bool json, berth_error *err)
{
    const berth_plugin_options o = {.dir = a->text[OPT_STRATEGY_DIR],
                                    .host = a->set[OPT_STRATEGY_HOST] ? a->text[OPT_STRATEGY_HOST] : NULL,
                                    .isolated = a->set[OPT_ISOLATED],
                                    .timeout_ms = (int32_t)a->number[OPT_STRATEGY_TIMEOUT]};
    berth_plugin_names names;
    berth_status st = berth_plugin_names_read(o.dir, &names, err);
    for (int32_t i = 0; st == BERTH_OK && i < names.n; i++) st = put_plugin(out, names.names[i], &o, json, err);
    berth_plugin_names_deinit(&names);
    return st;
}

cli_exit cmd_strategies(const cli_args *a)
{
    berth_buffer out = {0};
    berth_error err = {0};
    berth_status st = BERTH_OK;
    const bool json = a->set[OPT_JSON];
    if (json) berth_buffer_puts(&out, "{\"strategies\":[");
    for (int32_t i = 0; i < berth_strategy_count(); i++) {
        const berth_strategy *s = berth_strategy_at(i);
        put_row(&out, &(row){.name = s->name, .about = s->about, .source = s->source}, json);
    }
    if (a->set[OPT_STRATEGY_DIR]) st = put_folder(&out, a, json, &err);
    if (json) berth_buffer_puts(&out, "]}\n");
    if (st == BERTH_OK && out.failed)
        st = BERTH_FAIL(&err, BERTH_OUT_OF_MEMORY, "no memory for the list of strategies");
    cli_exit code = EXIT_OK;
    if (st != BERTH_OK)
        code = cli_fail(&err);
    else if (!cli_write(out.data, out.len))
        code = EXIT_RUN;
    berth_buffer_deinit(&out);
    return code;
}
