/* stop.c - see stop.h. */
#include "cli/stop.h"

#include <errno.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/status.h"

berth_status cli_stop_open(cli_stop *s, berth_error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
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
