/* cmd_explain.c - berth explain: why a module, value or op is where it is, in each replica or in one. */
#include <string.h>

#include "cli/setup.h"

static berth_status explain_in(const cli_setup *s, const cli_args *a, int32_t replica, berth_buffer *out,
                               berth_error *err)
{
    const uint32_t flags = a->set[OPT_JSON] ? BERTH_EXPLAIN_JSON : 0;
    for (int32_t i = 0; i < a->n_operands; i++) {
        char *text;
        berth_status st = berth_plan_explain(s->plan, replica, a->operands[i], flags, &text, err);
        if (st != BERTH_OK) return st;
        if (out->len > 0 && !a->set[OPT_JSON]) berth_buffer_putc(out, '\n');
        berth_buffer_puts(out, text);
        berth_free(text);
    }
    return BERTH_OK;
}

static berth_status explain(const cli_setup *s, const cli_args *a, berth_buffer *out, berth_error *err)
{
    int32_t first, end;
    berth_status st = cli_replicas(a, s->plan, &first, &end, err);
    for (int32_t r = first; st == BERTH_OK && r < end; r++) st = explain_in(s, a, r, out, err);
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
