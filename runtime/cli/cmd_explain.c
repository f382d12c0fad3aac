/* cmd_explain.c - berth explain: why a module, value or op is where it is, in each replica or in one. */
#include <string.h>

#include "cli/setup.h"

/* Several explanations in JSON are a list. */
static void put(const cli_args *a, const char *text, bool is_one, berth_buffer *out)
{
    if (!a->set[OPT_JSON]) {
        berth_buffer_puts(out, out->len > 0 ? "\n" : "");
    } else if (!is_one) {
        berth_buffer_puts(out, out->len > 0 ? ",\n" : "[");
    }
    const size_t len = strlen(text);
    berth_buffer_append(out, text, a->set[OPT_JSON] && len > 0 ? len - 1 : len); /* without its newline */
}

static berth_status explain(const cli_setup *s, const cli_args *a, berth_buffer *out, berth_error *err)
{
    int32_t first, end;
    const uint32_t flags = a->set[OPT_JSON] ? BERTH_EXPLAIN_JSON : 0;
    berth_status st = cli_replicas(a, s->plan, &first, &end, err);
    const bool is_one = a->n_operands == 1 && end - first == 1;
    for (int32_t r = first; st == BERTH_OK && r < end; r++) {
        for (int32_t i = 0; st == BERTH_OK && i < a->n_operands; i++) {
            char *text;
            st = berth_plan_explain(s->plan, r, a->operands[i], flags, &text, err);
            if (st != BERTH_OK) break;
            put(a, text, is_one, out);
            berth_free(text);
        }
    }
    if (a->set[OPT_JSON]) berth_buffer_puts(out, is_one ? "\n" : "]\n");
    if (st == BERTH_NOT_FOUND) err->status = BERTH_INVALID_ARGUMENT; /* a name on the command line, no file */
    return st;
}

cli_exit cmd_explain(const cli_args *a)
{
    berth_error err = {0};
    cli_setup setup;
    if (a->n_operands == 0)
        return cli_usage(CMD_EXPLAIN, "name a module, a value or an op, for example text.layer.3 or step:41; "
                                      "`berth plan --program` lists them");
    if (cli_setup_open(a, true, false, 0, cli_max_tiles(a), &setup, &err) != BERTH_OK) return cli_fail(&err);
    berth_buffer out = {0};
    const berth_status st = explain(&setup, a, &out, &err);
    const bool ok = st == BERTH_OK && !out.failed && cli_write(out.data, out.len);
    berth_buffer_deinit(&out);
    cli_setup_close(&setup);
    return st != BERTH_OK ? cli_fail(&err) : ok ? EXIT_OK : EXIT_RUN;
}
