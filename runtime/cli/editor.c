/* editor.c - see editor.h. What is easy to get wrong: libedit speaks wide characters of the thread's locale, so every call
 * of it stands between begin() and end(), which make that UTF-8 and nothing else; and a signal that came has to end the
 * line from inside of it, which is done by a key that nobody types. */
#include "cli/editor.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "base/status.h"

enum { HISTORY_ENTRIES = 1000, INPUT_BYTES = 4096, MOST_PASTED = 1 << 24 };

/* The key that ends a line from inside: Ctrl-\, which a terminal makes a signal of, so that nobody types it. */
#define STOP_KEY L'\034'

struct cli_editor {
    EditLine *el;
    HistoryW *history;
    const char *file; /* borrowed; NULL = none */
    FILE *out;        /* owned; buffered, to standard error */
    locale_t utf8, before;
    cli_stop *stop; /* of the line under way */
    int signal_number;
    wchar_t prompt[16];
    char bytes[INPUT_BYTES]; /* read and not yet taken: [at, n) */
    size_t at, n;
    mbstate_t state;
};

static void begin(cli_editor *e)
{
    e->before = uselocale(e->utf8);
}

static void end(const cli_editor *e)
{
    uselocale(e->before);
}

/* ---- input ----------------------------------------------------------------------------------------------------------- */

/* Waits for a key or a signal; false: the terminal is gone, or a signal came. */
static bool refill(cli_editor *e)
{
    struct pollfd fds[2] = {{.fd = e->stop->fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) return false;
        const int number = cli_stop_came(e->stop);
        if (number != 0) {
            e->signal_number = number;
            return false;
        }
        if (fds[1].revents == 0) continue;
        const ssize_t n = read(STDIN_FILENO, e->bytes, sizeof e->bytes);
        if (n < 0 && errno == EINTR) continue;
        e->at = 0;
        e->n = n > 0 ? (size_t)n : 0;
        return n > 0;
    }
}

/* One character for libedit; bytes that are no UTF-8 become U+FFFD. */
static int next_char(EditLine *el, wchar_t *out)
{
    cli_editor *e;
    el_wget(el, EL_CLIENTDATA, &e);
    for (;;) {
        if (e->signal_number != 0) {
            *out = STOP_KEY;
            return 1;
        }
        if (e->at == e->n && !refill(e)) {
            if (e->signal_number != 0) continue;
            return 0;
        }
        const char byte = e->bytes[e->at++];
        const size_t got = mbrtowc(out, &byte, 1, &e->state);
        if (got == (size_t)-2) continue;
        if (got != (size_t)-1) return 1;
        e->state = (mbstate_t){0};
        *out = 0xFFFD;
        return 1;
    }
}

/* ---- keys ------------------------------------------------------------------------------------------------------------ */

static unsigned char on_stop(EditLine *el, wint_t key)
{
    const cli_editor *e;
    (void)key;
    el_wget(el, EL_CLIENTDATA, &e);
    if (e->signal_number == 0) return CC_ERROR; /* typed or pasted after all */
    el_cursor(el, INT16_MAX);                   /* what is written next stands below all of the line */
    el_wset(el, EL_REFRESH);
    return CC_EOF;
}

static unsigned char on_new_line(EditLine *el, wint_t key)
{
    (void)key;
    return el_winsertstr(el, L"\n") == 0 ? CC_REFRESH : CC_ERROR;
}

/* Everything up to the end of the paste is text, line ends too; other control characters are left out. */
static unsigned char on_paste(EditLine *el, wint_t key)
{
    static const wchar_t last[] = L"\033[201~";
    const size_t n_last = sizeof last / sizeof last[0] - 1;
    const cli_editor *e;
    wchar_t *text = NULL, c;
    size_t n = 0, cap = 0, matched = 0;
    (void)key;
    el_wget(el, EL_CLIENTDATA, &e);
    while (matched < n_last && el_wgetc(el, &c) == 1 && e->signal_number == 0) {
        matched = c == last[matched] ? matched + 1 : c == last[0];
        if (matched > 0 || (c < ' ' && c != '\n' && c != '\r' && c != '\t') || c == 127) continue;
        if (n + 1 >= cap && cap < MOST_PASTED) {
            wchar_t *more = realloc(text, (cap ? 2 * cap : 256) * sizeof *more);
            if (more != NULL) cap = cap ? 2 * cap : 256;
            if (more != NULL) text = more;
        }
        if (n++ + 1 < cap) text[n - 1] = c == '\r' ? '\n' : c;
    }
    const bool fits = n < cap; /* else all of it is refused */
    if (fits) text[n] = 0;
    const bool ok = n == 0 || (fits && el_winsertstr(el, text) == 0);
    free(text);
    return ok ? CC_REFRESH : CC_ERROR;
}

