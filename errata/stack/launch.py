"""The last step before a child becomes itself: tie it to its parent, drop root, exec.

Run as a plain file (`python -I -S launch.py ...`), standard library only, because it has to do
its work after the fork and before the exec, and a `preexec_fn` may deadlock in a process that has
threads. Everything it needs is loaded before the user changes: the new user may not be able to
read this interpreter.
"""

import argparse
import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
RESTORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGPIPE,
    signal.SIGCHLD,
)


def main() -> None:
    """Become the command, as the given user, with a death signal set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death-signal", type=int, required=True)
    parser.add_argument("--user", type=int)
    parser.add_argument("--group", type=int)
    parser.add_argument("command", nargs="+")
    ask = parser.parse_args()

    libc = ctypes.CDLL(None, use_errno=True)
    # A shell that starts us in the background hands down ignored signals; servers want their own.
    for number in RESTORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if ask.user is not None:
        os.setgroups([])
        os.setgid(ask.group)
        os.setuid(ask.user)
    # After the change of user: the kernel clears the death signal when credentials change.
    if libc.prctl(PR_SET_PDEATHSIG, ask.death_signal, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != ask.parent:  # it died before the line above
        raise SystemExit(1)
    os.execv(ask.command[0], ask.command)  # noqa: S606 - the whole point is to run without a shell


if __name__ == "__main__":
    main()
