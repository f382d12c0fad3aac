/* stop.c - see stop.h. */
#include "cli/stop.h"

#include <errno.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/status.h"

static sigset_t signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    return set;
}

void cli_stop_if_asked(void)
{
    const sigset_t set = signals();
    sigset_t pending;
    if (sigpending(&pending) == 0 && (sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1))
        pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* it is delivered here */
}

berth_status cli_stop_open(cli_stop *s, berth_error *err)
{
    const sigset_t set = signals();
    s->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (s->fd < 0) return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "no descriptor for signals");
    pthread_sigmask(SIG_BLOCK, &set, &s->before);
    return BERTH_OK;
}

int cli_stop_came(cli_stop *s)
{
    struct signalfd_siginfo info;
    return s->fd >= 0 && read(s->fd, &info, sizeof info) == (ssize_t)sizeof info ? (int)info.ssi_signo : 0;
}

void cli_stop_close(cli_stop *s)
{
    if (s->fd < 0) return;
    close(s->fd);
    s->fd = -1;
    pthread_sigmask(SIG_SETMASK, &s->before, NULL);
}