static const struct {
    const wchar_t *keys, *function;
} bindings[] = {
    {L"\033[200~", L"berth-paste"},    {L"\033\n", L"berth-new-line"},   {L"\033\r", L"berth-new-line"},
    {L"\033[H", L"ed-move-to-beg"},    {L"\033OH", L"ed-move-to-beg"},   {L"\033[1~", L"ed-move-to-beg"},
    {L"\033[7~", L"ed-move-to-beg"},   {L"\033[F", L"ed-move-to-end"},   {L"\033OF", L"ed-move-to-end"},
    {L"\033[4~", L"ed-move-to-end"},   {L"\033[8~", L"ed-move-to-end"},  {L"\033[3~", L"ed-delete-next-char"},
    {L"\033[A", L"ed-prev-history"},   {L"\033[B", L"ed-next-history"},  {L"\033[C", L"ed-next-char"},
    {L"\033[D", L"ed-prev-char"},      {L"\033[1;5C", L"em-next-word"},  {L"\033[1;5D", L"ed-prev-word"},
    {L"\033[1;3C", L"em-next-word"},   {L"\033[1;3D", L"ed-prev-word"},  {L"\025", L"vi-kill-line-prev"},
    {L"\027", L"ed-delete-prev-word"}, {L"\022", L"em-inc-search-prev"}, {L"\010", L"em-delete-prev-char"},
    {L"\177", L"em-delete-prev-char"},
};

static bool bind_keys(EditLine *el)
{
    bool ok = el_wset(el, EL_ADDFN, L"berth-stop", L"ends the line: a signal came", on_stop) == 0;
    ok = ok && el_wset(el, EL_ADDFN, L"berth-new-line", L"a line end within the line", on_new_line) == 0;
    ok = ok && el_wset(el, EL_ADDFN, L"berth-paste", L"takes what is pasted as text", on_paste) == 0;
    ok = ok && el_wset(el, EL_BIND, L"\034", L"berth-stop", NULL) == 0;
    for (size_t i = 0; ok && i < sizeof bindings / sizeof bindings[0]; i++)
        ok = el_wset(el, EL_BIND, bindings[i].keys, bindings[i].function, NULL) == 0;
    return ok;
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */

static wchar_t *prompt_of(EditLine *el)
{
    cli_editor *e;
    el_wget(el, EL_CLIENTDATA, &e);
    return e->prompt;
}

static berth_status read_history(cli_editor *e, berth_error *err)
{
    HistEventW event;
    history_w(e->history, &event, H_SETSIZE, HISTORY_ENTRIES);
    history_w(e->history, &event, H_SETUNIQUE, 1);
    if (e->file == NULL || access(e->file, F_OK) != 0) return BERTH_OK;
    if (history_w(e->history, &event, H_LOAD, e->file) >= 0) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_IO_ERROR, "--history-file %s: not a history, or it cannot be read", e->file);
}

