/* cmd_strategies.c - `berth strategies`: the list that the registry holds. */
#include <string.h>

#include "base/status.h"
#include "cli/cli.h"
#include "strategies/registry.h"

static void put_row(berth_buffer *out, const berth_strategy *s, bool json, bool first)
{
    if (!json) {
        berth_buffer_printf(out, "%-16s %s\n", s->name, s->about);
        if (s->source != NULL) berth_buffer_printf(out, "%-16s   after %s\n", "", s->source);
        return;
    }
    berth_buffer_puts(out, first ? "{\"name\":" : ",{\"name\":");
    berth_buffer_json_string(out, s->name, strlen(s->name));
    berth_buffer_puts(out, ",\"about\":");
    berth_buffer_json_string(out, s->about, strlen(s->about));
    berth_buffer_puts(out, ",\"source\":");
    if (s->source != NULL) {
        berth_buffer_json_string(out, s->source, strlen(s->source));
    } else {
        berth_buffer_puts(out, "null");
    }
    berth_buffer_putc(out, '}');
}

cli_exit cmd_strategies(const cli_args *a)
{
    berth_buffer out = {0};
    const bool json = a->set[OPT_JSON];
    if (json) berth_buffer_puts(&out, "{\"strategies\":[");
    for (int32_t i = 0; i < berth_strategy_count(); i++) put_row(&out, berth_strategy_at(i), json, i == 0);
    if (json) berth_buffer_puts(&out, "]}\n");
    berth_error err = {0};
    cli_exit code = EXIT_OK;
    if (out.failed) {
        BERTH_FAIL(&err, BERTH_OUT_OF_MEMORY, "no memory for the list of strategies");
        code = cli_fail(&err);
    } else if (!cli_write(out.data, out.len)) {
        code = EXIT_RUN;
    }
    berth_buffer_deinit(&out);
    return code;
}
