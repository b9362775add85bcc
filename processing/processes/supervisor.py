"""Runs a command for a parent process, and ends it and all it has started as soon as the parent is gone.

    python -I -S supervisor.py LIFELINE GRACE COMMAND...

LIFELINE is the file descriptor of a pipe's read end; only the parent has the other end, which closes however the parent
ends, kill -9 included. The command and the processes that it leaves behind get SIGTERM, then SIGKILL after GRACE
seconds. The exit code is the command's own; a signal that ended it ends this process too.
`processing.processes.children` starts this file as a script. It imports only the standard library, so that it starts
at once.
"""

import contextlib
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence

END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NOT_STARTED = 127
STEP_SECONDS = 0.02
KILLED_SECONDS = 5.0  # that killed processes may take to go
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux


class Group:
    """The command as the leader of a process group, and all it has started."""

    def __init__(self, command: Sequence[str]) -> None:
        self.status: int | None = None
        self.pid = os.posix_spawnp(
            command[0],
            list(command),
            os.environ,
            setpgroup=0,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
        )

    def reap(self) -> bool:
        """Reap ended children; whether any child is left."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self.pid:
                    self.status = ended[1]
        except ChildProcessError:
            return False
        return True

    def end(self, grace: float) -> None:
        """Send SIGTERM to all, and SIGKILL to those left after the grace time."""
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, KILLED_SECONDS)):
            deadline = time.monotonic() + seconds
            self._signal(number)
            while self.reap() or self._signal(0):
                if time.monotonic() > deadline:
                    break
                time.sleep(STEP_SECONDS)
            else:
                return

    def _signal(self, number: int) -> bool:
        """Send a signal to the group; whether it has any process."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS raises the latter for a process that is ending
            return False
        return True


def main(arguments: Sequence[str]) -> int:
    """Run the command; see the module's docstring."""
    lifeline, grace, command = int(arguments[0]), float(arguments[1]), arguments[2:]
    os.set_inheritable(lifeline, False)
    woken = _wake_on_signals()
    _adopt_orphans()
    try:
        group = Group(command)
    except OSError as error:
        print(f"error: the command {command[0]!r} cannot be started: {error.strerror}", file=sys.stderr)
        return NOT_STARTED
    while True:
        ready, _, _ = select.select([lifeline, woken], [], [])
        if lifeline in ready or any(number in END_SIGNALS for number in os.read(woken, 4096)):
            break
        group.reap()
        if group.status is not None:
            break
    group.end(grace)
    return _end_alike(group.status)


def _wake_on_signals() -> int:
    """A pipe's read end, from which the number of each signal can be read."""
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *END_SIGNALS):
        signal.signal(number, lambda *_: None)
    return woken


def _adopt_orphans() -> None:
    """Make orphaned descendants children of this process, so that it can wait for them.

    Elsewhere than on Linux they become init's, and only the command's own group is waited for.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def _end_alike(status: int | None) -> int:
    """The exit code of the command; if a signal ended the command, it ends this process too."""
    code = os.waitstatus_to_exitcode(status) if status is not None else -signal.SIGKILL
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command has written its core dump
        with contextlib.suppress(OSError):  # SIGKILL has no handler to be set back
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