static berth_status make_editor(cli_editor *e, berth_error *err)
{
    const int fd = dup(STDERR_FILENO);
    e->out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (e->out == NULL && fd >= 0) close(fd);
    e->history = history_winit();
    if (e->out != NULL && e->history != NULL) e->el = el_init("berth", stdin, e->out, e->out);
    if (e->el == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a line editor");
    el_wset(e->el, EL_CLIENTDATA, e);
    el_wset(e->el, EL_GETCFN, next_char);
    el_wset(e->el, EL_PROMPT, prompt_of);
    el_wset(e->el, EL_EDITOR, L"emacs");
    el_wset(e->el, EL_SIGNAL, 1); /* of those that are not `stop`'s: the window's size, Ctrl-Z */
    el_wset(e->el, EL_HIST, history_w, e->history);
    if (!bind_keys(e->el)) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the keys of a line editor");
    return read_history(e, err);
}

static bool can_edit(void)
{
    const char *kind = getenv("TERM");
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO) && kind != NULL && *kind != '\0' && strcmp(kind, "dumb") != 0;
}

static void free_editor(cli_editor *e)
{
    if (e->el != NULL) el_end(e->el);
    if (e->history != NULL) history_wend(e->history);
    if (e->out != NULL) fclose(e->out);
    freelocale(e->utf8);
    free(e);
}

berth_status cli_editor_open(const char *history, cli_editor **out, berth_error *err)
{
    *out = NULL;
    locale_t utf8 = can_edit() ? newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0) : (locale_t)0;
    if (utf8 == (locale_t)0) {
        if (history == NULL) return BERTH_OK;
        return BERTH_FAIL(
            err, BERTH_UNSUPPORTED,
            "--history-file %s: lines are edited on a terminal only, so there is no history; leave it out", history);
    }
    cli_editor *e = calloc(1, sizeof *e);
    if (e == NULL) {
        freelocale(utf8);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a line editor");
    }
    e->utf8 = utf8;
    e->file = history;
    begin(e);
    berth_status st = make_editor(e, err);
    end(e);
    if (st == BERTH_OK)
        *out = e;
    else
        free_editor(e);
    return st;
}

berth_status cli_editor_close(cli_editor *e, berth_error *err)
{
    if (e == NULL) return BERTH_OK;
    berth_status st = BERTH_OK;
    HistEventW event;
    begin(e);
    if (e->file != NULL && history_w(e->history, &event, H_SAVE, e->file) < 0) {
        const int code = errno;
        st = BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, code, "--history-file %s was not written", e->file);
    }
    end(e);
    free_editor(e);
    return st;
}

/* ---- lines ----------------------------------------------------------------------------------------------------------- */

static void take_text(const wchar_t *text, int n, berth_buffer *out)
{
    mbstate_t state = {0};
    char bytes[16];
    for (int i = 0; i < n; i++) {
        const size_t len = wcrtomb(bytes, text[i], &state);
        if (len != (size_t)-1) berth_buffer_append(out, bytes, len);
    }
    if (out->len > 0 && out->data[out->len - 1] == '\n') out->data[--out->len] = '\0';
}

/* Tells the terminal whether to mark what is pasted (xterm's bracketed paste). */
static void mark_pastes(const cli_editor *e, bool on)
{
    fputs(on ? "\033[?2004h" : "\033[?2004l", e->out);
    fflush(e->out);
}

cli_edited cli_editor_line(cli_editor *e, const char *prompt, cli_stop *stop, int *out_signal, berth_buffer *out)
{
    int n = 0;
    out->len = 0;
    e->stop = stop;
    e->signal_number = 0;
    begin(e);
    swprintf(e->prompt, sizeof e->prompt / sizeof e->prompt[0], L"%s", prompt);
    mark_pastes(e, true);
    const wchar_t *text = el_wgets(e->el, &n);
    mark_pastes(e, false);
    if (text != NULL && n > 0) take_text(text, n, out);
    end(e);
    *out_signal = e->signal_number;
    if (e->signal_number != 0) return CLI_EDITED_STOP;
    return text != NULL && n > 0 ? CLI_EDITED_LINE : CLI_EDITED_END;
}

void cli_editor_remember(cli_editor *e, const char *text)
{
    HistEventW event;
    begin(e);
    const size_t n = mbstowcs(NULL, text, 0);
    wchar_t *wide = n != (size_t)-1 && n > 0 ? calloc(n + 1, sizeof *wide) : NULL;
    if (wide != NULL) {
        mbstowcs(wide, text, n + 1);
        history_w(e->history, &event, H_ENTER, wide);
        free(wide);
    }
    end(e);
}
